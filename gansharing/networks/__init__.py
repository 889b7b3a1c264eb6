"""Networks: what maps a latent to an image, and an image to a score. Plain PyTorch."""

from gansharing.networks.base import Discriminator, Generator, Network, build_network
from gansharing.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gansharing.networks.spectral_style import SpectralStyleGenerator
from gansharing.networks.stylegan2 import StyleGAN2Generator
from gansharing.networks.stylegan2_discriminator import StyleGAN2Discriminator

__all__ = [
    "DCGANDiscriminator",
    "DCGANGenerator",
    "Discriminator",
    "Generator",
    "Network",
    "SpectralStyleGenerator",
    "StyleGAN2Discriminator",
    "StyleGAN2Generator",
    "build_network",
]
