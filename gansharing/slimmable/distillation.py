"""What narrow generators learn from wide ones: to give the same image for the same latent."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gansharing.errors import UserError

Teacher = Literal["next", "widest"]


def distillation(images: Sequence[Tensor], teacher: Teacher = "next") -> Tensor:
    """Mean squared difference between each width's images and its teacher's (Hou et al. 2021, section 4.2).

    The mean is over batch, channels, pixels and the pairs, as the original's code computes; the paper writes
    the squared norm. No gradient reaches a teacher.

    Args:
        images: ``(N, 3, H, W)`` of the same latents at each width, the narrowest first; at least two.
        teacher: ``next``, the next wider one (stepwise), or ``widest`` (naive).

    Returns:
        A scalar.

    Raises:
        UserError: There are less than two widths.
    """
    if len(images) < 2:
        raise UserError(f"distillation needs two widths at least; it got {len(images)}")
    teachers = images[1:] if teacher == "next" else [images[-1]] * (len(images) - 1)
    pairs = [F.mse_loss(x, t.detach()) for x, t in zip(images[:-1], teachers, strict=True)]
    return torch.stack(pairs).mean()
