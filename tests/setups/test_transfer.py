"""Transfer against a loop written out, and against the bytes of the source."""

import copy
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from PIL import Image
from torch.nn import functional as F

from gansharing import load
from gansharing.callbacks import GeneratorEMA, Resumable
from gansharing.callbacks.grids import in_pairs_of_rows
from gansharing.checkpoints import read_checkpoint, save_network
from gansharing.data import ImageData
from gansharing.networks import DCGANDiscriminator, SpectralStyleGenerator
from gansharing.networks.seeded import seeded_latents
from gansharing.objectives import R1, BinaryCrossEntropy
from gansharing.setups import Adversarial, Transfer
from gansharing.sharing import (
    Affine,
    BatchStatistics,
    FreezeLower,
    Full,
    LayerWise,
    LowRank,
    Sharing,
    WidthWise,
)
from gansharing.visual import to_uint8
from tests.cli.program import Outcome, run, write_images
from tests.setups.test_adversarial import adam
from tests.support import FixedBatches, quiet_trainer


def networks() -> tuple[SpectralStyleGenerator, DCGANDiscriminator]:
    torch.manual_seed(1)
    return SpectralStyleGenerator(32, latent_dim=12, base_channels=4), DCGANDiscriminator(32, 4, "middle")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step."""
    folder = tmp_path_factory.mktemp("source") / "run"
    trainer = quiet_trainer(folder, max_steps=1, callbacks=[Resumable()])
    trainer.fit(Adversarial(*networks()), FixedBatches())
    return folder


def transfer(
    root: Path, source: Path, steps: int = 3, extra: list[Callback] | None = None, **options: Any
) -> Transfer:
    torch.manual_seed(7)
    setup = Transfer(str(source), optimizer_g=adam, optimizer_d=adam, **options)
    callbacks = [*(extra or []), Resumable()]
    quiet_trainer(root, max_steps=steps, callbacks=callbacks).fit(setup, FixedBatches())
    return setup


SHARINGS = [
    WidthWise(0.2),
    WidthWise(0.2, one_d="domain"),
    LayerWise(["4px", "to_rgb"]),
    LowRank(1),
    FreezeLower(2),
    Affine(),
]


def name(sharing: Sharing) -> str:
    return f"{type(sharing).__name__}{sharing.config['init_args']}"


@pytest.mark.parametrize("sharing", SHARINGS, ids=name)
def test_only_what_the_domain_owns_changes(tmp_path: Path, source: Path, sharing: Sharing) -> None:
    setup = Transfer(str(source), sharing=sharing)
    before = {key: p.detach().clone() for key, p in setup.generator.named_parameters()}
    latent = setup.generator.sample_latent(3)
    assert torch.equal(setup.generator.eval()(latent), load(source)(latent))

    setup = transfer(tmp_path, source, sharing=sharing, extra=[GeneratorEMA(0.5)])
    split = setup.splits()["generator"]
    last = read_checkpoint(tmp_path / "checkpoints/last.ckpt")
    averaged = {k.removeprefix("generator."): v for k, v in last["state_dict"].items()}
    # LowRank draws its factors, which belong to the domain: only the shared are what they were.
    for key in split.shared:
        for after in (averaged[key], last["live_generator"][key]):
            assert after.numpy().tobytes() == before[key].contiguous().numpy().tobytes(), key
    assert all(not torch.equal(last["live_generator"][key], before[key]) for key in split.domain)
    owned = {id(p) for p in split.domain.values()}
    groups = setup.optimizers(use_pl_optimizer=False)[0].param_groups
    assert {id(p) for group in groups for p in group["params"]} == owned
    assert len(last["optimizer_states"][0]["state"]) == len(owned)


def test_frozen_weights_cost_no_gradients(tmp_path: Path, source: Path) -> None:
    setup = transfer(
        tmp_path, source, sharing=LayerWise(["4px"]), sharing_discriminator=FreezeLower(2), steps=1
    )
    for split in setup.splits().values():
        assert split.shared and all(p.grad is None for p in split.shared.values())
        assert all(p.requires_grad for p in split.domain.values())


def test_equals_a_loop_written_out(tmp_path: Path, source: Path) -> None:
    g, d = (load(source, part).train() for part in ("generator", "discriminator"))
    trained = [*g.stages()["4px"].parameters()]
    for parameter in (*trained, *d.parameters()):
        parameter.requires_grad_(True)
    setup = transfer(tmp_path, source, sharing=LayerWise(["4px"]), loss=BinaryCrossEntropy())

    torch.manual_seed(7)
    Transfer(str(source))  # draws weights that are then overwritten
    og, od = adam(trained), adam(d.parameters())
    for batch in list(FixedBatches())[:3]:
        real = batch["image"]
        ones, zeros = torch.ones(len(real)), torch.zeros(len(real))
        fake = g(torch.randn(len(real), 12)).detach()
        od.zero_grad()
        loss = F.binary_cross_entropy_with_logits(d(real), ones)
        (loss + F.binary_cross_entropy_with_logits(d(fake), zeros)).backward()
        od.step()
        loss = F.binary_cross_entropy_with_logits(d(g(torch.randn(len(real), 12))), ones)
        og.zero_grad()
        d.requires_grad_(False)
        loss.backward()
        d.requires_grad_(True)
        og.step()
    for network, twin in ((setup.generator, g), (setup.discriminator, d)):
        for (key, x), y in zip(network.state_dict().items(), twin.state_dict().values(), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}")


def test_statistics_belong_to_the_domain(tmp_path: Path, source: Path) -> None:
    setup = transfer(tmp_path, source, sharing=WidthWise(0.25), sharing_discriminator=BatchStatistics())
    split = setup.splits()["discriminator"]
    old = load(source, "discriminator").state_dict()
    assert split.domain_buffers
    changed = [key for key, value in split.domain_buffers.items() if not torch.equal(value, old[key])]
    assert any("running_mean" in key for key in changed)
    assert all(torch.equal(p, old[key]) for key, p in split.shared.items() if key in old)


def test_a_checkpoint_needs_no_source(tmp_path: Path, source: Path) -> None:
    moved = tmp_path / "source.ckpt"
    moved.write_bytes((source / "checkpoints/last.ckpt").read_bytes())
    setup = transfer(tmp_path / "run", moved, sharing=WidthWise(0.25))
    moved.unlink()
    network = load(tmp_path / "run")
    latent = network.sample_latent(4)
    assert torch.equal(network(latent), setup.generator.eval()(latent))
    assert "sharing" not in network.config
    # and is itself a source
    again = transfer(tmp_path / "again", tmp_path / "run", sharing=LayerWise(["8px"]), steps=1)
    assert torch.equal(
        again.splits()["generator"].shared["to_rgb.weight"], network.state_dict()["to_rgb.weight"]
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("target") / "images", count=22)


def resumable(root: Path, source: Path, images: Path, steps: int, ckpt: Path | None = None) -> dict[str, Any]:
    torch.manual_seed(3)
    setup = Transfer(
        str(source),
        sharing=LowRank(1),
        sharing_discriminator=FreezeLower(1),
        regularizers=[R1(1.0, 2)],
        optimizer_g=adam,
        optimizer_d=adam,
    )
    callbacks = [GeneratorEMA(0.9), Resumable(every_n_steps=1)]
    trainer = quiet_trainer(root, max_steps=steps, callbacks=callbacks)
    trainer.fit(setup, datamodule=ImageData(str(images), resolution=32, batch_size=5), ckpt_path=ckpt)
    return read_checkpoint(root / "checkpoints/last.ckpt")


def test_resuming_is_bit_identical(tmp_path: Path, source: Path, images: Path) -> None:
    whole = resumable(tmp_path / "whole", source, images, 6)
    resumable(tmp_path / "cut", source, images, 3)
    last = tmp_path / "cut/checkpoints/last.ckpt"
    resumed = resumable(tmp_path / "resumed", source, images, 6, last)
    # A run whose source is gone takes its own checkpoint for one: every weight is then restored anyway.
    orphan = resumable(tmp_path / "orphan", last, images, 6, last)
    for other in (resumed, orphan):
        for section in ("state_dict", "live_generator"):
            for key, value in whole[section].items():
                assert torch.equal(value, other[section][key]), key
        assert torch.equal(whole["random_states"][0]["torch"], other["random_states"][0]["torch"])


# Through the program.
TINY = Path(__file__).parents[1] / "cli" / "tiny.yaml"


def start(source: object, images: Path, root: Path, *more: str) -> Outcome:
    options = ["--model=Transfer", f"--model.source={source}", f"--trainer.default_root_dir={root}"]
    return run("fit", "--config", TINY, *options, "--data.path", images, *more)


def test_a_run_says_what_it_trained_and_shows_both(
    tmp_path: Path, source: Path, images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "run"
    with caplog.at_level("INFO"):
        done = start(
            source,
            images,
            root,
            *("--model.sharing=WidthWise", "--model.sharing.learn_ratio=0.25"),
            *("--diversity.num_samples=6", "--diversity.clusters=3", "--scores.untrained=true"),
        )
    assert done.code == 0, done.err
    network = load(source)
    weights = [w for w in network.parameters() if w.ndim >= 2]
    total = sum(p.numel() for p in network.parameters())
    results = json.loads((root / "results.json").read_text())
    record = results["sharing"]["generator"]
    assert record["class_path"] == "gansharing.sharing.width.WidthWise"
    assert record["init_args"]["learn_ratio"] == 0.25
    assert record["domain"] + record["shared"] == total == results["parameters"]["generator"]
    assert 0 < record["learn_ratio"] < sum(w.numel() for w in weights) / total * 0.25 + 1e-9
    assert f"{record['domain']:,} of {total:,}" in caplog.text
    # columns: the same latents in the source (upper row of a pair) and in the target
    with Image.open(root / "images/step_0000004_transfer.png") as picture:
        pixels = torch.from_numpy(np.array(picture))
    assert pixels.shape == (4 * 34 - 2, 4 * 34 - 2, 3)
    expected = to_uint8(network(seeded_latents(network, [0, 1, 4]))).permute(0, 2, 3, 1)
    assert torch.equal(pixels[:32, 34:66], expected[1])
    assert torch.equal(pixels[68:100, :32], expected[2])
    with Image.open(root / "images/step_0000004.png") as picture:
        own = torch.from_numpy(np.array(picture))
    assert torch.equal(pixels[34:66], own[:32])
    assert torch.equal(pixels[102:134], own[34:66])
    # the few-shot watches
    assert results["diversity"]["num_samples"] == 6
    assert results["diversity"]["scores"]["step"] == 4
    assert 0 < results["diversity"]["scores"]["lpips_lite"] < 4
    rows = list(csv.DictReader((root / "csv/version_0/metrics.csv").read_text().splitlines()))
    assert any(row.get("intra_lpips_lite") for row in rows)


def test_rows_of_a_grid_alternate() -> None:
    above = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1)
    pairs = in_pairs_of_rows(above, above + 10, 3).flatten().tolist()
    assert pairs == [0, 1, 2, 10, 11, 12, 3, 4, 255, 13, 14, 255]


def refused(done: Outcome, root: Path, *words: str) -> None:
    assert done.code == 2
    message = done.err.strip().splitlines()[-1]
    assert message.startswith("gansharing: error: ") and done.err.count("error") == 1, done.err
    for word in words:
        assert word in message
    assert not root.exists()


def test_a_missing_source(tmp_path: Path, images: Path) -> None:
    done = start(tmp_path / "nowhere.ckpt", images, tmp_path / "run")
    refused(
        done, tmp_path / "run", "model.source", "nowhere.ckpt", "--model.source RUN/checkpoints/last.ckpt"
    )


def test_a_generator_without_its_discriminator(tmp_path: Path, source: Path, images: Path) -> None:
    generator, discriminator = tmp_path / "g.safetensors", tmp_path / "d.safetensors"
    save_network(load(source), generator, "generator")
    save_network(load(source, "discriminator"), discriminator, "discriminator")
    done = start(generator, images, tmp_path / "run")
    refused(done, tmp_path / "run", "generator alone", "--model.source_discriminator")
    done = start(generator, images, tmp_path / "run", f"--model.source_discriminator={generator}")
    refused(done, tmp_path / "run", "model.source_discriminator", "not a discriminator")
    done = start(generator, images, tmp_path / "run", f"--model.source_discriminator={discriminator}")
    assert done.code == 0, done.err


def test_another_resolution(tmp_path: Path, source: Path, images: Path) -> None:
    done = start(source, images, tmp_path / "run", "--data.resolution=64")
    refused(done, tmp_path / "run", "data.resolution is 64", "32 px", "--data.resolution=32")
    other = tmp_path / "d.safetensors"
    save_network(DCGANDiscriminator(64, 2), other, "discriminator")
    done = start(source, images, tmp_path / "run", f"--model.source_discriminator={other}")
    refused(done, tmp_path / "run", "32 px", "64 px")


def test_a_sharing_that_leaves_nothing(tmp_path: Path, source: Path, images: Path) -> None:
    options = ("--model.sharing=WidthWise", "--model.sharing.learn_ratio=0.001")
    refused(
        start(source, images, tmp_path / "run", *options), tmp_path / "run", "model.sharing", "min_columns"
    )


def test_a_checkpoint_of_another_sharing(tmp_path: Path, source: Path, images: Path) -> None:
    first = tmp_path / "first"
    done = start(source, images, first, "--model.sharing=WidthWise", "--model.sharing.learn_ratio=0.25")
    assert done.code == 0, done.err
    more = ("--model.sharing=LowRank", f"--ckpt_path={first}/checkpoints/last.ckpt")
    refused(
        start(source, images, tmp_path / "run", *more), tmp_path / "run", "sharing", "WidthWise", "LowRank"
    )


def test_full_is_the_default(source: Path) -> None:
    split = Transfer(str(source)).splits()["generator"]
    assert split.learn_ratio == 1
    assert split.network.config["sharing"] == Full().config
    assert copy.deepcopy(split.network)(torch.randn(2, 12)).shape == (2, 3, 32, 32)
