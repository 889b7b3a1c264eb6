"""Lists of seeds as people write them, and seeds made from numbers."""

import re

import numpy as np

from gansharing.errors import UserError


def parse_seeds(text: str, what: str = "seeds") -> list[int]:
    """Read seeds such as ``"0-3,8"`` as ``[0, 1, 2, 3, 8]``.

    Args:
        text: Non-negative integers and ranges (both ends included), separated by commas.
        what: What they number, for the error.

    Raises:
        UserError: The text is no such list, or names more than 1,000,000 seeds.
    """
    seeds: list[int] = []
    for part in str(text).split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if match is None:
            raise UserError(
                f"{what}: '{part}' is neither a number nor a range; write for example 0-15 or 3,5,8-10"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= 1_000_000:
            raise UserError(f"{what}: the range {part} runs backwards or is longer than 1,000,000")
        seeds.extend(range(first, last + 1))
    return seeds


def stream_seed(*numbers: int) -> int:
    """A seed for torch, in [0, 2^63), that is a function of non-negative numbers and no simple one."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
