"""What each control does, without a page; and what it says to values that no control can mean."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from gansharing.checkpoints import load, save_network
from gansharing.errors import UserError
from gansharing.networks import StyleGAN2Generator
from gansharing.networks.seeded import seeded_latents
from gansharing.slimmable import at_width
from gansharing.tools.explore.explorer import MOST_SEED, Explorer, Setting
from gansharing.tools.explore.menu import Menu
from gansharing.visual import to_uint8
from tests.explore.files import FILES
from tests.explore.models import CLASSES, write_models
from tests.tools.generators import GENERATORS, lively

BASE = Setting(label=1)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def explorer(paths: dict[str, Path]) -> Explorer:
    return Explorer(Menu([str(paths[name]) for name in ("base", "cats", "dogs")]))


@pytest.fixture(scope="module")
def slim(paths: dict[str, Path]) -> Explorer:
    return Explorer(Menu([str(paths["slim"])]))


@pytest.fixture(scope="module")
def network(paths: dict[str, Path]) -> StyleGAN2Generator:
    network = load(paths["base"])
    assert isinstance(network, StyleGAN2Generator)
    return network


def near(images: Tensor, expected: Tensor) -> bool:
    """Equal but for rounding: another batch size adds in another order."""
    return images.shape == expected.shape and int((images.int() - expected.int()).abs().max()) <= 1


def test_controls_are_those_that_the_network_has(explorer: Explorer, slim: Explorer, tmp_path: Path) -> None:
    assert (explorer.names, explorer.classes) == (["base", "cats", "dogs"], CLASSES)
    assert (explorer.truncates, explorer.widths, explorer.layers) == (True, [], 8)
    assert (explorer.walks, explorer.spaces) == (["z", "w"], ["w", "w+", "z"])
    assert (slim.names, slim.classes, slim.truncates, slim.layers) == (["slim"], 0, False, 0)
    assert (slim.widths, slim.walks, slim.spaces) == ([0.25, 0.5, 1.0], ["z"], ["z"])
    for name, layers, coarse in (("SmallHead", 2, [0, 1]), ("FastGAN", 1, [0])):
        save_network(lively(GENERATORS[name]), tmp_path / f"{name}.safetensors", "generator")
        other = Explorer(Menu([str(tmp_path / f"{name}.safetensors")]))
        assert (other.layers, other.coarse) == (layers, coarse)
        images = other.mix(Setting(), 3, 3, other.coarse)
        assert near(images[2], images[0])


@torch.no_grad()
def test_seed_class_and_truncation(explorer: Explorer, network: StyleGAN2Generator) -> None:
    latents, labels = seeded_latents(network, [5, 6, 7]), torch.tensor([1, 1, 1])
    assert near(explorer.images(BASE, 5, 3), to_uint8(network(latents, labels, noise="const")))
    assert near(explorer.images(BASE, 6.0), explorer.images(BASE, 5, 3)[1:2])
    mean = network.mapping.w_avg
    ws = mean + 0.5 * (network.style(latents, torch.tensor([2, 2, 2])) - mean)
    half = explorer.images(Setting(truncation=0.5, label=2), 5, 3)
    assert near(half, to_uint8(network.synthesis(ws, noise="const")))
    assert explorer.images(BASE, MOST_SEED).shape == (1, 3, 32, 32)


@torch.no_grad()
def test_width_is_the_nearest_trained_one(slim: Explorer, paths: dict[str, Path]) -> None:
    whole = load(paths["slim"])
    for asked, width in ((0.25, 0.25), (0.4, 0.5), (0.7, 0.5), (1, 1.0)):
        assert slim.width(asked) == width
        with at_width(width):
            expected = to_uint8(whole(seeded_latents(whole, [3])))  # type: ignore[arg-type]
        assert near(slim.images(Setting(width=asked), 3), expected)


@torch.no_grad()
def test_a_walk_passes_its_stations_and_comes_back(explorer: Explorer, network: StyleGAN2Generator) -> None:
    for space in ("z", "w"):
        frames = explorer.walk(BASE, "1, 7,3", 4, space, True)
        assert frames.shape == (12, 3, 32, 32)
        for place, seed in ((0, 1), (4, 7), (8, 3)):
            assert near(frames[place : place + 1], explorer.images(BASE, seed))
    assert len(explorer.walk(BASE, "1,7", 4, "z", False)) == 5
    middle = network.style(seeded_latents(network, [1, 7]), torch.tensor([1, 1])).mean(0, keepdim=True)
    frames = explorer.walk(BASE, "1,7", 2, "w", False)
    assert near(frames[1:2], to_uint8(network.synthesis(middle, noise="const")))


@torch.no_grad()
def test_mixing_takes_the_chosen_layers_of_the_second_seed(
    explorer: Explorer, network: StyleGAN2Generator
) -> None:
    first, second = network.style(seeded_latents(network, [4, 9]), torch.tensor([1, 1])).split(1)
    mixed = torch.cat([first[:, :1], second[:, 1:3], first[:, 3:7], second[:, 7:]], 1)
    expected = to_uint8(network.synthesis(torch.cat([first, second, mixed]), noise="const"))
    assert near(explorer.mix(BASE, 4, 9, [7, 1, 2]), expected)


def test_every_domain_has_a_row_of_the_same_seeds(explorer: Explorer) -> None:
    rows = explorer.domains(BASE, "2-4,9")
    assert rows.shape == (3, 4, 3, 32, 32)
    for name, row in zip(explorer.names, rows, strict=True):
        assert near(row[3:], explorer.images(Setting(name, label=1), 9))
    assert not near(rows[0], rows[1])


@pytest.mark.parametrize("space", ["w", "w+", "z"])
def test_an_image_is_looked_for(explorer: Explorer, tmp_path: Path, space: str) -> None:
    pixels = explorer.images(BASE, 11)[0].permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "own.png")
    steps: list[int] = []
    target, found = explorer.invert(
        BASE, tmp_path / "own.png", 6, space, lambda step, distance: steps.append(step)
    )
    assert near(to_uint8(target.image)[0], explorer.images(BASE, 11)[0])
    assert found.image.shape == (1, 3, 32, 32) and math.isfinite(found.end)
    assert 1 <= len(steps) <= 6 and steps == list(range(1, len(steps) + 1))
    if space == "z":  # descent never rises
        assert found.end <= found.start


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_images_are_refused_by_name(explorer: Explorer, tmp_path: Path, name: str) -> None:
    data, said = FILES[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=said) as caught:
        explorer.invert(BASE, tmp_path / name, 1)
    assert name in str(caught.value) and str(tmp_path) not in str(caught.value)


BAD: dict[str, tuple[Callable[[Explorer], Any], str]] = {
    "no seed": (lambda e: e.images(BASE, None), "seed is missing"),
    "NaN": (lambda e: e.images(BASE, math.nan), "seed is nan; give a whole number from 0"),
    "infinite": (lambda e: e.images(BASE, math.inf), "seed is inf"),
    "negative": (lambda e: e.images(BASE, -1), "seed is -1"),
    "half": (lambda e: e.images(BASE, 1.5), "seed is 1.5"),
    "huge": (lambda e: e.images(BASE, 10**400), "seed is 1000"),
    "last seed, two images": (lambda e: e.images(BASE, MOST_SEED, 2), "seed is 4294967295"),
    "text": (lambda e: e.images(BASE, "7; rm"), "seed is 7; rm"),
    "true": (lambda e: e.images(BASE, True), "seed is True"),
    "no images": (lambda e: e.images(BASE, 0, 0), "number of images is 0"),
    "a million": (lambda e: e.images(BASE, 0, 1e6), "number of images is 1000000"),
    "psi": (lambda e: e.images(Setting(truncation=1e9, label=0), 0), "truncation is 1000000000"),
    "class": (lambda e: e.images(Setting(label=3), 0), "class is 3; give a whole number from 0 to 2"),
    "no class": (lambda e: e.images(Setting(), 0), "the network has 3 classes"),
    "domains": (lambda e: e.images(Setting(["base"], label=0), 0), "is none of base"),  # type: ignore[arg-type]
    "domain": (lambda e: e.images(Setting("../../etc", label=0), 0), "../../etc is none of base, cats, dogs"),
    "one station": (lambda e: e.walk(BASE, "4"), "at least two seeds"),
    "no list": (lambda e: e.walk(BASE, "a,b"), "neither a number nor a range"),
    "empty list": (lambda e: e.walk(BASE, "  "), "seeds are missing"),
    "no text": (lambda e: e.walk(BASE, None), "seeds are missing"),
    "long text": (lambda e: e.walk(BASE, "1," * 500), "seeds are 1,1,1"),
    "long list": (lambda e: e.walk(BASE, "0-99999"), "at most 12"),
    "huge station": (lambda e: e.walk(BASE, "1,99999999999999999999"), "none above 4294967295"),
    "too many frames": (lambda e: e.walk(BASE, "0-9", 60), "more than 240"),
    "no frames": (lambda e: e.walk(BASE, "0-2", 0), "frames per stretch is 0"),
    "no such space": (lambda e: e.walk(BASE, "0-2", 1, "q"), "q is none of z, w"),
    "no layer": (lambda e: e.mix(BASE, 0, 1, []), "no layer is chosen"),
    "layer": (lambda e: e.mix(BASE, 0, 1, [0, 8]), "layer is 8"),
    "columns": (lambda e: e.domains(BASE, "0-99"), "at most 16"),
    "no file": (lambda e: e.invert(BASE, None), "no image"),
    "vanished": (lambda e: e.invert(BASE, "gone.png"), "cannot read gone.png"),
    "no steps": (lambda e: e.invert(BASE, "gone.png", 0), "steps is 0"),
    "space": (lambda e: e.invert(BASE, "gone.png", 1, "v"), "v is none of w, w\\+, z"),
}


@pytest.mark.parametrize("name", BAD)
def test_values_that_no_control_can_mean_are_refused_in_one_line(explorer: Explorer, name: str) -> None:
    ask, said = BAD[name]
    with pytest.raises(UserError, match=said) as caught:
        ask(explorer)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200
    assert explorer.images(BASE, 0).shape == (1, 3, 32, 32)


def test_what_a_network_has_not_is_refused(slim: Explorer) -> None:
    with pytest.raises(UserError, match="width is -1; give a number from 0.25 to 1"):
        slim.images(Setting(width=-1), 0)
    with pytest.raises(UserError, match="no styles to mix"):
        slim.mix(Setting(), 0, 1, [0])
    with pytest.raises(UserError, match="has no truncation"):
        slim.images(Setting(truncation=0.5), 0)
    with pytest.raises(UserError, match="without classes"):
        slim.images(Setting(label=0), 0)
    with pytest.raises(UserError, match="w is none of z"):
        slim.walk(Setting(), "0-1", 1, "w")
