"""The ledger of the papers' numbers: up to date, computed, and honest about what differs."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "experiments"
PAPERS = ["spectral_style", "width_wise", "adafm", "slimgan", "fastgan"]


@pytest.fixture(scope="module")
def ledger() -> Iterator[ModuleType]:
    sys.path.insert(0, str(SCRIPTS))
    try:
        spec = importlib.util.spec_from_file_location("ledger", SCRIPTS / "ledger.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(SCRIPTS))
        for name in [name for name in sys.modules if name.partition(".")[0] in ("papers", "counts")]:
            del sys.modules[name]


def paper(ledger: ModuleType, name: str) -> Any:
    return next(module for module in ledger.PAPERS if module.__name__ == f"papers.{name}")


def rows(text: str) -> list[list[str]]:
    cells = [[c.strip() for c in line[1:-1].split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in cells if row[0] not in ("what", "---|---|---|---|---|--")]


@pytest.mark.parametrize("name", PAPERS)
def test_the_page_is_what_the_command_computes(ledger: ModuleType, name: str) -> None:
    module = paper(ledger, name)
    lines, _ = ledger.section(module.TITLE, module.ENTRIES)
    assert "\n".join(lines) in (ROOT / "docs" / "ledger.md").read_text()


def test_the_page_counts_its_rows() -> None:
    text = (ROOT / "docs" / "ledger.md").read_text()
    total, *parts = map(int, re.findall(r"\d+", re.search(r"^\d+ rows:.*$", text, re.MULTILINE)[0]))  # type: ignore[index]
    table = [
        line
        for line in text.splitlines()
        if re.search(r"\| (exact|\*\*(differs|not derivable)\*\*) \|", line)
    ]
    assert total == sum(parts) == len(table) >= 60
    without_remark = [line for line in table if "**" in line and line.endswith("|  |")]
    assert not without_remark


def test_verdicts_follow_from_the_numbers(ledger: ModuleType) -> None:
    entry = ledger.Entry
    cases = [
        (entry("", "", "3,809,104", lambda: 3_809_104), ("3,809,104", "exact")),
        (entry("", "", "3,809,104", lambda: 3_809_105, "why"), ("3,809,105", "differs")),
        (entry("", "", "6.574 M", lambda: 6_574_672, "why"), ("6.575 M (6,574,672)", "differs")),
        (entry("", "", "6.574 M", lambda: 6_574_672, cut=True), ("6.574 M (6,574,672)", "exact")),
        (entry("", "", "0.35 M", lambda: 368_771, units={"M": 2**20}), ("0.35 M (368,771)", "exact")),
        (entry("", "", "10 %", lambda: 0.0994), ("10 % (9.94%)", "exact")),
        (entry("", "", "10 %", lambda: 0.1483, "why"), ("15 % (14.83%)", "differs")),
        (entry("", "", "[0.5, 1.0]", lambda: [0.5, 1.0]), ("[0.5, 1.0]", "exact")),
        (entry("", "", "0.0005", lambda: 0.0004, "why"), ("0.0004", "differs")),
        (entry("", "", "100 k", lambda: 100_000), ("100 k (100,000)", "exact")),
        (entry("", "", "3", None, "why"), ("–", "not derivable")),
    ]
    for given, wanted in cases:
        assert given.judged() == wanted
    for silent in (entry("", "", "3", lambda: 4), entry("", "", "3")):
        with pytest.raises(ValueError, match="say why"):
            silent.judged()


def test_settings_are_those_that_the_program_reads(ledger: ModuleType, tmp_path: Path) -> None:
    """Files laid over one another, against jsonargparse."""
    from gansharing.tools.inspect import setup_from_yaml

    config = sys.modules["papers.entry"].config
    names = ["fastgan/official", "fastgan/decode"]
    found = config(*names)["model"]["init_args"]
    found["tasks"] = []  # its distance needs weights that are not here
    (tmp_path / "flat.yaml").write_text(
        yaml.safe_dump({"model": {**config(*names)["model"], "init_args": found}})
    )
    setup = setup_from_yaml([str(tmp_path / "flat.yaml")])
    assert setup.generator.config["init_args"]["skip"] is False
    assert setup.generator.config["init_args"]["resolution"] == 256
    setting = sys.modules["papers.entry"].setting
    assert setting("model.optimizer_g.betas.1", "adafm/base")() == 0.99
    assert setting("model.sharing_discriminator.stages", "adafm/base", "adafm/our", "adafm/d5")() == 5
