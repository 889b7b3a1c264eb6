"""``ImageData``: what reaches the training step."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import LightningDataModule
from PIL import Image

from gansharing.data import ImageData
from gansharing.data.images import fraction_indices, hold_out, random_mirror, scale
from gansharing.errors import UserError
from tests.data.helpers import fill, noise


def data(path: Path, **options: Any) -> ImageData:
    module = ImageData(str(path), **({"resolution": 16, "batch_size": 4} | options))
    module.prepare_data()
    module.setup("fit")
    return module


def attached(module: ImageData, training: bool = True, rank: int = 0, world: int = 1) -> ImageData:
    module.trainer = SimpleNamespace(training=training, global_rank=rank, world_size=world)  # type: ignore[assignment]
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "images", [f"{'ab'[i % 2]}/{i:02}.png" for i in range(20)])


def test_a_batch_is_float_in_range_in_channels_last_with_labels(folder: Path) -> None:
    module = data(folder)
    batch = next(iter(module.train_dataloader()))
    ready = module.on_after_batch_transfer(batch, 0)
    assert ready["image"].dtype == torch.float32 and ready["image"].shape == (4, 3, 16, 16)
    assert ready["image"].is_contiguous(memory_format=torch.channels_last)
    assert ready["label"].dtype == torch.int64
    rows = module.train_dataloader().indices(0)
    for image, label, row in zip(ready["image"], ready["label"], rows, strict=True):
        name = module.train_set.names[row]
        file = np.asarray(Image.open(folder / name)).astype(np.float32)
        assert torch.allclose(image, torch.from_numpy(file / 127.5 - 1).permute(2, 0, 1), atol=1e-6)
        assert label == "ab".index(name[0])
    assert module.num_classes == 2


@given(st.floats(-2, 2), st.floats(0.1, 4))
def test_black_and_white_become_the_ends_of_the_range(low: float, width: float) -> None:
    image = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2)
    assert torch.allclose(
        scale(image, (low, low + width)).flatten(), torch.tensor([low, low + width]), atol=1e-5
    )


@given(st.integers(1, 300), st.floats(0.001, 1.0), st.sampled_from(["first", "random"]), st.integers(0, 3))
def test_a_fraction_is_that_many_different_images(
    count: int, fraction: float, subset: str, seed: int
) -> None:
    rows = fraction_indices(count, fraction, subset, seed).tolist()
    assert len(rows) == max(1, int(count * fraction)) and rows == sorted(set(rows)) and rows[-1] < count
    if subset == "first":
        assert rows == list(range(len(rows)))


def test_the_papers_four_fractions_have_its_counts() -> None:
    counts = [len(fraction_indices(4739, k / 100, "first", 0)) for k in (100, 75, 50, 25)]
    assert counts == [4739, 3554, 2369, 1184]


def test_training_takes_the_fraction_and_scores_the_whole_split(folder: Path) -> None:
    first = data(folder, fraction=0.5, subset="first")
    assert first.train_set.names == first.reference.names[:10] and len(first.reference) == 20
    one, same, other = (data(folder, fraction=0.5, seed=seed).train_set.names for seed in (0, 0, 1))
    assert one == same != other and one != first.train_set.names
    assert first.reference.fingerprint == data(folder).train_set.fingerprint != first.train_set.fingerprint


def test_the_reference_is_the_split_that_was_asked_for(tmp_path: Path) -> None:
    root = fill(tmp_path, [f"train/{i}.png" for i in range(6)] + ["val/8.png", "val/9.png"])
    assert data(root).reference.names == [f"train/{i}.png" for i in range(6)]
    held = data(root, reference_split="val")
    assert held.reference.names == ["val/8.png", "val/9.png"] and len(held.train_set) == 6


def test_a_share_held_out_is_disjoint_and_alike_in_paired_sets(folder: Path, tmp_path: Path) -> None:
    module = data(folder, val_fraction=0.25, reference_split="val")
    assert len(module.reference) == 5 and len(module.train_set) == 15
    assert not set(module.reference.names) & set(module.train_set.names)
    names = [f"{i:x}.png" for i in range(40)]
    pair = [fill(tmp_path / style, names, side) for style, side in (("one", 16), ("two", 24))]
    held = [data(path, val_fraction=0.1, reference_split="val").reference for path in pair]
    assert held[0].names == held[1].names and len(held[0]) == 4
    assert held[0].fingerprint != held[1].fingerprint


@given(st.lists(st.text(min_size=1, max_size=6), min_size=2, max_size=40, unique=True), st.floats(0.01, 0.99))
def test_holding_out_splits_names_whatever_their_order(names: list[str], fraction: float) -> None:
    kept, held = hold_out(names, fraction)
    assert sorted(kept + held) == list(range(len(names))) and kept and held
    _, again = hold_out(names[::-1], fraction)
    assert {names[i] for i in held} == {names[::-1][i] for i in again}


def test_flips_mirror_about_half_of_the_images_in_training_only(folder: Path) -> None:
    image = torch.randint(0, 256, (400, 3, 8, 8), dtype=torch.uint8)
    module = data(folder, flip=True, value_range=(0.0, 255.0))
    flipped = attached(module).on_after_batch_transfer({"image": image, "label": torch.zeros(400)}, 0)[
        "image"
    ]
    same = (flipped == image).flatten(1).all(1)
    mirrored = (flipped == image.flip(3)).flatten(1).all(1)
    assert (same | mirrored).all() and 150 < int(mirrored.sum()) < 250
    still = attached(module, training=False).on_after_batch_transfer({"image": image, "label": None}, 0)[
        "image"
    ]
    assert torch.equal(still, image.float())


def test_dither_fills_a_grey_level_in_training_only(folder: Path) -> None:
    image = torch.full((8, 3, 16, 16), 77, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    module, batch = data(folder, dither=1 / 128), {"image": image}
    level = torch.tensor(77 / 127.5 - 1)
    ready = attached(module).on_after_batch_transfer(batch, 0)["image"]
    added = (ready - level) * 128
    # U(0, 1) of 6,144 numbers: the mean's deviation is 0.0037
    assert -1e-4 < added.min() < 0.01 and 0.99 < added.max() < 1 + 1e-4
    assert added.mean().item() == pytest.approx(0.5, abs=0.02)
    assert ready.is_contiguous(memory_format=torch.channels_last)
    still = attached(module, training=False).on_after_batch_transfer(batch, 0)["image"]
    torch.testing.assert_close(still, level.expand_as(still))
    with pytest.raises(UserError, match="dither is -1"):
        ImageData(str(folder), dither=-1)


def test_flips_follow_torchs_global_random_numbers() -> None:
    image = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8)
    state = torch.get_rng_state()
    first = random_mirror(image)
    assert not torch.equal(random_mirror(image), first)
    torch.set_rng_state(state)
    assert torch.equal(random_mirror(image), first)


def test_unusable_files_are_spoken_of_once(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", [f"{i}.png" for i in range(9)])
    (root / "bad.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match="1 of 10 images") as caught:
        assert len(data(root, max_bad_share=0.1).train_set) == 9
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="1 of 10 images"):  # nor is it silent without prepare_data
        ImageData(str(root), 16, max_bad_share=0.1).setup()


def test_processes_share_each_batch(folder: Path) -> None:
    module = data(folder)
    whole = next(iter(module.train_dataloader()))["image"]
    ranks = [attached(data(folder), rank=rank, world=2) for rank in (0, 1)]
    parts = [next(iter(module.train_dataloader()))["image"] for module in ranks]
    assert torch.equal(torch.cat(parts), whole)


def test_background_crop_and_filter_reach_the_pixels(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    noise(0, 16, "RGBA").resize((48, 20)).save(tmp_path / "x" / "0.png")
    options: list[dict[str, str]] = [
        {},
        {"background": "black"},
        {"crop": "center"},
        {"resample": "bilinear"},
    ]
    images = [data(tmp_path / "x", batch_size=1, **option).train_set.fingerprint for option in options]
    assert len(set(images)) == 4


def test_its_options_are_plain_and_kept_in_checkpoints() -> None:
    module = ImageData("somewhere", fraction=0.5)
    assert module.hparams["path"] == "somewhere" and module.hparams["fraction"] == 0.5
    assert isinstance(module, LightningDataModule)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"fraction": 0.0}, r"\(0, 1\]"),
        ({"fraction": 1.5}, r"\(0, 1\]"),
        ({"val_fraction": 1.0}, "val_fraction"),
        ({"max_bad_share": 2}, "max_bad_share"),
        ({"subset": "last"}, "'first'"),
        ({"value_range": (1.0, 0.0)}, "less than"),
        ({"batch_size": 0}, "at least 1"),
        ({"num_workers": -1}, "0 or more"),
        ({"seed": -1}, "0 or more"),
        ({"resolution": -4}, "number of pixels"),
        ({"background": "nocolour"}, "rrggbb"),
        ({"batch_size": 50}, "drop_last"),
        ({"reference_split": "val"}, "no 'val' split"),
        ({"val_fraction": 0.5, "reference_split": "test"}, "reference_split to val"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_line(folder: Path, options: Any, remedy: str) -> None:
    with pytest.raises(UserError, match=remedy) as error:
        data(folder, **options).train_dataloader()
    assert "\n" not in str(error.value)


def test_a_split_of_its_own_and_one_to_hold_out_are_too_many(tmp_path: Path) -> None:
    root = fill(tmp_path, ["train/0.png", "train/1.png", "val/2.png"])
    with pytest.raises(UserError, match="has a val split of its own"):
        data(root, val_fraction=0.5)
