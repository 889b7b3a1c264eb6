"""Lists of seeds as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gansharing.errors import UserError
from gansharing.seeds import parse_seeds


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 20)), min_size=1, max_size=5))
def test_ranges_and_numbers(parts: list[tuple[int, int]]) -> None:
    text = ", ".join(f"{first}-{first + more}" if more else str(first) for first, more in parts)
    assert parse_seeds(text) == [n for first, more in parts for n in range(first, first + more + 1)]


@pytest.mark.parametrize("text", ["", "x", "3-", "-3", "1..4", "5-2", "0-2000000", "1;2"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError, match="seeds"):
        parse_seeds(text)
