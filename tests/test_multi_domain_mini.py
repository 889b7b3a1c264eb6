"""The multi-domain miniature's command, shrunk, and that its tables say what the runs found."""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from gansharing.networks import StarGANv2Generator, StarGANv2Mapping
from tests.cli.program import write_images
from tests.support import experiment

NAMES = ["fluent", "noto", "openmoji", "twemoji"]


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with experiment("multi_domain") as module:
        yield module


def test_every_kind_of_sharing_trains_in_four_domains(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["multi_domain.py"])
    for number, name in enumerate(NAMES):
        write_images(tmp_path / "emoji4" / name, count=8 + number)
    small = "--scores.num_samples=8 --scores.bootstrap=0 --trainer.accelerator=cpu"
    small += " --trainer.enable_model_summary=false"
    out = tmp_path / "docs" / "multi_domain.md"
    given: dict[str, Any] = {"runs": tmp_path, "seeds": [0], "steps": 1, "parallel": 1, "options": small}
    script.ManyDomains(only=["stargan_v2", "layer_1"], out=out, **given).make()
    rows = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    assert [row["sharing"] for row in rows] == ["layer_1"] * 4 + ["stargan_v2"] * 4
    assert [row["domain"] for row in rows[:4]] == NAMES
    assert all(float(row["fid_lite"]) > 0 for row in rows)
    text = out.read_text()
    assert "| layer-wise 1 % | 4,160 | 2.11% |" in text  # fc0 of 64 x 64 and its bias
    with Image.open(out.with_name("multi_domain.png")) as sheet:
        assert sheet.height > 3 * 4 * 32  # real images and two ways, a row a domain


def result(mean: float, *each: float) -> dict[str, Any]:
    ends = {"": 0.0, "_low": -2.0, "_high": 4.0}
    scores = {
        f"fid_lite{end}/{name}": value + move
        for end, move in ends.items()
        for name, value in zip(("cat", "dog"), each, strict=True)
    }
    split = {"generator": {"domain": 10, "learn_ratio": 0.01}}
    return {"scores": scores | {"fid_lite": mean}, "sharing": split, "steps": 1000, "wall_seconds": 90}


def test_the_table_and_the_papers_orders(script: ModuleType) -> None:
    rows = {
        "layer_1": [result(30.0 + d, 30 + d, 30 + d) for d in (0, 1, 2)],
        "width_1": [result(20.0 + d, 10 + d, 30 - d) for d in (0, 1, 2)],
    }
    lines = script.table(rows, ["cat", "dog"]).splitlines()
    assert lines[2] == (
        "| layer-wise 1 % | 10 | 1.00% | 31 ± 1 | 31 ± 1 (29 – 35) | 31 ± 1 (29 – 35) | 1,000 | 1.5 |"
    )
    assert "| 21 ± 1 **best** | 11 ± 1 (9 – 15) |" in lines[3]
    orders = "| width-wise 1 % below layer-wise 1 % | 4 of 4 | holds | holds | within seed noise |"
    assert lines[-1] == orders


def test_star_gan_owns_a_head_of_the_mapping_a_domain(script: ModuleType) -> None:
    domain, ratio = script.owned("stargan_v2", {})
    # Three layers of 64 and one to the style of 16, each with biases.
    assert domain == 3 * (64 * 64 + 64) + 64 * 16 + 16
    generator = StarGANv2Generator(32, 16, 512, 32)
    counted = sum(
        weight.numel() for net in (generator, StarGANv2Mapping(16, 16, 1, 64)) for weight in net.parameters()
    )
    assert ratio == pytest.approx(domain / counted)


def test_whole_generators_share_nothing(script: ModuleType) -> None:
    _, words = script.given("individual", {"cat": "cats", "dog": "dogs"}, 10)
    assert "--model.sharing=Full" in words and '--data.domains={"cat": "cats", "dog": "dogs"}' in words


def test_an_unknown_way_is_named(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no such way of sharing: width_2; choose from layer_1"):
        script.ManyDomains(runs=tmp_path, only=["width_2"], domains=2).make()
