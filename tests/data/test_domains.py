"""Several folders, a batch of each a step."""

from pathlib import Path

import pytest
import torch

from gansharing.data import MultiDomainData
from gansharing.data.domains import DomainLoader
from gansharing.data.loader import ResumableLoader
from gansharing.errors import UserError
from tests.cli.program import write_images

COUNTS = {"small": 5, "large": 12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("domains")
    for name, count in COUNTS.items():
        write_images(root / name, count=count, size=8)
    return root


def data(folder: Path, **options: object) -> MultiDomainData:
    made = MultiDomainData(str(folder), batch_size=4, resolution=8, **options)
    made.setup()
    return made


def test_domains_of_different_sizes_go_on_without_end(folder: Path) -> None:
    made = data(folder)
    loader = made.train_dataloader()
    assert made.names == ["large", "small"] and len(loader) == 12 // 4
    seen: dict[str, list[bytes]] = {name: [] for name in COUNTS}
    for _ in range(2):
        for batch in loader:
            assert set(batch) == set(COUNTS)
            for name, part in batch.items():
                assert part["image"].shape == (4, 3, 8, 8)
                seen[name] += [image.numpy().tobytes() for image in part["image"]]
    # Two epochs of the large one; the small one's incomplete batches are left out, so six of four images.
    assert [len(set(seen["large"][:12])), len(set(seen["large"][12:]))] == [12, 12]
    assert len(set(seen["small"])) == 5


@pytest.mark.parametrize("workers", [0, 2])
def test_a_position_means_the_same_with_any_number_of_processes(folder: Path, workers: int) -> None:
    made = data(folder)
    whole = made.train_dataloader()
    whole.num_workers = workers
    batches = list(whole)
    halves = []
    for rank in range(2):
        loaders = {
            name: ResumableLoader(member.train_set, 4, seed=member.seed + number, rank=rank, world=2)
            for number, (name, member) in enumerate(made.members.items())
        }
        half = DomainLoader(loaders, made.names)
        half.load_state_dict(whole.state_dict() | {"position": 1})
        halves.append(next(iter(half)))
    for name in COUNTS:
        together = torch.cat([half[name]["image"] for half in halves])
        assert torch.equal(together, batches[1][name]["image"])


def test_domains_have_orders_and_streams_of_their_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_images(tmp_path / name, count=12, size=8)
    batch = next(iter(data(tmp_path).train_dataloader()))
    assert not torch.equal(batch["one"]["image"], batch["two"]["image"])
    assert batch["one"]["stream"] != batch["two"]["stream"]


def test_a_domain_may_have_options_of_its_own(folder: Path) -> None:
    domains: dict[str, str | dict[str, object]] = {
        "large": {"path": str(folder / "large"), "fraction": 0.5, "crop": "center"},
        "small": str(folder / "small"),
    }
    made = MultiDomainData(domains, batch_size=2, resolution=8, background="black")
    made.setup()
    large, small = made.members["large"], made.members["small"]
    assert (len(large.train_set), len(small.train_set)) == (6, 5)
    assert (large.recipe.crop, small.recipe.crop) == ("center", "none")
    assert large.recipe.background == small.recipe.background == "black"
    with pytest.raises(UserError, match="data.domains.large: 'resolution' is no option of a domain"):
        MultiDomainData({"large": {"path": str(folder / "large"), "resolution": 8}})
    with pytest.raises(UserError, match="data.domains.large has no path"):
        MultiDomainData({"large": {"crop": "center"}})
    with pytest.raises(UserError, match="domain large: fraction is 2"):
        MultiDomainData({"large": {"path": str(folder / "large"), "fraction": 2}})


def test_an_order_is_drawn_once_an_epoch_for_any_number_of_domains(tmp_path: Path) -> None:
    for number in range(6):
        write_images(tmp_path / f"domain{number}", count=8, size=8)
    loader = data(tmp_path).train_dataloader()
    orders = {}
    for position in range(len(loader)):
        loader.batch(position)
        for name, one in loader.loaders.items():
            assert one.order(0) is orders.setdefault(name, one.order(0))
    assert len(orders) == 6


def test_what_does_not_fit_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        MultiDomainData(str(tmp_path / "none"))
    with pytest.raises(UserError, match="no sub-folders"):
        MultiDomainData(str(folder / "small"))
    with pytest.raises(UserError, match="is empty"):
        MultiDomainData({})
    with pytest.raises(UserError, match="without dots"):
        MultiDomainData({"a.b": str(folder)})
    with pytest.raises(UserError, match="domain lost: "):
        MultiDomainData({"lost": str(tmp_path / "none")}, resolution=8).setup()
    with pytest.raises(UserError, match="domain small: 5 images do not fill"):
        made = MultiDomainData(str(folder), batch_size=6, resolution=8)
        made.setup()
        made.train_dataloader()
    loader = data(folder).train_dataloader()
    other = MultiDomainData({"small": str(folder / "small")}, batch_size=4, resolution=8)
    other.setup()
    with pytest.raises(UserError, match="had the domains large, small"):
        other.train_dataloader().load_state_dict(loader.state_dict())
