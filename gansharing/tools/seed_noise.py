"""What a few seeds allow to say: means, spreads, intervals, and whether two methods differ at all."""

import statistics
from collections.abc import Sequence


def cell(values: Sequence[float]) -> str:
    """Mean and, from two values on, sample standard deviation."""
    spread = f" ± {statistics.stdev(values):.3g}" if len(values) > 1 else " (one seed)"
    return f"{statistics.mean(values):.4g}{spread}"


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean by Student's t; None for fewer than two seeds."""
    from scipy.stats import t

    if len(values) < 2:
        return None
    mean = statistics.mean(values)
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return mean - half, mean + half


def significance(first: Sequence[float], second: Sequence[float]) -> float:
    """The p of Welch's t-test that two sets of seeds have one mean; 1 without a spread to judge by."""
    from scipy.stats import ttest_ind

    if min(len(first), len(second)) < 2 or statistics.pstdev([*first]) + statistics.pstdev([*second]) == 0:
        return 1.0
    return float(ttest_ind(first, second, equal_var=False).pvalue)
