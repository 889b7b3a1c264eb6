"""Write one cache: decode in threads, write in order, and appear whole or not at all."""

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL
from PIL import Image
from rich.console import Console
from rich.progress import track

from gansharing.data.cache import FORMAT, MANIFEST, PIXELS
from gansharing.data.decode import BadImage, Recipe, decode_sized
from gansharing.data.digests import UNREADABLE
from gansharing.data.report import refuse_if_too_many, write_report
from gansharing.data.sources import Item, Source
from gansharing.errors import UserError

Decoded = tuple[np.ndarray, tuple[int, int]]  # pixels, and the size before
# EFBIG is what a limit on file size gives, EDQUOT a user's quota.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def workers() -> int:
    """Threads for reading and decoding (Pillow frees the interpreter while it decodes)."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 16)


def build(
    source: Source, recipe: Recipe, digests: list[str], folder: Path, max_bad_share: float, progress: bool
) -> None:
    """Decode a source into ``folder``, which appears by one rename when all is on disk.

    Raises:
        UserError: The disk is or would be full, a file changed meanwhile, or too many files are unusable.
    """
    _check_space(source, recipe, folder)
    temporary: Path | None = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            manifest = _decode_all(source, recipe, digests, temporary, progress)
        report = folder.with_name(f"{folder.name}.report.txt")
        write_report(report, source, manifest)
        refuse_if_too_many(len(manifest["bad"]), len(source.items), max_bad_share, source.location, report)
        _write_manifest(temporary / MANIFEST, manifest)
        temporary.chmod(0o755)
        _publish(temporary, folder)
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(_full(folder, _needed(source, recipe))) from error
        raise UserError(f"cannot write the cache {folder.parent}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _needed(source: Source, recipe: Recipe) -> int:
    return len(source.items) * recipe.resolution**2 * 3


def _full(folder: Path, needed: int) -> str:
    return (
        f"the disk of the cache {folder.parent} is full ({needed / 1e6:,.0f} MB are needed) and nothing was "
        "kept: free some space or set GANSHARING_CACHE to another disk"
    )


def _check_space(source: Source, recipe: Recipe, folder: Path) -> None:
    if shutil.disk_usage(folder.parent).free < _needed(source, recipe):
        raise UserError(_full(folder, _needed(source, recipe)))


def _decode_all(
    source: Source, recipe: Recipe, digests: list[str], folder: Path, progress: bool
) -> dict[str, Any]:
    """Write the pixels and return the manifest."""
    kept: list[Item] = []
    sizes: list[tuple[int, int]] = []
    bad: list[list[str]] = []
    pixels_hash = hashlib.sha256(f"{recipe.resolution}:".encode())
    console = Console(stderr=True)
    results = track(
        _in_order(source, recipe, digests),
        f"Preparing {source.location}",
        total=len(source.items),
        console=console,
        disable=not progress,
    )
    with open(folder / PIXELS, "wb") as file:
        for item, decoded in results:
            if isinstance(decoded, BadImage):
                bad.append([item.name, str(decoded)])
                continue
            pixels, size = decoded
            kept.append(item)
            sizes.append(size)
            data = pixels.tobytes()
            pixels_hash.update(data)
            file.write(data)
        _sync(file)
    return {
        "format": FORMAT,
        "source": source.location,
        "source_hash": hashlib.sha256("".join(digests).encode()).hexdigest(),
        "notes": source.notes,
        "recipe": recipe.as_dict(),
        "shape": [len(kept), recipe.resolution, recipe.resolution, 3],
        "fingerprint": pixels_hash.hexdigest(),
        "classes": source.classes,
        "names": [item.name for item in kept],
        "labels": [item.label for item in kept],
        "sizes": sizes,
        "bad": bad,
        "ignored": source.ignored,
        "duplicates": sum(n - 1 for digest, n in Counter(digests).items() if digest != UNREADABLE),
        "versions": {"python": sys.version.split()[0], "pillow": PIL.__version__, "numpy": np.__version__},
    }


def _in_order(
    source: Source, recipe: Recipe, digests: list[str]
) -> Iterator[tuple[Item, Decoded | BadImage]]:
    """Decoded images in the source's order, a bounded number of them ahead of the consumer."""
    waiting: deque[tuple[Item, Future[Decoded | BadImage]]] = deque()
    with ThreadPoolExecutor(workers()) as pool:
        try:
            for item, digest in zip(source.items, digests, strict=True):
                waiting.append((item, pool.submit(_decode_one, source, item, recipe, digest)))
                if len(waiting) > 4 * workers():
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _decode_one(source: Source, item: Item, recipe: Recipe, digest: str) -> Decoded | BadImage:
    try:
        data = source.read(item)
    except Exception as error:  # what reading raises depends on the source
        return BadImage(f"cannot be read: {type(error).__name__}: {str(error)[:200]}")
    if source.digest is None and hashlib.sha256(data).hexdigest() != digest:
        raise UserError(
            f"{source.location}: {item.name} changed while it was read; start again when it is complete"
        )
    try:
        return decode_sized(data, recipe)
    except BadImage as error:
        return error


def _write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    with open(path, "wb") as file:
        file.write(json.dumps(manifest).encode())
        _sync(file)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _publish(temporary: Path, folder: Path) -> None:
    try:
        os.replace(temporary, folder)
    except OSError as error:
        # Where locks do not hold (some network disks), another process may have been first: same content.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    descriptor = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
