"""Style mixing where there are no styles: coarse maps of one image excite fine maps of another."""

from typing import NamedTuple

import torch
from torch import Tensor

from gansharing.latent import check_layers, excited, still
from gansharing.seeds import parse_seeds
from gansharing.tools.render import Look, Renderer
from gansharing.visual import to_uint8


class Mixture(NamedTuple):
    """A sheet of mixed images.

    Attributes:
        upper: uint8 ``(columns, 3, H, W)``, the columns' own images.
        lines: One ``(1 + columns, 3, H, W)`` a row: its own image, then the mixtures.
        layers: Which layers come from the column.
    """

    upper: Tensor
    lines: list[Tensor]
    layers: list[int]


@torch.inference_mode()
def mixed_maps(renderer: Renderer, down: list[int], across: list[int], layers: str | None) -> Mixture:
    """Mix each row's image with each column's.

    Args:
        renderer: Of a generator with excitations.
        down: Latent seeds of the rows.
        across: Latent seeds of the columns.
        layers: Numbers of the excitations; by default all but the first, where there are others.

    Raises:
        UserError: A layer does not exist.
    """
    network = excited(renderer.generator)
    assert network is not None
    count = len(network.excited)
    taken = list(range(min(1, count - 1), count)) if layers is None else parse_seeds(layers, "layers")
    check_layers(taken, count)
    sizes = [network.excited[layer] for layer in taken]
    # Whatever the network does by its own choice: mixed with itself an image is to stay what it is.
    renderer = Renderer(renderer.generator, Look(**still(renderer.generator)))
    rows, columns = renderer.latents(down), renderer.latents(across)
    lines = [
        torch.cat(
            [own[None], to_uint8(network.mix(row.expand_as(columns), columns, sizes, **renderer.options))]
        )
        for own, row in zip(renderer.images(rows), rows[:, None], strict=True)
    ]
    return Mixture(renderer.images(columns), lines, taken)
