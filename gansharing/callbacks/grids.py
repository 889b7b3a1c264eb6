"""Pictures of what the generator makes, from the same latents every time."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from gansharing.callbacks.loggers import log_image
from gansharing.errors import UserError
from gansharing.visual import grid, save_png

_ROWS = ("domains", "widths", "references")
_TITLES = {kind: kind for kind in ("real", "transfer", *_ROWS)}


class Grids(Callback):
    """Write ``images/real.png`` once and ``images/step_0001000.png`` at every validation.

    Tile ``i`` shows latent seed ``i``, so pictures of different steps compare tile by tile. A setup with a
    counterpart, such as a transfer's source, also gets ``images/step_0001000_transfer.png``: pairs of rows,
    the counterpart's images above those of the same latents. A setup with several domains, or a slimmable
    generator, gets ``images/step_0001000_domains.png`` or ``_widths.png``: a row for each (the full width
    last), a column for each latent; a translation ``_references.png``, with sources and references above.

    Args:
        columns: Tiles per row.
        rows: Rows.
    """

    def __init__(self, columns: int = 8, rows: int = 8) -> None:
        if columns < 1 or rows < 1:
            raise UserError(f"grids.columns and grids.rows must be at least 1, not {columns} and {rows}")
        self.columns, self.rows = columns, rows
        self._tiles: list[Tensor] = []
        self._counterpart: Tensor | None = None
        self._rows: dict[str, list[Tensor]] = {}

    @staticmethod
    def folder(trainer: Trainer) -> Path:
        """Where the pictures of a run lie."""
        return Path(trainer.default_root_dir) / "images"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show what the discriminator is shown: the first images of the training set."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not trainer.is_global_zero:
            return
        if hasattr(data, "references"):
            # Of images in shards this process may have none: those that scores are taken against stand in.
            sets = [getattr(member, "train_set", member.reference) for member in data.members.values()]
            rows = [_spread(images, self.columns) for images in sets]
            self._save(trainer, torch.cat([_filled(row, self.columns) for row in rows]), "real")
        elif (images := getattr(data, "train_set", None)) is not None:
            self._save(trainer, _spread(images, self.columns * self.rows), "real")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Begin a new picture; make the counterpart's images once."""
        self._tiles, self._rows = [], {}
        if self._counterpart is None and trainer.is_global_zero:
            found = pl_module.counterpart(list(range(self.columns * self.rows)))
            self._counterpart = None if found is None else found.cpu()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        _: int = 0,
    ) -> None:
        """Keep tiles until the picture is full."""
        missing = self.columns * self.rows - sum(len(part) for part in self._tiles)
        if missing > 0:
            self._tiles.append(outputs["images"][:missing].cpu())
        if batch_idx == 0:
            for kind in _ROWS:
                rows = [images[: self.columns].cpu() for images in outputs.get(kind, {}).values()]
                if rows:
                    last = [outputs["images"][: self.columns].cpu()] if kind == "widths" else []
                    self._rows[kind] = [*rows, *last]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the picture and show it in the loggers."""
        if trainer.is_global_zero and self._tiles:
            tiles, name = torch.cat(self._tiles), f"step_{trainer.global_step:07d}"
            self._save(trainer, tiles, name)
            if self._counterpart is not None:
                pairs = in_pairs_of_rows(self._counterpart[: len(tiles)], tiles, self.columns)
                self._save(trainer, pairs, f"{name}_transfer")
            for kind, rows in self._rows.items():
                filled = [_filled(row, self.columns) for row in rows]
                self._save(trainer, torch.cat(filled), f"{name}_{kind}")

    def _save(self, trainer: Trainer, images: Tensor, name: str) -> None:
        path = self.folder(trainer) / f"{name}.png"
        save_png(grid(images, self.columns), path)
        log_image(trainer, _TITLES.get(name.rpartition("_")[2], "samples"), path)


def in_pairs_of_rows(above: Tensor, below: Tensor, columns: int) -> Tensor:
    """Tiles of a grid in which each row of ``above`` stands over the same row of ``below``.

    Args:
        above: ``(N, C, H, W)``.
        below: The same shape.
        columns: Tiles per row; white tiles fill the last row of each.

    Returns:
        ``(2 N', C, H, W)``, ``N'`` being ``N`` rounded up to whole rows.
    """
    columns = min(columns, len(above))
    missing = -len(above) % columns
    rows = [_filled(tiles, len(tiles) + missing).split(columns) for tiles in (above, below)]
    return torch.cat([row for pair in zip(*rows, strict=True) for row in pair])


def _filled(tiles: Tensor, count: int) -> Tensor:
    """``tiles`` and white ones, ``count`` in all."""
    return torch.cat([tiles, tiles.new_full((count - len(tiles), *tiles.shape[1:]), 255)])


def _spread(images: Any, count: int) -> Tensor:
    """Up to ``count`` images at equal distances: uint8 ``(N, 3, H, W)``."""
    chosen = torch.linspace(0, len(images) - 1, min(count, len(images))).round().long().tolist()
    found: Tensor = images.batch(chosen)["image"]
    return found
