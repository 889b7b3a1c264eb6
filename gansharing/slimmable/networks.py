"""Networks that compute at several widths with one set of weights."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gansharing.errors import UserError
from gansharing.networks.base import Discriminator, Generator, Network, build_network
from gansharing.slimmable.calibration import recalibrate
from gansharing.slimmable.layers import Conditional
from gansharing.slimmable.surgery import cut, slim
from gansharing.slimmable.width import at_width, check_widths, is_between

WIDTHS = (0.25, 0.5, 0.75, 1.0)
N = TypeVar("N", bound=Network)


def built(network: Network | Mapping[str, Any], kind: type[N]) -> N:
    """The network, from its ``config`` if that is given.

    Raises:
        UserError: It is not of that kind.
    """
    made = build_network(network) if isinstance(network, Mapping) else network
    if not isinstance(made, kind):
        raise UserError(f"a {type(made).__name__} is no {kind.__name__}; give one")
    return made


class SlimmableGenerator(Generator):
    """A generator of which the first channels are a generator too (Hou et al. 2021).

    ``with at_width(0.25): generator(latent)`` computes with a quarter of the channels; without, at the full
    width. Gains, shifts and running statistics of batch norm are each width's own.

    Args:
        network: The ordinary generator, which is taken over, or its ``config``.
        widths: Shares of the channels, ascending to 1.
        conditional: Batch norm by class: ``sliceable``, one table for all widths as the original computes;
            ``equation6``, as its equation 6 says; ``naive``, a table for each width.
        between: Whether it computes at widths in between, too. In train mode their batch norms borrow the
            next wider one's gains and shifts; in eval mode they have no statistics, but :func:`extract`
            measures them.

    Everything else that the ordinary generator offers, such as styles, is to be had from this one.

    Raises:
        UserError: The network cannot be slimmed, or the widths are none.
    """

    def __init__(
        self,
        network: Generator | Mapping[str, Any],
        widths: Sequence[float] = WIDTHS,
        conditional: Conditional = "sliceable",
        between: bool = False,
    ) -> None:
        super().__init__()
        self.widths, self.between = check_widths(widths), between
        self.network = built(network, Generator)
        self.config["init_args"] = {
            "network": self.network.config,
            "widths": self.widths,
            "conditional": conditional,
            "between": between,
        }
        self.shapes = slim(self.network, self.widths, conditional, between)
        self.latent_dim, self.resolution = self.network.latent_dim, self.network.resolution

    def stages(self) -> Mapping[str, nn.Module]:
        """Those of the ordinary generator."""
        with at_width(1):  # a stage may be a tensor itself, which a width cuts
            return self.network.stages()

    def trained_buffers(self) -> list[str]:
        """Those of the ordinary generator."""
        return [f"network.{name}" for name in self.network.trained_buffers()]

    def style_layers(self) -> Mapping[str, nn.Module]:
        """Those of the ordinary generator."""
        return {f"network.{name}": layer for name, layer in self.network.style_layers().items()}

    def latent_entry(self) -> nn.Module:
        """That of the ordinary generator."""
        return self.network.latent_entry()

    def options(self) -> Collection[str]:
        """Those of the ordinary generator."""
        return self.network.options()

    @property
    def classes(self) -> int:
        """Those of the ordinary generator."""
        return self.network.classes

    def sample_latent(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw latents as the ordinary generator does."""
        return self.network.sample_latent(count, generator)

    def forward(self, latent: Tensor, labels: Tensor | None = None, **options: Any) -> Tensor:
        """Generate images at the current width; arguments and result as of the ordinary generator."""
        images: Tensor = self.network(latent, labels, **options)
        return images

    def __getattr__(self, name: str) -> Any:
        """What only the ordinary generator has, such as ``style`` and ``synthesis``."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "network":
                raise
            return getattr(self.network, name)


class SlimmableDiscriminator(Discriminator):
    """A discriminator as wide as the generator it judges: an ablation of Hou et al. (2021, Table 4).

    Weights are divided by the largest singular value of the whole weight, then cut.

    Args:
        network: The ordinary discriminator, which is taken over, or its ``config``.
        widths: Shares of the channels, ascending to 1.

    Raises:
        UserError: The network cannot be slimmed, or the widths are none.
    """

    def __init__(self, network: Discriminator | Mapping[str, Any], widths: Sequence[float] = WIDTHS) -> None:
        super().__init__()
        self.widths = check_widths(widths)
        self.network = built(network, Discriminator)
        self.config["init_args"] = {"network": self.network.config, "widths": self.widths}
        self.shapes = slim(self.network, self.widths, "sliceable")
        self.resolution = self.network.resolution

    def stages(self) -> Mapping[str, nn.Module]:
        """Those of the ordinary discriminator."""
        return self.network.stages()

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score images at the current width; arguments and result as of the ordinary discriminator."""
        return self.network(images, labels)


def extract(network: SlimmableGenerator, width: float) -> Network:
    """Cut one width out as an ordinary generator, without anything slimmable in it.

    Args:
        network: Whose.
        width: One of its widths; or between them, if it computes there: the statistics of its batch norms
            are then measured, by :func:`~gansharing.slimmable.calibration.recalibrate`.

    Returns:
        A new network of the ordinary class with fewer channels; what is a width's own in batch norms by class
        is worked into their tables, and spectral norms of whole weights into the weights.

    Raises:
        UserError: The network has no such width.
    """
    narrow = cut(network.network, width, network.shapes)
    assert isinstance(narrow, Generator)
    with at_width(width):
        unknown = is_between(network.widths)
    return recalibrate(narrow) if unknown else narrow
