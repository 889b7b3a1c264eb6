"""Shards: tar files of images in the WebDataset layout, with an index beside them."""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gansharing.data.build import workers
from gansharing.data.decode import BadImage, Recipe, decode
from gansharing.data.loader import Batch, sample_order
from gansharing.data.sources import Item, Source
from gansharing.errors import UserError
from gansharing.files import folder_atomically, write_atomically

INDEX = "index.json"
_FORMAT = 1
_AHEAD = 256


@dataclass(frozen=True)
class Shard:
    """One tar file.

    Attributes:
        name: Of the file, in the index's folder.
        images: How many it holds.
        bytes: Its size.
    """

    name: str
    images: int
    bytes: int


@dataclass(frozen=True)
class ShardIndex:
    """What a folder of shards holds; a node needs the index and the shards that are dealt to it.

    Attributes:
        folder: Where they lie.
        recipe: How the images were brought to one size.
        classes: Class names, position = label; empty where there are none.
        shards: In their order.
        bad: Name and reason of each image that was left out.
    """

    folder: Path
    recipe: Recipe
    classes: list[str]
    shards: list[Shard]
    bad: list[list[str]]

    @property
    def num_images(self) -> int:
        """Images in all shards."""
        return sum(shard.images for shard in self.shards)

    def first(self, number: int) -> int:
        """How many images lie in the shards before one."""
        return sum(shard.images for shard in self.shards[:number])


