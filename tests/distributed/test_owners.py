"""``Owners`` on two real processes: compressed gradients, and a process that falls silent."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.distributed.owner_ranks import DOMAIN, SHARED, SILENT, parameters
from tests.distributed.test_ddp import finish, free_port, start


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both processes wrote."""
    folder = tmp_path_factory.mktemp("owners")
    ports = ",".join(str(free_port()) for _ in range(2))
    finish(*(start("tests.distributed.owner_ranks", rank, ports, folder) for rank in range(2)))
    return folder


def gradients(rank: int) -> dict[str, Tensor]:
    """A rank's own gradients, before any reduction."""
    shared, domain = parameters(rank, SHARED), parameters(rank, DOMAIN)
    named = {f"shared{n}": p for n, p in enumerate(shared)} | {"domain0": domain[0]}
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in named.items()}


def test_bf16_halves_the_bytes_and_keeps_the_mean_to_its_rounding(left: Path) -> None:
    plain, first, second = (load_file(left / f"{name}.safetensors") for name in ("none0", "bf160", "bf161"))
    own, other = gradients(0), gradients(1)
    assert plain["sent_shared"] == 4 * 1007 and plain["sent_domain"] == 4 * 330
    assert first["sent_shared"] == 2 * 1007 and first["sent_domain"] == 2 * 330
    for name in own:
        mean = (own[name] + other[name]) / 2
        torch.testing.assert_close(plain[name], mean)
        assert first[name].dtype == torch.float32 and torch.equal(first[name], second[name])
        # Eight binary digits: each addend and their sum are rounded by 2^-8 of themselves at most.
        bound = (own[name].abs() + other[name].abs()) * 1.01 * 2**-8
        assert (first[name] - mean).abs().le(bound).all()
        assert not torch.equal(first[name], mean)


def test_the_process_groups_timeout_holds_for_a_domains_processes_too(left: Path) -> None:
    assert "silent for longer than" in (left / "said.txt").read_text()
    assert SILENT - 1 < float((left / "seconds.txt").read_text()) < 10 * SILENT
