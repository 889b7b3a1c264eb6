"""One network, every width: slimmable layers and networks (Hou et al. 2021). Plain PyTorch."""

from gansharing.slimmable.calibration import recalibrate
from gansharing.slimmable.discriminator import PerWidthDiscriminator, halves, scores_alone, turns
from gansharing.slimmable.distillation import distillation
from gansharing.slimmable.held import held_norms
from gansharing.slimmable.networks import SlimmableDiscriminator, SlimmableGenerator, extract
from gansharing.slimmable.sandwich import sandwich
from gansharing.slimmable.sorting import sort_channels
from gansharing.slimmable.width import at_width, current_width

__all__ = [
    "PerWidthDiscriminator",
    "SlimmableDiscriminator",
    "SlimmableGenerator",
    "at_width",
    "current_width",
    "distillation",
    "extract",
    "halves",
    "held_norms",
    "recalibrate",
    "sandwich",
    "scores_alone",
    "sort_channels",
    "turns",
]
