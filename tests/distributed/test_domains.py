"""Domains dealt to one, two and four processes: the same numbers, the same file, whichever resumes it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gansharing import load
from gansharing.checkpoints import read_checkpoint
from gansharing.errors import UserError
from gansharing.sharing import split_of
from gansharing.sharing.layout import DomainLayout
from tests.cli.program import write_images
from tests.distributed.domain_ranks import DOMAINS, last, setup
from tests.distributed.test_ddp import finish, free_port, start

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("domains")
    for number, name in enumerate(DOMAINS):
        write_images(folder / name, count=8 + 4 * number)
    ports = ",".join(str(free_port()) for _ in range(2))
    ranks = [start("tests.distributed.domain_ranks", rank, ports, folder) for rank in range(4)]
    finish(*ranks, seconds=250)  # eight trainings in four processes
    return folder


def tensors(value: Any, at: str = "") -> dict[str, Tensor]:
    if isinstance(value, Tensor):
        return {at: value}
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in tensors(inner, f"{at}/{key}").items()}
    if isinstance(value, list):
        return tensors(dict(enumerate(value)), at)
    return {}


def content(path: Path) -> dict[str, Tensor]:
    """Everything a layout of processes must not change."""
    checkpoint = read_checkpoint(path)
    assert checkpoint["global_step"] == 3
    kept = ("state_dict", "live_generator", "optimizer_states")
    return tensors({key: checkpoint[key] for key in kept})


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("one", "two"),
        ("one", "four"),
        ("three_domains_on_one", "three_domains_on_two"),
        ("one", "four_then_two"),
        ("one", "four_then_one"),
    ],
)
def test_processes_never_change_the_numbers(runs: Path, name: str, other: str) -> None:
    one, many = content(last(runs, name)), content(last(runs, other))
    assert one.keys() == many.keys() and len(one) > 200
    torch.testing.assert_close(many, one, rtol=1e-9, atol=1e-10)


def test_a_checkpoint_holds_shared_weights_once(runs: Path) -> None:
    state = read_checkpoint(last(runs, "four"))["state_dict"]
    split = split_of(setup(2).generator["left"])
    for name in split.shared:
        first, second = (state[f"generator.{domain}.{name}"] for domain in DOMAINS[:2])
        assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    for name in split.domain:
        assert not torch.equal(*(state[f"generator.{domain}.{name}"] for domain in DOMAINS[:2]))


def test_a_domain_is_loaded_by_its_name(runs: Path) -> None:
    left, middle = (load(last(runs, "four"), f"generator.{domain}") for domain in DOMAINS[:2])
    latent = torch.randn(2, 6)
    assert not torch.equal(left(latent), middle(latent))
    with pytest.raises(UserError, match="generator.right"):
        load(last(runs, "four"), "generator.right")


def test_how_domains_are_dealt() -> None:
    for domains in range(1, 9):
        for world in [w for w in range(1, 25) if w <= domains or w % domains == 0]:
            layout = DomainLayout(domains, world)
            dealt = [domain for rank in range(world) for domain in layout.of(rank)]
            assert sorted(dealt) == sorted(list(range(domains)) * max(1, world // domains))
            sizes = [len(layout.of(rank)) for rank in range(world)]
            assert max(sizes) - min(sizes) <= 1
            for domain in range(domains):
                ranks = layout.ranks(domain)
                assert [layout.replica(rank) for rank in ranks] == list(range(layout.replicas))
    with pytest.raises(UserError, match="such as 4 or 6"):
        DomainLayout(2, 5)
