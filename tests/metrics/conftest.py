"""What the score tests share: an Inception file of seeded random weights, two folders of images."""

import hashlib
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from gansharing.metrics import FeatureExtractor, build_extractor


class _Unfilled(FeatureExtractorInceptionV3):
    def load_state_dict(self, state_dict: Any, *args: Any, **kwargs: Any) -> None:
        """Leave the network as it was built: its state dict is wanted, not somebody's weights."""


def _random_state() -> dict[str, Tensor]:
    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    state = _Unfilled("inception-v3-compat", ["2048"], empty).state_dict()
    draw = torch.Generator().manual_seed(3)
    for name, value in state.items():
        if value.ndim == 4:  # He's scale keeps the signal alive through 94 convolutions
            state[name] = torch.randn(value.shape, generator=draw) * math.sqrt(2 / value[0].numel())
    state["fc.weight"] = 3 * torch.randn(1008, 2048, generator=draw)
    return state


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(_random_state(), path)
    return path


@pytest.fixture(scope="session")
def lite() -> FeatureExtractor:
    return build_extractor("lite")


def _smooth_images(count: int, size: int, seed: int, strength: float) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=draw)
    images = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic") * 255
    images += strength * torch.randn(images.shape, generator=draw)
    return images.clamp(0, 255).round().to(torch.uint8)


@pytest.fixture(scope="session")
def smooth_images() -> Callable[[int, int, int, float], Tensor]:
    """Make uint8 (count, 3, size, size) of low-frequency colour plus noise, by seed and noise strength."""
    return _smooth_images


def _write_folder(folder: Path, images: Tensor) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{number:03}.png")
    return folder


def _read_folder(folder: Path) -> Tensor:
    pictures = [np.asarray(Image.open(file)) for file in sorted(folder.iterdir())]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


class Folder(NamedTuple):
    """A folder of PNG files and what is in them."""

    path: Path
    images: Tensor


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Folder, Folder]:
    """A folder of 11 fakes and one of 12 reals, 48 px."""
    root = tmp_path_factory.mktemp("folders")
    fake = _write_folder(root / "fake", _smooth_images(11, 48, 1, 30.0))
    real = _write_folder(root / "real", _smooth_images(12, 48, 2, 10.0))
    return Folder(fake, _read_folder(fake)), Folder(real, _read_folder(real))


class Images:
    """The least that a reference set must be; counts how often it is read."""

    def __init__(self, images: Tensor, fingerprint: str) -> None:
        self.images, self.fingerprint = images, fingerprint
        self.batches = 0

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: list[int]) -> dict[str, Tensor]:
        self.batches += 1
        return {"image": self.images[indices]}


@pytest.fixture
def image_set(tmp_path: Path) -> Callable[[Tensor], Images]:
    """Make a reference set that no other test has."""
    return lambda images: Images(images, hashlib.sha256(str(tmp_path).encode()).hexdigest())
