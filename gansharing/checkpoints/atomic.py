"""Checkpoint files: written whole or not at all, read without running anything."""

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from gansharing.errors import UserError
from gansharing.files import write_atomically


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written atomically and durably, read without executing anything."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Save ``checkpoint`` to the local ``path``.

        Raises:
            UserError: The disk is full or the folder cannot be written; what was there stays.
        """
        try:
            write_atomically(path, lambda file: torch.save(checkpoint, file))
        except RuntimeError as error:  # how torch reports a failed write
            raise UserError(
                f"cannot write {path}: {str(error).splitlines()[0]}; is the disk full?"
            ) from error

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Load a checkpoint; pickled code is refused whatever ``weights_only`` says.

        Where a run has several processes, the tensors lie in the mapped file, so that a process reads only
        those that it uses. What is kept beyond loading must be copied: ``ExplicitDDP`` does it.

        Raises:
            UserError: The file is missing, torn, of another program, or holds more than tensors and plain
                values.
        """
        content = _read(path, mapped=dist.is_available() and dist.is_initialized())
        if "networks" not in content:
            raise UserError(f"{path} was not written by gansharing; read it with 'gansharing import'")
        return content


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint's tensors and plain values, on the CPU.

    Raises:
        UserError: The file is missing, torn, no checkpoint, or holds objects that only running code from
            the file could restore.
    """
    return _read(path, mapped=False)


def _read(path: str | Path, mapped: bool) -> dict[str, Any]:
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}; check the path (runs keep theirs in RUN/checkpoints/)")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="Detected pickle protocol"
            )  # not torch's: refused below
            mapped = mapped and zipfile.is_zipfile(path)  # torch's old format cannot be mapped
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        reason = "it is damaged, or no checkpoint"  # torch's own words are 'Invalid argument' or a number
        if "Unsupported" in str(error) or "Weights only load failed" in str(error):
            reason = "it holds pickled objects, which are never executed; see 'gansharing import --help'"
        raise UserError(f"cannot read the checkpoint {path}: {reason}") from error
    if not isinstance(content, dict):
        raise UserError(
            f"cannot read the checkpoint {path}: it holds a {type(content).__name__}, not a checkpoint"
        )
    return content
