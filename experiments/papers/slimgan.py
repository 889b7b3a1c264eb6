"""Hou et al. 2021, Slimmable Generative Adversarial Networks."""

from collections.abc import Callable
from functools import cache

import torch
from counts import JUDGES, SLIMMABLE

from gansharing.slimmable import PerWidthDiscriminator
from gansharing.slimmable.costs import Cost, costs
from papers.entry import Entry, default_steps, not_derivable, setting, size

TITLE = "SlimGAN (2021)"
CODE = "original code"
BINARY = {"M": 2**20}
NOTE = "M is 2^20"
BASE = "slimgan/base"
NAMES = {"uncond": "SNGAN 32", "cond10": "cGAN-pd 32, 10 classes", "cond100": "cGAN-pd 32, 100 classes"}
INDIVIDUAL = {
    "uncond": ("0.35", "1.15", "2.39", "4.08", "7.97"),
    "cond10": ("0.36", "1.16", "2.41", "4.10", "8.04"),
    "cond100": ("0.42", "1.29", "2.61", "4.37", "8.70"),
}
HELD = {
    "S-uncond": ("SNGAN 32", "4.08"),
    "S-cond10 (+)": ("cGAN-pd 32, 10 classes", "4.11"),
    "S-cond100 (+)": ("cGAN-pd 32, 100 classes", "4.38"),
    "S-cond10 (×)": ("10 classes, naive", "4.15"),
    "S-cond100 (×)": ("100 classes, naive", "4.81"),
}
OPERATIONS = {
    "SNDCGAN 32": ("7.0", "26.6", "58.7", "103.5"),
    "SNGAN 32": ("106.5", "422.2", "947.1", "1,681.1"),
    "SNGAN 48": ("52.9", "208.4", "466.6", "827.4"),
    "SNDCGAN 64": ("35.8", "138.8", "308.9", "546.0"),
    "SNGAN 64": ("123.9", "491.1", "1,101.6", "1,955.3"),
}
SHARED = {"SNGAN 32": "2,825,220"}
LAMBDAS = {
    **{"dcgan_cifar10": "20", "dcgan_stl10": "10", "dcgan_celeba": "20", "resnet_cifar10": "20"},
    **{"resnet_stl10": "30", "resnet_celeba": "20", "cgan_cifar10": "10", "cgan_cifar100": "20"},
}
RATES = {"dcgan_cifar10": "0.0002", "dcgan_celeba": "0.0001", "resnet_celeba": "0.0002"}
BETAS = {"dcgan_cifar10": "[0.5, 0.999]", "resnet_cifar10": "[0.0, 0.9]"}


@cache
def by_width(name: str) -> list[Cost]:
    """What each width of a generator costs."""
    with torch.device("meta"):
        return costs(SLIMMABLE[name]())


def held(name: str) -> int:
    """Parameters of a slimmable generator."""
    with torch.device("meta"):
        return size(SLIMMABLE[name]())


def judges(name: str) -> int:
    """Parameters of discriminators of four widths that share two stages."""
    with torch.device("meta"):
        return size(PerWidthDiscriminator(JUDGES[name](), n_share=2))


def of(key: str, name: str) -> Callable[[], object]:
    """A setting of a SlimGAN experiment."""
    return setting(key, BASE, f"slimgan/{name}")


def table_5() -> list[Entry]:
    """Parameters of the generators."""
    rows = []
    for kind, printed in INDIVIDUAL.items():
        name = NAMES[kind]
        for number, width in enumerate((0.25, 0.5, 0.75, 1)):
            what = f"parameters of I-{kind}, {width:g}×"
            paper = f"{printed[number]} M"
            rows.append(
                Entry(what, "Table 5", paper, lambda n=number, m=name: by_width(m)[n].alone, NOTE, BINARY)
            )
        total = lambda m=name: sum(cost.alone for cost in by_width(m))  # noqa: E731
        rows.append(Entry(f"parameters of I-{kind}, all", "Table 5", f"{printed[4]} M", total, NOTE, BINARY))
    for what, (name, printed_one) in HELD.items():
        ours = lambda m=name: held(m)  # noqa: E731
        rows.append(Entry(f"parameters of {what}", "Table 5", f"{printed_one} M", ours, NOTE, BINARY))
    return rows


def operations() -> list[Entry]:
    """Multiply-accumulate operations an image."""
    return [
        Entry(
            f"operations an image, {name} px, {width:g}×",
            CODE,
            f"{paper} M",
            lambda n=number, m=name: by_width(m)[n].macs,
        )
        for name, printed in OPERATIONS.items()
        for number, (width, paper) in enumerate(zip((0.25, 0.5, 0.75, 1), printed, strict=True))
    ]


WHERE = "experimental settings"
ENTRIES = [
    *table_5(),
    *operations(),
    *(
        Entry(
            f"parameters of four discriminators, {name} px, two stages shared",
            CODE,
            count,
            lambda n=name: judges(n),
        )
        for name, count in SHARED.items()
    ),
    Entry("widths", WHERE, "[0.25, 0.5, 0.75, 1.0]", setting("model.generator.widths", BASE)),
    Entry("widths of BigGAN", "Table 2", "[0.5, 1.0]", of("model.generator.widths", "biggan_imagenet")),
    Entry(
        "side of BigGAN's images, px",
        "Table 2",
        "128",
        of("model.generator.network.resolution", "biggan_imagenet"),
    ),
    Entry("iterations of BigGAN", "Table 2", "50 k", of("trainer.max_steps", "biggan_imagenet")),
    Entry("iterations", WHERE, "100 k", setting("trainer.max_steps", BASE)),
    Entry("discriminator steps, ResNet", WHERE, "5", of("model.discriminator_steps", "resnet_cifar10")),
    Entry("discriminator steps, DCGAN", WHERE, "1", default_steps),
    Entry("batch size", CODE, "64", setting("data.batch_size", BASE)),
    *(
        Entry(f"λ, {n}.yaml", "experimental results", v, of("model.distillation", n))
        for n, v in LAMBDAS.items()
    ),
    *(Entry(f"learning rate, {n}.yaml", WHERE, v, of("model.optimizer_g.lr", n)) for n, v in RATES.items()),
    *(Entry(f"β1, β2, {n}.yaml", WHERE, v, of("model.optimizer_g.betas", n)) for n, v in BETAS.items()),
    Entry("classes of CIFAR-10", "datasets", "10", of("model.generator.network.num_classes", "cgan_cifar10")),
    Entry(
        "classes of CIFAR-100", "datasets", "100", of("model.generator.network.num_classes", "cgan_cifar100")
    ),
    Entry("side of CIFAR's images, px", "datasets", "32", of("data.resolution", "dcgan_cifar10")),
    Entry("side of STL-10's images, px", "datasets", "48", of("data.resolution", "dcgan_stl10")),
    Entry("side of CelebA's images, px", "datasets", "64", of("data.resolution", "dcgan_celeba")),
    Entry("generated images for FID", "evaluation metrics", "10 k", setting("scores.num_samples", BASE)),
    Entry("the same on STL-10", "evaluation metrics", "8 k", of("scores.num_samples", "resnet_stl10")),
    not_derivable(
        "generated images for IS", "evaluation metrics", "50k", "all scores here are of one set of images"
    ),
    not_derivable(
        "training images of CelebA", "datasets", "182,637", "the split is the data's; CelebA is not here"
    ),
    not_derivable("FID, IS and mIC", "Tables 1-4", "46.9, ...", "training on CIFAR, STL-10 and CelebA"),
]
