"""GAN_stability's, AdaFM's and GAN Memory's checkpoints through the real program, there and back."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import gansharing
from gansharing.networks import GPGANGenerator, Network, SmallHeadGenerator
from gansharing.sharing import split_of
from tests.cli.program import run
from tests.golden.gpgan import arrays, original

State = dict[str, Tensor]
VARIANTS = ["gpgan_g", "gpgan_resnet_g", "gpgan_resnet4_g", "gpgan_d", "gpgan_resnet_d"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def import_(content: Any, form: str, *options: str, out: str = "x.safetensors") -> str:
    torch.save(content, "original.pt")
    done = run("import", "original.pt", "--format", form, "--out", out, *options)
    assert done.code == 0, done.err
    return done.out


def export(form: str, part: str = "generator", source: str = "x.safetensors") -> Any:
    done = run("export", source, "--format", form, "--part", part, "--out", "back.pt")
    assert done.code == 0, done.err
    return torch.load("back.pt", weights_only=True)


def refused(content: Any, form: str, *options: str) -> str:
    torch.save(content, "original.pt")
    done = run("import", "original.pt", "--format", form, *options)
    assert done.code != 0 and not Path("imported.safetensors").exists()
    return " ".join(done.err.split())


def parallel(state: State) -> State:
    return {f"module.{name}": tensor for name, tensor in state.items()}


def same(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize("name", VARIANTS)
def test_a_release_is_read_and_written_back(name: str) -> None:
    state, part = original(name), "discriminator" if name.endswith("_d") else "generator"
    content: dict[str, Any] = {part: parallel(state), "it": 7, "g_optimizer": {"state": {}}}
    import_(content, "gan-stability", "--part", part)
    network = gansharing.load("x.safetensors", part)
    assert isinstance(network, Network)
    if part == "generator":
        golden = arrays("gpgan", name)
        images = network(golden["in_z"], golden["in_y"])[..., ::3, ::3]
        torch.testing.assert_close(images, golden["out_out"], rtol=0, atol=1e-5)
    back = export("gan-stability", part)
    for written in back.values():
        same(written, parallel(state))
    assert back.keys() == ({"generator", "generator_test"} if part == "generator" else {"discriminator"})
    same(export("adafm", part), state)


def test_the_average_comes_before_the_live_generator() -> None:
    average = original("gpgan_resnet4_g")
    live = {name: tensor + 1 for name, tensor in average.items()}
    content = {"generator": parallel(live), "generator_test": parallel(average)}
    assert "read generator_test" in import_(content, "gan-stability")
    same(export("adafm"), average)
    import_(content, "gan-stability", "--part", "generator")
    same(export("adafm"), live)
    said = import_({"generator": parallel(live)}, "gan-stability")
    assert "not averaged" in " ".join(said.split())
    same(export("adafm"), live)
    assert "holds no discriminator" in refused(content, "gan-stability", "--part", "discriminator")


def small_head() -> State:
    """A result of the original's names, narrower: channels, style and latent."""
    state = {}
    for name, tensor in original("adafm_g").items():
        keep = [slice(None)] * tensor.ndim
        for dim, length in enumerate(tensor.shape):
            if name.startswith("small_style") or "style.linear" in name and dim == 1:
                wide = {64: 6, 256: 4}.get(length, length)
            elif name.startswith("small_H.norm") or dim > 1:
                wide = length
            elif name.startswith("small_fc"):
                wide = {8192: 256, 64: 6}[length]
            elif length in (1024, 512, 256, 128, 64):
                wide = length // 32
            else:
                wide = length
            keep[dim] = slice(wide)
        state[name] = tensor[tuple(keep)].clone()
    return state


def test_a_transfer_with_small_head_and_adafm() -> None:
    state = small_head()
    assert len(state) == 98
    import_(state, "adafm")
    divided = gansharing.load("x.safetensors", divided=True)
    assert isinstance(divided, SmallHeadGenerator)
    assert (divided.resolution, divided.latent_dim) == (128, 6)
    split = split_of(divided)
    blocks = [f"resnet_{group}_{block}" for group in (3, 4, 5) for block in (0, 1)]
    assert set(split.shared) == {
        *(f"{block}.conv_{k}.parametrizations.weight.original0" for block in blocks for k in (0, 1)),
        *(f"{block}.conv_{k}.bias" for block in blocks for k in (0, 1)),
        *(f"{block}.conv_s.weight" for block in blocks[::2]),
        "conv_img.weight",
        "conv_img.bias",
    }
    same(export("adafm"), state)
    plain, latent = gansharing.load("x.safetensors"), torch.randn(2, 6)
    with torch.no_grad():
        assert torch.equal(plain(latent), divided(latent))
    weight = plain.get_submodule("resnet_4_1.conv_0").weight
    gamma, beta = (state[f"resnet_4_1.small_adafm_0.style_{which}"] for which in ("gama", "beta"))
    torch.testing.assert_close(weight, state["resnet_4_1.conv_0.weight"] * gamma + beta)

    # Labels reach no output, and are of any number and length.
    said = import_(state | {"small_embedding.weight": torch.randn(5, 8)}, "adafm", out="labelled.safetensors")
    assert "small_embedding (5, 8)" in " ".join(said.split())
    with torch.no_grad():
        assert torch.equal(gansharing.load("labelled.safetensors")(latent), plain(latent))

    # Folded: the original's class has gamma and beta always.
    done = run("export", "x.safetensors", "--out", "folded.safetensors")
    assert done.code == 0, done.err
    folded = export("adafm", source="folded.safetensors")
    assert folded.keys() == state.keys()
    assert torch.equal(folded["resnet_4_1.conv_0.weight"], weight)
    assert all((folded[name] == 1).all() for name in folded if name.endswith("style_gama"))
    assert all((folded[name] == 0).all() for name in folded if name.endswith("style_beta"))


