"""Features of the real images, computed once and kept under the data's and the extractor's hash."""

import hashlib
import os
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from rich.progress import track
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from gansharing.errors import UserError
from gansharing.metrics.extractors.base import FeatureExtractor, embed
from gansharing.metrics.frechet import Moments, moments

# Raise when what a file holds changes its meaning.
_FORMAT = "1"


class ImageSet(Protocol):
    """What can be a reference: a prepared data set, or anything with these three."""

    @property
    def fingerprint(self) -> str:
        """Hash of exactly these images in this order at this resolution."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: list[int]) -> Mapping[str, Any]:
        """``{"image": uint8 (B, 3, H, W), ...}`` at ``indices``; a list of (3, H, W) where sizes differ."""
        ...


@dataclass(frozen=True)
class RealFeatures:
    """Features of a reference set.

    Attributes:
        features: float32 (N, D), on the CPU.
        moments: mean and covariance of the features in float64, with N.
        images: the image set's fingerprint.
        extractor: the extractor's fingerprint.
    """

    features: Tensor
    moments: Moments
    images: str
    extractor: str

    def __len__(self) -> int:
        """N."""
        return len(self.features)


def real_features(
    images: ImageSet, extractor: FeatureExtractor, batch_size: int = 64, progress: bool = True
) -> RealFeatures:
    """Features of all images, from the cache or computed and cached.

    Under ``torch.distributed`` every rank must call it: the ranks share the work, and each returns all
    features.

    Args:
        images: the reference set.
        extractor: what embeds it.
        batch_size: images embedded at once.
        progress: whether to show a bar.

    Raises:
        UserError: with fewer than two images, or where the cache cannot be written.
    """
    if len(images) < 2:
        raise UserError(f"the reference set has {len(images)} image(s): scores need at least 2")
    path = _cache_file(images.fingerprint, extractor.fingerprint)
    known = _read(path, len(images))
    if not _everywhere(known is not None):
        known = _gathered(_embed(images, extractor, batch_size, progress))
        if _rank() == 0:
            _write(path, known)
    assert known is not None
    return RealFeatures(known, moments(known), images.fingerprint, extractor.fingerprint)


def _cache_file(images: str, extractor: str) -> Path:
    from gansharing.data.cache import cache_root

    return cache_root() / "features" / f"{images[:32]}-{extractor[:32]}.safetensors"


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _everywhere(hit: bool) -> bool:
    """Whether all ranks have it: a node with a cache of its own must not leave the others waiting."""
    if not dist.is_initialized():
        return hit
    hits: list[bool | None] = [None] * dist.get_world_size()
    dist.all_gather_object(hits, hit)
    return all(hits)


def _embed(images: ImageSet, extractor: FeatureExtractor, batch_size: int, progress: bool) -> Tensor:
    """This rank's contiguous share: float32 (n, D) on the extractor's device."""
    world = dist.get_world_size() if dist.is_initialized() else 1
    start, stop = len(images) * _rank() // world, len(images) * (_rank() + 1) // world
    parts = [torch.empty(0, extractor.num_features, device=next(extractor.parameters()).device)]
    firsts = range(start, stop, batch_size)
    for first in track(
        firsts, "Features of the reference", disable=not progress or _rank() > 0, transient=True
    ):
        batch = images.batch(list(range(first, min(first + batch_size, stop))))
        parts.append(embed(extractor, batch["image"]).features)
    return torch.cat(parts)


def _gathered(share: Tensor) -> Tensor:
    return torch.cat(gather_all_tensors(share)).cpu() if dist.is_initialized() else share.cpu()


def _read(path: Path, count: int) -> Tensor | None:
    """The cached features, or None where there are none to be trusted."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            features: Tensor = file.get_tensor("features")
            whole = (file.metadata() or {}).get("checksum") == _checksum(features)
    except (SafetensorError, OSError):
        whole = False
    if whole and len(features) == count:
        return features
    warnings.warn(f"the cached features {path} are damaged and will be computed again", stacklevel=3)
    return None


def _checksum(features: Tensor) -> str:
    return hashlib.sha256(
        f"{_FORMAT} {tuple(features.shape)}".encode() + features.numpy().tobytes()
    ).hexdigest()


def _write(path: Path, features: Tensor) -> None:
    """Whole or not there, also where several runs on the same data write it at once."""
    content = save({"features": features.contiguous()}, {"checksum": _checksum(features)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        Path(partial).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _unwritable(path, error) from error
        raise


def _unwritable(path: Path, error: OSError) -> UserError:
    reason = error.strerror or str(error)
    return UserError(
        f"cannot keep the features of the reference at {path}: {reason}; set GANSHARING_CACHE elsewhere"
    )
