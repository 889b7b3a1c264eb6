"""DiffAugment: the same random augmentation for real and generated images, with gradients through it."""

from collections.abc import Callable
from difflib import get_close_matches
from functools import lru_cache

import torch
from kornia.augmentation import RandomBrightness, RandomCrop
from torch import Tensor

from gansharing.augment.base import Augmentation
from gansharing.augment.operations import RandomContrast, RandomCutout, RandomSaturation, rounded_share
from gansharing.errors import UserError

Operation = Callable[[Tensor], Tensor]


class DiffAugment(Augmentation):
    """Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training".

    Every operation of the policy is applied to every image, with its own draw for each image, in the
    policy's order:

    - ``color``: brightness x + b, b uniform on [-0.5, 0.5); saturation, the distance from a pixel's mean
      over channels times [0, 2); contrast, the distance from the image's mean times [0.5, 1.5).
    - ``translation``: a shift by whole pixels, uniform on at most 1/8 of the side; zeros come in.
    - ``cutout``: a box of half the height and width is filled with zeros; it may hang over the border.

    Images may be of any range (0 is mid-grey in [-1, 1]); nothing is clamped, and the result is twice
    differentiable. The draws come from torch's global generator on the CPU. The module has no state.

    Args:
        policy: names separated by commas; empty means no augmentation.

    Shape:
        input and output: (B, C, H, W) floating point; dtype and channels_last are kept.

    Raises:
        UserError: an unknown or repeated name in ``policy``.
    """

    def __init__(self, policy: str = "color,translation,cutout") -> None:
        super().__init__()
        self.policy = _parse(policy)
        # A tuple, not a ModuleList: kornia's ranges would enter every checkpoint, and a module moved to a
        # GPU would draw there, other numbers than on the CPU.
        self._operations = tuple(operation for name in self.policy for operation in _GROUPS[name]())

    def forward(self, images: Tensor) -> Tensor:
        """Augment each image on its own: (B, C, H, W) to (B, C, H, W)."""
        channels_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
        for operation in self._operations:
            images = operation(images)
        return images.contiguous(memory_format=torch.channels_last) if channels_last else images

    def extra_repr(self) -> str:
        """Show the policy where the module is printed."""
        return f"policy={','.join(self.policy)!r}"


def _color() -> list[Operation]:
    return [RandomBrightness((0.5, 1.5), clip_output=False, p=1.0), RandomSaturation(), RandomContrast()]


def _translate(images: Tensor) -> Tensor:
    return _crop_to(images.shape[-2], images.shape[-1])(images)


@lru_cache(maxsize=16)
def _crop_to(height: int, width: int) -> RandomCrop:
    """Pad by 1/8 of each side and crop back: kornia's translation with the original's distribution."""
    padding = (rounded_share(width, 1 / 8), rounded_share(height, 1 / 8))
    return RandomCrop((height, width), padding=padding, fill=0, cropping_mode="slice", p=1.0)


_GROUPS: dict[str, Callable[[], list[Operation]]] = {
    "color": _color,
    "translation": lambda: [_translate],
    "cutout": lambda: [RandomCutout()],
}


def _parse(policy: str) -> tuple[str, ...]:
    names = tuple(word.strip() for word in policy.split(",") if word.strip())
    for name in names:
        if name not in _GROUPS:
            near = get_close_matches(name.lower(), _GROUPS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(_GROUPS)}"
            raise UserError(f"DiffAugment policy: unknown augmentation {name!r}; {hint}")
        if names.count(name) > 1:
            raise UserError(f"DiffAugment policy: {name!r} is named twice; name each augmentation once")
    return names
