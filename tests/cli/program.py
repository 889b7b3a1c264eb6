"""Runs the real program, and makes the small things that it is run on."""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gansharing.cli import main

TINY = Path(__file__).with_name("tiny.yaml")


@dataclass
class Outcome:
    """Exit status and what was printed."""

    code: int
    out: str
    err: str


def run(*args: object) -> Outcome:
    """Run ``gansharing ARGS`` in this process; errors that would show a traceback are raised."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(arg) for arg in args])
        except SystemExit as leaving:
            code = int(leaving.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


def fit(images: Path, *more: object) -> Outcome:
    """Train the tiny nets on a folder; it must succeed."""
    done = run("fit", "--config", TINY, "--data.path", images, *more)
    assert done.code == 0, done.err
    return done


def write_images(folder: Path, count: int = 40, size: int = 32) -> Path:
    """A folder of noise as PNG files."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(count):
        pixels = draw.integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return folder


def files_in(folder: Path) -> set[str]:
    """Every file and folder below ``folder``."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
