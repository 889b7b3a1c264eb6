"""gansharing: GANs that share weights across domains, widths and data sets."""

from typing import Any

from gansharing import _torchvision  # noqa: F401  (before anything imports torchvision)

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    # Lazily: networks, objectives, augment and latent are usable without the training stack.
    if name == "load":
        from gansharing.checkpoints import load

        return load
    raise AttributeError(f"module 'gansharing' has no attribute '{name}'")
