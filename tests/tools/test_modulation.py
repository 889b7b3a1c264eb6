"""gansharing modulation and mix on small heads, through the real program."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from gansharing.checkpoints import save_network
from gansharing.checkpoints.deltas import save_delta
from gansharing.networks import GPGANGenerator, SmallHeadGenerator
from gansharing.networks.seeded import seeded_latents
from gansharing.sharing import AdaFM, Combined, FilterSelection, FreezeLower, Sharing, delta_of, modulation
from gansharing.visual import to_uint8
from tests.cli.program import files_in, run
from tests.tools.test_styles import near, tiles

FILTERS = ["resnet_*.conv_[01].weight"]


def head() -> SmallHeadGenerator:
    torch.manual_seed(5)
    return SmallHeadGenerator(32, 6, style_dim=8, mapping_layers=2, base_channels=2, gain=100.0).eval()


def transferred(sharing: Sharing, scale: float) -> SmallHeadGenerator:
    """A head whose every scale is ``scale`` and every shift ``-scale``."""
    network = head()
    sharing.apply(network)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("original1"):
                parameter.fill_(scale)
            elif name.endswith("original2"):
                parameter.fill_(-scale)
    return network


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_scales_and_shifts_by_stage() -> None:
    found = modulation(transferred(Combined([AdaFM(FILTERS), FreezeLower(4)]), 1.25))
    # Groups 4, 3 and 2 of widths 16 -> 8 -> 4 -> 2: two blocks, the first conv keeps the narrower width.
    expected = {
        f"resnet_{group}": wide * narrow + 3 * narrow * narrow
        for group, wide, narrow in ((3, 16, 8), (4, 8, 4), (5, 4, 2))
    }
    assert {stage: len(gamma) for stage, (gamma, _) in found.items()} == expected
    assert all((g == 1.25).all() and (b == -1.25).all() and len(g) == len(b) for g, b in found.values())
    ones = modulation(transferred(FilterSelection(FILTERS), 0.5))
    assert {stage: len(gamma) for stage, (gamma, _) in ones.items()} == {
        "resnet_3": 32,
        "resnet_4": 16,
        "resnet_5": 8,
    }
    assert modulation(head()) == {}


def test_runs_and_deltas_are_compared(here: Path) -> None:
    ours = Combined([AdaFM(FILTERS), FreezeLower(4)])
    save_network(transferred(ours, 1.25), here / "flowers.safetensors", "generator")
    save_delta(delta_of(transferred(ours, 0.75)), here / "cars.safetensors")
    done = run("modulation", "flowers.safetensors", "cars.safetensors", "--out=plots/figure.png")
    assert done.code == 0, done.err
    text = " ".join(done.out.split())
    assert "flowers: resnet_3 γ 1.250 ± 0.000" in text and "cars: resnet_3 γ 0.750 ± 0.000" in text
    with Image.open(here / "plots/figure.png") as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 20) or []) > 50


def test_what_has_no_scales_is_one_line_and_writes_nothing(here: Path) -> None:
    save_network(head(), here / "plain.safetensors", "generator")
    done = run("modulation", "plain.safetensors")
    assert done.code == 2 and "no transfer with AdaFM" in done.err and done.err.count("\n") == 1
    assert files_in(here) == {"plain.safetensors"}


def test_a_small_head_mixes_content_and_styles(here: Path) -> None:
    network = head()
    save_network(network, here / "head.safetensors", "generator")
    done = run("mix", "head.safetensors", "--rows=1,2", "--columns=2,5", "--out=all.png")
    assert done.code == 0, done.err
    done = run("mix", "head.safetensors", "--rows=1,2", "--columns=2,5", "--layers=1", "--out=last.png")
    assert done.code == 0, done.err
    with torch.no_grad():
        row, column = seeded_latents(network, [1]), seeded_latents(network, [5])
        plain = to_uint8(network(row))[0]
        whole = to_uint8(network.synthesis(network.content(row), network.style(column)))[0]
        styles = torch.stack([network.mapping(row), network.mapping(column)], 1)
        last = to_uint8(network.synthesis(network.content(row), styles))[0]
    sheets = tiles(here / "all.png"), tiles(here / "last.png")
    assert all([len(line) for line in sheet] == [3, 3, 3] and near(sheet[1][0], plain) for sheet in sheets)
    assert near(sheets[0][1][2], whole) and near(sheets[1][1][2], last) and not near(whole, plain)
    assert near(sheets[0][2][1], sheets[0][0][1])  # an image mixed with itself


def test_mixing_needs_styles(here: Path) -> None:
    save_network(GPGANGenerator(32, 6, base_channels=2), here / "plain.safetensors", "generator")
    done = run("mix", "plain.safetensors")
    assert done.code == 2 and "GPGANGenerator maps latents straight to images" in done.err
