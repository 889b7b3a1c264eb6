"""A report of finished runs: the papers' tables, curves, grids side by side."""

import csv
import io
import os
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from rich.console import Console

from gansharing.errors import UserError
from gansharing.files import write_atomically
from gansharing.tools.report_runs import Run, read_runs
from gansharing.tools.report_table import (
    Entry,
    Rows,
    arrange,
    check_protocols,
    columns,
    details,
    notes,
    overview,
    tidy,
)
from gansharing.visual.compared_curves import compared_curves
from gansharing.visual.page import Picture, Section, html_page, markdown_page


def report(runs: list[str], out: str = "report.html", title: str = "Runs compared") -> None:
    """Compare runs in the papers' tables: method by data, best FID and its step, costs, curves, grids.

    Runs of the same options are the seeds of one method; differences within their noise are marked as such.

    Args:
        runs: Folders of runs, or folders that hold runs.
        out: A name ending in .html (one file, pictures inside), .md (pictures in a folder beside it) or .csv
            (a line a run).
        title: What stands above it.
    """
    path = Path(out)
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise UserError(
            f"cannot write a report as {path.name!r}: name a file ending in {', '.join(_WRITERS)}"
        )
    found = read_runs(runs)
    check_protocols(found)
    rows = arrange(found)
    writer(path, title, rows)
    text = f"{len(found)} runs, {len(rows)} methods, {len(columns(rows))} columns: {path}"
    Console(soft_wrap=True).print(text, markup=False, highlight=False)


def _sections(rows: Rows) -> list[Section]:
    sections = [Section(overview(rows))]
    for column in columns(rows):
        members = {name: cells[column] for name, cells in rows.items() if column in cells}
        lines = {name: [e.run.curve("fid", e.suffix) for e in entries] for name, entries in members.items()}
        drawn = any(curve for curves in lines.values() for curve in curves)
        curves = [Picture(f"FID by step, {column}", compared_curves(lines, "FID"))] if drawn else []
        sections.append(Section(details(rows, column), [*curves, *_grids(members)]))
    return sections


def _grids(members: dict[str, list[Entry]]) -> list[Picture]:
    """The real images of the first run that shows them, and of each method those of its first seed."""
    firsts = {name: min(entries, key=lambda entry: entry.run.seed) for name, entries in members.items()}
    real = [p for entry in firsts.values() if (p := entry.run.folder / "images" / "real.png").is_file()]
    pictures = [Picture("real images", _png(real[0]))] if real else []
    for name, entry in firsts.items():
        path = _grid(entry.run, entry.step)
        if path is not None:
            step = int(path.stem.split("_")[1])
            pictures.append(Picture(f"{name}, seed {entry.run.seed}, step {step:,}", _png(path)))
    return pictures


def _grid(run: Run, step: int | None) -> Path | None:
    """The grid of the best step, or else the last; rows of domains or widths where there are any."""
    wanted = "" if step is None else f"step_{step:07d}"
    for kind in ("_domains", "_widths", ""):
        found = sorted((run.folder / "images").glob(f"step_{'[0-9]' * 7}{kind}.png"))
        if found:
            return next((path for path in found if path.stem == f"{wanted}{kind}"), found[-1])
    return None


def _png(path: Path) -> bytes:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.verify()
        return path.read_bytes()
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} is no whole PNG; delete it, and the report will do without") from error


def _write_html(path: Path, title: str, rows: Rows) -> None:
    text = html_page(title, _sections(rows), notes(rows))
    write_atomically(path, lambda file: file.write(text.encode()))


def _write_markdown(path: Path, title: str, rows: Rows) -> None:
    folder, kept = path.with_name(f"{path.stem}_files"), list[Picture]()

    def keep(picture: Picture) -> str:
        kept.append(picture)
        return f"{folder.name}/{len(kept):03d}.png".replace(" ", "%20")

    text = markdown_page(title, _sections(rows), notes(rows), keep)
    for number, picture in enumerate(kept, 1):
        png = picture.png
        write_atomically(folder / f"{number:03d}.png", lambda file, png=png: file.write(png))  # type: ignore[misc]
    write_atomically(path, lambda file: file.write(text.encode()))


def _write_csv(path: Path, title: str, rows: Rows) -> None:
    lines = tidy(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator=os.linesep)
    writer.writeheader()
    writer.writerows(lines)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


_WRITERS: dict[str, Callable[[Path, str, Rows], None]] = {
    ".html": _write_html,
    ".md": _write_markdown,
    ".csv": _write_csv,
}
