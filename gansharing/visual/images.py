"""Images as files: grids, strips and animations."""

import io
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from gansharing.errors import UserError
from gansharing.files import write_atomically

_GAP = 2  # pixels between the images of a grid
_PAPER = 255  # white


def to_uint8(images: Tensor) -> Tensor:
    """Turn a generator's images into what files and metrics take.

    Args:
        images: (..., C, H, W) float in [-1, 1], clamped; uint8 is returned as it is.

    Returns:
        (..., C, H, W) uint8: round((x + 1) 127.5).

    Raises:
        UserError: A value is NaN or infinite.
    """
    if images.dtype == torch.uint8:
        return images
    images = images.detach().float()
    if not torch.isfinite(images).all():
        raise UserError(
            "the images hold NaN or infinite values: the generator has diverged; "
            "go back to an earlier checkpoint or lower the learning rates"
        )
    return images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def grid(images: Tensor, columns: int | None = None) -> Tensor:
    """Lay images out in rows with thin white lines between them.

    Args:
        images: (N, C, H, W), uint8 or float in [-1, 1].
        columns: images in a row; by default the grid is as square as can be.

    Returns:
        (C, H', W') uint8, places left over in the last row white.

    Raises:
        UserError: There are no images, or fewer than one column.
    """
    if images.dim() != 4 or len(images) == 0:
        raise UserError(f"a grid needs images of shape (N, C, H, W) with N > 0, got {tuple(images.shape)}")
    columns = math.ceil(math.sqrt(len(images))) if columns is None else columns
    if columns < 1:
        raise UserError(f"a grid needs at least 1 column, got {columns}")
    number, channels, height, width = images.shape
    columns = min(columns, number)
    rows = math.ceil(number / columns)
    cells = torch.full((rows * columns, channels, height + _GAP, width + _GAP), _PAPER, dtype=torch.uint8)
    cells[:number, :, :height, :width] = to_uint8(images).cpu()
    sheet = cells.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4)
    return sheet.reshape(channels, rows * (height + _GAP), -1)[:, :-_GAP, :-_GAP].contiguous()


def strip(images: Tensor) -> Tensor:
    """Lay images out side by side, as papers show latent walks: (N, C, H, W) to (C, H, W')."""
    return grid(images, columns=max(1, len(images)))


def save_png(image: Tensor, path: str | Path, metadata: Mapping[str, object] | None = None) -> None:
    """Write one image as a PNG file, whole or not at all.

    Args:
        image: (C, H, W) with 1 or 3 channels, uint8 or float in [-1, 1].
        path: the file; missing folders are made.
        metadata: kept in the file as text (seed, checkpoint, ...); shown by ``identify -verbose``.

    Raises:
        UserError: The image cannot be drawn or the file cannot be written.
    """
    text = PngImagePlugin.PngInfo()
    for key, value in (metadata or {}).items():
        text.add_itxt(key, str(value))
    picture = _picture(image)
    write_atomically(path, lambda file: picture.save(file, format="PNG", pnginfo=text))


def save_animation(frames: Tensor, path: str | Path, fps: int = 25) -> None:
    """Write frames as an endless GIF or as MP4, as the file's name says.

    Args:
        frames: (T, C, H, W) with 1 or 3 channels, uint8 or float in [-1, 1].
        path: a name ending in ``.gif`` or ``.mp4``; MP4 needs ``pip install "gansharing[video]"``.
        fps: frames a second, 1 to 50 (viewers slow faster GIFs down).

    Raises:
        UserError: No frames, another ending, fps out of range, or MP4 without the extra package.
    """
    path = Path(path)
    if frames.dim() != 4 or len(frames) == 0:
        raise UserError(f"an animation needs frames of shape (T, C, H, W), T > 0, got {tuple(frames.shape)}")
    if not 1 <= fps <= 50:
        raise UserError(f"fps must be from 1 to 50, got {fps}")
    if path.suffix.lower() not in _ENCODERS:
        raise UserError(f"cannot animate into {path.name!r}: name a file ending in {' or '.join(_ENCODERS)}")
    data = _ENCODERS[path.suffix.lower()](frames, fps)
    write_atomically(path, lambda file: file.write(data))


def _picture(image: Tensor) -> Image.Image:
    if image.dim() != 3 or image.shape[0] not in (1, 3):
        raise UserError(f"an image must have shape (1 or 3, H, W), got {tuple(image.shape)}")
    pixels = to_uint8(image).cpu().permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)


def _gif(frames: Tensor, fps: int) -> bytes:
    # A palette per frame: one for all would band the colours of a long walk.
    pictures = [_picture(frame).convert("RGB").quantize(256) for frame in frames]
    out = io.BytesIO()
    pictures[0].save(
        out, format="GIF", save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0
    )
    return out.getvalue()


def _mp4(frames: Tensor, fps: int) -> bytes:
    try:
        import imageio_ffmpeg
    except ImportError:
        raise UserError(
            'MP4 needs the package imageio-ffmpeg: pip install "gansharing[video]", or name a .gif file'
        ) from None
    pixels = _even(to_uint8(frames).cpu().expand(-1, 3, -1, -1))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "animation.mp4"
        size = (pixels.shape[2], pixels.shape[1])
        writer = imageio_ffmpeg.write_frames(str(file), size, fps=fps, quality=8, macro_block_size=2)
        writer.send(None)
        for frame in pixels:
            writer.send(frame)
        writer.close()
        return file.read_bytes()


def _even(frames: Tensor) -> np.ndarray:
    """Repeat the last row or column where a side is odd: (T, 3, H, W) to contiguous (T, H', W', 3)."""
    height, width = frames.shape[-2:]
    pixels = frames.permute(0, 2, 3, 1).numpy()
    return np.ascontiguousarray(
        np.pad(pixels, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    )


_ENCODERS = {".gif": _gif, ".mp4": _mp4}
