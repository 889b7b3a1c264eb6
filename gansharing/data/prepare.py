"""Decode and resize a source once into the cache."""

import hashlib
import json
import os
import shutil
import warnings
from pathlib import Path

from filelock import FileLock

from gansharing.data.build import build, workers
from gansharing.data.cache import FORMAT, CachedImages, cache_root, open_cache, read_manifest
from gansharing.data.decode import Recipe
from gansharing.data.digests import content_digests
from gansharing.data.report import refuse_if_too_many, warning_line
from gansharing.data.sources import Source
from gansharing.errors import UserError


def prepare(
    source: Source, recipe: Recipe, *, max_bad_share: float = 0.01, progress: bool = True, warn: bool = True
) -> CachedImages:
    """The source's images at one size, from the cache or decoded into it.

    The cache is keyed by the images' bytes, names and labels and by the recipe: a moved folder finds its
    cache, a changed file does not. Several processes may call it at once; one builds, the others wait for it.

    Args:
        source: What to read.
        recipe: How images are brought to one size.
        max_bad_share: Share of files that may be unusable; each is listed in a report beside the cache.
        progress: Whether to show a bar while decoding.
        warn: Whether to say, in one line, that some files are unusable.

    Raises:
        UserError: Too many files are unusable, the disk is full, or the cache cannot be written.
    """
    root = cache_root() / "images"
    _make(root)
    digests = content_digests(source, cache_root() / "index", workers())
    folder = root / _key(source, recipe, digests)
    manifest = read_manifest(folder)
    if manifest is None:
        with FileLock(root / f"{folder.name}.lock"):
            _clear(root, folder)
            if read_manifest(folder) is None:
                build(source, recipe, digests, folder, max_bad_share, progress)
        manifest = read_manifest(folder)
    if manifest is None:
        raise UserError(f"the cache {folder} vanished while it was built; is something else deleting it?")
    refuse_if_too_many(
        len(manifest["bad"]), len(source.items), max_bad_share, source.location, report_path(folder)
    )
    if manifest["bad"] and warn:
        warnings.warn(
            warning_line(len(manifest["bad"]), len(source.items), report_path(folder)), stacklevel=2
        )
    return open_cache(folder, manifest)


def report_path(folder: Path) -> Path:
    """Where the report on a cache folder lies; it stays where a cache was refused."""
    return folder.with_name(f"{folder.name}.report.txt")


def report_of(source: Source, recipe: Recipe) -> Path:
    """Where the report on a prepared source lies."""
    digests = content_digests(source, cache_root() / "index", workers())
    return report_path(cache_root() / "images" / _key(source, recipe, digests))


def _key(source: Source, recipe: Recipe, digests: list[str]) -> str:
    images = [[item.name, item.label, digest] for item, digest in zip(source.items, digests, strict=True)]
    content = json.dumps([FORMAT, recipe.as_dict(), source.classes, images])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _make(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        writable = os.access(root, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise UserError(
            f"cannot write the cache {root}; set GANSHARING_CACHE to a folder that can be written"
        )


def _clear(root: Path, folder: Path) -> None:
    """Remove what a killed process left of this cache; the caller holds its lock."""
    for leftover in root.glob(f".{folder.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if folder.exists() and read_manifest(folder) is None:
        warnings.warn(f"the cache {folder} is damaged and is built again", stacklevel=3)
        shutil.rmtree(folder)
