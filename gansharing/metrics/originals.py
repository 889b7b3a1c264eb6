"""Images as their files hold them, for scores that should not see another resize."""

import hashlib

import numpy as np
import torch
from torch import Tensor

from gansharing.data.decode import BadImage, Recipe, decode, decode_rgb
from gansharing.data.sources import Item, Source
from gansharing.errors import UserError


class Originals:
    """A source's images at their own sizes (or brought to one), decoded when asked for.

    Nothing is cached: an extractor with clean resizing then sees what clean-fid sees. An image that
    cannot be decoded is an error, since a score of the others would pass for a score of all.

    Args:
        source: where the bytes come from.
        resolution: side to bring all to, as training does; None leaves them alone.

    Attributes:
        fingerprint: hash of the files' bytes in order, and the resolution.
    """

    def __init__(self, source: Source, resolution: int | None = None) -> None:
        self.source = source.take("train") if "train" in source.splits else source
        self.recipe = None if resolution is None else Recipe(resolution)
        digest = hashlib.sha256(repr(("originals", self.recipe)).encode())
        for item in self.source.items:
            digest.update(hashlib.sha256(self._bytes(item)).digest())
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        """Number of images."""
        return len(self.source.items)

    def batch(self, indices: list[int]) -> dict[str, list[Tensor]]:
        """``{"image": [uint8 (3, H, W), ...]}``.

        Raises:
            UserError: if one cannot be read.
        """
        return {"image": [self._image(self.source.items[index]) for index in indices]}

    def _bytes(self, item: Item) -> bytes:
        try:
            return self.source.read(item)
        except Exception as error:  # each kind of source has its own
            raise UserError(f"{self.source.location}: {item.name} cannot be read ({error})") from error

    def _image(self, item: Item) -> Tensor:
        data = self._bytes(item)
        try:
            pixels = np.asarray(decode_rgb(data)) if self.recipe is None else decode(data, self.recipe)
        except BadImage as error:
            message = f"{self.source.location}: {item.name} cannot be scored ({error}); mend or remove it"
            raise UserError(message) from error
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)
