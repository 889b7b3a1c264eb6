"""Liu et al. 2021, Towards Faster and Stabilized GAN Training for High-fidelity Few-shot Image Synthesis."""

import inspect
from functools import cache

import torch

from gansharing.networks import (
    FastGANDiscriminator,
    FastGANGenerator,
    StyleGAN2Discriminator,
    StyleGAN2Generator,
)
from gansharing.slimmable.costs import macs
from gansharing.tools.project import project
from papers.entry import Entry, not_derivable, setting, size

TITLE = "FastGAN (2021)"
CODE = "original code"
OFFICIAL = "fastgan/official"


@cache
def generator(resolution: int, latent_dim: int = 256) -> FastGANGenerator:
    """A generator, sizes alone."""
    with torch.device("meta"):
        return FastGANGenerator(resolution, latent_dim)


@cache
def discriminator(resolution: int) -> FastGANDiscriminator:
    """A discriminator, sizes alone."""
    with torch.device("meta"):
        return FastGANDiscriminator(resolution)


def times_stylegan2() -> float:
    """StyleGAN2's parameters at 1024 px (configuration F) over FastGAN's, both players together."""
    with torch.device("meta"):
        theirs = size(StyleGAN2Generator(1024, channel_base=32768)) + size(
            StyleGAN2Discriminator(1024, channel_base=32768)
        )
    return theirs / (size(generator(1024)) + size(discriminator(1024)))


def scores() -> int:
    """Logits of an image."""
    with torch.device("meta"):
        return discriminator(256)(torch.zeros(2, 3, 256, 256)).shape[1]


def convolutions(resolution: int) -> int:
    """Convolutions of the generator's block of a resolution."""
    block = generator(1024).stages()[f"{resolution}px"]
    return sum(
        module.weight.shape[-1] == 3 for module in block.modules() if isinstance(module, torch.nn.Conv2d)
    )


def channels(resolution: int) -> int:
    """Channels that the generator has at a resolution."""
    norms = [
        m
        for m in generator(1024).stages()[f"{resolution}px"].modules()
        if isinstance(m, torch.nn.BatchNorm2d)
    ]
    return norms[-1].num_features // 2  # of the gated linear unit


def decoder_layers() -> int:
    """Convolutions of one decoder."""
    return sum(isinstance(m, torch.nn.Conv2d) for m in discriminator(1024).decoder.modules())


def decoders() -> int:
    """Decoders of the discriminator."""
    return sum("decoder" in name for name, _ in discriminator(1024).named_children())


def inversion_steps() -> int:
    """Steps of a projection unless others are asked for."""
    return inspect.signature(project).parameters["steps"].default


def held_out() -> str:
    """Training images for each image that is held out."""
    share = setting("data.val_fraction", "fastgan/held_out")()
    return f"{(1 - share) / share:.0f}:1"


def counts() -> list[Entry]:
    """Parameters of both players."""
    rows = [
        Entry(f"parameters of the generator, {px} px", CODE, count, lambda px=px: size(generator(px)))
        for px, count in ((256, "29,127,846"), (512, "29,174,392"), (1024, "29,176,512"))
    ]
    rows += [
        Entry(f"the same, z of 100, {px} px", CODE, count, lambda px=px: size(generator(px, 100)))
        for px, count in ((256, "24,016,038"),)
    ]
    rows += [
        Entry(f"parameters of the discriminator, {px} px", CODE, count, lambda px=px: size(discriminator(px)))
        for px, count in ((256, "11,526,160"), (512, "11,526,496"), (1024, "11,528,192"))
    ]
    return rows + [
        Entry(
            f"operations of the generator an image, {px} px", CODE, count, lambda px=px: macs(generator(px))
        )
        for px, count in ((256, "9.7 G"), (512, "13.4 G"), (1024, "15.9 G"))
    ]


ENTRIES = [
    *counts(),
    Entry(
        *("StyleGAN2's parameters over FastGAN's, at least", "section 4.1", "2", times_stylegan2),
        "both players of the published code at 1024 px, configuration F of StyleGAN2",
    ),
    Entry("convolutions at 256 px in G", "section 3", "1", lambda: convolutions(256)),
    Entry(
        "convolutions at 128 px in G",
        "section 3",
        "1",
        lambda: convolutions(128),
        "the original code has two at 8, 32, 128, 512 px",
    ),
    Entry("channels at 512 px", "section 3", "3", lambda: channels(512), "as in the original code"),
    Entry("channels at 1024 px", "section 3", "3", lambda: channels(1024), "as in the original code"),
    Entry(
        "decoders", "section 3.2", "2", decoders, "as in the original code: a third rebuilds the small image"
    ),
    Entry(
        "convolutions of a decoder",
        "section 3.2",
        "4",
        decoder_layers,
        "four that double the image, one to RGB",
    ),
    Entry("logits of an image", CODE, "50", scores),
    Entry("side of the few-shot images, px", "section 4", "256", setting("data.resolution", OFFICIAL)),
    Entry(
        "side of the others, px", "section 4", "1024", setting("data.resolution", OFFICIAL, "fastgan/1024")
    ),
    Entry("batch size", "section 4.1", "8", setting("data.batch_size", OFFICIAL)),
    Entry("batch size on FFHQ", "section 4.1", "32", setting("data.batch_size", OFFICIAL, "fastgan/ffhq")),
    Entry(
        "iterations between checkpoints",
        "section 4.1",
        "10 k",
        setting("trainer.val_check_interval", OFFICIAL),
    ),
    Entry("generated images for FID, few-shot", "section 4", "5000", setting("scores.num_samples", OFFICIAL)),
    Entry("training and held-out images", "Table 5", "9:1", held_out),
    Entry("updates of a latent", "section 4.2", "1000", inversion_steps),
    Entry("StyleGAN2's batch size", "section 4.1", "16", setting("data.batch_size", "fastgan/stylegan2")),
    Entry("length of z", CODE, "256", setting("model.generator.latent_dim", OFFICIAL)),
    Entry("iterations", CODE, "50,000", setting("trainer.max_steps", OFFICIAL)),
    Entry("learning rate", CODE, "0.0002", setting("model.optimizer_g.lr", OFFICIAL)),
    Entry("β1, β2", CODE, "[0.5, 0.999]", setting("model.optimizer_g.betas", OFFICIAL)),
    Entry("average of the generator", CODE, "0.999", setting("ema.decay", OFFICIAL)),
    Entry("width of the hinge's random margin", CODE, "0.2", setting("model.loss.smoothing", OFFICIAL)),
    Entry("augmentation", CODE, "color,translation", setting("model.augment.policy", OFFICIAL)),
    not_derivable(
        "parameters and seconds an iteration",
        "Table 1",
        "–",
        "the table's numbers were not at hand",
    ),
    not_derivable("FID and LPIPS", "Tables 2-6", "–", "training on the papers' data"),
]
