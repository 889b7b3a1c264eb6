"""Generators with styles: what they offer beyond latents, and what one does with styles."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from gansharing.errors import UserError


class StyleBased(Protocol):
    """A generator that maps latents to one style a layer, and styles to images.

    Attributes:
        num_ws: Styles an image takes.
        synthesis: Maps ``(N, num_ws, w_dim)`` to images; takes ``noise`` as the generator's forward does.
    """

    num_ws: int
    synthesis: Callable[..., Tensor]

    def style(
        self, latent: Tensor, labels: Tensor | None = None, truncation: float = 1.0, cutoff: int | None = None
    ) -> Tensor:
        """Styles ``(N, num_ws, w_dim)`` of latents."""


class ContentBased(Protocol):
    """A generator whose coarsest features come from the latent too, beside its styles: a SmallHead.

    Attributes:
        content: Maps latents to those features.
        style: Maps latents to styles ``(N, layers, style_dim)``.
        synthesis: Maps both, also of different latents, to images.
    """

    content: Callable[[Tensor], Tensor]
    style: Callable[[Tensor], Tensor]
    synthesis: Callable[[Tensor, Tensor], Tensor]


class Excited(Protocol):
    """A generator whose coarse maps excite its fine ones, and may be those of another latent: FastGAN.

    Attributes:
        excited: Sizes of the fine maps, ascending.
    """

    excited: list[int]

    def mix(self, content: Tensor, style: Tensor, sizes: Sequence[int], **options: Any) -> Tensor:
        """Images of ``content`` with the maps of ``sizes`` excited by those of ``style``."""


def excited(network: nn.Module) -> Excited | None:
    """The network as a generator with excitations; None where it has none."""
    return cast(Excited, network) if getattr(network, "excited", None) else None


def has_content(network: nn.Module) -> bool:
    """Whether the network makes images of features and styles that may come from different latents."""
    return all(hasattr(network, name) for name in ("content", "style", "synthesis"))


def has_styles(network: nn.Module) -> bool:
    """Whether the network maps latents to styles and styles to images."""
    return all(hasattr(network, name) for name in ("style", "synthesis", "num_ws"))


def style_based(network: nn.Module) -> StyleBased:
    """The network as a generator with styles.

    Raises:
        UserError: It has none.
    """
    if not has_styles(network):
        raise UserError(
            f"{type(network).__name__} maps latents straight to images, it has no styles; "
            "this needs a network such as StyleGAN2Generator"
        )
    return cast(StyleBased, network)


def mix(destination: Tensor, source: Tensor, layers: Sequence[int]) -> Tensor:
    """Style mixing (Karras et al. 2019, section 3.1): some layers' styles from another image.

    Args:
        destination: ``(N, num_ws, w_dim)``.
        source: ``(N, num_ws, w_dim)``, whose styles are taken at ``layers``.
        layers: From 0; the first act on pose and shape, the last on colours.

    Returns:
        ``(N, num_ws, w_dim)``; with ``source == destination`` its very values.

    Raises:
        UserError: A layer does not exist.
    """
    check_layers(layers, destination.shape[1])
    mixed = destination.clone()
    mixed[:, list(layers)] = source[:, list(layers)]
    return mixed


def check_layers(layers: Sequence[int], count: int) -> None:
    """Refuse layers that a network of ``count`` layers has not.

    Raises:
        UserError: One does not exist.
    """
    if wrong := [layer for layer in layers if not 0 <= layer < count]:
        raise UserError(f"there is no layer {wrong[0]}: this network has the layers 0-{count - 1}")


def style_moments(
    generator: StyleBased, latents: Tensor, labels: Tensor | None = None
) -> tuple[Tensor, float]:
    """Mean style and how far styles lie from it (Karras et al. 2020, appendix D).

    Args:
        generator: The network, in eval mode.
        latents: ``(N, latent_dim)``, many: the paper takes 10,000.
        labels: As many class indices, for conditional networks.

    Returns:
        Mean ``(w_dim,)`` and ``sqrt(E |w - mean|^2)``.
    """
    with torch.no_grad():
        w = generator.style(latents, labels)[:, 0]
    mean = w.mean(0)
    return mean, float((w - mean).square().sum(1).mean().sqrt())
