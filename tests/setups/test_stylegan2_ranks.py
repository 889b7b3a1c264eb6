"""StyleGAN2 with ADA on two real processes (gloo): weights, path length's average and p are the same."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.distributed.test_ddp import finish, free_port, start


def test_two_processes_keep_one_state(tmp_path: Path) -> None:
    port = free_port()
    finish(*(start("tests.setups.ranks", rank, port, tmp_path) for rank in range(2)))
    first, second = (load_file(tmp_path / f"rank{rank}.safetensors") for rank in range(2))
    assert not torch.equal(first.pop("random"), second.pop("random"))  # each drew its own
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert first["generator_regularizers.0.pl_mean"] > 0
    # Four batches of eight images over both processes, of one hundred; then two more are being counted.
    assert first["augment.p"].item() == pytest.approx(0.32)
    assert first["augment.tally"][1:].tolist() == [8, 16]
