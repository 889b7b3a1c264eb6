"""The table of experiments/compare.py against numbers worked out by hand."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support import experiment


@pytest.fixture
def compare() -> Iterator[ModuleType]:
    with experiment("compare") as module:
        yield module


def result(fid: float, best: float) -> dict[str, Any]:
    return {
        "scores": {"fid": fid},
        "best": {"fid": best, "step": 7},
        "parameters": {"generator": 1000, "discriminator": 20},
        "wall_seconds": 90,
    }


def test_mean_and_sample_standard_deviation(compare: ModuleType) -> None:
    assert compare.cell([1.0, 2.0, 6.0]) == "3 ± 2.65"  # sqrt((4 + 1 + 9) / 2)
    assert compare.cell([4.0]) == "4 (one seed)"


def test_a_row_per_configuration(compare: ModuleType) -> None:
    text = compare.table({"a": [result(4, 2), result(6, 4)], "b": [result(1, 1)]}, ["fid"])
    lines = text.splitlines()
    assert len(lines) == 4
    assert lines[2] == "| a | 5 ± 1.41 | 3 ± 1.41 (7, 7) | 1,000 + 20 | 1.5 |"
    assert all(line.count("|") == 6 for line in lines)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", "3"], "compare.py: there is no option 'seed', did you mean 'seeds'?"),
        (
            ["--configs", "[a.yaml]", "--parallel", "x"],
            "compare.py: option 'parallel': expected int, got 'x'",
        ),
        ([], "compare.py: the following arguments are required: configs"),
    ],
)
def test_a_wrong_option_is_one_line(
    words: list[str], said: str, compare: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["experiments/compare.py", *words])
    with pytest.raises(SystemExit) as stopped:
        compare.main(compare.Configurations)
    assert str(stopped.value).startswith(said)


def test_what_is_asked_for_keeps_its_order_and_typos_are_named(compare: ModuleType) -> None:
    assert compare.chosen(None, "abc", "row") == ["a", "b", "c"]
    assert compare.chosen(["c", "a"], "abc", "row") == ["a", "c"]
    with pytest.raises(SystemExit, match="no such row: x, y; choose from a, b, c"):
        compare.chosen(["y", "a", "x"], "abc", "row")


def test_a_table_lies_beside_its_runs_and_where_it_was_asked(compare: ModuleType, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"picture")
    out = tmp_path / "docs" / "some.md"
    table = compare.Configurations(configs=[], runs=tmp_path / "runs", out=out)
    table.write("one", "two", pictures=[picture])
    assert (tmp_path / "runs" / "table.md").read_text() == out.read_text() == "one\n\ntwo"
    assert out.with_name("picture.png").read_bytes() == b"picture"
