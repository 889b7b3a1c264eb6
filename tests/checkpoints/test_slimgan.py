"""Checkpoints of mimicry and SlimGAN through the real program, with both layouts of spectral norm."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import spectral_norm

import gansharing
from gansharing.networks import Network, SNGANDiscriminator
from gansharing.slimmable import at_width
from tests.cli.program import run
from tests.golden.slimgan import arrays, original

State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def imported(content: Any, form: str, part: str, *options: str) -> tuple[Any, str]:
    torch.save(content, "original.pth")
    done = run("import", "original.pth", "--format", form, "--out", "x.safetensors", *options)
    assert done.code == 0, done.err
    return gansharing.load("x.safetensors", part), " ".join(done.out.split())


def refused(content: Any, form: str, *options: str) -> str:
    torch.save(content, "original.pth")
    done = run("import", "original.pth", "--format", form, *options)
    assert done.code == 2 and not Path("imported.safetensors").exists()
    assert len(done.err.strip().splitlines()) == 1
    return done.err


def checkpoint(state: State) -> dict[str, Any]:
    return {"model_state_dict": state, "optimizer_state_dict": {"state": {}}, "global_step": 100_000}


@pytest.mark.parametrize("form", ["mimicry", "slimgan"])
@torch.no_grad()
def test_mimicrys_generator_and_discriminator(form: str) -> None:
    golden = arrays("mimicry_sngan32_g")
    g, _ = imported(checkpoint(original("mimicry_sngan32_g")), form, "generator")
    images = g(golden["z"])[..., ::3, ::3]
    torch.testing.assert_close(images, golden["img"], rtol=1e-5, atol=1e-5)
    golden = arrays("mimicry_sngan32_d")
    state = {f"module.{name}": x for name, x in original("mimicry_sngan32_d").items()}
    d, _ = imported(state, form, "discriminator", "--part", "discriminator")
    torch.testing.assert_close(d(golden["x"]), golden["logits"][:, 0], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_own_spectral_norm_is_read_as_after_its_iteration() -> None:
    source = torch.Generator().manual_seed(0)
    state = {n: x for n, x in original("slimgan_sngan32_step:discriminator").items() if "sn_" not in n}
    for name in list(state):
        if name.startswith("block") and name.endswith(".weight"):
            layer = name.removesuffix("weight")
            state[f"{layer}sn_u"] = torch.randn(1, len(state[name]), generator=source)
            state[f"{layer}sn_sigma"] = torch.zeros(1)
    d, said = imported(checkpoint(state), "slimgan", "discriminator")
    assert "n_share" in said
    weight, u = state["block3s.2.c1.weight"].flatten(1), state["block3s.2.c1.sn_u"][0]
    v = weight.T @ u
    u = weight @ (v / v.norm())
    conv = d.trunk["block3"][2].c1
    torch.testing.assert_close(conv.weight.flatten(1), weight / u.norm())
    # As exact as floats are: of vectors far from the singular ones the rounding shows in every score.
    exact = weight.double().T @ state["block3s.2.c1.sn_u"][0].double()
    kept = conv.parametrizations.weight[0]._v
    torch.testing.assert_close(kept, (exact / exact.norm()).float(), rtol=1e-7, atol=0)


def test_torchs_spectral_norm_names_the_same_layer() -> None:
    torch.manual_seed(0)
    layer = spectral_norm(torch.nn.Linear(32, 1)).eval()
    state = original("slimgan_sngan32_step:discriminator")
    state |= {f"l5s.0.{name}": x for name, x in layer.state_dict().items()}
    d, _ = imported(state, "slimgan", "discriminator")
    features = torch.randn(3, 32)
    torch.testing.assert_close(d.head[0].linear(features), layer(features))


def test_widths_come_from_the_norms() -> None:
    state = {}
    for name, x in original("slimgan_sndcgan32_step:generator").items():
        parts = name.split(".")
        if ".bn." not in name:
            state[name] = x
        elif parts[2] in ("1", "3"):  # half and whole
            parts[2] = str(int(parts[2]) // 2)
            state[".".join(parts)] = x
    g, _ = imported(state, "slimgan", "generator")
    whole, _ = imported(original("slimgan_sndcgan32_step:generator"), "slimgan", "generator")
    latent = torch.randn(2, 128)
    assert g.widths == [0.5, 1]
    with at_width(0.5), torch.no_grad():
        assert torch.equal(g(latent), whole(latent))


def test_sizes_and_classes_come_from_the_shapes() -> None:
    for network in (SNGANDiscriminator(128, 3, channels=32), SNGANDiscriminator(48, channels=32)):
        d, said = imported(foreign(network), "mimicry", "discriminator")
        assert d.config == network.config | {"init_args": d.config["init_args"]}
        assert d.config["init_args"] == network.config["init_args"]
        assert "64 px" not in said
    _, said = imported(foreign(SNGANDiscriminator(64, channels=32)), "mimicry", "discriminator")
    assert "48 px" in said


def foreign(network: Network) -> State:
    """The state dict of a discriminator as mimicry would have written it."""
    last = "l7" if network.config["init_args"]["resolution"] == 128 else "l6"
    last = "l5" if network.config["init_args"]["resolution"] == 48 else last
    state = {}
    for name, x in network.state_dict().items():
        for ours, theirs in (
            (".parametrizations.weight.original", ".weight_orig"),
            (".parametrizations.weight.0.", ".weight"),
            ("head.linear", last),
            ("head.embed", "l_y"),
        ):
            name = name.replace(ours, theirs)
        if name.startswith("blocks."):
            _, number, rest = name.split(".", 2)
            name = f"block{int(number) + 1}.{rest}"
        state[name] = x
    return state


def test_wrong_files() -> None:
    state = original("mimicry_sngan32_d")
    assert "holds no network of mimicry's names" in refused({"weight": torch.zeros(2)}, "mimicry")
    assert "holds no generator; it holds a discriminator" in refused(state, "mimicry", "--part", "generator")
    short = {name: x for name, x in state.items() if name != "block3.c2.bias"}
    assert "missing: block3.c2.bias" in refused(short, "mimicry")
    assert "left over: extra" in refused(state | {"extra": torch.zeros(1)}, "slimgan")
    assert "misshapen: block2.c1.bias" in refused(state | {"block2.c1.bias": torch.zeros(3)}, "mimicry")
    more = {f"block{number}.c1.bias": torch.zeros(3) for number in (7, 8, 9)}
    assert "no known discriminator" in refused(state | more, "mimicry")
    assert "does not belong" in refused({"block1.c1.sn_u": torch.zeros(1, 2)}, "slimgan")
    slimmable = original("slimgan_sndcgan32_step:generator")
    assert "missing: b1.bias" in refused(slimmable, "mimicry")
    assert "no known generator" in refused({"l1.weight": torch.zeros(3)}, "slimgan")
