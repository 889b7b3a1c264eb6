"""The AdaFM miniature's command, shrunk, and that its tables say what the runs found."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import CalledProcessError
from types import ModuleType
from typing import Any

import pytest

from gansharing.checkpoints import load
from tests.cli.program import write_images
from tests.support import experiment


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with experiment("adafm") as module:
        yield module


def test_methods_of_every_kind_train_on_both_targets(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["adafm.py"])
    photos = write_images(tmp_path / "photos", count=12)
    small = "--scores.num_samples=12 --scores.untrained=false --diversity.num_samples=11 --grids.rows=1"
    small += f" --data.path={photos} --data.fraction=1 --data.batch_size=2 --scores.bootstrap=2"
    small += " --trainer.accelerator=cpu --trainer.enable_model_summary=false"
    out = tmp_path / "docs" / "adafm.md"
    # The others are started by tests/test_adafm.py.
    given: dict[str, Any] = {"runs": tmp_path, "seeds": [0], "steps": 1, "source_steps": 2, "parallel": 1}
    script.AdaFMTransfer(targets=["1000"], only=["our_d5"], options=small, **given).make()
    script.AdaFMTransfer(
        targets=["25"], only=["our", "minegan", "bsa"], options=small, out=out, **given
    ).make()
    rows = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == ["our", "minegan", "bsa"]
    assert all(row["status"] == "finished" and float(row["fid_lite"]) > 0 for row in rows)
    assert (tmp_path / "adafm_1000.png").is_file() and out.with_name("adafm_25.png").is_file()
    heads = [load(tmp_path / name) for name in ("1000-our_d5-s0", "25-our-s0")]
    assert [getattr(head, "latent_dim") for head in heads] == [64, 4]  # noqa: B009
    found = [
        json.loads((tmp_path / row / "results.json").read_text()) for row in ("1000-our_d5-s0", "25-our-s0")
    ]
    frozen = [result["sharing"]["discriminator"]["init_args"]["stages"] for result in found]
    assert frozen == [5, 6]


def test_a_target_without_the_methods_is_left_out(script: ModuleType) -> None:
    assert script.asked(["1000", "25"], ["our_d5"]) == {"1000": ["our_d5"]}
    assert script.asked(["25", "1000"], ["bsa", "our_d5"]) == {"25": ["bsa"], "1000": ["our_d5", "bsa"]}
    assert script.asked(["1000", "25"], None) == script.TARGETS
    with pytest.raises(SystemExit, match="not tried on 25 images: our_d5"):
        script.asked(["25"], ["our_d5"])
    with pytest.raises(SystemExit, match="no such target: 26"):
        script.asked(["26"], None)


def result(fid: float, best: float, lpips: float) -> dict[str, Any]:
    return {
        "scores": {"fid_lite": fid, "fid_lite_low": fid - 1, "fid_lite_high": fid + 1},
        "best": {"fid_lite": best, "step": 3},
        "diversity": {"scores": {"lpips_lite": lpips, "intra_lpips_lite": lpips / 2, "copied_lite": 0.5}},
        "sharing": {"generator": {"domain": 1234}},
        "wall_seconds": 30,
    }


def test_the_table_and_the_claims(script: ModuleType) -> None:
    rows: dict[str, list[Any]] = {
        "our": [result(fid, fid - 5, 0.5 + fid / 1000) for fid in (10.0, 11.0, 12.0)],
        "scratch": [result(fid, fid - 25.5, 0.3 + fid / 1000) for fid in (30.0, 31.0, 32.0)],
        "gphead": [None, None, result(50, 40, 0.1)],
        "transfergan": [None, None, None],
    }
    lines = script.table("1000", rows).splitlines()
    assert (
        "| Our | 1,234 | 11 ± 1 | 10 – 12 | 6 ± 1 | 0.511 ± 0.001 | 0.2555 ± 0.0005 | 0.5 ± 0 | 0.5 |"
        in lines
    )
    assert any(line.startswith("| GPHead | 1,234 | 50 (one seed), 2 of 3 failed |") for line in lines)
    assert any(line.startswith("| TransferGAN | failed |") for line in lines)
    claims = {line.split(" | ")[0].strip("| "): line.split(" | ")[2:] for line in lines if " below " in line}
    assert claims["Our below Scratch"] == ["holds", "within seed noise", "holds |"]
    assert claims["Our below TransferGAN"] == ["holds", "holds", "holds |"]
    assert claims["Our below GPHead"] == ["within seed noise"] * 2 + ["within seed noise |"]
    assert len({line.count("|") for line in lines[2:7]}) == 1


def test_a_diverged_run_has_failed_and_another_error_stops(script: ModuleType, tmp_path: Path) -> None:
    wrong = ["--trainer.no_such_option", "1"]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "output.log").write_text("gansharing: error: training has diverged at step 50\n")
    assert script.train_or_fail([], 0, tmp_path / "a", wrong, 1) is None
    with pytest.raises(CalledProcessError):
        script.train_or_fail([], 0, tmp_path / "b", wrong, 1)
