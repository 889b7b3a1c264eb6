"""Layers of which a part computes: weights by their first channels, norms with statistics for each width."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gansharing.errors import UserError
from gansharing.networks.sngan_layers import ConditionalBatchNorm2d
from gansharing.slimmable.shapes import Shapes
from gansharing.slimmable.width import current_index, current_width, is_between

Conditional = Literal["sliceable", "equation6", "naive"]


def first(tensor: Tensor, channels: int, dim: int = 0, gated: bool = False) -> Tensor:
    """The first channels along a dimension; where it is two halves of a gated unit, those of both halves."""
    if channels == tensor.shape[dim]:
        return tensor
    if not gated:
        return tensor.narrow(dim, 0, channels)
    return tensor.unflatten(dim, (2, -1)).narrow(dim + 1, 0, channels // 2).flatten(dim, dim + 1)


class FirstChannels(nn.Module):
    """Parametrisation that keeps the first channels of a weight, along every dimension.

    It comes last in a weight's chain: spectral norm before it divides by the largest singular value of the
    *whole* weight.

    Args:
        shapes: What tells a tensor's shape at the current width.
        name: Of the layer.
        tensor: Which of its tensors.
        gated: The dimension, if any, that is two halves of a gated linear unit.
    """

    def __init__(self, shapes: Shapes, name: str, tensor: str, gated: int | None = None) -> None:
        super().__init__()
        self.shapes, self.name, self.tensor, self.gated = shapes, name, tensor, gated

    def forward(self, weight: Tensor) -> Tensor:
        """The part of ``weight`` that the current width has."""
        if current_width() == 1:
            return weight
        for dim, size in enumerate(self.shapes.current(self.name, self.tensor)):
            weight = first(weight, size, dim, dim == self.gated)
        return weight


def _narrow(norm: nn.BatchNorm2d, channels: int, affine: bool, gated: bool = False) -> nn.BatchNorm2d:
    narrow = type(norm)(channels, norm.eps, norm.momentum, affine)
    narrow = narrow.to(norm.running_mean).train(norm.training)  # type: ignore[call-overload]
    held = {name: first(x, channels, 0, gated) if x.ndim else x for name, x in norm.state_dict().items()}
    narrow.load_state_dict(narrow.state_dict() | held)
    return narrow


class SwitchableBatchNorm2d(nn.Module):
    """A batch norm for each width, with its own gain, shift and running statistics (Yu et al. 2019).

    A width in between uses the first gains and shifts of the next wider one, as universally slimmable
    networks share them (Yu and Huang 2019), and the batch's statistics: it has none of its own, and none in
    eval mode.

    Args:
        norm: The ordinary one; each width starts from its first channels.
        shapes: Whose widths.
        channels: At each width.
        affine: Whether each width has a gain and a shift.
        gated: Whether the channels are two halves of a gated linear unit.
    """

    def __init__(
        self,
        norm: nn.BatchNorm2d,
        shapes: Shapes,
        channels: Sequence[int],
        affine: bool = True,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.widths, self.between, self.gated = shapes.widths, shapes.between, gated
        self.norms = nn.ModuleList(_narrow(norm, count, affine, gated) for count in channels)

    def current(self) -> nn.BatchNorm2d:
        """The norm of the current width; in between, of the next wider one."""
        norm = self.norms[current_index(self.widths, self.between)]
        assert isinstance(norm, nn.BatchNorm2d)
        return norm

    def narrowed(self, channels: int) -> nn.BatchNorm2d:
        """The norm of the current width, which has so many channels; in between, a copy to be calibrated."""
        norm = self.current()
        return _narrow(norm, channels, norm.affine, self.gated) if is_between(self.widths) else norm

    def forward(self, x: Tensor, *options: Any) -> Tensor:
        """Normalise ``(N, C, H, W)`` with C of the current width; options as the ordinary norm's."""
        norm = self.current()
        if is_between(self.widths):
            return _by_batch(norm, x, self.gated, *options)
        normalised: Tensor = norm(x, *options)
        return normalised


def _by_batch(norm: nn.BatchNorm2d, x: Tensor, gated: bool, *options: Any) -> Tensor:
    """What the first channels of ``norm`` make of a batch in train mode; statistics that it kept are lost."""
    if not norm.training:
        raise UserError(
            f"width {current_width():g} was not given to the network, so its batch norms have no statistics; "
            "cut it out by extract, which measures them, or give it"
        )
    held = {**norm._parameters, **norm._buffers}
    borrowed = {name: _first_of(t, x.shape[1], gated) for name, t in held.items() if t is not None}
    return functional_call(norm, borrowed, (x, *options))


