"""Important channels first: what a pretrained generator needs before its first channels compute alone."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gansharing.errors import UserError
from gansharing.networks.base import Features, Generator
from gansharing.networks.seeded import seeded_latents
from gansharing.networks.sngan_layers import ConditionalBatchNorm2d

_BY_CHANNEL = ("weight", "bias", "const", "running_mean", "running_var")


@torch.no_grad()
def sort_channels(generator: Generator, samples: int = 1024) -> Generator:
    """Renumber the channels of every layer by descending importance; images stay the same, to rounding.

    As Lin et al. (2021, Anycost GAN) do before they train a pretrained generator at several widths: a channel
    counts as the magnitude of the kernels that read it, the sum of their absolute values; with styles these
    are the modulated kernels, so the sum is multiplied by the mean absolute style over latents.

    Args:
        generator: An ordinary generator, in place.
        samples: Latents of seeds 0, 1, ... whose styles are averaged.

    Returns:
        The generator.

    Raises:
        UserError: It is divided or slimmable, or does not declare where its channels are written and read.
    """
    if "sharing" in generator.config or not generator.channel_arguments:
        raise UserError(
            f"the channels of this {type(generator).__name__} cannot be sorted: it is divided by a "
            "sharing, or no ordinary network that counts channels"
        )
    training = generator.training
    generator.eval()
    styles, gated = _mean_styles(generator, samples), frozenset(generator.gated_layers())
    for features in generator.features():
        order = importance(generator, features, styles).argsort(descending=True, stable=True)
        for tensor, dim, halves in _places(generator, features, gated):
            index = torch.arange(tensor.shape[dim], device=order.device)
            tensor.copy_(tensor[(slice(None),) * dim + (_renumbered(index, order, halves),)])
    return generator.train(training)


def importance(generator: Generator, features: Features, styles: dict[str, Tensor]) -> Tensor:
    """Magnitude ``(C,)`` of the kernels that read each channel, times the mean style if there is one."""
    total = torch.zeros(())
    for name in features.read:
        layer: Any = generator.get_submodule(name)
        inputs = _inputs(layer)
        magnitude = layer.weight.abs().sum([dim for dim in range(layer.weight.ndim) if dim != inputs])
        total = total.to(magnitude) + magnitude * styles.get(f"{name}.affine", 1.0)
    return total


def _mean_styles(generator: Generator, samples: int) -> dict[str, Tensor]:
    layers, means = generator.style_layers(), dict[str, Tensor]()

    def keep(name: str, style: Tensor) -> None:
        means[name] = means.get(name, 0) + style.abs().sum(0) / samples

    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.enter_context(
                layer.register_forward_hook(lambda _, __, style, name=name: keep(name, style))
            )
        for start in range(0, samples if layers else 0, 64):
            seeds = range(start, min(start + 64, samples))
            latents = seeded_latents(generator, seeds).to(next(generator.parameters()))
            generator(latents, torch.tensor(seeds, device=latents.device) % max(1, generator.classes))
    return means


def _renumbered(index: Tensor, order: Tensor, halves: int) -> Tensor:
    # A layer before a reshape has several outputs a channel, next to each other.
    return index.view(halves, len(order), -1)[:, order].flatten()


def _inputs(layer: nn.Module) -> int:
    return 0 if isinstance(layer, nn.ConvTranspose2d) else 1


def _places(
    generator: Generator, features: Features, gated: frozenset[str]
) -> Iterator[tuple[Tensor, int, int]]:
    """Tensors with these channels, the dimension, and in how many parts they lie there."""
    for name in features.written:
        layer, halves = generator.get_submodule(name), 2 if name in gated else 1
        if isinstance(layer, ConditionalBatchNorm2d):
            yield layer.embed.weight, 1, 2
            layer = layer.norm
        for key, tensor in _tensors(layer):
            yield tensor, int(key == "weight" and isinstance(layer, nn.ConvTranspose2d)), halves
        for left, _ in _singular(layer):
            yield left, 0, halves
    for name in features.read:
        layer = generator.get_submodule(name)
        yield from ((tensor, _inputs(layer), 1) for key, tensor in _tensors(layer) if key == "weight")
        for _, right in _singular(layer):
            yield right, 0, 1


def _tensors(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    held = {**layer._parameters, **layer._buffers}
    if parametrize.is_parametrized(layer):
        chains: Any = layer.parametrizations
        held |= {name: chain.original for name, chain in chains.items()}
    yield from ((name, held[name]) for name in _BY_CHANNEL if held.get(name) is not None)  # type: ignore[misc]


def _singular(layer: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Spectral norm's vectors, which belong to outputs and, with the kernel's places, to inputs."""
    if parametrize.is_parametrized(layer, "weight"):
        chain: Any = layer.parametrizations
        yield from ((norm._u, norm._v) for norm in chain["weight"])
