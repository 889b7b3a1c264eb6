"""``gansharing score`` in process: folders, zips, generators, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gansharing.checkpoints import save_network
from gansharing.errors import UserError
from gansharing.metrics import FeatureExtractor, ScoreSuite
from gansharing.metrics.frechet import frechet_distance, moments
from gansharing.networks import DCGANGenerator
from gansharing.networks.seeded import seeded_latents
from gansharing.tools.sample import images_of
from gansharing.tools.score import score

Folders = tuple[Any, Any]


def fid(extractor: FeatureExtractor, fake: torch.Tensor, real: torch.Tensor) -> float:
    return float(frechet_distance(moments(extractor(real).features), moments(extractor(fake).features)))


def test_two_folders_and_their_zips(
    lite: FeatureExtractor, folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake, real = folders
    out = tmp_path / "scores.json"
    result = score(str(fake.path), str(real.path), metrics=("fid", "prdc"), bootstrap=10, out=str(out))
    assert result["scores"]["fid_lite"] == pytest.approx(fid(lite, fake.images, real.images), rel=1e-4)
    assert json.loads(out.read_text()) == result
    printed = capsys.readouterr().out
    assert "fid_lite" in printed and '"n_real": 12' in printed
    archive = shutil.make_archive(str(tmp_path / "fake"), "zip", fake.path)
    zipped = score(archive, str(real.path), metrics=("fid", "prdc"), bootstrap=10)
    assert zipped["scores"] == pytest.approx(result["scores"], rel=1e-6)


def test_images_of_unequal_sizes_are_seen_at_their_own(
    lite: FeatureExtractor, folders: Folders, tmp_path: Path
) -> None:
    files = sorted(folders[0].path.iterdir())
    features = []
    for number, file in enumerate(files):
        image = Image.open(file).resize((40 + 8 * (number % 3), 48))
        image.save(tmp_path / file.name)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        features.append(lite(pixels[None]).features)
    result = score(str(tmp_path), str(folders[1].path), metrics=("fid",))
    expected = frechet_distance(moments(lite(folders[1].images).features), moments(torch.cat(features)))
    assert result["scores"]["fid_lite"] == pytest.approx(float(expected), rel=1e-4)


def test_a_generator_against_a_folder(lite: FeatureExtractor, folders: Folders, tmp_path: Path) -> None:
    generator = DCGANGenerator(resolution=32, base_channels=8).eval()
    save_network(generator, tmp_path / "g.safetensors", "generator")
    result = score(
        str(tmp_path / "g.safetensors"), str(folders[1].path), metrics=("fid",), num_images=20, seed=5
    )
    images = images_of(generator, seeded_latents(generator, range(5, 25)))
    assert result["protocol"]["n_fake"] == 20
    assert result["scores"]["fid_lite"] == pytest.approx(fid(lite, images, folders[1].images), rel=1e-4)


def test_fewer_images_are_drawn_by_the_seed(folders: Folders) -> None:
    def draw(seed: int) -> float:
        paths = (str(folder.path) for folder in folders)
        return score(*paths, metrics=("fid",), num_images=8, seed=seed)["scores"]["fid_lite"]  # type: ignore[misc]

    assert draw(0) == draw(0) != draw(1)


def _broken(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def _alone(folder: Path) -> None:
    for file in list(folder.iterdir())[1:]:
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (_broken, {}, "broken.png cannot be scored"),
        (_empty, {}, "holds no images"),
        (_alone, {}, "at least 2"),
        (shutil.rmtree, {}, "no data at"),
        (None, {"num_images": 1}, "at least 2"),
        (None, {"num_images": 1000}, "ask for fewer"),
        (None, {"resize": "legacy"}, "inception only"),
        (None, {"metrics": ("lpips",)}, "not known"),
        (None, {"extractor": "inception", "weights": "nowhere.pth"}, "no file nowhere.pth"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(
    spoil: Callable[[Path], object] | None,
    options: dict[str, Any],
    message: str,
    folders: Folders,
    tmp_path: Path,
) -> None:
    folder, out = tmp_path / "a", tmp_path / "scores.json"
    shutil.copytree(folders[0].path, folder)
    if spoil is not None:
        spoil(folder)
    with pytest.raises(UserError, match=message) as caught:
        score(str(folder), str(folders[1].path), out=str(out), **options)
    assert "\n" not in str(caught.value) and not out.exists()


def test_suite_takes_lists_as_it_takes_batches(lite: FeatureExtractor, folders: Folders) -> None:
    suite = ScoreSuite(lite, metrics=("is",))
    values = []
    for images in (folders[0].images, list(folders[0].images)):
        suite.reset()
        suite.update(images)
        values.append(suite.compute()["is_lite"])
    assert values[0] == pytest.approx(values[1], rel=1e-6)