def _first_of(tensor: Tensor, channels: int, gated: bool) -> Tensor:
    return (first(tensor, channels, 0, gated) if tensor.ndim else tensor).clone()


class SliceableConditionalBatchNorm2d(SwitchableBatchNorm2d):
    """Batch norm by class whose table all widths share (Hou et al. 2021, section 4.3), written (+) there.

    With γ, β of the width and γ_c, β_c the class's, cut to the first channels:
    ``γ_c (γ x̂ + β) + β_c`` as their code computes, or as their equation 6 says ``γ_c γ x̂ + β + β_c``.

    Args:
        norm: The ordinary one; its table is taken over.
        shapes: Whose widths.
        channels: At each width.
        equation6: Compute the equation.
    """

    def __init__(
        self,
        norm: ConditionalBatchNorm2d,
        shapes: Shapes,
        channels: Sequence[int],
        equation6: bool = False,
    ) -> None:
        super().__init__(norm.norm, shapes, channels)
        self.embed, self.equation6 = norm.embed, equation6

    def modulation(self, table: Tensor, channels: int) -> tuple[Tensor, Tensor]:
        """Gain and shift ``(N, channels)`` on the current width's affine norm, from rows ``(N, 2 F)``."""
        gain, shift = (half[:, :channels] for half in table.chunk(2, 1))
        if not self.equation6:
            return gain, shift
        return gain, shift + first(self.current().bias, channels) * (1 - gain)

    def folded(self, channels: int) -> Tensor:
        """The table ``(classes, 2 channels)`` of an ordinary conditional norm that computes the same."""
        norm = self.narrowed(channels)
        gain, shift = self.modulation(self.embed.table(), channels)
        return torch.cat([gain * norm.weight, gain * norm.bias + shift], 1)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Normalise ``(N, C, H, W)`` by labels ``(N,)``, with C of the current width."""
        modulation = self.modulation(self.embed(labels), x.shape[1])
        gain, shift = (part[:, :, None, None] for part in modulation)
        return torch.addcmul(shift, gain, super().forward(x))


class SwitchableConditionalBatchNorm2d(nn.Module):
    """The naive form, written (x) in the paper: a whole conditional batch norm for each width."""

    def __init__(self, norm: ConditionalBatchNorm2d, shapes: Shapes, channels: Sequence[int]) -> None:
        super().__init__()
        self.widths, self.between = shapes.widths, shapes.between
        self.norms = nn.ModuleList(_narrow_table(norm, count) for count in channels)

    def current(self) -> ConditionalBatchNorm2d:
        """The norm of the current width; in between, of the next wider one."""
        norm = self.norms[current_index(self.widths, self.between)]
        assert isinstance(norm, ConditionalBatchNorm2d)
        return norm

    def narrowed(self, channels: int) -> nn.BatchNorm2d:
        """Batch norm, without the table, of the current width; in between, a copy to be calibrated."""
        norm = self.current().norm
        return _narrow(norm, channels, affine=False) if is_between(self.widths) else norm

    def folded(self, channels: int) -> Tensor:
        """The current width's table ``(classes, 2 channels)``."""
        return _first_of_both(self.current().embed.table(), channels)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Normalise ``(N, C, H, W)`` by labels ``(N,)``, with C of the current width."""
        norm = self.current()
        if not is_between(self.widths):
            return norm(x, labels)
        gain, shift = _first_of_both(norm.embed(labels), x.shape[1])[:, :, None, None].chunk(2, 1)
        return torch.addcmul(shift, gain, _by_batch(norm.norm, x, False))


def _narrow_table(norm: ConditionalBatchNorm2d, channels: int) -> ConditionalBatchNorm2d:
    table = norm.embed.table().detach()
    narrow = norm.resized(channels).to(table)
    narrow.norm = _narrow(norm.norm, channels, affine=False)
    narrow.embed.fill(_first_of_both(table, channels))
    return narrow


def _first_of_both(table: Tensor, channels: int) -> Tensor:
    return first(table, 2 * channels, 1, gated=True)


#: How a conditional batch norm becomes slimmable.
CONDITIONAL: dict[Conditional, Callable[[ConditionalBatchNorm2d, Shapes, list[int]], nn.Module]] = {
    "sliceable": SliceableConditionalBatchNorm2d,
    "equation6": lambda norm, shapes, channels: SliceableConditionalBatchNorm2d(norm, shapes, channels, True),
    "naive": SwitchableConditionalBatchNorm2d,
}
