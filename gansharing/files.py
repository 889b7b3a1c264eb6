"""Files that are either whole or absent."""

import glob
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from gansharing.errors import UserError

_TEMPORARY = ".partial-"


def write_atomically(path: str | Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file so that a crash at any moment leaves the old one or the new one, never a part.

    The bytes go to a temporary file in the target folder (a rename never crosses file systems), which is
    flushed to disk, renamed, and made durable by flushing the folder.

    Args:
        path: The target; missing folders are made.
        write: Called with the open binary file.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}{_TEMPORARY}", dir=path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; is its folder writable?") from error
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; nothing was left behind") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


@contextmanager
def folder_atomically(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` to write into, renamed to it when the block ends well, else removed.

    Args:
        path: The target: a folder that does not exist yet, or is empty.

    Raises:
        UserError: The target is not empty, the disk is full or the folder cannot be written.
    """
    temporary: Path | None = None
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path} is there already; name a new folder")
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.absolute().parent))
        yield temporary
        temporary.chmod(0o755)
        os.replace(temporary, path)
        _sync_folder(path.absolute().parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; nothing was kept") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _remove_leftovers(path: Path) -> None:
    # What a killed process left; one writer per target is assumed.
    for leftover in path.parent.glob(f".{glob.escape(path.name)}{_TEMPORARY}*"):
        leftover.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
