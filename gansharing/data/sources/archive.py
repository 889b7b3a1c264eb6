"""Images in a zip: flat, in class folders, or as StyleGAN's data tool packs them. Nothing is unpacked."""

import stat
import zipfile
from pathlib import Path, PurePosixPath
from zipfile import ZipFile, ZipInfo

from gansharing.data.sources import labels as stylegan
from gansharing.data.sources.base import Item, Source, is_image_name, label_by_class, split_and_class
from gansharing.errors import UserError

# Encoded images hardly shrink further. Deflate cannot exceed 1,032 to 1; a bomb comes near to it.
_MOST_RATIO = 100
# Below this an entry's ratio says nothing: a small one-coloured BMP shrinks 200 times.
_RATIO_FLOOR = 1 << 20
_MOST_ENTRY_BYTES = 256 << 20
# Several times the largest known set (1024 px FFHQ as PNG); entries that overlap reach it in a small file.
_MOST_TOTAL_BYTES = 400 << 30


def zip_source(path: Path) -> Source:
    """List a zip's images after checking every entry.

    Raises:
        UserError: The file is no zip, holds no images, or an entry is absolute, climbs out of the archive,
            is a link, is encrypted, is named twice, or unpacks to far more than it should.
    """
    try:
        archive = ZipFile(path)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a zip ({error}); pack it again") from error
    entries = {info.filename: info for info in archive.infolist() if not info.is_dir()}
    _check_all(archive, path)
    names = sorted(name for name in entries if is_image_name(name))
    if not names:
        raise UserError(
            f"{path} holds no images (png, jpg, jpeg, webp, bmp, gif, tif), only {len(entries)} other files"
        )
    layout, notes = split_and_class(names)
    labels, classes = label_by_class(layout)
    if stylegan.FILE in entries:
        listed = stylegan.read_labels(_read_text(archive, stylegan.FILE, path), names, str(path))
        labels, classes, notes = listed or dict.fromkeys(names, 0), [], f"labels from {stylegan.FILE}"
    items = [Item(name, labels[name], layout[name][0], path) for name in names]
    return Source(
        str(path), items, lambda item: archive.read(item.name), classes, len(entries) - len(names), notes
    )


def _read_text(archive: ZipFile, name: str, path: Path) -> bytes:
    try:
        return archive.read(name)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise UserError(f"{path}: {name} cannot be read ({error}); pack it again") from error


def _check_all(archive: ZipFile, path: Path) -> None:
    seen: set[str] = set()
    for info in archive.infolist():
        fault = _fault(info) or ("is there twice" if info.filename in seen else "")
        if fault:
            raise UserError(f"{path}: entry {info.filename[:120]!r} {fault}; the archive is refused")
        seen.add(info.filename)
    total, packed = sum(info.file_size for info in archive.infolist()), path.stat().st_size
    if total > _MOST_TOTAL_BYTES or (total > _RATIO_FLOOR and total > _MOST_RATIO * packed):
        raise UserError(f"{path}: {packed:,} bytes would unpack to {total:,}; the archive is refused")


def _fault(info: ZipInfo) -> str:
    """What is wrong with an entry, "" if nothing."""
    name = PurePosixPath(info.filename.replace("\\", "/"))
    if name.is_absolute() or (name.parts and name.parts[0].endswith(":")):
        return "has an absolute path"
    if ".." in name.parts:
        return "climbs out of the archive"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.file_size > _MOST_ENTRY_BYTES:
        return f"unpacks to {info.file_size:,} bytes, more than {_MOST_ENTRY_BYTES:,}"
    if info.file_size > _RATIO_FLOOR and info.file_size > _MOST_RATIO * max(info.compress_size, 1):
        return f"unpacks to {info.file_size // max(info.compress_size, 1)} times its size"
    return ""
