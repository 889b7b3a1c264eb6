"""The order of samples: a function of (seed, position), shared out over ranks, free of side effects."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gansharing.data import CachedImages, ResumableLoader
from gansharing.data.loader import rank_share, sample_order
from gansharing.errors import UserError


def images(count: int, side: int = 8) -> CachedImages:
    """Images whose every pixel is their own number."""
    pixels = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, side, side, 3))
    return CachedImages(np.ascontiguousarray(pixels), np.arange(count), [str(i) for i in range(count)], "f")


def seen(loader: ResumableLoader) -> list[list[int]]:
    return [batch["label"].tolist() for batch in loader]


@given(st.integers(0, 2**40), st.integers(0, 5), st.integers(1, 60))
def test_each_epoch_is_a_permutation_and_position_alone_decides(seed: int, epoch: int, count: int) -> None:
    drawn = sample_order(seed, epoch, count)
    assert sorted(drawn) == list(range(count))
    loader = ResumableLoader(images(count), 1, seed=seed)
    positions = range(epoch * count, (epoch + 1) * count)
    assert [loader.indices(p)[0] for p in reversed(positions)] == drawn[::-1].tolist()


def test_the_order_is_the_one_of_every_release() -> None:
    # Frozen: a checkpoint of today must resume in any later version.
    assert sample_order(0, 0, 8).tolist() == [6, 3, 5, 0, 7, 2, 1, 4]
    assert sample_order(0, 1, 8).tolist() != [6, 3, 5, 0, 7, 2, 1, 4]
    assert sample_order(1, 0, 8).tolist() != [6, 3, 5, 0, 7, 2, 1, 4]


@given(st.integers(1, 40), st.integers(1, 9))
def test_ranks_share_a_batch_without_gap_or_overlap(size: int, world: int) -> None:
    shares = [rank_share(size, rank, world).tolist() for rank in range(world)]
    assert all(shares)
    if size >= world:
        assert sum(shares, []) == list(range(size))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    else:
        assert set(sum(shares, [])) == set(range(size)) and all(len(share) == 1 for share in shares)


@given(
    count=st.integers(12, 50),
    per_rank=st.integers(1, 3),
    world=st.sampled_from([1, 2, 4]),
    drop_last=st.booleans(),
    start=st.integers(0, 9),
)
def test_a_global_batch_is_the_same_whatever_the_world_size(
    count: int, per_rank: int, world: int, drop_last: bool, start: int
) -> None:
    size = per_rank * 4
    data = images(count)
    alone = ResumableLoader(data, size, drop_last=drop_last)
    ranks = [ResumableLoader(data, size, rank=r, world=world, drop_last=drop_last) for r in range(world)]
    assert {len(loader) for loader in ranks} == {len(alone)}
    for position in range(start, start + len(alone)):
        whole = alone.indices(position).tolist()
        parts = sum((loader.indices(position).tolist() for loader in ranks), [])
        assert parts == whole or (len(whole) < world and set(parts) == set(whole))


@pytest.mark.parametrize("drop_last", [True, False])
def test_an_epoch_shows_each_image_once(drop_last: bool) -> None:
    drawn = sum(seen(ResumableLoader(images(21), 4, drop_last=drop_last)), [])
    assert len(set(drawn)) == len(drawn) == (20 if drop_last else 21)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_restored_loader_goes_on_where_the_state_was_taken(workers: int) -> None:
    data = images(20)
    whole = seen(loader := ResumableLoader(data, 4, num_workers=workers)) + seen(loader)
    for stop in range(len(whole)):
        first = ResumableLoader(data, 4, num_workers=workers)
        drawn: list[list[int]] = []
        while len(drawn) < stop:
            for batch in first:
                drawn.append(batch["label"].tolist())
                if len(drawn) == stop:
                    break
        second = ResumableLoader(data, 4)
        second.load_state_dict(first.state_dict())
        assert (drawn + seen(second))[: len(whole)] == whole[: len(drawn) + len(second)]


def test_set_epoch_goes_to_an_epochs_start() -> None:
    data = images(20)
    loader = ResumableLoader(data, 4)
    epochs = [seen(loader) for _ in range(3)]
    loader.set_epoch(1)
    assert seen(loader) == epochs[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_iterating_draws_no_global_random_numbers(workers: int) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    batches = list(ResumableLoader(images(12), 4, num_workers=workers))
    assert len(batches) == 3
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_is_what_the_map_holds(workers: int) -> None:
    data = images(12)
    for batch in ResumableLoader(data, 4, num_workers=workers):
        assert batch["image"].shape == (4, 3, 8, 8) and batch["image"].dtype == torch.uint8
        assert batch["image"].is_contiguous(memory_format=torch.channels_last)
        assert batch["image"].amax((1, 2, 3)).tolist() == batch["label"].tolist()
        assert batch["image"].amin((1, 2, 3)).tolist() == batch["label"].tolist()


@pytest.mark.parametrize(
    ("count", "options", "remedy"),
    [
        (3, {"batch_size": 4}, "drop_last"),
        (0, {"batch_size": 4}, "no images"),
        (9, {"batch_size": 0}, "at least 1"),
        (9, {"batch_size": 4, "world": 3}, "multiple of 3"),
    ],
)
def test_a_batch_size_that_cannot_be_is_refused(count: int, options: dict[str, int], remedy: str) -> None:
    with pytest.raises(UserError, match=remedy):
        ResumableLoader(images(count), **options)  # type: ignore[arg-type]


def test_fewer_images_than_a_batch_are_fine_without_drop_last() -> None:
    assert sorted(seen(ResumableLoader(images(3), 4, drop_last=False))[0]) == [0, 1, 2]


@pytest.mark.parametrize("change", [{"batch_size": 5}, {"seed": 1}, {"drop_last": False}])
def test_a_position_of_other_data_options_is_refused(change: dict[str, int]) -> None:
    state = ResumableLoader(images(20), 4).state_dict()
    with pytest.raises(UserError, match=next(iter(change))):
        ResumableLoader(images(20), **({"batch_size": 4} | change)).load_state_dict(state)  # type: ignore[arg-type]


WORKER = """
import os, signal, time
from gansharing.data.loader import leave_signals_to_the_trainer
signal.signal(signal.SIGTERM, lambda *_: print("the trainer's handler ran", flush=True))
child = os.fork()
if child == 0:
    leave_signals_to_the_trainer()
    print("ready", flush=True)
    time.sleep(60)
    os._exit(7)
print(child, flush=True)
input()
os.kill(child, signal.SIGTERM)
print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_worker_survives_the_groups_signals_and_obeys_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", WORKER], stdin=-1, stdout=-1, text=True)
    assert parent.stdout is not None and parent.stdin is not None
    lines = [parent.stdout.readline().strip() for _ in range(2)]
    child = int(next(line for line in lines if line.isdigit()))
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM):
        os.kill(child, number)
    time.sleep(0.3)
    os.kill(child, 0)  # raises if it is gone
    rest, _ = parent.communicate("\n", timeout=30)
    assert rest.split("\n")[0] == "ended 0"
