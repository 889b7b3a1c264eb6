"""A multi-domain checkpoint as what its domains share and a delta for each, and images made of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from gansharing import load
from gansharing.callbacks import GeneratorEMA, Resumable
from gansharing.checkpoints import export_deltas, load_base, read_checkpoint, read_delta
from gansharing.errors import UserError
from gansharing.networks import (
    Discriminator,
    Generator,
    SNGANDiscriminator,
    SNGANGenerator,
    StyleGAN2Discriminator,
    StyleGAN2Generator,
)
from gansharing.networks.seeded import seeded_latents
from gansharing.setups import Adversarial, MultiDomain
from gansharing.sharing import Domains, Full, LowRank, Sharing, WidthWise, apply_delta, split_of
from gansharing.visual import to_uint8
from tests.cli.program import files_in, run
from tests.support import quiet_trainer

NAMES = ["cat", "church", "emoji"]


class Loader:
    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Any]:
        source = torch.Generator().manual_seed(0)
        for _ in range(2):
            yield {name: {"image": torch.rand(4, 3, 32, 32, generator=source)} for name in NAMES}


def stylegan2() -> tuple[Generator, Discriminator]:
    nets = {"channel_base": 256, "channel_max": 16}
    return (
        StyleGAN2Generator(32, 8, 8, mapping_layers=2, **nets),
        StyleGAN2Discriminator(32, group_size=2, **nets),
    )


def sngan() -> tuple[Generator, Discriminator]:
    return SNGANGenerator(32, 8, channels=16), SNGANDiscriminator(32, channels=8)


def trained(root: Path, nets: tuple[Generator, Discriminator], sharing: Sharing) -> Path:
    torch.manual_seed(0)
    callbacks = [GeneratorEMA(0.5, None), Resumable()]
    game = Adversarial(*nets, optimizer_g=lambda p: torch.optim.Adam(p, lr=1e-2))
    setup = MultiDomain(game, NAMES, sharing)
    quiet_trainer(root, max_steps=2, callbacks=callbacks).fit(setup, Loader())
    return root / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("run"), stylegan2(), WidthWise(0.1, min_columns=1))


@pytest.mark.parametrize("sharing", [WidthWise(0.2), LowRank(2)], ids=["width", "lowrank"])
@pytest.mark.parametrize("nets", [stylegan2, sngan])
@torch.no_grad()
def test_the_files_give_the_checkpoints_images(tmp_path: Path, nets: Any, sharing: Sharing) -> None:
    last = trained(tmp_path, nets(), sharing)
    files = export_deltas(last, tmp_path / "out")
    deltas = [read_delta(files.deltas[name]) for name in NAMES]
    generators = [load(last, f"generator.{name}", divided=True) for name in NAMES]
    latents = seeded_latents(generators[0], [1, 2, 3, 4, 5])
    domain = torch.tensor([2, 0, 1, 1, 2])
    expected = torch.stack([generators[d](latents[n : n + 1])[0] for n, d in enumerate(domain.tolist())])
    assert not torch.allclose(expected[1], generators[1](latents[1:2])[0], atol=1e-3)

    served: Any = load_base(files.shared)
    mixed = Domains(served, deltas)(latents, domain)
    torch.testing.assert_close(mixed, expected, rtol=0, atol=2e-5)
    base = load_base(files.shared)
    for number, delta in enumerate(deltas):
        apply_delta(base, delta)
        assert torch.equal(base(latents), generators[number](latents))

    # What the files hold is what the split says: θ_S once, θ_D and its buffers for each.
    split, state = split_of(generators[0]), load_file(files.shared)
    assert split.shared.keys() <= state.keys() and not state.keys() & split.domain.keys()
    constant = sum(t.nbytes for n, t in state.items() if n not in split.shared)
    counted = 4 * split.shared_size + constant + len(NAMES) * split.delta_bytes
    assert counted < files.bytes < counted + len(NAMES) * 4096 + 16384


def test_the_program_exports_and_mixes(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("export", checkpoint, "--deltas", f"--out={out}")
    assert done.code == 0 and "3 domains (generator)" in done.out, done.err
    assert files_in(out) == {"shared.safetensors", "deltas", *(f"deltas/{n}.safetensors" for n in NAMES)}
    said = float(done.out.split("in all: ")[1].split("%")[0])
    size = sum((out / name).stat().st_size for name in files_in(out) if name != "deltas")
    whole = sum(t.nbytes for t in load(checkpoint, "generator.cat").state_dict().values())
    assert said == pytest.approx(100 * size / (3 * whole), abs=0.06)

    drawn = tmp_path / "images"
    command = ("sample", "--base", out / "shared.safetensors", "--delta", out / "deltas")
    done = run(*command, "--seeds=3,8", "--truncation=0.7", f"--out={drawn}")
    assert done.code == 0, done.err
    for name in NAMES:
        network: Any = load(checkpoint, f"generator.{name}")
        with torch.no_grad():
            expected = to_uint8(network(seeded_latents(network, [3, 8]), truncation=0.7))
        for seed, image in zip((3, 8), expected, strict=True):
            pixels = np.asarray(Image.open(drawn / name / f"seed{seed:07d}.png")).astype(int)
            assert np.abs(pixels - image.permute(1, 2, 0).numpy()).max() <= 1  # rounding to whole numbers


def test_low_rank_deltas_are_smaller(checkpoint: Path, tmp_path: Path) -> None:
    whole, small = (export_deltas(checkpoint, tmp_path / str(e), energy=e) for e in (None, 0.3))
    assert small.bytes < whole.bytes
    apply_delta(load_base(small.shared), read_delta(small.deltas["cat"]))


def test_what_is_shared_is_no_network(checkpoint: Path, tmp_path: Path) -> None:
    shared = export_deltas(checkpoint, tmp_path).shared
    with pytest.raises(UserError, match="have in common: gansharing sample --base"):
        load(shared)
    assert load_base(shared)(torch.zeros(1, 8)).isnan().all()  # never a picture of nobody's weights


def test_what_cannot_be_exported_says_why(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    alone = trained(tmp_path / "full", stylegan2(), Full())
    with pytest.raises(UserError, match="have nothing in common"):
        export_deltas(alone, out)
    with pytest.raises(UserError, match="have nothing in common"):
        export_deltas(checkpoint, out, "discriminator")
    for more, said in (("--format=onnx", "safetensors only"), ("--width=0.5", "every width")):
        done = run("export", checkpoint, "--deltas", more, f"--out={out}")
        assert done.code == 2 and said in done.err

    content = read_checkpoint(checkpoint)
    name = next(iter(split_of(load(checkpoint, "generator.cat", divided=True)).shared))
    content["state_dict"][f"generator.cat.{name}"] = content["state_dict"][f"generator.cat.{name}"] + 1
    torch.save(content, tmp_path / "torn.ckpt")
    with pytest.raises(UserError, match="differ in what they share"):
        export_deltas(tmp_path / "torn.ckpt", out)
    for part in ("networks", "state_dict"):
        content[part] = {k.replace("cat", "/tmp/cat"): v for k, v in content[part].items()}
    torch.save(content, tmp_path / "elsewhere.ckpt")
    with pytest.raises(UserError, match="cannot name a file"):
        export_deltas(tmp_path / "elsewhere.ckpt", out)
    assert not out.exists()
    with pytest.raises(UserError, match="holds no domains"):
        torch.save({"networks": {"generator": {}}, "state_dict": {}}, tmp_path / "single.ckpt")
        export_deltas(tmp_path / "single.ckpt", out)
