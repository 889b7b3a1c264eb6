"""StyleGAN2 and FastGAN slimmed by the mechanism that slims SNGAN: against plain networks, at any widths."""

import copy
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gansharing.checkpoints import load, save_network
from gansharing.errors import UserError
from gansharing.latent import style_based
from gansharing.networks import FastGANGenerator, Generator, SNGANGenerator, StyleGAN2Generator
from gansharing.objectives import PathLength
from gansharing.slimmable import SlimmableGenerator, at_width, extract, recalibrate

LATENT = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 2, 1])
MAKERS = {
    "stylegan2": lambda: StyleGAN2Generator(16, 8, 8, 0, 2, channel_base=256, channel_max=24),
    "fastgan": lambda: FastGANGenerator(64, 8, 4, tanh="always"),
}
ALL = MAKERS | {
    "sngan": lambda: SNGANGenerator(32, 8, channels=8),
    "classes": lambda: SNGANGenerator(32, 8, 3, channels=8),
}


def disturbed(network: nn.Module) -> nn.Module:
    """Nothing at its initial value: strengths of noise, biases and running statistics neither."""
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.add_(torch.randn(tensor.shape, generator=source), alpha=0.1)
        for name, buffer in network.named_buffers():
            if "running" in name or name.endswith("w_avg"):
                buffer += 0.1 * torch.rand(buffer.shape, generator=source)
    return network.eval()


def generator(name: str, widths: list[float], between: bool = False) -> SlimmableGenerator:
    slim = disturbed(SlimmableGenerator(ALL[name](), widths, between=between))
    assert isinstance(slim, SlimmableGenerator)
    return slim


@pytest.mark.parametrize("name", MAKERS)
def test_at_full_width_nothing_changes(name: str) -> None:
    plain = disturbed(MAKERS[name]())
    slim = SlimmableGenerator(copy.deepcopy(plain), [0.5, 1]).eval()  # type: ignore[arg-type]
    assert torch.equal(slim(LATENT), plain(LATENT))


@pytest.mark.parametrize("name", MAKERS)
@given(st.lists(st.integers(25, 99), min_size=1, max_size=2, unique=True))
@settings(max_examples=5)
def test_any_width_is_an_ordinary_network(name: str, hundredths: list[int]) -> None:
    widths = [count / 100 for count in sorted(hundredths)] + [1.0]
    slim = generator(name, widths)
    for width in widths:
        alone = extract(slim, width)
        assert type(alone) is type(slim.network)
        assert not [m for m in alone.modules() if parametrize.is_parametrized(m)]
        with at_width(width):
            expected = slim(LATENT)
        torch.testing.assert_close(alone(LATENT), expected, rtol=0, atol=1e-6)


@given(st.integers(10, 100))
@settings(max_examples=10)
def test_a_narrow_stylegan2_has_the_first_part_of_every_tensor(hundredths: int) -> None:
    width = hundredths / 100
    slim = generator("stylegan2", sorted({width, 1.0}))
    whole = extract(slim, 1.0).state_dict()
    plain = StyleGAN2Generator(
        16, 8, 8, 0, 2, channel_base=256 * hundredths // 100, channel_max=24 * hundredths // 100
    )
    parts = {name: whole[name][tuple(map(slice, part.shape))] for name, part in plain.state_dict().items()}
    plain.load_state_dict(parts)
    with at_width(width):
        torch.testing.assert_close(slim(LATENT), plain.eval()(LATENT), rtol=0, atol=1e-6)
    for kept in ("mapping.fc0.weight", "mapping.w_avg", "synthesis.b8.conv0.noise_const"):
        assert torch.equal(parts[kept], whole[kept])


