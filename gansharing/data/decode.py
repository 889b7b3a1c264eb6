"""From a file's bytes to RGB pixels of one size."""

import io
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from gansharing.errors import UserError

Resample = Literal["lanczos", "bicubic", "bilinear"]
Crop = Literal["none", "center"]

# Other formats of Pillow run programs (EPS) or are rarely fed and rarely tested.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
MOST_PIXELS = 64_000_000
LEAST_SIDE = 8
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")


class BadImage(ValueError):
    """A file that cannot be used; the message says why."""


@dataclass(frozen=True)
class Recipe:
    """How images are brought to one size. Equal recipes on equal bytes give equal pixels.

    Attributes:
        resolution: Side of the square result in pixels.
        crop: ``center`` cuts the middle square; ``none`` squashes the whole image.
        background: What shows through transparent pixels, as Pillow names colours: ``white``, ``#20ff00``.
        resample: Filter of the resize, always antialiased. Lanczos is what StyleGAN's data tool uses;
            bilinear is torchvision's default, so that of most small GAN repositories.
    """

    resolution: int
    crop: Crop = "none"
    background: str = "white"
    resample: Resample = "lanczos"

    def __post_init__(self) -> None:
        if self.resolution < 1:
            raise UserError(f"resolution is {self.resolution}; give a number of pixels, such as 64")
        for value, known in (
            (self.crop, ("none", "center")),
            (self.resample, ("lanczos", "bicubic", "bilinear")),
        ):
            if value not in known:
                raise UserError(f"'{value}' is none of {', '.join(known)}")
        parse_colour(self.background)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        return asdict(self)


def parse_colour(name: str) -> tuple[int, int, int]:
    """Red, green and blue of a colour's name, 0 to 255.

    Raises:
        UserError: Pillow knows no such colour.
    """
    try:
        colour = ImageColor.getrgb(name)
    except ValueError as error:
        raise UserError(f"background '{name}' is no colour; write white, black or #rrggbb") from error
    return colour[0], colour[1], colour[2]


def decode(data: bytes, recipe: Recipe) -> np.ndarray:
    """Pixels of one image: uint8 (resolution, resolution, 3).

    Raises:
        BadImage: The bytes are no image, are cut short, or are too small or too large.
    """
    return decode_sized(data, recipe)[0]


def decode_sized(data: bytes, recipe: Recipe) -> tuple[np.ndarray, tuple[int, int]]:
    """As :func:`decode`, with the width and height that the image had."""
    image = decode_rgb(data, recipe.background)
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side) if recipe.crop == "center" else None
    resample = Image.Resampling[recipe.resample.upper()]
    resized = image.resize((recipe.resolution, recipe.resolution), resample, box)
    return np.asarray(resized), (width, height)


def decode_rgb(data: bytes, background: str = "white") -> Image.Image:
    """An image in its own size: RGB, turned upright by its EXIF mark, laid over ``background``.

    Of an animation the first frame is taken.

    Raises:
        BadImage: The bytes are no image, are cut short, or are too small or too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_size(image)
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image), parse_colour(background))
    except (BadImage, UserError):
        raise
    except UnidentifiedImageError as error:
        raise BadImage("no image of a known format") from error
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise BadImage(f"{type(error).__name__}: {str(error)[:200]}") from error


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise BadImage(f"{width} x {height} pixels are more than {MOST_PIXELS:,}")
    if min(width, height) < LEAST_SIDE:
        raise BadImage(f"{width} x {height} pixels: a side is shorter than {LEAST_SIDE}")


def _to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:
        image = _sixteen_to_eight(image)
    elif image.mode in ("I", "F"):
        raise BadImage(f"pixels of mode {image.mode} have no known range")
    if image.has_transparency_data:
        over = Image.new("RGBA", image.size, (*background, 255))
        over.alpha_composite(image.convert("RGBA"))
        image = over
    return image.convert("RGB")


def _sixteen_to_eight(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips at 255 instead of scaling.
    values = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
