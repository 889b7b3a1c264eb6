"""A folder in which somebody adds a part of their own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.program import write_images


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder but for images, from which nothing stays imported."""
    before = set(sys.modules)
    write_images(tmp_path / "FOLDER", count=12)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
