"""Shards: what is written, how it is dealt, in which order it is read, and what is said of damage."""

import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gansharing.cli import main
from gansharing.data import ImageData, MultiDomainData, Recipe, ShardedImageData, open_source
from gansharing.data.shard_files import ShardedImages, read_index, write_shards
from gansharing.data.shards import ShardLoader, deal
from gansharing.errors import UserError
from tests.cli.program import run
from tests.data.helpers import fill
from tests.data.test_resume import SaveEveryBatch, fit

ROOT = Path(__file__).parents[2] / "experiments"
COUNT, SIZE, RESOLUTION = 22, 4, 8  # six shards, the last of two images

pytestmark = pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader`")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shards")
    fill(root / "images", [f"{'ab'[number % 2]}/{number:02}.png" for number in range(COUNT)])
    options = ["--size", str(SIZE), "--resolution", str(RESOLUTION)]
    main(["data", "shard", str(root / "images"), "--out", str(root / "shards"), *options])
    return root


def loader(folder: Path, rank: int = 0, processes: int = 1, nodes: int = 1, **options: Any) -> ShardLoader:
    index = read_index(folder / "shards")
    return ShardLoader(index, deal(len(index.shards), nodes, processes), 4, rank=rank, **options)


def data(folder: Path, **options: Any) -> ShardedImageData:
    given = {"batch_size": 4, "num_workers": 0} | options
    return ShardedImageData(str(folder / "shards"), str(folder / "images"), **given)


def test_shards_hold_the_pixels_and_labels_of_the_prepared_folder(folder: Path) -> None:
    plain = ImageData(str(folder / "images"), resolution=RESOLUTION)
    plain.setup()
    expected = plain.train_set.batch(range(COUNT))
    held = ShardedImages(read_index(folder / "shards"), range(6)).batch(np.arange(COUNT))
    pairs = [
        sorted(zip([p.numpy().tobytes() for p in part["image"]], part["label"].tolist(), strict=True))
        for part in (expected, held)
    ]
    assert pairs[0] == pairs[1] and len(set(pairs[0])) == COUNT
    assert held["image"].dtype == torch.uint8 and held["image"].shape == (COUNT, 3, RESOLUTION, RESOLUTION)
    assert held["image"].is_contiguous(memory_format=torch.channels_last)
    assert held["index"].tolist() == list(range(COUNT))
    assert held["label"].tolist() != sorted(held["label"].tolist()), "a shard would be of one class"


def test_they_are_webdataset_shards(folder: Path) -> None:
    names = sorted(os.listdir(folder / "shards"))
    assert names == [*(f"{number:06}.tar" for number in range(6)), "index.json"]
    with tarfile.open(folder / "shards" / "000001.tar") as tar:
        members = tar.getnames()
        assert len(members) == 2 * SIZE and {name.partition(".")[2] for name in members} == {"png", "cls"}
        file = tar.extractfile(next(name for name in members if name.endswith(".png")))
        assert file is not None and Image.open(io.BytesIO(file.read())).size == (RESOLUTION, RESOLUTION)


def test_the_same_images_give_the_same_files(folder: Path, tmp_path: Path) -> None:
    source = open_source(str(folder / "images"))
    write_shards(source, Recipe(RESOLUTION), tmp_path / "50%d", SIZE, 0.0)
    for path in (folder / "shards").iterdir():
        assert (tmp_path / "50%d" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("nodes", "processes"), [(1, 1), (1, 2), (2, 1), (2, 3), (3, 2)])
def test_shards_are_dealt_by_node_and_process_disjoint_and_complete(nodes: int, processes: int) -> None:
    dealt = deal(7, nodes, processes)
    assert len(dealt) == nodes * processes and all(dealt)
    assert sorted(number for own in dealt for number in own) == list(range(7))
    for node in range(nodes):  # what a node must hold, however many processes read it
        of_node = {n for own in dealt[node * processes : (node + 1) * processes] for n in own}
        assert of_node == set(range(node, 7, nodes))


@pytest.mark.parametrize("nodes", [1, 2])
def test_two_processes_read_disjoint_images_and_all_of_them(folder: Path, nodes: int) -> None:
    seen = []
    for rank in range(2):
        module = data(folder)
        place = (rank, 0) if nodes == 2 else (0, rank)
        module.trainer = SimpleNamespace(  # type: ignore[assignment]  # Lightning's, as a launcher sets it
            node_rank=place[0], local_rank=place[1], num_nodes=nodes, world_size=2
        )
        batches = module.train_dataloader()
        found = [batch["index"] for batch in batches]
        assert len(found) == len(batches) == 6  # 12 images two by two; the other process has 10
        assert all(len(index) == 2 for index in found)
        seen.append(torch.cat(found).tolist())
    assert not set(seen[0]) & set(seen[1]) and set(seen[0]) | set(seen[1]) == set(range(COUNT))


def test_each_pass_shows_each_image_once_in_another_order(folder: Path) -> None:
    batches = loader(folder)
    seen = torch.cat([b["index"] for _ in range(4) for b in batches]).tolist()  # 24 batches of four
    passes = [seen[start : start + COUNT] for start in range(0, 4 * COUNT, COUNT)]
    assert all(sorted(part) == list(range(COUNT)) for part in passes)
    assert len({tuple(part) for part in passes}) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_a_position_is_enough_to_go_on(folder: Path, workers: int) -> None:
    batches = loader(folder, num_workers=workers)
    whole = [batch["index"].tolist() for _ in range(2) for batch in batches]
    for position in (1, 5, 7, 11):
        resumed = loader(folder)
        resumed.load_state_dict(batches.state_dict() | {"position": position})
        assert next(iter(resumed))["index"].tolist() == whole[position]
    other = ShardLoader(read_index(folder / "shards"), deal(6, 1, 1), 2)
    with pytest.raises(UserError, match="batch_size=4, this run has batch_size=2"):
        other.load_state_dict(batches.state_dict())


def test_resumed_from_any_batch_a_run_sees_what_the_whole_run_saw(folder: Path, tmp_path: Path) -> None:
    limits = {"max_epochs": -1, "max_steps": 9}
    whole = fit(tmp_path, data(folder), [SaveEveryBatch(tmp_path)], **limits).seen
    assert len({tuple(batch) for batch in whole}) == 9
    for step in (1, 4, 6, 8):
        resumed = fit(tmp_path, data(folder), resume=tmp_path / f"{step}.ckpt", **limits)
        assert resumed.seen == whole[step:]


def test_the_recipe_of_the_docs_trains(folder: Path, tmp_path: Path) -> None:
    done = run(
        *("fit", "--config", ROOT / "stylegan2/64.yaml", "--config", ROOT / "data/shards.yaml"),
        *("--data.shards", folder / "shards", "--data.reference", folder / "images", "--data.batch_size=2"),
        *(
            "--data.num_workers=0",
            "--data.flip=false",
            "--trainer.max_steps=2",
            "--trainer.val_check_interval=2",
        ),
        *(
            "--trainer.log_every_n_steps=1",
            "--trainer.enable_progress_bar=false",
            "--trainer.accelerator=cpu",
        ),
        *("--trainer.enable_model_summary=false", "--scores.num_samples=4", "--scores.untrained=false"),
        *(
            f"--model.{net}.{key}=8"
            for net in ("generator", "discriminator")
            for key in ("resolution", "channel_max")
        ),
        *("--model.generator.mapping_layers=2", f"--trainer.default_root_dir={tmp_path}"),
    )
    assert done.code == 0, done.err
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["status"], results["steps"]) == ("finished", 2) and results["scores"]["fid_lite"] > 0


def damaged(folder: Path, to: Path, change: str) -> Path:
    """A copy of the shards, one of which is missing, cut short, overwritten or holds a broken image."""
    to.mkdir()
    for path in (folder / "shards").iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    victim = to / "000002.tar"
    content = victim.read_bytes()
    if change == "missing":
        victim.unlink()
    elif change == "short":
        victim.write_bytes(content[: len(content) // 2])
    elif change == "no tar":
        victim.write_bytes(b"x" * len(content))
    else:
        start = content.index(b"IDAT")
        victim.write_bytes(content[:start] + bytes(64) + content[start + 64 :])
    return to


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "cannot read the shard .*000002.tar .No such file"),
        ("short", r"000002.tar has [\d,]+ bytes where the index says [\d,]+"),
        ("no tar", "000002.tar is no whole tar file"),
        ("broken image", "000002.tar, byte 1536: .*write the shard again"),
    ],
)
def test_damage_is_named_in_one_line(folder: Path, tmp_path: Path, change: str, message: str) -> None:
    index = read_index(damaged(folder, tmp_path / "shards", change))
    with pytest.raises(UserError, match=message) as caught:
        images = ShardedImages(index, range(6))
        images.batch(np.arange(COUNT))
    assert "\n" not in str(caught.value)
    assert len(ShardedImages(index, [0, 1, 5]).batch(np.arange(10))["label"]) == 10  # others can be read


def test_too_few_shards_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="6 shards cannot be dealt to 8 processes .2 nodes of 4.*--size"):
        deal(6, 2, 4)
    with pytest.raises(UserError, match="no multiple of 3 processes"):
        loader(folder, processes=3)
    with pytest.raises(UserError, match=r"no shards in .*'gansharing data shard' writes them"):
        ShardedImageData(str(tmp_path), "twemoji")
    (tmp_path / "index.json").write_text('{"format": 7}')
    with pytest.raises(UserError, match="is no index of shards"):
        read_index(tmp_path)


def test_nothing_half_written_is_left(folder: Path, tmp_path: Path) -> None:
    images = fill(tmp_path / "images", ["0.png", "1.png", "2.png"])
    (images / "1.png").write_bytes(b"no image")
    source, recipe = open_source(str(images)), Recipe(RESOLUTION)
    with pytest.raises(
        UserError, match="1 of 3 images cannot be used.* is 1.png: no image of a known format"
    ):
        write_shards(source, recipe, tmp_path / "out", 2, 0.1)
    assert os.listdir(tmp_path) == ["images"]
    index = write_shards(source, recipe, tmp_path / "out", 2, 0.5)
    assert index.num_images == 2 and read_index(tmp_path / "out") == index
    assert index.bad == [["1.png", "no image of a known format"]]
    with pytest.raises(UserError, match="is there already; name a new folder"):
        write_shards(source, recipe, tmp_path / "out", 2, 0.5)


def test_a_domain_in_shards_beside_one_in_a_folder(folder: Path, tmp_path: Path) -> None:
    lone = tmp_path / "lone"
    fill(lone, [f"{number}.png" for number in range(5)])
    domains = {
        "left": {"shards": str(folder / "shards"), "reference": str(folder / "images")},
        "right": str(lone),
    }
    made = MultiDomainData(domains, batch_size=4, resolution=RESOLUTION, num_workers=0, seed=7)
    made.setup()
    assert len(made.references["left"]) == COUNT and made.resolution == RESOLUTION
    whole = made.train_dataloader()
    assert len(whole) == -(-COUNT // 4)
    numbers = [int(i) for position in range(11) for i in whole.batch(position)["left"]["index"]]
    assert sorted(numbers[:COUNT]) == sorted(numbers[COUNT:]) == list(range(COUNT))
    # Of two processes of the domain each has shards of its own: three of six.
    halves = [made.members["left"].loader(rank, deal(6, 1, 2)) for rank in range(2)]
    seen = [
        {int(i) for p in range(9) for i in half.images.batch(half.indices(p))["index"]} for half in halves
    ]
    assert not seen[0] & seen[1] and seen[0] | seen[1] == set(range(COUNT))


def test_other_domains_processes_need_no_shards(folder: Path, tmp_path: Path) -> None:
    index = read_index(folder / "shards")
    bare = replace(index, folder=tmp_path)
    away = ShardLoader(bare, deal(6, 1, 1), 4, reads=False)
    here = ShardLoader(index, deal(6, 1, 1), 4)
    assert len(away) == len(here) and away.state_dict() == here.state_dict()
    with pytest.raises(UserError, match="000000.tar"):
        ShardLoader(bare, deal(6, 1, 1), 4)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"crop": "center"}, "domain left: 'crop' is no option of a domain in shards"),
        ({}, "domain left: its shards hold images of 8 px, data.resolution is 16"),
    ],
)
def test_what_does_not_fit_a_domain_in_shards(folder: Path, own: dict[str, str], said: str) -> None:
    shards = {"shards": str(folder / "shards"), "reference": str(folder / "images")}
    with pytest.raises(UserError, match=said):
        MultiDomainData({"left": shards | own}, resolution=16)
