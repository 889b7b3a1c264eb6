"""Reading checkpoints of other projects without running what is in them."""

import argparse
import io
import re
import sys
import tarfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch
from torch import Tensor
from torch.serialization import safe_globals

from gansharing.checkpoints.unpickle import (
    TENSORS,
    DataUnpickler,
    Inert,
    Refused,
    as_pickle_module,
    printable,
    refusal,
)
from gansharing.errors import UserError
from gansharing.networks import Network

# The pickled number that opens the format before zip.
_OLD_MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")
# Of Python's own library, these alone may stand beside the tensors of a checkpoint that is read with gaps.
_HARMLESS = {
    "argparse.Namespace", "builtins.bytearray", "builtins.complex", "builtins.frozenset", "builtins.object",
    "builtins.set", "builtins.slice", "collections.Counter", "collections.defaultdict", "collections.deque",
    "datetime.datetime", "datetime.timedelta", "pathlib.Path", "pathlib.PosixPath", "pathlib.PurePosixPath",
}  # fmt: skip


@dataclass(frozen=True)
class Imported:
    """A network read from a foreign checkpoint.

    Attributes:
        network: The network.
        part: What the written file holds: ``generator``, ``discriminator`` or ``miner``.
        notes: What the user should know of the reading, a line each; kept in the file's header.
    """

    network: Network
    part: str
    notes: list[str] = field(default_factory=list)


def read_bytes(path: str | Path) -> bytes:
    """The content of a file.

    Raises:
        UserError: There is none, or it cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no file {path}; give the checkpoint to import")
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def read_torch(content: bytes, source: str) -> Any:
    """Read a file of ``torch.save``, or a blob of one, as containers of tensors and plain values.

    ``argparse.Namespace``, in which training scripts keep their options, is read too.

    Args:
        content: The file's bytes.
        source: Its name for messages.

    Raises:
        UserError: The file names anything else (:class:`Refused`, with the name), or is damaged.
    """
    try:
        with warnings.catch_warnings(), safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # on protocols and storages, meant for who wrote the file
            read = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        if match := re.search(r"(?:GLOBAL|class|function) ([\w.]+\.\w+)", str(error)):
            raise refusal(source, match[1]) from error
        _refuse_first_name(content, source)
        reason = printable(str(error).split(". ")[0].split("\n")[0])
        raise UserError(f"cannot read {source}: it is damaged, or no torch file ({reason})") from error
    _refuse_instantiators(read, source)
    return read


def read_tensors(path: str | Path) -> Any:
    """Read a torch file that holds a project's own objects beside its tensors.

    Objects of the project, of torch and of Lightning become empty placeholders: their classes are neither
    imported nor called.

    Raises:
        UserError: The file is missing or no torch file, or names something of Python's own library that no
            network is made of (:class:`Refused`).
    """
    path = Path(path)
    content = read_bytes(path)
    if _is_torchscript(content) or _tar(content) is not None:
        _refuse_first_name(content, str(path))
        raise UserError(f"cannot read {path}: a TorchScript or .tar file; save its state dict by torch.save")
    module = as_pickle_module(TENSORS, str(path), _ignored)
    try:
        read = torch.load(
            io.BytesIO(content), map_location="cpu", pickle_module=module, weights_only=False
        )  # our unpickler, which calls nothing that the file names
    except UserError:
        raise
    except Exception as error:
        reason = printable(error, 200) or type(error).__name__
        raise UserError(f"cannot read {path} as a torch checkpoint: {reason}") from error
    _refuse_instantiators(read, str(path))
    return read


def _ignored(module: str, name: str) -> bool:
    standard = module.partition(".")[0] in sys.stdlib_module_names
    return not standard or f"{module}.{name}" in _HARMLESS


def is_torch(content: bytes) -> bool:
    """Whether these are the bytes of a file of ``torch.save``, of whatever age."""
    return content[:4] == b"PK\x03\x04" or content[257:262] == b"ustar" or _OLD_MAGIC in content[:17]


def _is_torchscript(content: bytes) -> bool:
    return "constants.pkl" in _records(content)


def _records(content: bytes) -> dict[str, bytes]:
    """The pickles in a zip, read as torch reads it: another reader might see another archive in the bytes."""
    try:
        archive = torch._C.PyTorchFileReader(io.BytesIO(content))
        names = [name for name in archive.get_all_records() if name.endswith(".pkl")]
        return {name: archive.get_record(name) for name in names}
    except Exception:  # no zip, or a torn one, which its reader meets with errors of all kinds
        return {}


def _tar(content: bytes) -> tarfile.TarFile | None:
    try:
        return tarfile.open(fileobj=io.BytesIO(content), mode="r:")
    except tarfile.TarError:
        return None


def _refuse_first_name(content: bytes, source: str) -> None:
    """Name what torch only calls unsupported: read every pickle in the file, building nothing."""
    expected = {*TENSORS, ("argparse", "Namespace")}

    def harmless(module: str, name: str) -> bool:
        return (module, name) in expected or module in ("torch", "torch.storage")

    for file in _pickles(content):
        reader = DataUnpickler(file, {}, source, harmless)
        reader.persistent_load = lambda _: Inert()  # type: ignore[method-assign, assignment]
        try:
            for _ in range(8):  # the old format is a row of pickles
                reader.load()
        except Refused:
            raise
        except Exception:  # noqa: S112  (torn: the caller says so)
            continue


def _pickles(content: bytes) -> Iterator[BinaryIO]:
    if (tar := _tar(content)) is not None:
        for member in tar:
            if member.isfile() and (file := tar.extractfile(member)) is not None:
                yield io.BytesIO(file.read())
    elif records := _records(content):
        yield from map(io.BytesIO, records.values())
    else:
        yield io.BytesIO(content)


def _refuse_instantiators(content: Any, source: str) -> None:
    # Lightning calls what a checkpoint names there.
    for values in (content, *(content.values() if isinstance(content, Mapping) else ())):
        if isinstance(values, Mapping) and "_instantiator" in values:
            raise refusal(source, f"{values['_instantiator']} (as _instantiator)")


def flat_state(content: Any) -> dict[str, Tensor]:
    """The checkpoint's state dict, with or without Lightning's ``state_dict`` level."""
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        return {}
    return {str(k): v for k, v in content.items() if isinstance(v, Tensor)}


def state_of(content: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, without the prefix that ``DataParallel`` gives every name."""
    state = flat_state(content)
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def choose_part(part: str | None, held: Mapping[str, str], source: str) -> tuple[str, list[str]]:
    """Which of a checkpoint's networks to read.

    Args:
        part: What was asked for: ``ema``, ``generator`` (the live one), ``discriminator`` or None for the
            best there is.
        held: What the file holds: part to its name there.
        source: The file's name for messages.

    Returns:
        The part to read, and what to tell the user about it.

    Raises:
        UserError: The file does not hold it.
    """
    if part is None:
        part = next((known for known in ("ema", "generator", "discriminator") if known in held), "ema")
    notes = []
    if part == "generator" and part not in held and "ema" in held:
        notes.append("the file holds no live generator: the averaged one was read")
        part = "ema"
    if part not in held:
        there = ", ".join(f"{known} ({name})" for known, name in held.items()) or "no network of this format"
        raise UserError(f"{source} holds no {part}; it holds {there}; choose with --part")
    return part, notes


