"""Documents against the files they name."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
    for path in re.findall(
        r"\b((?:experiments|benchmarks|gansharing|tests)/[\w./-]+\.(?:py|yaml|md))\b", text
    ):
        assert (ROOT / path).exists(), f"{page.name} names {path}"
    assert not re.search(r"\b[A-Z]+_(ROWS|TABLE)\b", text), f"{page.name} has an unfilled place"


def test_every_tool_is_in_the_overview_and_the_readme() -> None:
    from gansharing.tools import TOOLS
    from gansharing.usage import OVERVIEW

    readme = (ROOT / "README.md").read_text()
    for name in TOOLS:
        assert f"gansharing {name}" in OVERVIEW
        assert f"gansharing {name}" in readme
