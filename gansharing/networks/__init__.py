"""Networks: what maps a latent to an image, and an image to a score. Plain PyTorch."""

from gansharing.networks.base import Discriminator, Generator, Network, build_network
from gansharing.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gansharing.networks.spectral_style import SpectralStyleGenerator

__all__ = [
    "DCGANDiscriminator",
    "DCGANGenerator",
    "Discriminator",
    "Generator",
    "Network",
    "SpectralStyleGenerator",
    "build_network",
]
