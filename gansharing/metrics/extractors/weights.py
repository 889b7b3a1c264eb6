"""Reading weight files without ever running code from them."""

import hashlib
import pickle
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from gansharing.errors import UserError

# What torch and safetensors raise on files that are truncated, foreign or hold more than tensors.
_UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    ValueError,
    TypeError,
    EOFError,
    OSError,
    LookupError,
    AttributeError,
    zipfile.BadZipFile,
)


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from safetensors or a ``torch.save`` file (tensors only, nothing unpickled).

    Raises:
        UserError: if the file is missing, unreadable, or holds anything but named tensors.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"weights: there is no file {path}")
    try:
        state = _read(path)
    except _UNREADABLE as error:
        raise UserError(
            f"weights: {path} cannot be read as a state dict of tensors ({type(error).__name__}); "
            "give a .safetensors file or one written by torch.save(module.state_dict())"
        ) from error
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"weights: {path} does not hold a state dict (names and tensors)")
    return state


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(str(error)) from error
    with warnings.catch_warnings():
        # Of pickles that torch did not write: they are refused below, in the user's words.
        warnings.simplefilter("ignore")
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def fill(network: nn.Module, state: dict[str, Tensor], what: str, path: str | Path) -> None:
    """Load ``state`` strictly into ``network``.

    Raises:
        UserError: if the state belongs to another network, naming the first difference.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise mismatch(path, what, error) from error


def mismatch(path: str | Path, what: str, error: RuntimeError) -> UserError:
    """The user's one line for torch's many about a state dict that does not fit."""
    lines = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
    first = lines[0] if len(lines[0]) <= 120 else f"{lines[0][:117]}..."
    return UserError(f"weights: {path} does not fit {what}: {first}")


def verify(path: Path, sha256_prefix: str) -> None:
    """Check a file against the beginning of its known sha256.

    Raises:
        UserError: if it is another file, or a damaged one.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(sha256_prefix):
        raise UserError(
            f"weights: {path} is damaged (sha256 {digest[:8]}, not {sha256_prefix}): delete it and try again"
        )


def hub_file(url: str, needed_by: str, whose: str, instead: str) -> Path:
    """A published file in torch hub's folder, downloaded if it is not there yet.

    Args:
        url: where it is published; its name ends in the first digits of its sha256, as torch hub's do.
        needed_by: who asks, for the error.
        whose: who published it, for the error.
        instead: what does without it, for the error.

    Raises:
        UserError: it can be neither found nor downloaded, or the file there is damaged.
    """
    name = url.rpartition("/")[2]
    prefix = name.rpartition("-")[2].removesuffix(".pth")
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        verify(path, prefix)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{needed_by}: its weights are not at {path} and cannot be downloaded ({error}); put "
            f"{whose} file there, or name it with weights, or use {instead}"
        ) from error
    return path
