"""gansharing: GANs that share weights across domains, widths and data sets."""

from gansharing import _torchvision  # noqa: F401  (before anything imports torchvision)

__version__ = "0.1.0"
