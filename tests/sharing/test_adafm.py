"""AdaFM and filter selection against recorded outputs of the original, and against each other."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gansharing
from gansharing.checkpoints import save_network
from gansharing.errors import UserError
from gansharing.networks import Network
from gansharing.networks.gpgan import ResidualBlock
from gansharing.sharing import (
    AdaFM,
    Combined,
    FilterSelection,
    FreezeLower,
    LayerWise,
    LowRank,
    Sharing,
    WidthWise,
    build_shared,
    build_sharing,
    described,
    merged,
    split_of,
)
from tests.golden.gpgan import arrays, original
from tests.sharing.test_sharing import NETWORKS, build, output


class Layer(Network):
    """One convolution as a network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_0 = nn.Conv2d(6, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_0(x)


class Block(Network):
    """One residual block as a network."""

    def __init__(self) -> None:
        super().__init__()
        self.block = ResidualBlock(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


def close(actual: Tensor | None, expected: Tensor) -> None:
    """Within 1e-5 of the largest entry."""
    assert actual is not None
    atol = 1e-5 * expected.abs().max().item()
    torch.testing.assert_close(actual.detach().reshape(expected.shape), expected, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("name", "sharing", "gamma", "beta"),
    [
        ("adafm_conv", AdaFM(), "small_adafm_0.style_gama", "small_adafm_0.style_beta"),
        ("fs_conv", FilterSelection(), "gamma", "beta"),
    ],
)
def test_a_modulated_convolution_is_the_original(name: str, sharing: Sharing, gamma: str, beta: str) -> None:
    golden, state, net = arrays("adafm", name), original(name), Layer()
    sharing.apply(net)
    chain: Any = net.get_submodule("conv_0.parametrizations.weight")
    with torch.no_grad():
        chain.original0.copy_(state["conv_0.weight"])
        chain.original1.copy_(state[gamma].reshape(chain.original1.shape))
        chain.original2.copy_(state[beta].reshape(chain.original2.shape))
        net.conv_0.bias.copy_(state["conv_0.bias"])  # type: ignore[union-attr]
    close(net.conv_0.weight, golden["out_weight_mod"])
    x = golden["in_x"].requires_grad_()
    out = net(x)
    close(out, golden["out_out"])
    (out * golden["in_probe"]).sum().backward()
    close(x.grad, golden["out_grad_x"])
    close(chain.original0.grad, golden["out_grad_conv_0_weight"])
    close(chain.original1.grad, golden[f"out_grad_{gamma.replace('.', '_')}"])
    close(chain.original2.grad, golden[f"out_grad_{beta.replace('.', '_')}"])
    close(net.conv_0.bias.grad, golden["out_grad_conv_0_bias"])  # type: ignore[union-attr]


def test_a_modulated_block_is_the_original() -> None:
    golden, state, net = arrays("adafm", "adafm_block"), original("adafm_block"), Block()
    assert set(AdaFM().apply(net).shared) == {
        *(f"block.conv_{i}.parametrizations.weight.original0" for i in (0, 1)),
        "block.conv_0.bias",
        "block.conv_1.bias",
        "block.conv_s.weight",  # a 1x1 kernel
    }
    names = {
        "small_adafm_(.).style_gama": r"conv_\1.parametrizations.weight.original1",
        "small_adafm_(.).style_beta": r"conv_\1.parametrizations.weight.original2",
        "conv_([01]).weight": r"conv_\1.parametrizations.weight.original0",
    }
    order = [f"block.{rename(key, names)}" for key in state]
    net.load_state_dict(dict(zip(order, state.values(), strict=True)))
    x = golden["in_x"].requires_grad_()
    out = net(x)
    close(out, golden["out_out"])
    (out * golden["in_probe"]).sum().backward()
    close(x.grad, golden["out_grad_x"])
    gradients = [dict(net.named_parameters())[name].grad for name in order]
    close(torch.stack([g.norm() for g in gradients if g is not None]), golden["out_grad_norms"])


def rename(key: str, names: dict[str, str]) -> str:
    for pattern, replacement in names.items():
        key = re.sub(pattern, replacement, key)
    return key


def modulate(net: Network) -> None:
    """Move every gamma and beta by numbers that depend on the output channel alone."""
    source = torch.Generator().manual_seed(2)
    for name, parameter in net.named_parameters():
        if name.endswith(("original1", "original2")):
            layer = net.get_submodule(name.split(".parametrizations")[0])
            transposed = isinstance(layer, nn.ConvTranspose2d)
            outputs = parameter.shape[1 if transposed else 0]
            drawn = 0.2 * torch.randn(outputs, generator=source)
            with torch.no_grad():
                parameter += drawn[None, :, None, None] if transposed else drawn[:, None, None, None]


@pytest.mark.parametrize("name", NETWORKS)
def test_filter_selection_is_adafm_of_rank_one(name: str) -> None:
    selected, modulated = build(name), build(name)
    few, many = FilterSelection().apply(selected), AdaFM().apply(modulated)
    assert few.domain.keys() == many.domain.keys()
    assert few.domain_size < many.domain_size
    start = output(selected)
    modulate(selected)
    modulate(modulated)
    assert torch.equal(output(selected), output(modulated))
    assert not torch.equal(output(selected), start)


@pytest.mark.parametrize("name", NETWORKS)
def test_gamma_and_beta_are_those_of_equation_2(name: str) -> None:
    net = build(name)
    weights = {n: p.clone() for n, p in net.named_parameters()}
    split = AdaFM().apply(net)
    for parameter in split.domain.values():
        nn.init.uniform_(parameter)
    for own in split.domain:
        if own.endswith("original1"):
            layer = own.removesuffix(".parametrizations.weight.original1")
            gamma, beta = split.domain[own], split.domain[own.replace("original1", "original2")]
            before = weights.get(f"{layer}.weight", weights.get(f"{layer}.parametrizations.weight.original"))
            chain: Any = net.get_submodule(f"{layer}.parametrizations.weight")
            assert before is not None and gamma.shape == (*before.shape[:2], 1, 1)
            for i, j in ((0, 0), (len(before) - 1, before.shape[1] - 1)):
                expected = gamma[i, j] * before[i, j] + beta[i, j]
                close(chain[0](chain.original0, gamma, beta)[i, j], expected.detach())


def test_what_gan_memory_modulates() -> None:
    net = build("gpgan")
    before = output(net)
    include = ["fc.weight", "resnet_*.conv_[01].weight"]
    split = AdaFM(include, linear=True, bias=True, normalise=True).apply(net)
    layers = {name.split(".parametrizations")[0] for name in split.domain}
    assert layers == {"fc", *(f"resnet_{i}_{j}.conv_{k}" for i in range(6) for j in (0, 1) for k in (0, 1))}
    kinds = {name.split(".parametrizations.")[1] for name in split.domain}
    assert kinds == {"weight.original1", "weight.original2", "bias.original1"}
    assert split.domain["fc.parametrizations.weight.original1"].shape == (32, 1)
    close(output(net), before.detach())
    filters = split.shared["resnet_3_1.conv_0.parametrizations.weight.original0"].flatten(2)
    torch.testing.assert_close(filters.mean(2), torch.zeros(filters.shape[:2]), rtol=0, atol=1e-5)
    torch.testing.assert_close(filters.std(2), torch.ones(filters.shape[:2]))


def test_filters_without_deviation_keep_their_mean() -> None:
    net = Block()
    nn.init.constant_(net.block.conv_0.weight, 0.5)
    x = torch.randn(1, 8, 4, 4)
    before = net(x)
    AdaFM(["*.weight"], normalise=True).apply(net)
    close(net(x), before.detach())


def test_kernels_of_one_number_only_where_they_are_named() -> None:
    assert AdaFM(["*.conv_s.weight"]).apply(build("gpgan")).domain.keys() == {
        f"resnet_{i}_0.conv_s.parametrizations.weight.original{k}" for i in range(2, 6) for k in (1, 2)
    }
    assert not any("conv_s" in name for name in AdaFM().apply(build("gpgan")).domain)
    assert not any("conv_s" in name for name in FilterSelection().apply(build("gpgan")).domain)
    for sharing in (AdaFM(["fc.weight"]), AdaFM(["nothing"]), FilterSelection(["fc.weight"])):
        with pytest.raises(UserError, match="no convolution larger than 1x1, or none that include names"):
            sharing.apply(build("gpgan"))


def test_folds_into_a_plain_file(tmp_path: Path) -> None:
    net = build("smallhead")
    Combined([AdaFM(), FreezeLower(4)]).apply(net)
    modulate(net)
    save_network(net, tmp_path / "g.safetensors", "generator")
    plain = gansharing.load(tmp_path / "g.safetensors")
    assert plain.state_dict().keys() == build("smallhead").state_dict().keys()
    assert torch.equal(output(plain), output(net))
    divided = gansharing.load(tmp_path / "g.safetensors", divided=True)
    assert split_of(divided).domain.keys() == split_of(net).domain.keys()


def test_combined_gives_what_any_of_them_gives() -> None:
    net = build("gpgan")
    combined = Combined([AdaFM(["resnet_5*.weight"]), LowRank(1), WidthWise(0.5), LayerWise(["conv_img"])])
    split = combined.apply(net)
    divided = {name.split(".parametrizations")[0] for name in split.domain if "parametrizations" in name}
    assert {"fc", "resnet_0_0.conv_0", "resnet_5_1.conv_1"} <= divided
    assert "conv_img.bias" in split.domain
    assert merged(net).config == build("gpgan").config
    again = build_shared(net.config)
    assert split_of(again).domain.keys() == split.domain.keys()
    assert build_sharing(combined.config).config == combined.config
    few = Combined([AdaFM(["*.weight"]), FreezeLower(4)])
    assert described(few.config) == (
        "Combined(sharings=[AdaFM(include=[*.weight], linear=False, bias=False, normalise=False), "
        "FreezeLower(stages=4)])"
    )


def test_combined_refuses_what_cannot_be_combined() -> None:
    with pytest.raises(UserError, match="at least one sharing"):
        Combined([])
    with pytest.raises(UserError, match="put those that choose whole tensors last"):
        Combined([LayerWise(["fc"]), WidthWise(0.5)]).apply(build("gpgan"))
    with pytest.raises(UserError, match="LowRank: no included weight .*; FilterSelection: it has no conv"):
        Combined([LowRank(99), FilterSelection(["fc.weight"])]).apply(build("gpgan"))
