"""Files that are no images, by name: what they hold, and what the page says to them."""

import io
import zlib

import numpy as np
from PIL import Image


def png(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


def torn_jpeg() -> bytes:
    out = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(out, "JPEG")
    return out.getvalue()[: len(out.getvalue()) // 2]


def bomb() -> bytes:
    """A small PNG that says it has 30000 x 30000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (30000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    rows = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


FILES: dict[str, tuple[bytes, str]] = {
    "empty.png": (b"", "no image of a known format"),
    "text.png": (b"seed 7, please", "no image of a known format"),
    "text.txt": (b"seed 7, please", "is none of .png, .jpg, .jpeg, .webp"),
    "animation.gif": (b"GIF89a", "is none of .png, .jpg, .jpeg, .webp"),
    "torn.png": (png(64, 64)[:60], "damaged or no image"),
    "torn.jpg": (torn_jpeg(), "truncated"),
    "bomb.png": (bomb(), "900000000 pixels"),
    "tiny.png": (png(2, 2), "a side is shorter than"),
    "large.webp": (bytes(10_000_001), "larger than 10 MB"),
}
