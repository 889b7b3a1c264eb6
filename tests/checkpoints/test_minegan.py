"""MineGAN's miners, by the original's names and recorded outputs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import gansharing
from tests.cli.program import run
from tests.golden.fill import draw, recorded


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def linear(layers: dict[str, tuple[int, int]], scale: str = "") -> dict[str, Tensor]:
    """Weights and biases of linear layers, name to (outputs, inputs)."""
    state = {}
    for name, (outputs, inputs) in layers.items():
        state[f"{name}.weight"] = draw(f"{name}.weight", (outputs, inputs), f"fan_in{scale}")
        state[f"{name}.bias"] = draw(f"{name}.bias", (outputs,), "bias")
    return state


def latent_miner() -> dict[str, Tensor]:
    return linear({"transform.0": (32, 32), "transform.2": (32, 32)})


def constant_miner() -> dict[str, Tensor]:
    shapes = {"input.input": (1, 8, 4, 4), "conv1.weight": (32, 8, 1, 1), "relu1.bias": (32,)}
    shapes |= {"conv2.weight": (128, 32, 1, 1), "relu2.bias": (128,), "conv3.weight": (512, 128, 1, 1)}
    return {name: draw(name, s, "bias" if "bias" in name else "normal") for name, s in shapes.items()}


def noise_miner() -> dict[str, Tensor]:
    layers = {"transform_4.0": (16, 16), "transform_4.2": (16, 16), "transform_8.1": (64, 16)}
    layers |= {"transform_16.1": (256, 64), "transform_32.1": (1024, 256)}
    # Built by the original and not used by its forward; there they are 4096 and 16384 wide.
    return linear(layers, "*1.4") | linear({"transform_64.1": (3, 2), "transform_128.1": (3, 2)})


def biggan_miner() -> dict[str, Tensor]:
    names = ["linear", *(f"linear{number}" for number in range(2, 9))]
    state = linear({name: (16 if name == "linear8" else 18, 18) for name in names})
    for name in names:
        outputs = len(state[f"{name}.bias"])
        state[f"{name}.u0"] = draw(f"{name}.u0", (1, outputs), "unit")
        state[f"{name}.sv0"] = draw(f"{name}.sv0", (1,), "bias")
    return state | {"shared.weight": torch.zeros(7, 16)}


def read(content: Any, *options: str) -> Any:
    torch.save(content, "miner.pt")
    done = run("import", "miner.pt", "--format", "minegan", "--out", "m.safetensors", *options)
    assert done.code == 0, done.err
    return gansharing.load("m.safetensors", "miner"), done.out


def fails(content: Any, *options: str) -> str:
    torch.save(content, "miner.pt")
    done = run("import", "miner.pt", "--format", "minegan", "--out", "m.safetensors", *options)
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert not Path("m.safetensors").exists()
    return done.err


def part(kind: str) -> dict[str, Tensor]:
    return {k.partition(":")[2]: v for k, v in recorded("miners").items() if k.startswith(kind)}


@pytest.mark.parametrize("level", [None, "miner", "Minor"])
def test_the_latents_miner(level: str | None) -> None:
    state, golden = latent_miner(), part("latent")
    miner, _ = read({level: state, "g": {}} if level else state)
    torch.testing.assert_close(miner(golden["in_z"]), golden["out_out"])


def test_the_constants_miner() -> None:
    miner, _ = read({"miner_semantic": constant_miner()}, "--part", "miner")
    torch.testing.assert_close(miner(torch.zeros(2, 14, 512))[:, ::4], part("conv")["out_out"])


def test_the_noise_miner() -> None:
    miner, said = read(noise_miner())
    golden = part("noise")
    assert "dropped, unused by the original: transform_128.1.bias" in said
    for size, noise in zip((4, 8, 16, 32), miner(golden["in_z"]), strict=True):
        torch.testing.assert_close(noise, golden[f"out_out_{size}"])


def test_biggans_miner() -> None:
    miner, said = read({"minor": biggan_miner()})
    golden = part("biggan")
    assert "shared.weight" in said
    latent, embedding = miner(golden["in_z"])
    torch.testing.assert_close(latent, golden["out_z_out"])
    torch.testing.assert_close(embedding, golden["out_y_out"])


def test_one_of_two() -> None:
    both = {"miner": latent_miner(), "miner_semantic": constant_miner()}
    assert type(read(both, "--part", "miner_semantic")[0]).__name__ == "ConvMiner"
    assert type(read(both, "--part", "miner")[0]).__name__ == "Miner"
    Path("m.safetensors").unlink()
    assert "which miner? it holds miner, miner_semantic" in fails(both)


def test_wrong_files() -> None:
    assert "it holds none" in fails({"g": latent_miner() | {"x": torch.zeros(1)}})
    assert "it holds none" in fails({"weight": torch.zeros(2)})
    assert "no miner that is known" in fails({"miner": {"weight": torch.zeros(2)}})
    short = latent_miner()
    del short["transform.2.bias"]
    assert "transform.2.bias" in fails(short)
    assert "transform.2.bias" in fails(latent_miner() | {"transform.2.bias": torch.zeros(5)})
    assert "transform.4.bias" in fails(latent_miner() | {"transform.4.bias": torch.zeros(5)})
    assert "shape" in fails({"linear8.weight": torch.zeros(3), "linear.weight": torch.zeros(3)})
