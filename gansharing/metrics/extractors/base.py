"""What a feature extractor is: uint8 images in, features (and logits) out, nothing else touched."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gansharing.errors import UserError

Resize = Literal["clean", "legacy"]


class Features(NamedTuple):
    """What an extractor sees in a batch of N images.

    Attributes:
        features: float32 (N, D), the pooled features that FID, KID and precision/recall compare.
        logits: float32 (N, K), the class logits behind the Inception score, or None where the network
            has no classes.
    """

    features: Tensor
    logits: Tensor | None


class FeatureExtractor(nn.Module, ABC):
    """A frozen network that embeds images; subclasses give ``embed``.

    It is always in eval mode, needs no gradient, ignores a surrounding autocast (scores would depend on
    the training precision) and leaves the global random state alone.

    Attributes:
        name: "inception", "lite" or "dinov2".
        suffix: what its scores' names end in, so that values of different extractors never mix.
        resize: how images reach ``input_size``: "clean" (antialiased bicubic, as clean-fid) or "legacy"
            (TensorFlow 1's bilinear, as the original FID).
        input_size: side of the square network input in pixels.
        num_features: D.
        num_logits: K, 0 where the network has no classes.
        fingerprint: hex digest of weights, resize and input size.
    """

    name: str
    suffix: str
    input_size: int
    num_features: int
    num_logits: int

    def __init__(self, resize: Resize = "clean") -> None:
        """Remember the resize; the weights come with the subclass."""
        super().__init__()
        self.resize: Resize = resize
        self.fingerprint = ""

    def freeze(self) -> None:
        """Call at the end of a subclass' constructor: eval, no gradients, channels_last, fingerprint."""
        self.requires_grad_(False)
        self.eval()
        described = f"{self.name} {self.resize} {self.input_size}"
        self.fingerprint = fingerprint(self.state_dict(), described)
        for parameter in self.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode whatever a surrounding module asks for."""
        return super().train(False)

    def forward(self, images: Tensor) -> Features:
        """Embed a batch.

        Args:
            images: uint8 (N, 3, H, W), RGB in [0, 255].

        Returns:
            Features on the extractor's device.

        Raises:
            UserError: if the images are not uint8 RGB, or the features are not finite.
        """
        check_images(images)
        device = next(self.parameters()).device
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            pixels = images.to(device).to(torch.float32, memory_format=torch.channels_last)
            features, logits = self.embed(resized(pixels, self.input_size, self.resize))
            finite = bool(features.isfinite().all())
        if not finite:
            raise UserError(f"extractor {self.name}: its weights give features that are not finite numbers")
        # Clones made out here are ordinary tensors; inference tensors may not enter metric states.
        return Features(features.clone(), None if logits is None else logits.clone())

    @abstractmethod
    def embed(self, pixels: Tensor) -> Features:
        """Features of float32 (N, 3, input_size, input_size) pixels in [0, 255]."""


def embed(extractor: FeatureExtractor, images: Tensor | Sequence[Tensor]) -> Features:
    """Features of images that need not have one size.

    Args:
        extractor: what embeds them.
        images: uint8 (N, 3, H, W), or N images (3, H, W) of any sizes.

    Returns:
        Features in the order of the images.
    """
    if isinstance(images, Tensor):
        return extractor(images)
    by_size: dict[torch.Size, list[int]] = {}
    for index, image in enumerate(images):
        by_size.setdefault(image.shape, []).append(index)
    parts = [extractor(torch.stack([images[i] for i in indices])) for indices in by_size.values()]
    order = torch.tensor([i for indices in by_size.values() for i in indices]).argsort()
    features = torch.cat([part.features for part in parts])[order]
    logits = [part.logits for part in parts if part.logits is not None]
    return Features(features, torch.cat(logits)[order] if logits else None)


def check_images(images: Tensor) -> None:
    """Refuse what is no batch of uint8 RGB images, saying what to do about it."""
    if images.dtype != torch.uint8:
        if images.is_floating_point() and not bool(images.isfinite().all()):
            raise UserError(
                "images hold NaN or infinite values: the generator has diverged, nothing can be scored"
            )
        raise UserError(
            f"images must be uint8 in [0, 255], not {images.dtype}: use gansharing.visual.to_uint8"
        )
    if images.ndim != 4 or images.shape[1] != 3:
        raise UserError(f"images must have the shape (N, 3, H, W), not {tuple(images.shape)}")


def resized(pixels: Tensor, size: int, resize: Resize) -> Tensor:
    """Bring (N, 3, H, W) float pixels in [0, 255] to (N, 3, size, size).

    "clean" equals clean-fid's Pillow bicubic in floats to 0.004 of 255 (Parmar et al. 2022); "legacy" is
    the bilinear of TensorFlow 1 without antialiasing that the original FID and torch-fidelity use.
    """
    if resize == "clean":
        if pixels.shape[-2:] != (size, size):
            pixels = F.interpolate(pixels, (size, size), mode="bicubic", antialias=True, align_corners=False)
        return pixels.clamp(0, 255)
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    legacy: Tensor = interpolate_bilinear_2d_like_tensorflow1x(pixels, (size, size), align_corners=False)
    return legacy


def fingerprint(state: Mapping[str, Tensor], described: str) -> str:
    """Digest of a state dict (names, dtypes, shapes, bytes) and a description of the preprocessing."""
    digest = hashlib.sha256(described.encode())
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]
