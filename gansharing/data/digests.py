"""SHA-256 of every image's bytes, remembered by size and time of change: a second start reads nothing."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from gansharing.data.sources import Item, Source
from gansharing.errors import UserError
from gansharing.files import write_atomically

UNREADABLE = ""
_Known = dict[str, dict[str, Any]]


def content_digests(source: Source, folder: Path, workers: int) -> list[str]:
    """Hex digest of each item in order, ``UNREADABLE`` where its bytes cannot be had.

    Args:
        source: The images.
        folder: Where the index is kept.
        workers: Threads that read.
    """
    index = folder / f"{hashlib.sha256(source.location.encode()).hexdigest()[:32]}.json"
    known = _load(index)
    stamps = {container: _stamp(container) for container in {item.container for item in source.items}}
    digests = [_recall(known, item, stamps[item.container]) for item in source.items]
    missing = [number for number, digest in enumerate(digests) if digest is None]
    if missing:
        items = [source.items[number] for number in missing]
        with ThreadPoolExecutor(workers) as pool:
            for number, digest in zip(missing, pool.map(partial(_digest, source), items), strict=True):
                digests[number] = digest
        _store(index, known, source, stamps, digests)
    return [digest or UNREADABLE for digest in digests]


def _digest(source: Source, item: Item) -> str:
    if source.digest is not None:
        return source.digest(item)
    try:
        return hashlib.sha256(source.read(item)).hexdigest()
    except Exception:  # what reading raises depends on the source; decoding meets it again and reports it
        return UNREADABLE


def _stamp(container: Path) -> list[int]:
    try:
        found = os.stat(container)
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def _recall(known: _Known, item: Item, stamp: list[int]) -> str | None:
    entry = known.get(str(item.container), {})
    return entry.get("items", {}).get(item.name) if stamp and entry.get("stamp") == stamp else None


def _load(index: Path) -> _Known:
    try:
        content = json.loads(index.read_bytes())
    except (OSError, ValueError):
        return {}
    sound = isinstance(content, dict) and all(isinstance(entry, dict) for entry in content.values())
    return content if sound else {}


def _store(
    index: Path, known: _Known, source: Source, stamps: dict[Path, list[int]], digests: list[str | None]
) -> None:
    for item, digest in zip(source.items, digests, strict=True):
        key, stamp = str(item.container), stamps[item.container]
        if known.get(key, {}).get("stamp") != stamp:
            known[key] = {"stamp": stamp, "items": {}}
        if digest:
            known[key]["items"][item.name] = digest
    text = json.dumps(known).encode()
    try:
        write_atomically(index, lambda file: file.write(text))
    except UserError:
        return  # the index only saves time; a cache that cannot be written is refused where it matters
