"""A tiny one of every generator, whose images, statistics and noise are not left at their pale start."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gansharing.networks import (
    BigGANGenerator,
    DCGANGenerator,
    FastGANGenerator,
    Generator,
    GPGANGenerator,
    SmallHeadGenerator,
    SNDCGANGenerator,
    SNGANGenerator,
    SpectralStyleGenerator,
    StyleGAN2Generator,
)

CLASSES = 3
PALE = (DCGANGenerator, SpectralStyleGenerator, GPGANGenerator)  # before training
LAST = ("to_rgb.weight", "conv_img.weight")  # before a tanh


def stylegan2(num_classes: int = 0, resolution: int = 8, width: int = 8) -> StyleGAN2Generator:
    return StyleGAN2Generator(
        resolution, 8, 8, num_classes, 1, channel_base=resolution * width, channel_max=width, clamp=256.0
    )


GENERATORS: dict[str, Callable[[], Generator]] = {
    "DCGAN": lambda: DCGANGenerator(32, 8, base_channels=4),
    "SpectralStyle": lambda: SpectralStyleGenerator(32, 8, base_channels=4),
    "StyleGAN2": stylegan2,
    "StyleGAN2 with classes": lambda: stylegan2(CLASSES),
    "GP-GAN": lambda: GPGANGenerator(32, 8, base_channels=2),
    "GP-GAN with classes": lambda: GPGANGenerator(16, 8, CLASSES, 4, base_channels=4, variant="resnet"),
    "SmallHead": lambda: SmallHeadGenerator(32, 8, 8, mapping_layers=2, base_channels=2),
    "FastGAN": lambda: FastGANGenerator(64, 8, base_channels=4),
    "SNGAN": lambda: SNGANGenerator(32, 8, channels=8),
    "SNGAN with classes": lambda: SNGANGenerator(32, 8, CLASSES, channels=8),
    "BigGAN with classes": lambda: BigGANGenerator(32, 8, CLASSES, channels=4, embed_dim=4),
    "SNDCGAN": lambda: SNDCGANGenerator(32, 8, channels=16),
}


def lively(make: Callable[[], Generator]) -> Generator:
    """A generator in eval mode without gradients whose images differ visibly; always the same weights."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(11)
        network = make()
        for name, parameter in network.named_parameters():
            if name.endswith(("strength", "attention.gamma")):
                parameter.fill_(0.1)
            elif name == "gain.weight":  # at SmallHead's 1000 a pixel's rounding errors pass 1e-4
                parameter.fill_(10)
            elif isinstance(network, PALE) and name in LAST:
                parameter.mul_(20)
            elif isinstance(network, FastGANGenerator) and name.endswith("norm.weight"):
                parameter.mul_(4)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.5
        labels = labels_of(network, 16)
        for _ in range(6):  # running statistics, spectral norm's vectors, the mean style
            network.train()(network.sample_latent(16), labels)
    return network.eval().requires_grad_(False)


def labels_of(network: Generator, count: int) -> Tensor | None:
    """Labels in turn for networks with classes."""
    classes = network.config["init_args"].get("num_classes")
    return torch.arange(count) % classes if classes else None
