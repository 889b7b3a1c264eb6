"""The width at which slimmable networks compute: a context, not a global state."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from gansharing.errors import UserError

_WIDTH: ContextVar[float] = ContextVar("width", default=1.0)


@contextmanager
def at_width(width: float) -> Iterator[None]:
    """Compute slimmable networks at ``width`` inside of the block; outside of any they have their full width.

    Blocks nest. What was before comes back on every way out, errors too, and threads and processes do not see
    each other's width. Back-propagation may happen outside: a graph keeps the width it was made at.

    Args:
        width: Share of the channels, in (0, 1].

    Raises:
        UserError: It is not.
    """
    if not 0 < width <= 1:
        raise UserError(f"width {width} is not a share of the channels; give one in (0, 1]")
    token = _WIDTH.set(width)
    try:
        yield
    finally:
        _WIDTH.reset(token)


def current_width() -> float:
    """The width of the innermost :func:`at_width`, 1 without any."""
    return _WIDTH.get()


def check_widths(widths: Sequence[float]) -> list[float]:
    """The widths, if a network can have them.

    Raises:
        UserError: They do not ascend from above 0 to exactly 1.
    """
    ascending = all(a < b for a, b in zip([0.0, *widths], widths, strict=False))
    if not widths or not ascending or widths[-1] != 1:
        raise UserError(f"widths {list(widths)} must ascend from above 0 to 1, such as [0.25, 0.5, 0.75, 1]")
    return [float(width) for width in widths]


def current_index(widths: Sequence[float], between: bool = False) -> int:
    """Which of ``widths`` the current one is; in between two of them, if it may be, the wider one.

    Raises:
        UserError: None of them.
    """
    width = current_width()
    for index, known in enumerate(widths):
        if math.isclose(width, known, rel_tol=1e-6) or (between and index and width < known):
            return index
        if between and not index and width < known:
            break
    names = ", ".join(f"{known:g}" for known in widths)
    raise UserError(f"the network has no width {width}; it has {names}{' and those between' * between}")


def is_between(widths: Sequence[float]) -> bool:
    """Whether the current width is none of ``widths``."""
    return not any(math.isclose(current_width(), known, rel_tol=1e-6) for known in widths)


def first_channels(channels: int, width: float) -> int:
    """``floor(channels * width)``, and not one less where rounding spoils a whole product (100 * 0.29)."""
    return math.floor(channels * width + 1e-9)
