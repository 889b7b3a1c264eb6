"""The one unpickler of the project: it builds data and calls nothing that a file names.

A pickle is a program: it may look up any importable name and call it. Here a name is never looked up. It is
either in a closed table, whose entries are functions of this package that check what they are given, or the
file is refused by that name.
"""

import _compat_pickle
import io
import math
import pickle
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gansharing.errors import UserError

Builder = Callable[..., Any]
#: What a file may name: (module, name) to the function that builds the data it stands for.
Table = Mapping[tuple[str, str], Builder]


class Refused(UserError):
    """A file names something that it may not name."""


class Inert:
    """Stands for an object that is of no interest; swallows whatever the pickle does to it."""

    __slots__ = ()

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignore an item."""

    def append(self, _: Any) -> None:
        """Ignore a list item."""

    def add(self, _: Any) -> None:
        """Ignore a set item."""


class Known:
    """A name of the table; called by the pickle, it calls its builder."""

    __slots__ = ("build", "name")

    def __init__(self, name: str, build: Builder) -> None:
        self.name, self.build = name, build


class DataUnpickler(pickle._Unpickler):
    """Reads a pickle as data.

    It derives from Python's own unpickler in Python: the one in C resolves names by itself in some
    instructions, and lets a few bytes allocate memory without limit.

    Args:
        file: The open file.
        table: Names that the file may use.
        source: The file's name for messages.
        ignored: Names for which this is true stand for objects that are not needed; the rest is refused.

    Raises:
        Refused: The file names something else; on :meth:`load`, which then has executed nothing of it.
    """

    def __init__(
        self,
        file: Any,
        table: Table,
        source: str,
        ignored: Callable[[str, str], bool] = lambda module, name: False,
        **options: Any,
    ) -> None:
        super().__init__(file, **options)
        self.stack: list[Any]
        self.append: Callable[[Any], None]
        self.table, self.source, self.ignored = table, source, ignored

    def find_class(self, module: str, name: str) -> Any:
        """The table's entry, or a refusal."""
        module, name = _todays(module, name)
        build = self.table.get((module, name))
        if build is None and not self.ignored(module, name):
            raise refusal(self.source, f"{module}.{name}")
        return Known(f"{module}.{name}", build or (lambda *_: Inert()))

    def get_extension(self, code: int) -> None:
        """Refuse: an extension code is a name that depends on what else is imported."""
        raise refusal(self.source, f"extension code {code}")

    def call(self, function: Any, arguments: Any) -> Any:
        """Build what the pickle asks a name to build."""
        if isinstance(function, Inert):
            return function
        if not isinstance(function, Known) or not isinstance(arguments, tuple):
            raise refusal(self.source, f"a call of a {type(function).__name__}")
        return function.build(*arguments)

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self.call(self.stack[-1], arguments)

    def _new(self) -> None:
        arguments, cls = self.stack.pop(), self.stack.pop()
        self.append(self.call(cls, arguments))

    def _new_with_keywords(self) -> None:
        self.stack.pop()  # no builder of a table takes any
        self._new()

    def _instantiate(self, klass: Any, args: Any) -> None:
        self.append(self.call(klass, tuple(args)))

    def _build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Stateful):
            target.set_state(state)
        elif not isinstance(target, (dict, Tensor, Inert)):  # theirs is of no interest
            raise refusal(self.source, f"a state for a {type(target).__name__}")

    dispatch: ClassVar[dict[int, Any]] = pickle._Unpickler.dispatch | {
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _new,
        pickle.NEWOBJ_EX[0]: _new_with_keywords,
        pickle.BUILD[0]: _build,
    }


class Stateful:
    """Data whose pickle hands over a state after making it."""

    def set_state(self, state: Any) -> None:
        """Take the state."""
        raise TypeError(f"{type(self).__name__} takes no state")


def printable(text: Any, longest: int = 120) -> str:
    """What a file says, for a message: in one line, without control characters, not too long."""
    shown = ascii(str(text))[1:-1]
    return shown if len(shown) <= longest else f"{shown[:longest]}..."


def refusal(source: str, name: str) -> Refused:
    """The one line for a file that names ``name``."""
    return Refused(
        f"{source} names '{printable(name)}', which such a checkpoint has no use for; "
        f"it was refused and nothing in it was executed"
    )


