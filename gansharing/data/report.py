"""What was used, what was not and why: one text beside each cache."""

from pathlib import Path
from typing import Any

from gansharing.data.sources import Source
from gansharing.errors import UserError
from gansharing.files import write_atomically


def write_report(path: Path, source: Source, manifest: dict[str, Any]) -> None:
    """Write the report of a cache that is being built.

    Args:
        path: Target.
        source: What was read.
        manifest: The cache's manifest; its ``bad`` lists pairs of name and reason.
    """
    used, bad = manifest["shape"][0], manifest["bad"]
    recipe = manifest["recipe"]
    lines = [
        f"source: {source.location}" + (f" ({source.notes})" if source.notes else ""),
        f"images used: {used} of {len(source.items)}",
        f"classes: {', '.join(source.classes) or 'none'}",
        f"made: {recipe['resolution']} px, crop {recipe['crop']}, {recipe['resample']} filter, "
        f"over {recipe['background']}",
        f"same bytes as an earlier image (used all the same): {manifest['duplicates']}",
        f"other files, ignored by their name: {source.ignored}",
        f"unusable images: {len(bad)}",
        *(f"  {name}: {reason}" for name, reason in bad),
    ]
    text = "\n".join(line.replace("\n", " ") for line in lines) + "\n"
    write_atomically(path, lambda file: file.write(text.encode("utf-8", "backslashreplace")))


def warning_line(bad: int, total: int, report: Path) -> str:
    """The one line said about unusable files."""
    return f"{bad} of {total} images cannot be used and are left out; they are listed in {report}"


def refuse_if_too_many(bad: int, total: int, most: float, location: str, report: Path) -> None:
    """Stop before training on what is left of a damaged data set.

    Raises:
        UserError: More than the share ``most`` of the files is unusable, or all are.
    """
    if bad and (bad > most * total or bad == total):
        raise UserError(
            f"{location}: {bad} of {total} images cannot be used, more than max_bad_share={most:g} allows; "
            f"mend or remove those listed in {report}"
        )