def read_index(folder: str | Path) -> ShardIndex:
    """Read what :func:`write_shards` wrote.

    Raises:
        UserError: There is no index, or it is none.
    """
    path = Path(folder) / INDEX
    try:
        content = json.loads(path.read_bytes())
        if content.pop("format") != _FORMAT:
            raise ValueError("another format")
        recipe, shards = Recipe(**content.pop("recipe")), [Shard(**one) for one in content.pop("shards")]
        return ShardIndex(Path(folder), recipe, shards=shards, **content)
    except OSError as error:
        raise UserError(
            f"no shards in {folder} ({error.strerror}: {INDEX}); 'gansharing data shard' writes them"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no index of shards ({error}); write the shards again") from error


def write_shards(source: Source, recipe: Recipe, out: Path, size: int, max_bad_share: float) -> ShardIndex:
    """Write a source's images at one size into shards, which appear whole or not at all.

    The images are dealt to the shards in a shuffled order, so that each shard is a sample of all.

    Args:
        source: What to read.
        recipe: How images are brought to one size.
        out: A folder that does not exist yet, or is empty.
        size: Images in a shard; the last may hold fewer.
        max_bad_share: Share of images that may be unusable; they are left out and listed in the index.

    Raises:
        UserError: The package webdataset is missing, ``out`` is not empty, the disk is full, or too many
            images are unusable.
    """
    try:
        from webdataset import ShardWriter
    except ImportError:
        raise UserError('shards are written by webdataset: pip install "gansharing[shards]"') from None
    if size < 1:
        raise UserError(f"size is {size}; give at least one image a shard")
    bad: list[list[str]] = []
    counts: dict[str, int] = {}
    with folder_atomically(out) as folder:
        pattern = str(folder).replace("%", "%%") + "/%06d.tar"
        with ShardWriter(
            pattern, maxcount=size, maxsize=float("inf"), verbose=0, encoder=False, mtime=0
        ) as writer:
            for number, (item, image) in enumerate(_encoded(source, recipe)):
                if isinstance(image, BadImage):
                    bad.append([item.name, str(image)])
                    continue
                label = str(item.label).encode()
                writer.write({"__key__": f"{number:09d}", "png": image, "cls": label})
                name = Path(writer.fname).name
                counts[name] = counts.get(name, 0) + 1
        _refuse(bad, source, max_bad_share)
        shards = [Shard(name, count, (folder / name).stat().st_size) for name, count in counts.items()]
        index = ShardIndex(out, recipe, source.classes, shards, sorted(bad))
        content = {"format": _FORMAT} | asdict(index)
        del content["folder"]
        write_atomically(folder / INDEX, lambda file: file.write(json.dumps(content, indent=1).encode()))
    return index


def _encoded(source: Source, recipe: Recipe) -> Iterator[tuple[Item, bytes | BadImage]]:
    """PNG files of the images in a shuffled order, a bounded number ahead of the writer."""

    def encode(item: Item) -> bytes | BadImage:
        try:
            pixels = decode(source.read(item), recipe)
        except BadImage as error:
            return error
        except Exception as error:  # what reading raises depends on the source
            return BadImage(f"cannot be read: {type(error).__name__}: {str(error)[:200]}")
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    order = [source.items[number] for number in sample_order(0, 0, len(source.items))]
    with ThreadPoolExecutor(workers()) as pool:
        for start in range(0, len(order), _AHEAD):
            part = order[start : start + _AHEAD]
            yield from zip(part, pool.map(encode, part), strict=True)


def _refuse(bad: list[list[str]], source: Source, most: float) -> None:
    total = len(source.items)
    if len(bad) > most * total or len(bad) == total:
        name, reason = bad[0] if bad else ("there are none", "")
        raise UserError(
            f"{source.location}: {len(bad)} of {total} images cannot be used, more than max_bad_share="
            f"{most:g} allows; one of them is {name}: {reason}"
        )


class ShardedImages:
    """Images of some shards, each read where the shard's table of contents says that it lies.

    Args:
        index: Of all shards.
        numbers: Which of them.

    Raises:
        UserError: A shard is missing, cut short or damaged.
    """

    def __init__(self, index: ShardIndex, numbers: Sequence[int]) -> None:
        self._index = index
        tables = [_contents(index, number) for number in numbers]
        # Of each image its shard, its place in it, where its bytes begin, how many they are, and its label.
        self._rows = np.concatenate(tables) if tables else np.zeros((0, 5), dtype=np.int64)
        self._first = np.array([index.first(number) for number in range(len(index.shards))])

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """Stacked images at ``indices``, counted over the shards that were given.

        Returns:
            ``image``: uint8 (B, 3, H, W) in channels_last memory; ``label``: int64 (B,); ``index``: their
            numbers among the images of all shards, int64 (B,).

        Raises:
            UserError: An image's bytes are damaged.
        """
        rows = self._rows[np.asarray(indices, dtype=np.int64)]
        pixels = torch.from_numpy(np.stack([self._read(*row) for row in rows[:, [0, 2, 3]].tolist()]))
        return {
            "image": pixels.permute(0, 3, 1, 2),
            "label": torch.from_numpy(rows[:, 4].copy()),
            "index": torch.from_numpy(self._first[rows[:, 0]] + rows[:, 1]),
        }

    def _read(self, number: int, offset: int, size: int) -> np.ndarray:
        path = self._index.folder / self._index.shards[number].name
        try:
            with path.open("rb") as file:
                file.seek(offset)
                return decode(file.read(size), self._index.recipe)
        except (OSError, BadImage) as error:
            raise UserError(f"{path}, byte {offset}: {error}; copy or write the shard again") from error


def _contents(index: ShardIndex, number: int) -> np.ndarray:
    """Rows of one shard, int64 (images, 5), see :class:`ShardedImages`."""
    shard = index.shards[number]
    path = index.folder / shard.name
    try:
        size = path.stat().st_size
        if size != shard.bytes:
            raise UserError(
                f"{path} has {size:,} bytes where the index says {shard.bytes:,}: copy or write it again"
            )
        with tarfile.open(path, "r:") as tar:
            found = [(member.name, member.offset_data, member.size) for member in tar]
        with path.open("rb") as file:
            rows = _rows(found, file, number)
    except OSError as error:
        raise UserError(
            f"cannot read the shard {path} ({error.strerror or error}); copy it to this node, or write the "
            "shards again"
        ) from error
    except (tarfile.TarError, ValueError) as error:
        raise UserError(f"{path} is no whole tar file ({error}); copy or write it again") from error
    if len(rows) != shard.images:
        raise UserError(
            f"{path} holds {len(rows)} images where the index says {shard.images}: copy or write it again"
        )
    return rows


def _rows(found: list[tuple[str, int, int]], file: Any, number: int) -> np.ndarray:
    images = {Path(name).stem: (offset, size) for name, offset, size in found if name.endswith(".png")}
    labels = {}
    for name, offset, size in found:
        if name.endswith(".cls"):
            file.seek(offset)
            labels[Path(name).stem] = int(file.read(size))
    rows = [(number, place, *where, labels[key]) for place, (key, where) in enumerate(images.items())]
    return np.array(rows, dtype=np.int64).reshape(-1, 5)
