"""Two processes with unequal shares score as one process does."""

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

SCRIPT = Path(__file__).with_name("two_ranks.py")
CHECKOUT = SCRIPT.parents[2]


def start(rank: int, folder: Path) -> "subprocess.Popen[str]":
    environment = os.environ | {"GANSHARING_CACHE": str(folder / "cache-2"), "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, SCRIPT, str(rank), "2", folder / "store", folder / "images.safetensors"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def result(process: "subprocess.Popen[str]") -> dict[str, Any]:
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    return json.loads(output.splitlines()[-1])


def test_two_processes_score_as_one(
    tmp_path: Path, smooth_images: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # 23 fakes as 9 + 14 and as 23 + 0; 15 reals, whose features the ranks share out as 7 + 8
    save_file(
        {"fake": smooth_images(23, 32, 0, 30.0), "real": smooth_images(15, 32, 1, 10.0)},
        tmp_path / "images.safetensors",
    )
    ranks = [start(rank, tmp_path) for rank in (0, 1)]
    first, second = (result(process) for process in ranks)
    monkeypatch.setenv("GANSHARING_CACHE", str(tmp_path / "cache-1"))
    single = runpy.run_path(str(SCRIPT))["main"](0, 1, "", str(tmp_path / "images.safetensors"))
    assert first == second
    assert first["n"] == single["n"] == 23
    for case in ("unequal", "everything on one", "diversity"):
        assert first[case] == pytest.approx(single[case], rel=1e-6)
    assert len(list((tmp_path / "cache-2" / "features").iterdir())) == 1
