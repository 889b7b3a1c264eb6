"""What StarGAN v2's generator minimises beside the adversarial loss (Choi et al. 2020, section 2.2)."""

from torch import Tensor


def difference(one: Tensor, other: Tensor) -> Tensor:
    """Mean absolute difference, of styles (equation 2) or of images (equation 4); gradients reach both."""
    return (one - other).abs().mean()


def diversity(images: Tensor, others: Tensor) -> Tensor:
    """Less the mean absolute difference of translations into two styles (equation 3).

    Args:
        images: ``(N, 3, H, W)``.
        others: The same images in other styles; no gradient reaches them, as in the original's code.
    """
    return -difference(images, others.detach())


def decayed(weight: float, step: int, steps: int) -> float:
    """The weight after ``step`` steps: falling from ``weight`` to 0 along a line, ``steps`` long."""
    return weight * max(0.0, 1 - step / steps)
