"""The table of experiments/compare.py against numbers worked out by hand."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gansharing.errors import UserError
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


class Fit:
    """In the place of a process that trains: it leaves what that would, or fails."""

    started: list[list[str]] = []
    status = "finished"
    exitcode = 0

    def __init__(self, target: object, args: tuple[list[str], Path, int]) -> None:
        words, self.log, _ = args
        self.started.append(words)

    def start(self) -> None:
        run = self.log.parent
        self.log.write_text("Traceback:\ngansharing: error: no images\n")
        if not self.exitcode:
            (run / "results.json").write_text(json.dumps({"status": self.status}))
            (run / "checkpoints").mkdir(exist_ok=True)
            (run / "checkpoints" / "last.ckpt").touch()

    def join(self) -> None: ...


@pytest.fixture
def fits(compare: ModuleType, monkeypatch: pytest.MonkeyPatch) -> type[Fit]:
    class Fresh(Fit):
        started: list[list[str]] = []

    monkeypatch.setattr(compare._RUNS, "Process", Fresh, raising=False)
    return Fresh


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration that names a piece."""
    (tmp_path / "pieces").mkdir()
    (tmp_path / "pieces" / "adam.yaml").write_text("lr: 0.1\n")
    file = tmp_path / "small.yaml"
    file.write_text("# a comment\nmodel: {optimizer: pieces/adam.yaml, tasks: [{weight: 2}]}\n")
    return file


@pytest.mark.parametrize("status", ["finished", "stopped"])
def test_what_another_command_made_is_an_error(
    status: str, compare: ModuleType, fits: type[Fit], config: Path, tmp_path: Path
) -> None:
    fits.status = status
    run, words = tmp_path / "runs" / "small-s0", ["--data.path", "here", "--x=1"]
    for _ in range(2):
        compare.train([config], 0, run, words, 1)
    assert len(fits.started) == {"finished": 1, "stopped": 2}[status]
    assert ("--ckpt_path" in fits.started[-1]) == (status == "stopped")
    config.write_text(config.read_text().replace("a comment", "another comment"))
    compare.train([config], 0, run, words, 1)
    before = len(fits.started)
    with pytest.raises(UserError, match="it had --x=1, now --x=2; name other --runs") as said:
        compare.train([config], 0, run, ["--data.path", "here", "--x=2"], 1)
    assert str(run) in str(said.value) and "\n" not in str(said.value)
    with pytest.raises(UserError, match="it had --data.path=here, now nothing"):
        compare.train([config], 0, run, ["--x=1"], 1)
    with pytest.raises(UserError, match="the same in another order"):
        compare.train([config], 0, run, ["--x=1", "--data.path", "here"], 1)
    (tmp_path / "pieces" / "adam.yaml").write_text("lr: 0.2\n")
    with pytest.raises(UserError, match=r"small\.yaml\.model\.optimizer: adam\.yaml\.lr=0\.1, now .*lr=0\.2"):
        compare.train([config], 0, run, words, 1)
    assert len(fits.started) == before


def test_older_runs_are_kept_and_failed_ones_tried_again(
    compare: ModuleType, fits: type[Fit], config: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    compare.train([config], 0, run, [], 1)
    (run / "command.json").unlink()  # as runs were made before
    compare.train([config], 0, run, ["--x=1"], 1)
    assert len(fits.started) == 1 and not (run / "command.json").exists()
    fits.exitcode = 2
    with pytest.raises(compare.RunFailed):
        compare.train([config], 0, tmp_path / "new", ["--typo=1"], 1)
    fits.exitcode = 0
    compare.train([config], 0, tmp_path / "new", ["--x=1"], 1)
    assert len(fits.started) == 3 and "--x=1" in json.loads((tmp_path / "new/command.json").read_text())


def test_a_configuration_that_cannot_be_read_is_named(compare: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read .*absent.yaml"):
        compare.train([tmp_path / "absent.yaml"], 0, tmp_path / "run", [], 1)


def test_two_configurations_of_one_name_are_an_error(compare: ModuleType, tmp_path: Path) -> None:
    configs = [Path("slimgan/mini.yaml"), Path("fastgan/mini.yaml")]
    with pytest.raises(UserError, match=r"slimgan/mini\.yaml and fastgan/mini\.yaml would share the runs"):
        compare.Configurations(configs=configs, runs=tmp_path).make()


def test_every_job_is_counted(
    compare: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = compare.Configurations(configs=[], runs=tmp_path, parallel=1)
    assert table.each([("a", 0), ("b", 1)], lambda job: job[1]) == {("a", 0): 0, ("b", 1): 1}
    assert table.each(["one"], len) == {"one": 3}
    assert capsys.readouterr().out == "[1/2] a 0\n[2/2] b 1\n[1/1] one\n"


def test_what_goes_wrong_later_is_one_line_too(
    compare: ModuleType, fits: type[Fit], config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*configs: Path) -> str:
        words = ["--configs", f"[{', '.join(map(str, configs))}]", "--runs", str(tmp_path), "--seeds", "[0]"]
        monkeypatch.setattr(sys, "argv", ["experiments/compare.py", *words])
        with pytest.raises(SystemExit) as error:
            compare.main(compare.Configurations)
        return str(error.value)

    fits.exitcode = 2
    run = tmp_path / "small-s0"
    expected = f"gansharing fit of {run} failed (2): gansharing: error: no images (more in {run}/output.log)"
    assert stopped(config) == f"compare.py: {expected}"
    assert stopped(tmp_path / "absent.yaml").startswith("compare.py: cannot read")


def test_the_interval_over_seeds_is_students(compare: ModuleType) -> None:
    # two degrees of freedom: 4.303 / sqrt(3) = 2.484
    assert compare.over_seeds([1.0, 2.0, 3.0]) == "-0.4841 – 4.484"
    assert compare.over_seeds([1.0]) == "–"
