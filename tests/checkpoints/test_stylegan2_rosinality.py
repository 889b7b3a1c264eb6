"""rosinality's layout, read and written, against recorded outputs of the original."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import gansharing
from gansharing.checkpoints import save_network
from gansharing.networks import StyleGAN2Discriminator, StyleGAN2Generator
from tests.checkpoints.pickles import FIR
from tests.cli.program import run
from tests.golden import fill
from tests.golden.fill import recorded

ENTRIES = json.loads(Path(fill.__file__).with_name("rosinality.json").read_text())


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def original(part: str) -> dict[str, Tensor]:
    """A state dict by the original's names, shapes and constant filters."""

    def entry(name: str, shape: list[int], rule: str) -> Tensor:
        return FIR * float(rule[4:]) if rule.startswith("fir*") else fill.draw(name, tuple(shape), rule)

    return {name: entry(name, shape, rule) for name, (shape, rule) in ENTRIES[part].items()}


def read(content: Any, *options: str, part: str = "generator") -> Any:
    torch.save(content, "550000.pt")
    done = run("import", "550000.pt", "--format", "rosinality", "--out", "x.safetensors", *options)
    assert done.code == 0, done.err
    return gansharing.load("x.safetensors", part)


def fails(content: Any, *options: str) -> str:
    torch.save(content, "550000.pt")
    done = run("import", "550000.pt", "--format", "rosinality", "--out", "x.safetensors", *options)
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert not Path("x.safetensors").exists()
    return done.err


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def test_generator_there_and_back() -> None:
    golden, state = recorded("rosinality"), original("generator")
    options = argparse.Namespace(size=64, channel_multiplier=1)
    network = read({"g_ema": state, "latent_avg": golden["latent_avg"], "args": options})
    close(network.mapping(golden["z"]), golden["w"])
    close(network(golden["z"], noise="const")[..., ::3, ::3], golden["img_const"])
    close(network(golden["z"], truncation=0.7)[..., ::3, ::3], golden["img_const_psi0.7"])
    done = run("export", "x.safetensors", "--format", "rosinality", "--out", "back.pt")
    assert done.code == 0, done.err
    assert "note" not in done.out
    written = torch.load("back.pt", weights_only=True)
    assert written["g_ema"].keys() == state.keys()
    assert all(torch.equal(written["g_ema"][name], tensor) for name, tensor in state.items())
    assert torch.equal(written["latent_avg"], golden["latent_avg"].flatten())


def test_discriminator_there_and_back() -> None:
    golden, state = recorded("rosinality"), original("discriminator")
    network = read({"d": state, "ada_aug_p": 0.0}, "--part", "discriminator", part="discriminator")
    close(network(golden["img"]), golden["logits"].flatten())
    done = run(
        "export", "x.safetensors", "--format", "rosinality", "--part", "discriminator", "--out", "back.pt"
    )
    assert done.code == 0, done.err
    written = torch.load("back.pt", weights_only=True)["d"]
    assert written.keys() == state.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in state.items())


def small() -> dict[str, Any]:
    """A small checkpoint in this layout, as :func:`export` writes it; its form is tested above."""
    torch.manual_seed(0)
    g = StyleGAN2Generator(16, 8, 8, mapping_layers=2, channel_base=128, channel_max=8)
    d = StyleGAN2Discriminator(16, channel_base=128, channel_max=8)
    content: dict[str, Any] = {}
    for network, part in ((g, "generator"), (d, "discriminator")):
        save_network(network, "n.safetensors", part)
        done = run("export", "n.safetensors", "--format", "rosinality", "--part", part, "--out", "n.pt")
        assert done.code == 0, done.err
        assert "other channels" in done.out
        content |= torch.load("n.pt", weights_only=True)
    return content


def test_a_missing_average_is_estimated() -> None:
    content = small()
    del content["latent_avg"]
    network = read(content)
    source = np.random.default_rng(1).standard_normal((20_000, 8)).astype(np.float32)
    with torch.no_grad():
        w = network.mapping(torch.from_numpy(source))
    # Two estimates of one mean, over 10,000 and 20,000 latents.
    error = (w.mean(0) - network.mapping.w_avg).abs() / (w.std(0) * (1 / 10_000 + 1 / 20_000) ** 0.5)
    assert error.max() < 4.5
    first = network.mapping.w_avg.clone()
    assert torch.equal(read(content).mapping.w_avg, first)


def test_parts_and_prefixes() -> None:
    content = small()
    live = {name: tensor + 1 for name, tensor in content["g_ema"].items() if "kernel" not in name}
    content["g"] = {f"module.{name}": tensor for name, tensor in live.items()}
    assert torch.equal(read(content, "--part", "generator").synthesis.b4.const, live["input.input"][0])
    assert torch.equal(read(content).synthesis.b4.const, content["g_ema"]["input.input"][0])
    assert torch.equal(read(content["g_ema"]).synthesis.b4.const, content["g_ema"]["input.input"][0])


def test_wrong_files_name_tensors() -> None:
    content = small()
    said = fails({"g_ema": {k: v for k, v in content["g_ema"].items() if k != "convs.1.activate.bias"}})
    assert "missing: convs.1.activate.bias" in said
    said = fails({"g_ema": content["g_ema"] | {"convs.0.conv1.weight": torch.zeros(2)}})
    assert "left over: convs.0.conv1.weight" in said
    said = fails({"g_ema": content["g_ema"] | {"to_rgbs.0.conv.weight": torch.zeros(1, 12, 8, 1, 1)}})
    assert "misshapen: to_rgbs.0.conv.weight (12, 8, 1, 1) instead of (3, 8, 1, 1)" in said
    said = fails({"g_ema": content["g_ema"] | {"to_rgbs.0.upsample.kernel": torch.ones(4, 4)}})
    assert "another filter than [1, 3, 3, 1]: to_rgbs.0.upsample.kernel" in said
    assert "latent_avg (5,) instead of (8,)" in fails(content | {"latent_avg": torch.zeros(5)})
    wide = content["g_ema"] | {"convs.1.conv.weight": torch.zeros(1, 16, 8, 3, 3)}
    assert "channel_base" in fails({"g_ema": wide})
    assert "holds no discriminator; it holds ema (g_ema)" in fails(
        {"g_ema": content["g_ema"]}, "--part", "discriminator"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [({"num_classes": 2}, "no labels"), ({"w_dim": 4}, "one length for latents (8) and styles (4)")],
)
def test_what_the_layout_cannot_hold(arguments: dict[str, int], says: str) -> None:
    sizes = {"w_dim": 8, "channel_base": 128, "channel_max": 8} | arguments
    save_network(StyleGAN2Generator(16, 8, **sizes), "n.safetensors", "generator")
    done = run("export", "n.safetensors", "--format", "rosinality", "--out", "n.pt")
    assert done.code == 2
    assert says in done.err
    assert not Path("n.pt").exists()
