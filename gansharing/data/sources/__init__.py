"""Where encoded images come from: :func:`open_source` understands whatever the user names."""

import difflib
from pathlib import Path

from gansharing.data.sources.archive import zip_source
from gansharing.data.sources.base import Item, Source
from gansharing.data.sources.embedded import EMBEDDED, embedded_source
from gansharing.data.sources.folder import folder_source
from gansharing.data.sources.tables import is_table, table_source
from gansharing.errors import UserError

__all__ = ["Item", "Source", "open_source"]


def open_source(path: str | Path) -> Source:
    """Open images by what they are: an embedded set's name, a folder, a zip, or tables.

    Args:
        path: ``twemoji``, ``openmoji``; or a folder, a ``.zip``, a ``.parquet`` file, a folder of them, or
            one that Hugging Face ``datasets`` wrote with ``save_to_disk``.

    Raises:
        UserError: There is nothing at ``path``, or nothing that is understood.
    """
    if str(path) in EMBEDDED:
        return embedded_source(str(path))
    found = Path(path).expanduser()
    if not found.exists():
        raise UserError(_nothing_at(str(path)))
    if is_table(found):
        return table_source(found.resolve())
    if found.is_dir():
        return folder_source(found.resolve())
    if found.suffix.lower() == ".zip":
        return zip_source(found.resolve())
    raise UserError(
        f"{path} is neither a folder nor a .zip nor a .parquet file; put the images into a folder"
    )


def _nothing_at(path: str) -> str:
    near = difflib.get_close_matches(path.lower(), EMBEDDED, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    names = ", ".join(sorted(EMBEDDED))
    return f"no data at '{path}': {hint}name a folder, a .zip, a .parquet file or an embedded set ({names})"
