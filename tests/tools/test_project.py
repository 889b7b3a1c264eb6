"""gansharing project, through the real program."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import gansharing
from gansharing.checkpoints import save_network
from gansharing.latent import render
from gansharing.metrics.perceptual import build_distance
from gansharing.networks import DCGANGenerator
from gansharing.visual import save_png, to_uint8
from tests.cli.program import files_in, run
from tests.latent.tiny import tiny_stylegan2


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_network(tiny_stylegan2(), folder / "style.safetensors", "generator")
    save_network(tiny_stylegan2(num_classes=3), folder / "classes.safetensors", "generator")
    torch.manual_seed(3)
    plain = DCGANGenerator(resolution=32, latent_dim=8, base_channels=4)
    for parameter in plain.parameters():  # away from its pale start
        parameter.data.mul_(8)
    save_network(plain, folder / "plain.safetensors", "generator")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    generator = tiny_stylegan2()
    with torch.no_grad():
        save_png(generator(generator.sample_latent(1))[0], tmp_path / "face.png")
    return tmp_path


def test_a_style_is_found_and_all_about_it_is_written(here: Path, models: Path) -> None:
    done = run("project", models / "style.safetensors", "face.png", "--space", "w+", "--steps", 25)
    assert done.code == 0, done.err
    assert files_in(here / "projection") == {
        "face.png",
        "face_steps.png",
        "face.safetensors",
        "errors.json",
    }
    latent = load_file(here / "projection/face.safetensors")
    noise = {name.removeprefix("noise."): v for name, v in latent.items() if name.startswith("noise.")}
    generator = gansharing.load(models / "style.safetensors")
    with torch.no_grad():
        image = to_uint8(render(generator.synthesis, latent["ws"], noise))[0]  # type: ignore[arg-type]
    with Image.open(here / "projection/face.png") as both, Image.open(here / "face.png") as target:
        assert both.size == (2 * 32 + 2, 32)
        assert both.crop((0, 0, 32, 32)).tobytes() == target.tobytes()
        assert both.crop((34, 0, 66, 32)).tobytes() == image.permute(1, 2, 0).numpy().tobytes()
        assert both.text["space"] == "w+"  # type: ignore[attr-defined]
    with Image.open(here / "projection/face_steps.png") as steps:
        assert steps.size == (8 * 34 - 2, 32)
    with safe_open(here / "projection/face.safetensors", "pt") as file:
        assert file.metadata()["distance"] == "lpips_lite + 1 pixels"
    words = done.out.replace("\n", " ").split()
    start, end, *_ = (float(word) for word in words if word.replace(".", "").isdigit() and "." in word)
    assert end < start


def test_a_network_without_styles_is_searched_in_z(here: Path, models: Path) -> None:
    done = run("project", models / "plain.safetensors", "face.png", "--steps=3", "--out=p", "--pixels=0")
    assert done.code == 0, done.err
    latent = load_file(here / "p/face.safetensors")
    assert {name: tuple(value.shape) for name, value in latent.items()} == {"latent": (1, 8)}


def test_several_images_of_other_shapes_are_cropped_resized_and_said(here: Path, models: Path) -> None:
    Image.new("RGB", (90, 40), "red").save(here / "wide.jpg")
    Image.new("L", (64, 64)).save(here / "grey.png")
    done = run(
        "project",
        models / "classes.safetensors",
        "wide.jpg",
        "grey.png",
        "--steps=1",
        "--label=1",
        "--seed=5",
    )
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    assert "wide.jpg is 90 x 40; its middle square is resized to 32 x 32" in said
    assert "grey.png is 64 x 64; resized to 32 x 32" in said
    assert {"wide.safetensors", "grey.safetensors"} <= files_in(here / "projection")


def test_the_errors_of_a_split_are_those_of_its_pictures(here: Path, models: Path) -> None:
    draw = np.random.default_rng(0)
    for split, cls, name in [("train", "a", "1"), ("val", "a", "2"), ("val", "b", "2")]:
        (here / "data" / split / cls).mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(here / "data" / split / cls / f"{name}.png")
    done = run("project", models / "plain.safetensors", "data", "--split=val", "--steps=2", "--pixels=0.2")
    assert done.code == 0, done.err
    errors = json.loads((here / "projection/errors.json").read_text())
    assert errors["images"].keys() == {"val_a_2", "val_b_2"}
    generator, distance = gansharing.load(models / "plain.safetensors"), build_distance("lpips_lite")
    mean = dict.fromkeys(("lpips_lite", "mse"), 0.0)
    for name, error in errors["images"].items():
        found = generator(load_file(here / f"projection/{name}.safetensors")["latent"])
        with Image.open(here / f"data/{name.replace('_', '/')}.png") as image:
            target = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 127.5 - 1
        assert error["mse"] == pytest.approx(float((found - target).square().mean()), rel=1e-4)
        assert error["lpips_lite"] == pytest.approx(float(distance(found, target)), rel=1e-3)
        mean = {key: value + error[key] / 2 for key, value in mean.items()}
    assert errors["mean"] == pytest.approx(mean)
    assert f"mean of 2: lpips_lite {mean['lpips_lite']:.4f}" in " ".join(done.out.split())


@pytest.mark.parametrize(("model", "space"), [("plain", "z"), ("style", "w")])
def test_a_walk_between_real_images_ends_in_what_was_found(
    here: Path, models: Path, model: str, space: str
) -> None:
    Image.new("RGB", (32, 32), "red").save(here / "red.png")
    source = models / f"{model}.safetensors"
    assert run("project", source, "face.png", "red.png", "--steps=2", f"--space={space}").code == 0
    files = "projection/face.safetensors,projection/red.safetensors"
    done = run("interpolate", source, "--found", files, "--steps=2")
    assert done.code == 0, done.err
    with Image.open(here / "interpolation/strip.png") as walked:
        assert walked.size == (3 * 34 - 2, 32)
        tiles = [np.asarray(walked.crop((34 * at, 0, 34 * at + 32, 32))).astype(int) for at in range(3)]
    for name, tile in [("face", tiles[0]), ("red", tiles[2])]:
        with Image.open(here / f"projection/{name}.png") as both:
            assert abs(np.asarray(both.crop((34, 0, 66, 32))) - tile).max() <= 1
    assert abs(tiles[1] - tiles[0]).max() > 1


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("z.safetensors", "a walk needs at least two files"),
        ("z.safetensors,nowhere.safetensors", "cannot read nowhere.safetensors"),
        ("z.safetensors,other.safetensors", "other.safetensors holds no latent"),
        ("z.safetensors,ws.safetensors", "were not found in one space of one network"),
        ("ws.safetensors,ws.safetensors", "DCGANGenerator maps latents straight to images"),
        ("long.safetensors,long.safetensors", "latents of shape (1, 9) do not fit this DCGANGenerator"),
    ],
)
def test_a_walk_between_files_that_do_not_fit_is_one_line(
    here: Path, models: Path, found: str, message: str
) -> None:
    for name, tensors in {
        "z": {"latent": torch.zeros(1, 8)},
        "long": {"latent": torch.zeros(1, 9)},
        "ws": {"ws": torch.zeros(1, 8, 16)},
        "other": {"weight": torch.zeros(1)},
    }.items():
        save_file(tensors, here / f"{name}.safetensors")
    done = run("interpolate", models / "plain.safetensors", "--found", found)
    assert done.code == 2
    assert message in done.err and done.err.count("\n") == 1
    assert not (here / "interpolation").exists()


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("style.safetensors", ["face.png", "--split=val"], "face.png is no folder, so it has no 'val' split"),
        ("style.safetensors", [".", "--split=test"], "has no 'test' split; it has train"),
        ("style.safetensors", ["nowhere.png"], "cannot read nowhere.png: No such file"),
        ("style.safetensors", ["face.png", "torn.png"], "torn.png is damaged or no image"),
        ("style.safetensors", ["face.png", "face.png"], "two images are called face"),
        ("style.safetensors", ["face.png", "--steps=0"], "steps must be at least 1"),
        ("style.safetensors", ["face.png", "--pixels=-1"], "pixels at least 0"),
        ("style.safetensors", ["face.png", "--weights=x.pth"], "lpips_lite carries its own"),
        ("style.safetensors", ["face.png", "--device=mars"], "device 'mars' is not available"),
        ("style.safetensors", [], "images"),
        ("plain.safetensors", ["face.png", "--space=w"], "DCGANGenerator maps latents straight to images"),
        ("classes.safetensors", ["face.png"], "choose one with --label 0 to 2"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_projected(
    here: Path, models: Path, model: str, arguments: list[str], message: str
) -> None:
    (here / "torn.png").write_bytes((here / "face.png").read_bytes()[:200])
    before = files_in(here)
    done = run("project", models / model, *arguments)
    assert done.code == 2
    assert message in done.err and done.err.count("\n") == 1
    assert files_in(here) == before
