"""The table of experiments/compare.py against numbers worked out by hand."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

SCRIPT = Path(__file__).parents[1] / "experiments" / "compare.py"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def result(fid: float, best: float) -> dict[str, Any]:
    return {
        "scores": {"fid": fid},
        "best": {"fid": best, "step": 7},
        "parameters": {"generator": 1000, "discriminator": 20},
        "wall_seconds": 90,
    }


def test_mean_and_sample_standard_deviation() -> None:
    compare = script()
    assert compare.cell([1.0, 2.0, 6.0]) == "3 ± 2.65"  # sqrt((4 + 1 + 9) / 2)
    assert compare.cell([4.0]) == "4 (one seed)"


def test_a_row_per_configuration() -> None:
    text = script().table({"a": [result(4, 2), result(6, 4)], "b": [result(1, 1)]}, ["fid"])
    lines = text.splitlines()
    assert len(lines) == 4
    assert lines[2] == "| a | 5 ± 1.41 | 3 ± 1.41 (7, 7) | 1,000 + 20 | 1.5 |"
    assert all(line.count("|") == 6 for line in lines)