def as_pickle_module(table: Table, source: str, ignored: Callable[[str, str], bool]) -> types.ModuleType:
    """A stand-in for the ``pickle`` module, as ``torch.load`` takes one."""

    class Unpickler(DataUnpickler):
        def __init__(self, file: Any, **options: Any) -> None:
            super().__init__(file, table, source, ignored, **options)

    module = types.ModuleType("data_only")
    module.Unpickler = Unpickler  # type: ignore[attr-defined]
    module.load = lambda file, **options: Unpickler(file, **options).load()  # type: ignore[attr-defined]
    return module


def _todays(module: str, name: str) -> tuple[str, str]:
    # Python 2's names, and numpy's before 2.0.
    module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
    module = _compat_pickle.IMPORT_MAPPING.get(module, module)
    if module == "numpy.core" or module.startswith("numpy.core."):
        module = module.replace("numpy.core", "numpy._core", 1)
    return module, name


class DType(Stateful):
    """A numpy type of plain numbers."""

    def __init__(self, code: Any, *_: Any) -> None:
        dtype = np.dtype(code) if isinstance(code, str) and len(code) < 8 else None
        if dtype is None or dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"numpy type {code!r} is no type of plain numbers")
        self.dtype = dtype

    def set_state(self, state: Any) -> None:
        """Take the byte order, the second of numpy's values."""
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class Array(Stateful):
    """A numpy array of plain numbers.

    Attributes:
        values: The array.
    """

    def __init__(self, *_: Any) -> None:
        self.values: np.ndarray[Any, Any] = np.empty(0, np.float32)

    def set_state(self, state: Any) -> None:
        """Take ``(version, shape, type, whether in Fortran's order, bytes)``."""
        _, shape, dtype, fortran, content = state
        self.values = _array(content, dtype, shape, "F" if fortran else "C")

    @classmethod
    def of_buffer(cls, content: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> "Array":
        """As numpy writes arrays from protocol 5 on."""
        made = cls()
        made.values = _array(content, dtype, shape, "F" if order == "F" else "C")
        return made


def _array(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    if isinstance(content, str):  # protocols before 3 have no bytes
        content = content.encode("latin1")
    return np.frombuffer(bytes(content), dtype.dtype).reshape(tuple(shape), order=order)


def _number(dtype: Any, content: Any) -> Any:
    return _array(content, dtype, (1,), "C")[0].item()


def _latin1(text: Any, encoding: Any) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes written as {encoding!r}")
    return bytes(text, "latin1")


def _bytes(*content: Any) -> bytes:
    if content:
        raise pickle.UnpicklingError("bytes from an object")
    return b""


def _ordered(items: Sequence[Any] = ()) -> dict[Any, Any]:
    return {key: value for key, value in items}  # noqa: C416  (dict() would take any object with keys())


def tensor_of(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """A tensor over a storage that holds all of it."""
    size, stride = tuple(size), tuple(stride)
    if not isinstance(storage, torch.storage.TypedStorage) or len(size) != len(stride):
        raise pickle.UnpicklingError("a tensor without its storage")
    if min((*size, *stride, offset)) < 0:
        raise pickle.UnpicklingError("a tensor of negative size")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    held = storage._size()
    if math.prod(size) and (last >= held or math.prod(size) > held):
        raise pickle.UnpicklingError(f"a tensor of shape {size} over {held} stored numbers")
    tensor: Tensor = torch._utils._rebuild_tensor(storage, offset, size, stride)
    return tensor


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise pickle.UnpicklingError("a parameter without its tensor")
    return data


#: What torch needs to rebuild tensors.
TENSORS: Table = {
    ("collections", "OrderedDict"): _ordered,
    ("torch", "Size"): lambda sizes=(): tuple(sizes),
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_tensor_v2"): tensor_of,
}
#: What numpy needs to rebuild arrays of numbers.
ARRAYS: Table = {
    ("_codecs", "encode"): _latin1,
    ("builtins", "bytes"): _bytes,
    ("numpy", "dtype"): DType,
    ("numpy", "ndarray"): Array,
    ("numpy._core.multiarray", "_reconstruct"): Array,
    ("numpy._core.multiarray", "scalar"): _number,
    ("numpy._core.numeric", "_frombuffer"): Array.of_buffer,
}


def unpickle(content: bytes, table: Table, source: str) -> Any:
    """Read a pickle whose names are all in ``table``.

    Raises:
        UserError: It names something else (:class:`Refused`), or is damaged.
    """
    try:
        return DataUnpickler(io.BytesIO(content), table, source).load()
    except UserError:
        raise
    except Exception as error:  # whatever a torn or crafted stream makes of the stack
        reason = printable(error) or type(error).__name__
        raise UserError(f"cannot read {source}: it is damaged, or no pickle ({reason})") from error
