"""A domain and a width chosen at run time: width-wise sharing of slimmable networks, and their deltas."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gansharing.checkpoints import load, save_network
from gansharing.networks import FastGANGenerator, SNDCGANGenerator, SNGANGenerator, StyleGAN2Generator
from gansharing.sharing import Domains, Split, WidthWise, apply_delta, delta_of, merged, split_of
from gansharing.sharing.lean import Halves
from gansharing.slimmable import SlimmableGenerator, at_width, extract

LATENT = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
DOMAIN = torch.tensor([0, 1, 1, 0])
WIDTHS = [0.25, 0.5, 1.0]
MAKERS = {
    "stylegan2": lambda: StyleGAN2Generator(16, 8, 8, 0, 2, channel_base=256, channel_max=16),
    "fastgan": lambda: FastGANGenerator(32, 8, 8, tanh="always"),
    "sngan": lambda: SNGANGenerator(32, 8, channels=16),
    "sndcgan": lambda: SNDCGANGenerator(32, 8, channels=32),
}


def moved(base: SlimmableGenerator, seed: int) -> SlimmableGenerator:
    """A copy, divided, whose domain has been trained somewhere."""
    network, source = copy.deepcopy(base), torch.Generator().manual_seed(seed)
    split = WidthWise(0.3).apply(network)
    split.freeze_shared()
    with torch.no_grad():
        for parameter in split.domain.values():
            parameter.mul_(1 + 0.1 * torch.randn(parameter.shape, generator=source, dtype=parameter.dtype))
    return network


@pytest.mark.parametrize("name", MAKERS)
def test_a_domains_width_is_cut_out_of_the_merged_network(name: str) -> None:
    network = moved(SlimmableGenerator(MAKERS[name](), WIDTHS).eval(), 1)
    whole = merged(network)
    assert isinstance(whole, SlimmableGenerator)
    for width in WIDTHS:
        with at_width(width):
            images = network(LATENT)
        for source in (whole, network):
            torch.testing.assert_close(extract(source, width)(LATENT), images, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", MAKERS)
def test_domains_are_mixed_at_any_width(name: str) -> None:
    base = SlimmableGenerator(MAKERS[name]().double(), WIDTHS).eval()
    networks = [moved(base, 1), moved(base, 2)]
    domains, latent = Domains(copy.deepcopy(base), [delta_of(n) for n in networks]), LATENT.double()
    for width in WIDTHS:
        with at_width(width), torch.no_grad():
            expected = torch.stack([n(latent) for n in networks])[DOMAIN, torch.arange(4)]
            torch.testing.assert_close(domains(latent, DOMAIN), expected, rtol=1e-9, atol=1e-9)


def test_a_delta_brings_every_width(tmp_path: Path) -> None:
    base = SlimmableGenerator(MAKERS["sngan"](), WIDTHS).eval()
    domain = moved(base, 1)
    save_network(base, tmp_path / "base.safetensors", "generator")
    served = load(tmp_path / "base.safetensors")
    apply_delta(served, delta_of(domain))
    for width in WIDTHS:
        with at_width(width):
            assert torch.equal(served(LATENT), domain(LATENT))


def columns(split: Split, network: SlimmableGenerator, width: float) -> list[tuple[int, int, int]]:
    """Of each divided weight: the domain's input columns, and those of the width and of the whole."""
    found = []
    for name, module in network.network.named_modules():
        inner = f"network.{name}.parametrizations.weight.original0"
        if inner in split.domain:
            dim = 0 if isinstance(module, torch.nn.ConvTranspose2d) else 1
            whole = module.weight.shape[dim]  # type: ignore[union-attr, index, operator]
            with at_width(width):
                found.append((split.domain[inner].shape[dim], module.weight.shape[dim], whole))  # type: ignore
    return found


def test_a_narrow_width_keeps_the_domains_columns_first() -> None:
    network = moved(SlimmableGenerator(MAKERS["sngan"](), WIDTHS), 1)
    split = split_of(network)
    sliced = [c for c in columns(split, network, 0.25) if c[1] < c[2]]
    assert sliced and all(own == int(0.3 * whole) and part == whole // 4 for own, part, whole in sliced)
    before = {name: p.detach().clone() for name, p in split.shared.items()}
    with torch.no_grad():  # at a width below the learn ratio no shared column is left
        with at_width(0.25):
            narrow = network.eval()(LATENT)
        for name, parameter in split.shared.items():
            if name.endswith("weight.original1") and ".first." not in name:
                parameter.add_(1.0)
        with at_width(0.25):
            assert torch.equal(network(LATENT), narrow)
        assert any(not torch.equal(p, before[name]) for name, p in split.shared.items())


@pytest.mark.parametrize("name", ["stylegan2", "sngan", "sndcgan"])
def test_gradients_of_a_narrow_domain_are_those_of_the_whole_weights(name: str) -> None:
    base = SlimmableGenerator(MAKERS[name]().double(), WIDTHS).train()
    frozen, whole = moved(base, 1), moved(base, 1)
    for parameter in whole.parameters():
        parameter.requires_grad_(True)
    for network in (frozen, whole):
        with at_width(0.5):
            options = {"noise": "none"} if name == "stylegan2" else {}
            network(LATENT.double(), **options).square().mean().backward()
    expected = split_of(whole).domain
    for key, parameter in split_of(frozen).domain.items():
        torch.testing.assert_close(parameter.grad, expected[key].grad, rtol=1e-9, atol=1e-12)
    assert all(parameter.grad is None for parameter in split_of(frozen).shared.values())


def test_a_cut_weight_stays_divided() -> None:
    domain, shared = torch.randn(4, 2, 3, 3, requires_grad=True), torch.randn(4, 6, 3, 3)
    halves = Halves(domain, shared, 1)
    whole = torch.cat([domain, shared], 1)

    def entire(weight: Tensor) -> Tensor:
        return weight.whole() if isinstance(weight, Halves) else weight

    for dim, start, length in ((1, 0, 5), (1, 0, 2), (1, 0, 1), (0, 1, 2), (-3, 0, 5)):
        part = halves.narrow(dim, start, length)
        assert isinstance(part, Halves) == (length == 5 or dim == 0)
        assert torch.equal(entire(part), whole.narrow(dim, start, length))
    assert torch.equal(entire(halves.narrow(1, 3, 2)), whole.narrow(1, 3, 2))
