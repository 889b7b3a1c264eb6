"""Which samples a process generates."""

from hypothesis import given
from hypothesis import strategies as st

from gansharing.setups.sampling import SampleIndices


@given(st.integers(0, 200), st.integers(1, 17), st.integers(1, 7))
def test_every_sample_once_whatever_the_world_size(count: int, batch_size: int, world: int) -> None:
    shares = [SampleIndices(count, batch_size, rank, world) for rank in range(world)]
    dealt = [number for share in shares for batch in share for number in batch.tolist()]
    assert dealt == list(range(count))
    assert all(len(list(share)) == len(share) for share in shares)
    assert all(1 <= len(batch) <= batch_size for share in shares for batch in share)
    sizes = [sum(len(batch) for batch in share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
