"""NVIDIA's PyTorch pickles, through the real program, against recorded outputs of the original."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

import gansharing
from gansharing.networks import Network, StyleGAN2Discriminator, StyleGAN2Generator
from tests.checkpoints.pickles import nvidia_pickle, with_filters
from tests.cli.program import Outcome, run
from tests.golden.fill import STYLEGAN2, fill, recorded

SMALL = {"channel_base": 1024, "channel_max": 64}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def filled(network: Network) -> dict[str, Tensor]:
    fill(network, STYLEGAN2)
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def generator(classes: int = 0, **changed: Any) -> tuple[str, dict[str, Tensor], dict[str, Any]]:
    """Name, tensors and arguments as training writes them."""
    state = filled(StyleGAN2Generator(64, 32, 32, classes, **SMALL))
    arguments = {
        "z_dim": 32, "c_dim": classes, "w_dim": 32, "img_resolution": 64, "img_channels": 3,
        "mapping_kwargs": {"num_layers": 8}, "synthesis_kwargs": SMALL | {"num_fp16_res": 4},
    }  # fmt: skip
    return "Generator", state, arguments | changed


def discriminator(classes: int = 0, **changed: Any) -> tuple[str, dict[str, Tensor], dict[str, Any]]:
    state = filled(StyleGAN2Discriminator(64, classes, **SMALL))
    arguments = {
        "c_dim": classes, "img_resolution": 64, "img_channels": 3, **SMALL, "num_fp16_res": 4,
        "block_kwargs": {"freeze_layers": 0}, "mapping_kwargs": {},
        "epilogue_kwargs": {"mbstd_group_size": 4},
    }  # fmt: skip
    return "Discriminator", state, arguments | changed


def read(content: bytes, *options: str, part: str = "generator") -> Any:
    Path("snapshot.pkl").write_bytes(content)
    done = run("import", "snapshot.pkl", "--format", "stylegan2-ada", "--out", "x.safetensors", *options)
    assert done.code == 0, done.err
    assert not Path("EXECUTED").exists()  # the files' source text makes it, and raises
    return gansharing.load("x.safetensors", part)


def fails(content: bytes, *options: str) -> str:
    Path("snapshot.pkl").write_bytes(content)
    done = run("import", "snapshot.pkl", "--format", "stylegan2-ada", "--out", "x.safetensors", *options)
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert not Path("x.safetensors").exists()
    return done.err


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_generator(protocol: int) -> None:
    golden = recorded("stylegan2_generator")
    network = read(nvidia_pickle({"G_ema": generator()}, protocol=protocol))
    z = golden["plain:z"]
    close(network.mapping(z), golden["plain:ws"])
    close(network(z, noise="const")[..., ::3, ::3], golden["plain:img_const"])
    close(network(z, truncation=0.7)[..., ::3, ::3], golden["plain:img_const_psi0.7"])


def test_generator_with_labels() -> None:
    golden = recorded("stylegan2_generator")
    network = read(nvidia_pickle({"G_ema": generator(3)}))
    images = network(golden["labels:z"], golden["labels:c"], noise="none")
    close(images[..., ::3, ::3], golden["labels:img_none"])


@pytest.mark.parametrize("kind", ["plain", "labels"])
def test_discriminator(kind: str) -> None:
    golden = recorded("stylegan2_discriminator")
    labels = golden.get(f"{kind}:c")
    content = nvidia_pickle({"D": discriminator(0 if labels is None else 3)})
    network = read(content, "--part", "discriminator", part="discriminator")
    close(network(golden["plain:img"], labels), golden[f"{kind}:logits"].flatten())


def test_which_network_a_part_is() -> None:
    average, live = generator(), generator()
    live[1]["mapping.w_avg"].fill_(7)
    both = nvidia_pickle({"G": live, "D": discriminator(), "G_ema": average})
    for options, expected in (((), average), (("--part", "ema"), average), (("--part", "generator"), live)):
        assert torch.equal(read(both, *options).mapping.w_avg, expected[1]["mapping.w_avg"])
    os.remove("x.safetensors")
    assert "holds no ema; it holds generator (G)" in fails(nvidia_pickle({"G": live}), "--part", "ema")
    assert "holds no miner" in fails(both, "--part", "miner")
    # The live one is missing in converted files: the average stands in for it, and that is said.
    read(nvidia_pickle({"G_ema": average}), "--part", "generator")
    with safe_open("x.safetensors", framework="pt") as file:
        origin = json.loads(file.metadata()["gansharing"])["origin"]
    assert origin["source"] == "snapshot.pkl"
    assert "no live generator" in origin["notes"][0]


def test_the_clamp_of_mixed_precision_files_is_kept() -> None:
    # Published files limit every convolution to 256.
    arguments = {"synthesis_kwargs": SMALL | {"num_fp16_res": 4, "conv_clamp": 0.5}}
    network = read(nvidia_pickle({"G_ema": generator(**arguments)}))
    assert network.config["init_args"]["clamp"] == 0.5
    assert network.synthesis.b64.conv1(
        torch.randn(2, 16, 64, 64), torch.randn(2, 32), "none"
    ).abs().max() == 0.5  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"synthesis_kwargs": SMALL | {"channel_base": 2048}}, "misshapen: synthesis.b32.conv0"),
        ({"synthesis_kwargs": {"channel_max": 64}}, "misshapen: synthesis.b32"),
        ({"img_resolution": 128}, "missing: synthesis.b128."),
        ({"img_resolution": 32}, "left over: synthesis.b64."),
        ({"img_resolution": 48}, "resolution 48"),
        ({"img_resolution": 1 << 60}, "resolution"),
        ({"w_dim": 1 << 19}, "misshapen"),
        ({"z_dim": "32"}, "latent_dim 32, which is no number"),
        ({"mapping_kwargs": {"num_layers": 2}}, "left over: mapping.fc2.bias"),
        ({"mapping_kwargs": {"num_layers": 10**9}}, "mapping_layers 1000000000"),
        ({"mapping_kwargs": {"activation": "relu"}}, "activation relu"),
        ({"synthesis_kwargs": SMALL | {"architecture": "orig"}}, "architecture orig"),
        ({"img_channels": 1}, "img_channels 1"),
        ({"magnitude_ema_beta": 0.5}, "not supported: magnitude_ema_beta"),
    ],
)
def test_a_wrong_configuration_names_tensors(changed: dict[str, Any], says: str) -> None:
    assert says in fails(nvidia_pickle({"G_ema": generator(**changed)}))


def test_tensors_that_do_not_fit_are_named() -> None:
    name, state, arguments = generator()
    del state["synthesis.b8.conv1.affine.weight"]
    said = fails(nvidia_pickle({"G_ema": (name, state, arguments)}))
    assert "missing: synthesis.b8.conv1.affine.weight" in said
    assert "left over" not in said
    state = generator()[1] | {"synthesis.b8.conv2.weight": torch.zeros(3)}
    said = fails(nvidia_pickle({"G_ema": (name, state, arguments)}))
    assert "left over: synthesis.b8.conv2.weight" in said
    said = fails(nvidia_pickle({"G_ema": (name, generator()[1] | {"x\x1b[2J\n": torch.zeros(3)}, arguments)}))
    assert "left over: x\\x1b[2J\\n" in said
    state = with_filters(generator()[1])
    state["synthesis.b16.conv0.resample_filter"] = torch.ones(4, 4)
    said = fails(pickle.dumps({"G_ema": state}))
    assert "another filter than [1, 3, 3, 1]: synthesis.b16.conv0.resample_filter" in said


def test_other_networks_are_told_apart() -> None:
    third = generator()
    third[1]["synthesis.input.freqs"] = torch.zeros(4, 2)
    assert "StyleGAN3" in fails(nvidia_pickle({"G_ema": third}))
    plain = b"\x80\x02}X\x05\x00\x00\x00G_emacR3GAN.Networks\nGenerator\n)\x81s."
    said = fails(plain)
    assert "'R3GAN.Networks.Generator'" in said
    assert "only StyleGAN2" in said
    assert "no network of this format" in fails(pickle.dumps({"weights": 1}))


def test_state_dicts_there_and_back() -> None:
    read(nvidia_pickle({"G": generator(), "D": discriminator()}))
    done = run("export", "x.safetensors", "--format", "stylegan2-ada-state", "--out", "g.pt")
    assert done.code == 0, done.err
    written = torch.load("g.pt", weights_only=True)
    official = with_filters(generator()[1])
    assert written.keys() == official.keys()
    assert all(torch.equal(written[name], official[name]) for name in official)
    assert run("import", "g.pt", "--format", "stylegan2-ada", "--out", "y.safetensors").code == 0
    z = torch.randn(2, 32)
    assert torch.equal(gansharing.load("y.safetensors")(z), gansharing.load("x.safetensors")(z))


def test_a_discriminators_state_dict() -> None:
    read(nvidia_pickle({"D": discriminator(3)}), part="discriminator")
    done = run(
        "export",
        "x.safetensors",
        "--format",
        "stylegan2-ada-state",
        "--out",
        "d.pt",
        "--part",
        "discriminator",
    )
    assert done.code == 0, done.err
    written, official = torch.load("d.pt", weights_only=True), with_filters(discriminator(3)[1])
    assert written.keys() == official.keys()
    assert all(torch.equal(written[name], official[name]) for name in official)


def test_a_transferred_network_is_exported_merged() -> None:
    from gansharing.checkpoints import save_network
    from gansharing.sharing import LowRank

    network = StyleGAN2Generator(16, 8, 8, channel_base=128, channel_max=8).eval()
    split = LowRank(2).apply(network)
    with torch.no_grad():
        for parameter in split.domain.values():
            parameter.add_(0.1)
    save_network(network, "transferred.safetensors", "generator")
    done = run("export", "transferred.safetensors", "--format", "stylegan2-ada-state", "--out", "g.pt")
    assert done.code == 0, done.err
    assert run("import", "g.pt", "--format", "stylegan2-ada", "--out", "y.safetensors").code == 0
    z = torch.randn(2, 8)
    with torch.no_grad():
        torch.testing.assert_close(gansharing.load("y.safetensors")(z), network(z))


def outcome_of_export(network: Network, part: str, layout: str) -> Outcome:
    from gansharing.checkpoints import save_network

    save_network(network, "n.safetensors", part)
    return run("export", "n.safetensors", "--format", layout, "--out", "n.pt", "--part", part)


def test_other_networks_have_no_place_in_these_layouts() -> None:
    from gansharing.networks import DCGANGenerator
    from gansharing.sharing import Miner

    done = outcome_of_export(DCGANGenerator(32, latent_dim=4, base_channels=2), "generator", "rosinality")
    assert "this is a DCGANGenerator" in done.err
    network = StyleGAN2Generator(16, 8, 8, channel_base=128, channel_max=8)
    Miner().apply(network)
    done = outcome_of_export(network, "generator", "stylegan2-ada-state")
    assert "StyleGAN2Generator with gansharing.sharing" in done.err
    assert not Path("n.pt").exists()