def test_older_names_and_checkpoints_with_optimisers() -> None:
    state = small_head()
    old = {name.replace("small_adafm_", "small_style_adain_"): tensor for name, tensor in state.items()}
    assert old.keys() != state.keys()
    import_({"generator": old, "generator_test": old, "it": 3}, "adafm")
    same(export("adafm"), state)
    import_({"generator": old, "generator_test": old, "it": 3}, "adafm", out="again.safetensors")
    again = gansharing.load("again.safetensors")
    assert all(
        torch.equal(one, other)
        for one, other in zip(gansharing.load("x.safetensors").buffers(), again.buffers(), strict=True)
    )
    # Without AdaFM: SmallHead.
    plain = {name: tensor for name, tensor in state.items() if "adafm" not in name}
    import_(plain, "adafm")
    assert "sharing" not in gansharing.load("x.safetensors", divided=True).config
    same({name: tensor for name, tensor in export("adafm").items() if name in plain}, plain)


def test_a_lifelong_task_whole_and_alone() -> None:
    state, golden = original("ganmemory_g"), arrays("gpgan", "ganmemory_g")
    import_(state, "ganmemory")
    images = gansharing.load("x.safetensors")(golden["in_z"], golden["in_y"])
    torch.testing.assert_close(images[..., ::3, ::3], golden["out_out"], rtol=0, atol=1e-5)
    same(export("ganmemory"), state)

    # One task alone lies over the source with normalised filters.
    task = {name: tensor for name, tensor in state.items() if "AdaFM" in name}
    source = {name: tensor for name, tensor in state.items() if "AdaFM" not in name}
    import_(source, "gan-stability", out="source.safetensors")
    assert "--over FILE" in refused(task, "ganmemory")
    import_(task, "ganmemory", "--over", "source.safetensors")
    both = export("ganmemory")
    same({name: both[name] for name in task}, task)
    for name in ("resnet_2_0.conv_1.weight", "fc.weight"):
        dims = (2, 3) if source[name].ndim == 4 else (1,)
        mean, deviation = source[name].mean(dims, keepdim=True), source[name].std(dims, keepdim=True)
        torch.testing.assert_close(both[name], (source[name] - mean) / deviation)
    assert torch.equal(both["conv_img.weight"], source["conv_img.weight"])
    split = split_of(gansharing.load("x.safetensors", divided=True))
    assert split.domain_size == sum(tensor.numel() for tensor in task.values())
    assert isinstance(split.network, GPGANGenerator)


def test_a_lifelong_discriminator_owns_its_last_layer() -> None:
    network = gansharing.networks.GPGANDiscriminator(64, base_channels=4, variant="resnet4")
    gansharing.checkpoints.save_network(network, "d.safetensors", "discriminator")
    task: State = {"fc.weight": torch.ones(1, 64), "fc.bias": torch.ones(1)}
    for name, tensor in network.state_dict().items():
        if name.startswith("resnet_") and name.endswith(("0.weight", "1.weight")):
            block, _, layer = name.removesuffix(".weight").rpartition(".")
            task[f"{block}.AdaFM_{layer[-1]}.style_gama"] = torch.full((*tensor.shape[:2], 1, 1), 0.9)
            task[f"{block}.AdaFM_{layer[-1]}.style_beta"] = torch.full((*tensor.shape[:2], 1, 1), 0.1)
            task[f"{block}.AdaFM_b{layer[-1]}"] = torch.full((len(tensor),), 0.2)
    import_(task, "ganmemory", "--over", "d.safetensors")
    divided = gansharing.load("x.safetensors", "discriminator", divided=True)
    assert split_of(divided).domain_size == sum(t.numel() for t in task.values())
    name = "resnet_3_0.conv_1"
    merged, before = gansharing.load("x.safetensors", "discriminator").state_dict(), network.state_dict()
    torch.testing.assert_close(merged[f"{name}.weight"], 0.9 * before[f"{name}.weight"] + 0.1)
    torch.testing.assert_close(merged[f"{name}.bias"], before[f"{name}.bias"] + 0.2)
    both = export("ganmemory", "discriminator")
    same({key: both[key] for key in task}, task)


def test_what_does_not_fit_is_named() -> None:
    state = original("gpgan_resnet4_g")
    lost = {name: t for name, t in state.items() if name != "resnet_2_0.conv_s.weight"}
    assert "missing: resnet_2_0.conv_s.weight" in refused(lost, "gan-stability")
    assert "left over: more" in refused(state | {"more": torch.ones(1)}, "gan-stability")
    bent = state | {"conv_img.bias": torch.ones(4)}
    assert "misshapen: conv_img.bias" in refused(bent, "gan-stability")
    three = {name: t for name, t in state.items() if not name.startswith("resnet_6")}
    assert "6 groups of one residual block" in refused(three, "gan-stability")
    assert "no tensor 'fc.weight'" in refused({"embedding.weight": torch.ones(1, 1)}, "gan-stability")
    assert "no network of this format" in refused({"other": {"weight": torch.ones(1)}}, "gan-stability")
    assert "hold whole networks" in refused(state, "gan-stability", "--over", "x")
    import_(state, "gan-stability")
    for form in ("ganmemory", "rosinality"):
        done = run("export", "x.safetensors", "--format", form, "--out", "back.pt")
        assert done.code != 0 and "layout of" in done.err and not Path("back.pt").exists()
