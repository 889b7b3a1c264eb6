"""What a source of images is: a sorted list of items and a way to read one item's encoded bytes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from gansharing.errors import UserError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

# How data sets name their splits, and what the project calls them.
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True, slots=True)
class Item:
    """One encoded image.

    Attributes:
        name: Path relative to the source, with forward slashes; unique in the source.
        label: Class number, 0 where there are no classes.
        split: ``train``, ``val`` or ``test``.
        container: The file whose size and time of change tell whether the bytes may have changed.
        row: Position in the container, where it is a table.
    """

    name: str
    label: int
    split: str
    container: Path
    row: int = 0


@dataclass(frozen=True)
class Source:
    """Encoded images in a fixed order.

    Attributes:
        location: What the user named, for messages.
        items: Sorted by name.
        read: Encoded bytes of an item; raises an exception where they cannot be had. Safe in threads.
        classes: Class names, position = label; empty where there are none.
        ignored: Number of files that are no images by their name.
        notes: How the layout was understood, for the report.
        digest: Hash that stands for an item's content, where that is cheaper than reading it.
    """

    location: str
    items: list[Item]
    read: Callable[[Item], bytes]
    classes: list[str] = field(default_factory=list)
    ignored: int = 0
    notes: str = ""
    digest: Callable[[Item], str] | None = None

    @property
    def splits(self) -> list[str]:
        """Names of the splits that have images."""
        return sorted({item.split for item in self.items})

    def take(self, split: str) -> "Source":
        """The same source with one split's items.

        Raises:
            UserError: The source has no such split.
        """
        items = [item for item in self.items if item.split == split]
        if not items:
            raise UserError(
                f"{self.location} has no '{split}' split; it has {', '.join(self.splits) or 'no images'}"
            )
        return replace(self, items=items)


def is_image_name(name: str) -> bool:
    """Whether a relative path names an image, by its ending; hidden files and folders do not."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return not hidden and path.suffix.lower() in EXTENSIONS


def split_and_class(names: Iterable[str]) -> tuple[dict[str, tuple[str, str]], str]:
    """Understand a layout of image paths.

    Args:
        names: Relative paths of images.

    Returns:
        For each name its split and its class name ("" without classes), and the layout in words.
    """
    parts = {name: PurePosixPath(name).parts for name in names}
    firsts = {p[0] for p in parts.values() if len(p) > 1}
    nested = all(len(p) > 1 for p in parts.values())
    if nested and "train" in firsts and firsts <= SPLITS.keys():
        split = {name: SPLITS[p[0]] for name, p in parts.items()}
        inner = {name: p[1:] for name, p in parts.items()}
        words = "splits " + ", ".join(sorted(firsts)) + "; "
    else:
        split, inner, words = dict.fromkeys(parts, "train"), parts, ""
    labelled = all(len(p) > 1 for p in inner.values())
    loose = not labelled and any(len(p) > 1 for p in inner.values())
    words += "class sub-folders" if labelled else "no classes"
    if loose:
        words += " (images lie beside sub-folders, so the folders are not taken for classes)"
    return {name: (split[name], p[0] if labelled else "") for name, p in inner.items()}, words


def label_by_class(layout: dict[str, tuple[str, str]]) -> tuple[dict[str, int], list[str]]:
    """Number the class names in sorted order, the same in every split."""
    classes = sorted({name for _, name in layout.values() if name})
    number = {name: label for label, name in enumerate(classes)}
    return {name: number.get(group, 0) for name, (_, group) in layout.items()}, classes
