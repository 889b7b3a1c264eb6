"""Networks on disk: round trips, damage, and files that try to run code."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import gansharing
from gansharing.checkpoints import AtomicCheckpointIO, load, read_checkpoint, save_network
from gansharing.errors import UserError
from gansharing.networks import DCGANDiscriminator, DCGANGenerator, SpectralStyleGenerator


def tiny() -> SpectralStyleGenerator:
    return SpectralStyleGenerator(32, latent_dim=5, base_channels=2, mapping="shared", trunk_input="constant")


def test_safetensors_round_trip(tmp_path: Path) -> None:
    network = tiny().eval()
    save_network(network, tmp_path / "g.safetensors", "generator")
    twin = gansharing.load(tmp_path / "g.safetensors")
    assert not twin.training
    assert not any(p.requires_grad for p in twin.parameters())
    latent = network.sample_latent(3)
    assert torch.equal(twin(latent), network(latent))


def test_spectral_norm_survives_the_round_trip(tmp_path: Path) -> None:
    network = DCGANDiscriminator(32, base_channels=2, spectral_norm="all")
    network(torch.randn(2, 3, 32, 32))
    save_network(network, tmp_path / "d.safetensors", "discriminator")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(load(tmp_path / "d.safetensors", "discriminator")(images), network.eval()(images))


def test_the_header_is_plain_json(tmp_path: Path) -> None:
    save_network(tiny(), tmp_path / "g.safetensors", "generator", {"step": 3})
    with safe_open(tmp_path / "g.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["gansharing"])
    assert header["network"]["init_args"]["latent_dim"] == 5
    assert header["origin"] == {"step": 3}


def test_wrong_part(tmp_path: Path) -> None:
    save_network(tiny(), tmp_path / "g.safetensors", "generator")
    with pytest.raises(UserError, match="holds a generator"):
        load(tmp_path / "g.safetensors", "discriminator")


def test_a_network_of_another_shape_is_refused(tmp_path: Path) -> None:
    network = DCGANGenerator(32, latent_dim=5, base_channels=2)
    network.config["init_args"]["base_channels"] = 3
    save_network(network, tmp_path / "g.safetensors", "generator")
    with pytest.raises(UserError, match="size mismatch"):
        load(tmp_path / "g.safetensors")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("g.safetensors", b"", "damaged"),
        ("g.safetensors", b"\xff" * 64, "damaged"),
        ("g.ckpt", b"", "cannot read"),
        ("g.ckpt", b"PK\x03\x04 torn", "cannot read"),
        ("g.ckpt", b"hello", "cannot read"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        load(tmp_path / name)


def test_foreign_safetensors_are_told_apart(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="no gansharing header"):
        load(tmp_path / "x.safetensors")


def test_missing_files_and_empty_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file"):
        load(tmp_path / "none.ckpt")
    with pytest.raises(UserError, match="best.ckpt or last.ckpt"):
        load(tmp_path)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch exploded",)


def test_checkpoints_never_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "networks": Bomb()}, tmp_path / "bomb.ckpt")
    with pytest.raises(UserError, match="never executed"):
        load(tmp_path / "bomb.ckpt")
    assert not (tmp_path / "exploded").exists()


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"x": torch.zeros(4)}, path)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old[1]))
    try:
        with pytest.raises(UserError, match="cannot write"):
            AtomicCheckpointIO().save_checkpoint({"x": torch.zeros(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert read_checkpoint(path)["x"].shape == (4,)
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
