"""Layers of which a part computes: weights by their first channels, norms with statistics for each width."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from gansharing.networks.sngan_layers import ConditionalBatchNorm2d
from gansharing.slimmable.width import current_index

Conditional = Literal["sliceable", "equation6", "naive"]


class FirstChannels(nn.Module):
    """Parametrisation that keeps the first channels of a weight, along every dimension.

    It comes last in a weight's chain: spectral norm before it divides by the largest singular value of the
    *whole* weight.

    Args:
        widths: Ascending to 1.
        shapes: The weight's shape at each.
    """

    def __init__(self, widths: Sequence[float], shapes: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        self.widths = list(widths)
        self.slices = [tuple(slice(size) for size in shape) for shape in shapes]

    def forward(self, weight: Tensor) -> Tensor:
        """The part of ``weight`` that the current width has."""
        index = current_index(self.widths)
        return weight if index == len(self.widths) - 1 else weight[self.slices[index]]


def _narrow(norm: nn.BatchNorm2d, channels: int, affine: bool) -> nn.BatchNorm2d:
    narrow = nn.BatchNorm2d(channels, norm.eps, norm.momentum, affine)
    narrow = narrow.to(norm.running_mean).train(norm.training)  # type: ignore[call-overload]
    held = {name: x[:channels] if x.ndim else x for name, x in norm.state_dict().items()}
    narrow.load_state_dict(narrow.state_dict() | held)
    return narrow


class SwitchableBatchNorm2d(nn.Module):
    """A batch norm for each width, with its own gain, shift and running statistics (Yu et al. 2019).

    Args:
        norm: The ordinary one; each width starts from its first channels.
        widths: Ascending to 1.
        channels: At each width.
        affine: Whether each width has a gain and a shift.
    """

    def __init__(
        self, norm: nn.BatchNorm2d, widths: Sequence[float], channels: Sequence[int], affine: bool = True
    ) -> None:
        super().__init__()
        self.widths = list(widths)
        self.norms = nn.ModuleList(_narrow(norm, count, affine) for count in channels)

    def current(self) -> nn.BatchNorm2d:
        """The norm of the current width."""
        norm = self.norms[current_index(self.widths)]
        assert isinstance(norm, nn.BatchNorm2d)
        return norm

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(N, C, H, W)`` with C of the current width."""
        return self.current()(x)


class SliceableConditionalBatchNorm2d(SwitchableBatchNorm2d):
    """Batch norm by class whose table all widths share (Hou et al. 2021, section 4.3), written (+) there.

    With γ, β of the width and γ_c, β_c the class's, cut to the first channels:
    ``γ_c (γ x̂ + β) + β_c`` as their code computes, or as their equation 6 says ``γ_c γ x̂ + β + β_c``.

    Args:
        norm: The ordinary one; its table is taken over.
        widths: Ascending to 1.
        channels: At each width.
        equation6: Compute the equation.
    """

    def __init__(
        self,
        norm: ConditionalBatchNorm2d,
        widths: Sequence[float],
        channels: Sequence[int],
        equation6: bool = False,
    ) -> None:
        super().__init__(norm.norm, widths, channels)
        self.embed, self.equation6 = norm.embed, equation6

    def modulation(self, table: Tensor) -> tuple[Tensor, Tensor]:
        """Gain and shift ``(N, C)`` of the current width on its affine norm, from rows ``(N, 2 F)``."""
        norm = self.current()
        gain, shift = (half[:, : norm.num_features] for half in table.chunk(2, 1))
        return gain, shift + norm.bias * (1 - gain) if self.equation6 else shift

    def folded(self) -> Tensor:
        """The table ``(classes, 2 C)`` of an ordinary conditional norm that computes the same."""
        norm = self.current()
        gain, shift = self.modulation(self.embed.weight)
        return torch.cat([gain * norm.weight, gain * norm.bias + shift], 1)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise ``(N, C, H, W)`` by labels ``(N,)``, with C of the current width."""
        gain, shift = (part[:, :, None, None] for part in self.modulation(self.embed(labels)))
        return torch.addcmul(shift, gain, self.current()(x))


class SwitchableConditionalBatchNorm2d(nn.Module):
    """The naive form, written (x) in the paper: a whole conditional batch norm for each width."""

    def __init__(
        self, norm: ConditionalBatchNorm2d, widths: Sequence[float], channels: Sequence[int]
    ) -> None:
        super().__init__()
        self.widths, classes = list(widths), norm.embed.num_embeddings
        self.norms = nn.ModuleList()
        for count in channels:
            narrow = ConditionalBatchNorm2d(count, classes).to(norm.embed.weight)
            narrow.norm = _narrow(norm.norm, count, affine=False)
            gain, shift = norm.embed.weight.detach().chunk(2, 1)
            narrow.embed.weight.detach().copy_(torch.cat([gain[:, :count], shift[:, :count]], 1))
            self.norms.append(narrow)

    def folded(self) -> Tensor:
        """The current width's table ``(classes, 2 C)``."""
        return self.current().embed.weight

    def current(self) -> ConditionalBatchNorm2d:
        """The norm of the current width."""
        norm = self.norms[current_index(self.widths)]
        assert isinstance(norm, ConditionalBatchNorm2d)
        return norm

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Normalise ``(N, C, H, W)`` by labels ``(N,)``, with C of the current width."""
        return self.current()(x, labels)


#: How a conditional batch norm becomes slimmable.
CONDITIONAL: dict[Conditional, Callable[[ConditionalBatchNorm2d, list[float], list[int]], nn.Module]] = {
    "sliceable": SliceableConditionalBatchNorm2d,
    "equation6": lambda norm, widths, channels: SliceableConditionalBatchNorm2d(norm, widths, channels, True),
    "naive": SwitchableConditionalBatchNorm2d,
}
