"""Pixels of every kind of file, against what the format says or a second implementation gives."""

import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from gansharing.data.decode import BadImage, Recipe, decode, decode_rgb
from gansharing.errors import UserError
from tests.data.helpers import encoded, noise, png


def exact(data: bytes, side: int = 16, **options: str) -> np.ndarray:
    return decode(data, Recipe(side, **options)).astype(int)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_lossless_formats_give_their_pixels(kind: str) -> None:
    image = noise(0) if kind != "GIF" else noise(0).quantize(256)
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(exact(encoded(image, kind, **options)), np.asarray(image.convert("RGB")))


@given(st.integers(9, 80), st.integers(9, 80), st.integers(8, 40), st.sampled_from(["bicubic", "bilinear"]))
def test_resizing_is_antialiased_as_torch_does_it(width: int, height: int, side: int, resample: str) -> None:
    # A middling range: Pillow rounds and clips between the two passes, torch does not.
    pixels = np.random.default_rng(width).integers(64, 192, (height, width, 3), dtype=np.uint8)
    ours = exact(encoded(Image.fromarray(pixels)), side, resample=resample)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    other = torch.nn.functional.interpolate(tensor, (side, side), mode=resample, antialias=True)
    assert np.abs(ours - other[0].clamp(0, 255).permute(1, 2, 0).numpy()).max() < 2.1


def test_the_three_filters_differ() -> None:
    data = png(0, 48)
    a, b, c = (exact(data, resample=name) for name in ("lanczos", "bicubic", "bilinear"))
    assert not np.array_equal(a, b) and not np.array_equal(b, c)


@pytest.mark.parametrize("size", [(40, 16), (16, 40), (41, 16)])
def test_the_centre_crop_keeps_the_middle_square(size: tuple[int, int]) -> None:
    image = noise(0, 41).resize(size, Image.Resampling.NEAREST)
    left, top = (size[0] - 16) // 2, (size[1] - 16) // 2
    middle = np.asarray(image)[top : top + 16, left : left + 16]
    assert np.array_equal(exact(encoded(image), crop="center"), middle)
    assert not np.array_equal(exact(encoded(image), crop="none"), middle)


@pytest.mark.parametrize(("name", "colour"), [("white", (255, 255, 255)), ("#102030", (16, 32, 48))])
def test_transparent_pixels_show_the_background(name: str, colour: tuple[int, int, int]) -> None:
    image = noise(0, mode="RGBA")
    pixels = np.asarray(image).astype(float)
    alpha = pixels[..., 3:] / 255
    expected = pixels[..., :3] * alpha + np.array(colour) * (1 - alpha)
    assert np.abs(exact(encoded(image), background=name) - expected).max() <= 1


def test_transparency_in_a_palette_counts_too() -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(1, (0, 0, 8, 16))
    pixels = exact(encoded(image, transparency=1), background="blue")
    assert (pixels[:, :8] == (0, 0, 255)).all() and (pixels[:, 8:] == (255, 0, 0)).all()


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_becomes_rgb(mode: str) -> None:
    image = noise(0, mode="L").convert(mode)
    grey = np.asarray(image.convert("L"))
    assert np.array_equal(exact(encoded(image)), np.repeat(grey[..., None], 3, 2))


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (16, 16)).astype(np.uint16)
    expected = np.round(values / 65535 * 255)
    for kind in ("PNG", "TIFF"):
        pixels = exact(encoded(Image.fromarray(values), kind))
        assert np.abs(pixels - expected[..., None]).max() <= 1 and pixels.std() > 50


def test_cmyk_becomes_rgb() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.abs(exact(encoded(image, "JPEG", quality=100)) - (255, 0, 0)).max() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_mark_turns_an_image_upright(orientation: int) -> None:
    upright = np.zeros((16, 24, 3), dtype=np.uint8)
    upright[:8, :12] = (255, 0, 0)  # red in the top left corner
    upright[8:, 12:] = (0, 0, 255)  # blue in the bottom right one
    # What a camera stored, by the EXIF standard: position of the first row and of the first column.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert np.array_equal(np.asarray(decode_rgb(data)), upright)


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (exact(data) == (255, 0, 0)).all()


def huge_png(width: int, height: int) -> bytes:
    """A valid header of a large image, with next to no data behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "no image"),
        (b"this is text", "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image"),
        (png(0)[:-40], "OSError"),
        (encoded(noise(0, 64), "JPEG")[:-500], "truncated"),
        (png(0, 7), "shorter than 8"),
        (encoded(noise(0, 16).resize((400, 4))), "shorter than 8"),
        (huge_png(8001, 8000), "more than 64,000,000"),
        (encoded(Image.fromarray(np.ones((16, 16), np.float32)), "TIFF"), "no known range"),
    ],
)
def test_what_cannot_be_used_says_why(data: bytes, fault: str) -> None:
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    with pytest.raises(BadImage, match=fault):
        exact(data)


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_500, 20_000, 60_000])
def test_bombs_are_refused_before_they_are_unpacked(side: int) -> None:
    with pytest.raises(BadImage, match="64,000,000|Bomb"):
        exact(huge_png(side, side))


@given(
    st.binary(max_size=200),
    st.integers(0, 300),
    st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"]),
)
def test_damage_anywhere_is_an_image_or_a_bad_image(junk: bytes, place: int, kind: str) -> None:
    data = bytearray(encoded(noise(1), kind))
    data[place : place + len(junk)] = junk
    try:
        assert exact(bytes(data)).shape == (16, 16, 3)
    except BadImage as error:
        assert str(error)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"resolution": 0}, "resolution"),
        ({"resolution": 8, "crop": "left"}, "none, center"),
        ({"resolution": 8, "resample": "nearest"}, "lanczos"),
        ({"resolution": 8, "background": "whitish"}, "no colour"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(options: dict[str, object], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        Recipe(**options)  # type: ignore[arg-type]
