"""What others build on, against ``api.txt``: a name or an argument that goes is seen before they see it.

A change that is meant is taken over with ``python -m tests.test_api``, from the root of the repository; what
it removes or renames goes into CHANGELOG.md.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gansharing
from gansharing.cli import _VERBS
from gansharing.tools import TOOLS

RECORD = Path(__file__).with_name("api.txt")


def packages() -> Iterator[ModuleType]:
    """gansharing, and its packages and modules that say what is public."""
    yield gansharing
    for module in pkgutil.walk_packages(gansharing.__path__, "gansharing."):
        if module.ispkg:
            package = importlib.import_module(module.name)
            if getattr(package, "__all__", None):
                yield package


def shown(value: Any) -> str:
    """A default as it would be written; of an object, its kind."""
    if value is None or isinstance(value, str | int | float | bool | tuple | list | dict):
        return repr(value)
    return "<function>" if inspect.isfunction(value) else f"<{type(value).__name__}>"


def arguments(function: Any) -> str:
    """Names, kinds and defaults, without types, whose spelling is Python's."""
    words, marked = [], False
    if inspect.isclass(function) and issubclass(function, BaseException):
        return "(*args)"
    for parameter in inspect.signature(function).parameters.values():
        prefix = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        marked |= prefix == "*"
        if parameter.kind is parameter.KEYWORD_ONLY and not marked:
            words.append("*")
            marked = True
        default = "" if parameter.default is parameter.empty else f"={shown(parameter.default)}"
        words.append(f"{prefix}{parameter.name}{default}")
    return f"({', '.join(words)})"


def described(name: str, thing: Any) -> Iterator[str]:
    """A line for a function or a value; for a class one more for each public part of its own."""
    if inspect.isclass(thing):
        yield f"{name}{arguments(thing)}"
        for part, value in sorted(vars(thing).items()):
            if not part.startswith("_"):
                plain = getattr(value, "__func__", value)
                yield f"  .{part}" + (arguments(plain) if inspect.isfunction(plain) else "")
    else:
        yield name + (arguments(thing) if callable(thing) else "")


def api() -> str:
    """The whole public interface, one line a thing."""
    lines = [f"command {word}" for word in sorted([*_VERBS, *TOOLS])]
    for package in packages():
        for name in sorted(package.__all__):
            lines += described(f"{package.__name__}.{name}", getattr(package, name))
    return "\n".join(lines) + "\n"


def test_the_public_interface_is_the_recorded_one() -> None:
    recorded, now = RECORD.read_text().splitlines(), api().splitlines()
    gone, new = [x for x in recorded if x not in now], [x for x in now if x not in recorded]
    assert recorded == now, (
        f"gone: {gone}, new: {new}; if that is meant: python -m tests.test_api (CHANGELOG.md: what is gone)"
    )


def test_every_public_thing_is_documented() -> None:
    bare = []
    for package in packages():
        for name in package.__all__:
            thing = getattr(package, name)
            own = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
            if (inspect.isclass(thing) or inspect.isfunction(thing)) and not own:
                bare.append(f"{package.__name__}.{name}")
    assert bare == []


if __name__ == "__main__":
    RECORD.write_text(api())
