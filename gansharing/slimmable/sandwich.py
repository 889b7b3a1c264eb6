"""Which widths a step trains when not all of them are listed."""

from collections.abc import Sequence

import numpy as np

from gansharing.errors import UserError


def sandwich(widths: Sequence[float], count: int, seed: int, step: int) -> list[float]:
    """The narrowest and the widest width and ``count`` random ones in between (Yu and Huang 2019).

    Args:
        widths: Ascending; the first and the last count.
        count: Of hundredths between them, all different.
        seed: Decides the draw, with ``step``: a function of both, whatever was drawn before.
        step: From 0.

    Returns:
        ``count + 2`` widths, ascending.

    Raises:
        UserError: There are not so many hundredths.
    """
    low, high = widths[0], widths[-1]
    choices = [hundredth / 100 for hundredth in range(1, 100) if low < hundredth / 100 < high]
    if not 0 < count <= len(choices):
        raise UserError(
            f"{count} random widths between {low:g} and {high:g}; give 1 to {len(choices)}, hundredths all"
        )
    source = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, step])))
    drawn = source.choice(len(choices), count, replace=False)
    return [low, *sorted(choices[place] for place in drawn), high]