def test_a_gated_convolution_keeps_the_first_channels_of_both_halves() -> None:
    slim = generator("fastgan", [0.5, 1.0])
    network: Any = slim.network
    gated, start = network.blocks["8"].convs[1], network.start
    whole, inputs = gated.conv.weight, start.conv.weight
    norm = gated.norm.norms[1]
    channels = len(whole) // 2
    both = [*range(channels // 2), *range(channels, channels + channels // 2)]
    with at_width(0.5):
        part, first = gated.conv.weight, start.conv.weight
    assert torch.equal(part, whole[both][:, : channels // 2])
    half = inputs.shape[1] // 2
    assert torch.equal(first, inputs[:, [*range(half // 2), *range(half, half + half // 2)]])
    fresh = SlimmableGenerator(FastGANGenerator(64, 8, 4), [0.5, 1.0])
    ordinary: Any = disturbed(FastGANGenerator(64, 8, 4))
    taken: Any = SlimmableGenerator(copy.deepcopy(ordinary), [0.5, 1.0]).network
    narrow = taken.blocks["8"].convs[1].norm.norms[0]
    assert torch.equal(narrow.running_var, ordinary.blocks["8"].convs[1].norm.running_var[both])
    assert norm.num_features == 2 * channels and len(fresh.network.gated_layers()) == 14


def test_spectral_norm_is_of_the_whole_weight_and_a_cut_leaves_it_alone() -> None:
    slim = SlimmableGenerator(FastGANGenerator(64, 8, 4), [0.5, 1.0]).train()
    chain: Any = slim.network.get_submodule("to_image.parametrizations.weight")
    before = {name: tensor.clone() for name, tensor in slim.state_dict().items()}
    alone: Any = extract(slim, 0.5)
    assert slim.training and alone.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in slim.state_dict().items())
    sigma = chain[0]._u @ chain.original.flatten(1) @ chain[0]._v
    torch.testing.assert_close(alone.to_image.weight, (chain.original / sigma)[:, :4])


def test_what_a_network_offers_is_there_at_every_width() -> None:
    slim = generator("stylegan2", [0.5, 1.0])
    network = style_based(slim)
    assert list(slim.options()) == ["truncation", "cutoff", "noise"]
    assert network.num_ws == 6 and slim.trained_buffers() == ["network.mapping.w_avg"]
    assert slim.style_layers().keys() <= dict(slim.named_modules()).keys()
    with at_width(0.5):
        alone = extract(slim, 0.5)
        styles = network.style(LATENT, truncation=0.7)
        torch.testing.assert_close(styles, alone.style(LATENT, truncation=0.7))  # type: ignore[operator]
        images = slim(LATENT, truncation=0.7, noise="none")
        torch.testing.assert_close(images, alone(LATENT, truncation=0.7, noise="none"))
        assert torch.equal(network.synthesis(styles, noise="none"), images)
        penalty = PathLength(every=1)
        penalty.check(slim)
        penalty(slim, LATENT).backward()
        assert sum(p.numel() for s in slim.stages().values() for p in s.parameters()) == sum(
            p.numel() for p in slim.parameters()
        )
    heads = generator("fastgan", [0.5, 1.0]).heads(LATENT)
    assert heads.small.shape == (3, 3, 32, 32)
    with pytest.raises(AttributeError, match="nowhere"):
        slim.nowhere  # noqa: B018


@pytest.mark.parametrize("name", MAKERS)
def test_files_hold_them_whole_and_cut_out(name: str, tmp_path: Path) -> None:
    slim = generator(name, [0.5, 1.0])
    for network in (slim, extract(slim, 0.5)):
        file = tmp_path / "g.safetensors"
        save_network(network, file, "generator")
        with at_width(0.5):
            assert torch.equal(load(file)(LATENT), network(LATENT))


@pytest.mark.parametrize("name", ALL)
def test_a_width_in_between_trains_and_moves_no_statistics(name: str) -> None:
    slim, state = generator(name, [0.4, 1.0], between=True).train(), torch.get_rng_state()
    before = {key: tensor.clone() for key, tensor in slim.named_buffers() if "running" in key}
    with at_width(0.7):
        slim.shapes.at(0.7)
        assert torch.equal(torch.get_rng_state(), state)
        images = slim(LATENT, LABELS)
        images.square().mean().backward()
    assert images.shape[0] == 3 and images.isfinite().all()
    assert all(torch.equal(tensor, before[key]) for key, tensor in slim.named_buffers() if "running" in key)
    norms: list[Any] = [m for m in slim.modules() if isinstance(getattr(m, "norms", None), nn.ModuleList)]
    for norm in norms:
        narrow, wide = norm.norms
        assert all(p.grad is None for p in narrow.parameters())
        assert all(p.grad is not None for p in wide.parameters())


def batch_statistics(
    network: nn.Module, latents: Tensor, labels: Tensor | None
) -> list[tuple[Tensor, Tensor]]:
    """Mean and variance of what each batch norm is given when the norms before it use the batch's own."""
    found: list[tuple[Tensor, Tensor]] = []
    network.requires_grad_(False)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = [
        norm.register_forward_pre_hook(
            lambda _, given: found.append((given[0].mean((0, 2, 3)), given[0].var((0, 2, 3))))
        )
        for norm in norms
    ]
    for norm in norms:
        norm.train()
    network(latents, labels)
    for hook in hooks:
        hook.remove()
    network.eval()
    return found


@pytest.mark.parametrize("name", ["sngan", "classes", "fastgan"])
def test_statistics_are_measured_for_a_width_never_trained(name: str) -> None:
    slim = generator(name, [0.4, 1.0], between=True)
    alone = extract(slim, 0.7)
    measured = copy.deepcopy(alone)
    assert isinstance(measured, Generator)
    recalibrate(measured, samples=64, batch_size=64)
    source = torch.Generator()
    latents = torch.cat([measured.sample_latent(1, source.manual_seed(seed)) for seed in range(64)])
    expected = batch_statistics(copy.deepcopy(measured), latents, torch.arange(64) % 3)
    norms: list[Any] = [m for m in measured.modules() if isinstance(m, nn.BatchNorm2d)]
    seen = {id(norm): (norm.running_mean, norm.running_var) for norm in norms}
    assert len(expected) == len(norms)
    means = sorted(float(mean.sum()) for mean, _ in expected)
    torch.testing.assert_close(means, sorted(float(m.sum()) for m, _ in seen.values()), rtol=1e-3, atol=1e-4)
    variances = sorted(float(var.sum()) for _, var in expected)
    torch.testing.assert_close(
        variances, sorted(float(v.sum()) for _, v in seen.values()), rtol=1e-3, atol=1e-4
    )
    assert not alone.training and [norm.momentum for norm in norms] == [0.1] * len(norms)
    # In train mode the slimmable network normalises by the batch, as the cut one does.
    slim.train()
    with at_width(0.7), torch.no_grad():
        images = slim(LATENT, LABELS)
    batch_norms = [m for m in alone.modules() if isinstance(m, nn.BatchNorm2d)]
    if name != "fastgan":  # which draws noise then
        for norm in batch_norms:
            norm.train()
        torch.testing.assert_close(alone(LATENT, LABELS), images, rtol=0, atol=1e-5)


def test_mistakes_with_widths_in_between_are_told() -> None:
    slim = generator("sngan", [0.4, 1.0], between=True)
    with pytest.raises(UserError, match="cut it out by extract"), at_width(0.7):
        slim(LATENT)
    with pytest.raises(UserError, match="no width 0.3; it has 0.4, 1 and those between"):
        extract(slim, 0.3)
    with pytest.raises(UserError, match=r"no width 0.7; it has 0.4, 1$"):
        extract(generator("sngan", [0.4, 1.0]), 0.7)
    assert "spectral" in inspect.signature(FastGANGenerator).parameters
