"""Networks: what maps a latent to an image, and an image to a score. Plain PyTorch."""

from gansharing.networks.base import Discriminator, Generator, Network, build_network
from gansharing.networks.biggan import BigGANDiscriminator, BigGANGenerator
from gansharing.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gansharing.networks.fastgan import FastGANGenerator
from gansharing.networks.fastgan_discriminator import FastGANDiscriminator
from gansharing.networks.gpgan import GPGANDiscriminator, GPGANGenerator
from gansharing.networks.miners import BigGANMiner, ConvMiner, Miner, NoiseMiner
from gansharing.networks.projected import ProjectedDiscriminator
from gansharing.networks.smallhead import SmallHeadGenerator
from gansharing.networks.sndcgan import SNDCGANDiscriminator, SNDCGANGenerator
from gansharing.networks.sngan import SNGANDiscriminator, SNGANGenerator
from gansharing.networks.spectral_style import SpectralStyleGenerator
from gansharing.networks.starganv2 import StarGANv2Generator
from gansharing.networks.starganv2_discriminator import StarGANv2Discriminator
from gansharing.networks.starganv2_styles import StarGANv2Mapping, StarGANv2StyleEncoder
from gansharing.networks.starganv2_translator import StarGANv2Translator
from gansharing.networks.stylegan2 import StyleGAN2Generator
from gansharing.networks.stylegan2_discriminator import StyleGAN2Discriminator

__all__ = [
    "BigGANDiscriminator",
    "BigGANGenerator",
    "BigGANMiner",
    "ConvMiner",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "Discriminator",
    "FastGANDiscriminator",
    "FastGANGenerator",
    "GPGANDiscriminator",
    "GPGANGenerator",
    "Generator",
    "Miner",
    "Network",
    "NoiseMiner",
    "ProjectedDiscriminator",
    "SNDCGANDiscriminator",
    "SNDCGANGenerator",
    "SNGANDiscriminator",
    "SNGANGenerator",
    "SmallHeadGenerator",
    "SpectralStyleGenerator",
    "StarGANv2Discriminator",
    "StarGANv2Generator",
    "StarGANv2Mapping",
    "StarGANv2StyleEncoder",
    "StarGANv2Translator",
    "StyleGAN2Discriminator",
    "StyleGAN2Generator",
    "build_network",
]
