"""Finding the latent of a given image (Karras et al. 2020, section 5 and appendix D)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from gansharing.latent.noise import noise_maps, noise_regularisation, normalise_noise, render, still
from gansharing.latent.styles import style_based, style_moments
from gansharing.networks.base import Generator

# The paper's, appendix D; shares are of the steps.
_LR = 0.1
_LR_RISE, _LR_FALL = 0.05, 0.25
_NOISE_FACTOR, _NOISE_SHARE = 0.05, 0.75
_NOISE_WEIGHT = 1e5
_STATISTICS = 10_000
# Ours, for networks without styles.
_CANDIDATES = 64
_SUFFICIENT = 1e-4  # Armijo's share of the fall that the gradient promises
_LEAST_STEP = 1e-8
_PICTURES = 8  # kept of the way, both ends included

Embed = Callable[[Tensor], Tensor]
OnStep = Callable[[int, float], None]


@dataclass
class Projection:
    """What a projection found.

    Attributes:
        latent: ``(1, num_ws, w_dim)`` styles, or ``(1, latent_dim)``.
        noise: The noise maps that belong to it, by buffer name of the synthesis; empty in latent space.
        image: ``(1, 3, H, W)`` of ``latent`` and ``noise``.
        start: Distance before the first step.
        end: Distance of ``image``.
        path: At most 8 images ``(1, 3, H, W)`` along the way, from the start to ``image``.
    """

    latent: Tensor
    noise: dict[str, Tensor]
    image: Tensor
    start: float
    end: float
    path: list[Tensor] = field(default_factory=list)


def learning_rate(share: float) -> float:
    """Rate at a share of the way in (0, 1): linear rise over 5 % to 0.1, cosine fall over the last 25 %."""
    fall = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - share) / _LR_FALL))
    return _LR * fall * min(1.0, share / _LR_RISE)


def style_noise(share: float, spread: float) -> float:
    """Deviation of the noise on styles: ``0.05 spread t^2``, t from 1 to 0 over the first 75 % of the way."""
    return _NOISE_FACTOR * spread * max(0.0, 1 - share / _NOISE_SHARE) ** 2


def project_styles(
    generator: Generator,
    target: Tensor,
    embed: Embed,
    steps: int = 1000,
    seed: int = 0,
    per_layer: bool = False,
    labels: Tensor | None = None,
    on_step: OnStep = lambda step, distance: None,
) -> Projection:
    """Optimise a style and the noise maps until the image lies near ``target``.

    Starts at the mean style. Noise that fades is added to the style; noise maps are kept free of structure by
    ``noise_regularisation`` and normalised after every step.

    Args:
        generator: A network with styles, in eval mode, without gradients.
        target: ``(1, 3, H, W)`` in [-1, 1], of the generator's size and on its device.
        embed: Images to points ``(N, D)`` whose squared Euclidean distance is minimised.
        steps: Adam steps.
        seed: Of statistics, noise maps and noise.
        per_layer: One style for each layer (W+) instead of one for all (W).
        labels: Class index ``(1,)`` for conditional networks.
        on_step: Called after every step with its number from 1 and the distance.

    Returns:
        The last point.

    Raises:
        UserError: The generator has no styles.
    """
    network, source = style_based(generator), torch.Generator().manual_seed(seed)
    latents = generator.sample_latent(_STATISTICS, source)
    mean, spread = style_moments(network, latents, None if labels is None else labels.expand(len(latents)))
    style = mean.repeat(1, network.num_ws if per_layer else 1, 1).requires_grad_()
    noise = {
        name: torch.randn(own.shape, generator=source).to(own).requires_grad_()
        for name, own in noise_maps(network.synthesis).items()
    }
    goal, optimizer = embed(target).detach(), torch.optim.Adam([style, *noise.values()])

    def image(moved: Tensor) -> Tensor:
        ws = moved.expand(-1, network.num_ws, -1)
        return render(cast(nn.Module, network.synthesis), ws, noise) if noise else network.synthesis(ws)

    start, path = _distance(embed, goal, image, style), _Path(steps)
    for step in range(steps):
        path.look(step, image, style)
        share = (step + 0.5) / steps
        optimizer.param_groups[0]["lr"] = learning_rate(share)
        shift = torch.randn(style.shape, generator=source).to(style) * style_noise(share, spread)
        distance = (embed(image(style + shift)) - goal).square().sum()
        optimizer.zero_grad()
        (distance + _NOISE_WEIGHT * noise_regularisation(noise.values())).backward()
        optimizer.step()
        normalise_noise(noise.values())
        on_step(step + 1, distance.item())
    found = {name: plane.detach() for name, plane in noise.items()}
    ws = style.detach().expand(-1, network.num_ws, -1).contiguous()
    return _finished(ws, found, image, embed, goal, start, path)


def project_latent(
    generator: Generator,
    target: Tensor,
    embed: Embed,
    steps: int = 1000,
    seed: int = 0,
    labels: Tensor | None = None,
    on_step: OnStep = lambda step, distance: None,
) -> Projection:
    """Descend from the nearest of 64 draws to the latent whose image lies near ``target``.

    Steps along the gradient are halved until the distance falls by a share of what the gradient promises
    (Armijo 1966) and doubled after a success, so that no rate is chosen and the distance never rises.
    Ends early where no step helps. Arguments and result are those of ``project_styles``, for any generator.
    """
    goal, source = embed(target).detach(), torch.Generator().manual_seed(seed)
    options = still(generator)

    def image(latent: Tensor) -> Tensor:
        return generator(latent, labels, **options)

    candidates = generator.sample_latent(_CANDIDATES, source).split(1)
    distances = [_distance(embed, goal, image, candidate) for candidate in candidates]
    start = min(distances)
    latent, length, path = candidates[distances.index(start)], 1.0, _Path(steps)
    for step in range(steps):
        path.look(step, image, latent)
        latent = latent.detach().requires_grad_()
        distance = (embed(image(latent)) - goal).square().sum()
        (slope,) = torch.autograd.grad(distance, latent)
        least = _SUFFICIENT * float(slope.square().sum())
        while (
            length > _LEAST_STEP
            and _distance(embed, goal, image, latent - length * slope) > distance.item() - length * least
        ):
            length /= 2
        if length <= _LEAST_STEP or least == 0:
            break
        latent, length = latent - length * slope, 2 * length
        on_step(step + 1, distance.item())
    return _finished(latent.detach(), {}, image, embed, goal, start, path)


class _Path:
    """Keeps the images of evenly spaced steps; the last place is for the end."""

    def __init__(self, steps: int) -> None:
        self.at = {index * steps // (_PICTURES - 1) for index in range(_PICTURES - 1)}
        self.images: list[Tensor] = []

    def look(self, step: int, image: Callable[[Tensor], Tensor], latent: Tensor) -> None:
        if step in self.at:
            with torch.no_grad():
                self.images.append(image(latent))


@torch.no_grad()
def _distance(embed: Embed, goal: Tensor, image: Callable[[Tensor], Tensor], latent: Tensor) -> float:
    return float((embed(image(latent)) - goal).square().sum())


@torch.no_grad()
def _finished(
    latent: Tensor,
    noise: dict[str, Tensor],
    image: Callable[[Tensor], Tensor],
    embed: Embed,
    goal: Tensor,
    start: float,
    path: _Path,
) -> Projection:
    last = image(latent)
    end = float((embed(last) - goal).square().sum())
    return Projection(latent, noise, last, start, end, [*path.images, last])
