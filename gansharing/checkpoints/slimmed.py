"""A pretrained generator made slimmable."""

from collections.abc import Sequence
from pathlib import Path

from gansharing.checkpoints.networks import load
from gansharing.errors import UserError
from gansharing.networks import Generator
from gansharing.sharing import Sharing
from gansharing.slimmable import SlimmableGenerator, sort_channels
from gansharing.slimmable.networks import WIDTHS


def slimmed(
    path: str | Path,
    widths: Sequence[float] = WIDTHS,
    sort: bool = False,
    between: bool = False,
    sharing: Sharing | None = None,
) -> SlimmableGenerator:
    """A generator to go on with at several widths; at full width it makes the images it made before.

    Args:
        path: A checkpoint, a safetensors file or a run's folder; its generator is ordinary, or slimmable
            already and then keeps its widths.
        widths: Shares of the channels, ascending to 1.
        sort: First put important channels first, by :func:`~gansharing.slimmable.sort_channels`.
        between: Whether it computes at widths in between, too.
        sharing: Divide it then, and freeze what domains share: what is trained is a domain at every width.

    Raises:
        UserError: The file holds no generator, one that cannot be slimmed or sorted, or has other widths.
    """
    network = load(path).requires_grad_(True)
    if not isinstance(network, Generator):
        raise UserError(f"{path} holds no generator")
    if not isinstance(network, SlimmableGenerator):
        network = sort_channels(network) if sort else network
        network = SlimmableGenerator(network.train(), widths, between=between)
    elif network.widths != list(widths) or network.between != between or sort:
        raise UserError(
            f"{path} is slimmable already, with the widths {network.widths} and between: {network.between}; "
            "give the same, and no sort"
        )
    if sharing is not None:
        sharing.apply(network).freeze_shared()
    return network.train()
