"""Channels by importance: the same images at full width, better ones at half of it."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from gansharing.errors import UserError
from gansharing.networks import (
    DCGANGenerator,
    FastGANGenerator,
    Generator,
    SNDCGANGenerator,
    SNGANGenerator,
    StyleGAN2Generator,
)
from gansharing.sharing import WidthWise
from gansharing.slimmable import SlimmableGenerator, extract, sort_channels
from gansharing.slimmable.sorting import importance

LATENT = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8) % 3
MAKERS = {
    "stylegan2": lambda: StyleGAN2Generator(32, 8, 8, 0, 2, channel_base=512, channel_max=16),
    "fastgan": lambda: FastGANGenerator(64, 8, 4, tanh="always"),
    "sngan": lambda: SNGANGenerator(32, 8, channels=16),
    "classes": lambda: SNGANGenerator(32, 8, 3, channels=16),
    "sndcgan": lambda: SNDCGANGenerator(48, 8, channels=32),
}


def uneven(network: Generator, seed: int = 0, spread: float = 1.0) -> Generator:
    """Kernels whose magnitudes differ by channel, as training makes them; nothing at its initial value."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.add_(torch.randn(tensor.shape, generator=source), alpha=0.1)
        for name, buffer in network.named_buffers():
            if "running" in name:
                buffer += 0.1 * torch.rand(buffer.shape, generator=source)
        for name in (name for features in network.features() for name in features.read):
            layer: Any = network.get_submodule(name)
            weight = (
                layer.parametrizations.weight.original if hasattr(layer, "parametrizations") else layer.weight
            )
            dim = 0 if isinstance(layer, nn.ConvTranspose2d) else 1
            scale = (spread * torch.randn(weight.shape[dim], generator=source)).exp()
            weight *= scale.view([-1 if d == dim else 1 for d in range(weight.ndim)])
    if isinstance(network, FastGANGenerator):
        network.train()(LATENT.to(next(network.parameters())))
    return network.eval()


@pytest.mark.parametrize("name", MAKERS)
def test_sorting_changes_no_image(name: str) -> None:
    plain = uneven(MAKERS[name]().double())
    ordered = sort_channels(copy.deepcopy(plain), samples=64)
    before, after = plain(LATENT.double(), LABELS), ordered(LATENT.double(), LABELS)
    torch.testing.assert_close(after, before, rtol=1e-8, atol=1e-8)
    assert any(not torch.equal(a, b) for a, b in zip(plain.parameters(), ordered.parameters(), strict=True))
    for features in ordered.features():
        assert (importance(ordered, features, {}) > 0).all()


@pytest.mark.parametrize("name", ["fastgan", "sngan", "classes", "sndcgan"])
def test_channels_descend_in_the_kernels_that_read_them(name: str) -> None:
    ordered = sort_channels(uneven(MAKERS[name]()))
    for features in ordered.features():
        magnitude = torch.zeros(())
        for reader in features.read:
            weight = ordered.get_submodule(reader).weight.detach()  # type: ignore[union-attr, operator]
            inputs = weight if isinstance(ordered.get_submodule(reader), nn.ConvTranspose2d) else weight.mT
            channels = len(weight) if inputs is weight else weight.shape[1]
            first = weight.transpose(0, 1) if inputs is not weight else weight
            magnitude = magnitude + first.reshape(channels, -1).abs().sum(1)
        assert (magnitude.diff() <= 1e-5 * magnitude.max()).all()
    again = sort_channels(copy.deepcopy(ordered)).state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in ordered.state_dict().items())


def error_at_half(plain: Generator, prepared: Generator) -> float:
    half = extract(SlimmableGenerator(prepared, [0.5, 1]), 0.5)
    with torch.no_grad():
        return float((half(LATENT, LABELS) - plain(LATENT, LABELS)).square().mean())


def test_half_the_width_is_nearer_to_the_whole_when_sorted() -> None:
    unsorted, better = [], []
    for seed in range(4):
        plain = uneven(MAKERS["stylegan2"](), seed)
        unsorted.append(error_at_half(plain, copy.deepcopy(plain)))
        better.append(error_at_half(plain, sort_channels(copy.deepcopy(plain))))
    ratios = sorted(b / a for a, b in zip(unsorted, better, strict=True))
    assert sum(better) < 0.9 * sum(unsorted) and ratios[2] < 1


def test_what_cannot_be_sorted_is_told() -> None:
    divided = SNGANGenerator(32, 8, channels=8)
    WidthWise(0.3).apply(divided)
    mistakes = {
        "divided by a sharing": divided,
        "no ordinary network": SlimmableGenerator(SNGANGenerator(32, 8, channels=8), [0.5, 1]),
        "cannot be sorted": DCGANGenerator(32, 8, 2),
    }
    for said, network in mistakes.items():
        with pytest.raises(UserError, match=said):
            sort_channels(network)
