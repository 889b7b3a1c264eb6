"""Images in a folder: flat, in class sub-folders, or in train/val/test folders."""

import os
from pathlib import Path

from gansharing.data.sources import labels as stylegan
from gansharing.data.sources.base import Item, Source, is_image_name, label_by_class, split_and_class
from gansharing.errors import UserError


def folder_source(root: Path) -> Source:
    """Read a folder's layout.

    Layouts: images alone (no classes); one sub-folder per class; ``train`` beside ``val`` and/or ``test``,
    each of the two before; or StyleGAN's, with labels in ``dataset.json``. Links to folders are followed.

    Raises:
        UserError: The folder cannot be listed, holds no images, or has a broken ``dataset.json``.
    """
    found, ignored = _list_files(root)
    names = sorted(name for name in found if is_image_name(name))
    if not names:
        wanted = "png, jpg, jpeg, webp, bmp, gif, tif"
        raise UserError(
            f"{root} holds no images ({wanted}), only {len(found)} other files; name another folder"
        )
    layout, notes = split_and_class(names)
    labels, classes = label_by_class(layout)
    if (root / stylegan.FILE).is_file():
        listed = stylegan.read_labels((root / stylegan.FILE).read_bytes(), names, str(root))
        labels, classes, notes = listed or dict.fromkeys(names, 0), [], f"labels from {stylegan.FILE}"
    items = [Item(name, labels[name], layout[name][0], root / name) for name in names]
    return Source(
        str(root),
        items,
        lambda item: item.container.read_bytes(),
        classes,
        ignored + len(found) - len(names),
        notes,
    )


def _list_files(root: Path) -> tuple[list[str], int]:
    """Relative names of all files, and how many lie in hidden folders (which are not entered)."""

    def refuse(error: OSError) -> None:
        raise UserError(f"cannot list {error.filename}: {error.strerror}; check its permissions") from error

    files: list[str] = []
    hidden = 0
    visited: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        if real in visited:  # a link that leads back
            folders.clear()
            continue
        visited.add(real)
        for name in [n for n in folders if n.startswith(".") or n == "__MACOSX"]:
            hidden += sum(len(inner) for _, _, inner in os.walk(os.path.join(folder, name)))
            folders.remove(name)
        folders.sort()
        relative = Path(folder).relative_to(root)
        files += [(relative / name).as_posix() for name in names]
    return files, hidden