class Reader(Protocol):
    """Reads a network from a file of another project's."""

    def __call__(self, path: Path, part: str | None) -> Imported:
        """Read one network.

        Args:
            path: The file.
            part: ``ema``, ``generator`` (the live one), ``discriminator``, or None: the averaged generator
                if there is one.

        Raises:
            UserError: It holds code, is damaged or lacks the part; tensors that do not fit are named.
        """


def refuse_misfits(wanted: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor], what: str) -> None:
    """See that a file holds the tensors that a network takes, no others, and of the right shapes.

    Args:
        wanted: Shape of each tensor by its name in the file.
        state: The file's tensors.
        what: How the message begins.

    Raises:
        UserError: Tensors are missing, left over or of another shape; up to three of each are named.
    """
    problems = {
        "missing:": wanted.keys() - state.keys(),
        "left over:": state.keys() - wanted.keys(),
        "misshapen:": {n for n in wanted.keys() & state.keys() if tuple(state[n].shape) != wanted[n]},
    }
    if any(problems.values()):
        said = [f"{kind} {', '.join(sorted(found)[:3])}" for kind, found in problems.items() if found]
        raise UserError(f"{what}; {'; '.join(said)}")


def fixed_noise(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Constant noise (entries ``*.const``) of seed 0 for a network whose original always draws its noise."""
    noise = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(t.shape, generator=noise) for name, t in state.items() if name.endswith(".const")
    }
