"""sample, interpolate, mix and truncation on a generator with styles, through the real program."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gansharing.checkpoints import save_network
from gansharing.networks import DCGANGenerator
from gansharing.networks.seeded import seeded_latents
from gansharing.visual import to_uint8
from tests.cli.program import files_in, run
from tests.latent.tiny import tiny_stylegan2

SIDE, GAP = 32, 2


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_network(tiny_stylegan2(), folder / "style.safetensors", "generator")
    save_network(tiny_stylegan2(num_classes=3), folder / "classes.safetensors", "generator")
    plain = DCGANGenerator(resolution=32, latent_dim=8, base_channels=2)
    save_network(plain, folder / "plain.safetensors", "generator")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ok(*args: object) -> str:
    done = run(*args)
    assert done.code == 0, done.err
    return done.out


def read(path: Path) -> Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1)


def tiles(path: Path) -> list[list[Tensor]]:
    """The images of a sheet, row by row."""
    sheet, step = read(path), SIDE + GAP
    return [
        [sheet[:, top : top + SIDE, left : left + SIDE] for left in range(0, sheet.shape[2], step)]
        for top in range(0, sheet.shape[1], step)
    ]


def near(image: Tensor, expected: Tensor) -> bool:
    """Equal but for rounding: another batch size adds in another order."""
    return int((image.int() - expected.int()).abs().max()) <= 1


@torch.no_grad()
def expected(seed: int, **options: object) -> Tensor:
    generator = tiny_stylegan2()
    return to_uint8(generator(seeded_latents(generator, [seed]), **options))[0]


def test_truncation_zero_gives_the_mean_image_for_every_seed(here: Path, models: Path) -> None:
    ok("sample", models / "style.safetensors", "--seeds", "3,8", "--truncation", 0, "--out", "t")
    generator = tiny_stylegan2()
    ws = generator.mapping.w_avg.expand(1, generator.num_ws, -1)
    with torch.no_grad():
        mean = to_uint8(generator.synthesis(ws))[0]
    first, second = (read(here / f"t/seed000000{seed}.png") for seed in (3, 8))
    assert torch.equal(first, second) and near(first, mean)


def test_sample_passes_truncation_cutoff_and_noise_on(here: Path, models: Path) -> None:
    model = models / "style.safetensors"
    ok("sample", model, "--seeds=5", "--truncation=0.7", "--cutoff=3", "--noise=none", "--out=a")
    assert near(read(here / "a/seed0000005.png"), expected(5, truncation=0.7, cutoff=3, noise="none"))
    ok("sample", model, "--seeds=5", "--out=b")
    assert near(read(here / "b/seed0000005.png"), expected(5))
    assert not near(read(here / "a/seed0000005.png"), read(here / "b/seed0000005.png"))


def test_random_noise_depends_on_the_seed_alone(here: Path, models: Path) -> None:
    model, options = models / "style.safetensors", ("--noise", "random")
    ok("sample", model, "--seeds=4,5", "--out=a", *options)
    torch.manual_seed(123)
    ok("sample", model, "--seeds=5-6", "--out=b", "--batch_size=1", *options)
    assert torch.equal(read(here / "a/seed0000005.png"), read(here / "b/seed0000005.png"))
    assert not near(read(here / "a/seed0000005.png"), expected(5))


def test_a_label_chooses_the_class(here: Path, models: Path) -> None:
    ok("sample", models / "classes.safetensors", "--seeds=5", "--label=2", "--out=a")
    generator = tiny_stylegan2(num_classes=3)
    with torch.no_grad():
        images = [
            to_uint8(generator(seeded_latents(generator, [5]), torch.tensor([label])))[0] for label in (0, 2)
        ]
    assert near(read(here / "a/seed0000005.png"), images[1])
    assert not near(images[0], images[1])


@pytest.mark.parametrize("space", ["z", "w"])
def test_a_walk_ends_in_its_seeds_images(here: Path, models: Path, space: str) -> None:
    ok("interpolate", models / "style.safetensors", "--seeds=2,7", "--steps=3", "--space", space)
    (walked,) = tiles(here / "interpolation/strip.png")
    assert len(walked) == 4
    assert near(walked[0], expected(2)) and near(walked[-1], expected(7))
    assert not near(walked[1], walked[0])


def test_a_walk_in_w_is_straight_in_styles(here: Path, models: Path) -> None:
    ok(
        "interpolate",
        models / "style.safetensors",
        "--seeds=2,7",
        "--steps=2",
        "--space=w",
        "--truncation=0.5",
    )
    generator = tiny_stylegan2()
    with torch.no_grad():
        w = generator.mapping(seeded_latents(generator, [2, 7])).mean(0)
        middle = (w + generator.mapping.w_avg) / 2
        image = to_uint8(generator.synthesis(middle.expand(1, generator.num_ws, -1)))[0]
    assert near(tiles(here / "interpolation/strip.png")[0][1], image)


def test_the_mixing_grid_shows_sources_and_mixtures(here: Path, models: Path) -> None:
    ok("mix", models / "style.safetensors", "--rows=1,2", "--columns=2,5,6", "--layers=0-1,4", "--out=m.png")
    sheet = tiles(here / "m.png")
    assert [len(row) for row in sheet] == [4, 4, 4]
    assert bool((sheet[0][0] == 255).all())
    assert all(near(sheet[0][1 + i], expected(seed)) for i, seed in enumerate((2, 5, 6)))
    assert all(near(sheet[1 + i][0], expected(seed)) for i, seed in enumerate((1, 2)))
    assert near(sheet[2][1], expected(2))  # an image mixed with itself
    generator = tiny_stylegan2()
    with torch.no_grad():
        row, column = generator.mapping(seeded_latents(generator, [1, 6]))
        chosen = [column, column, row, row, column, row, row, row]
        image = to_uint8(generator.synthesis(torch.stack(chosen)[None]))[0]
    assert near(sheet[1][3], image)


def test_the_truncation_sheet_has_a_row_a_seed_and_a_column_a_psi(here: Path, models: Path) -> None:
    ok("truncation", models / "style.safetensors", "--seeds=4,9", "--psi", "-1,0,.7,1")
    sheet = tiles(here / "truncation.png")
    assert [len(row) for row in sheet] == [4, 4]
    for row, seed in zip(sheet, (4, 9), strict=True):
        for tile, psi in zip(row, (-1.0, 0.0, 0.7, 1.0), strict=True):
            assert near(tile, expected(seed, truncation=psi))
    assert near(sheet[0][1], sheet[1][1]) and not near(sheet[0][3], sheet[1][3])


STYLE, CLASSES, PLAIN = "style.safetensors", "classes.safetensors", "plain.safetensors"


@pytest.mark.parametrize(
    ("command", "model", "options", "message"),
    [
        ("sample", PLAIN, ["--truncation=0.7"], "DCGANGenerator has no truncation: leave --truncation out"),
        ("sample", PLAIN, ["--noise=none"], "DCGANGenerator has no noise"),
        ("sample", PLAIN, ["--label=0"], "DCGANGenerator was built without classes"),
        ("interpolate", PLAIN, ["--space=w"], "DCGANGenerator maps latents straight to images"),
        ("mix", PLAIN, [], "DCGANGenerator maps latents straight to images"),
        ("truncation", PLAIN, [], "DCGANGenerator maps latents straight to images"),
        ("sample", STYLE, ["--cutoff=2"], "add --truncation"),
        ("sample", STYLE, ["--cutoff=9", "--truncation=1"], "this network has 1 to 8 layers"),
        ("sample", STYLE, ["--noise=loud"], "loud"),
        ("sample", CLASSES, [], "has 3 classes; choose one with --label 0 to 2"),
        ("sample", CLASSES, ["--label=3"], "the classes 0 to 2"),
        ("mix", STYLE, ["--layers=6-8"], "there is no layer 8: this network has the layers 0-7"),
        ("mix", STYLE, ["--layers=all"], "layers: 'all' is neither"),
        ("mix", STYLE, ["--rows=x"], "rows: 'x' is neither"),
        ("truncation", STYLE, ["--psi=1,high"], "psi is '1,high'; write numbers"),
        ("truncation", STYLE, ["--psi=nan"], "psi is 'nan'"),
    ],
)
def test_what_does_not_fit_is_one_line_and_writes_nothing(
    here: Path, models: Path, command: str, model: str, options: list[str], message: str
) -> None:
    done = run(command, models / model, *options)
    assert done.code == 2
    assert message in done.err and done.err.count("\n") == 1
    assert files_in(here) == set()
