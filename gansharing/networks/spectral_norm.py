"""Spectral norm (Miyato et al. 2018, section 2.1 and algorithm 1) in fewer passes over the weight.

torch's parametrisation reads a weight three times for its norm, makes half a dozen tensors of its size on the
way back, and copies a weight in channels-last memory first. The same numbers come of two reads, and of three
passes back; that counts where weights are large and maps are small.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.overrides import has_torch_function

from gansharing.networks.derivatives import as_written, with_slopes, worked_out_here

_EPS = 1e-12


def spectral_norm(module: nn.Module) -> None:
    """Divide ``module.weight`` by its largest singular value, as torch's ``spectral_norm`` does.

    Parameters and buffers have the names and values that torch gives them: fifteen power iterations at the
    start, and one a forward in train mode.

    Args:
        module: A convolution, transposed or not, a linear layer or an embedding.
    """
    outputs = 1 if isinstance(module, nn.ConvTranspose2d) else 0
    weight = module.weight
    assert isinstance(weight, Tensor)
    parametrize.register_parametrization(module, "weight", SpectralNorm(weight, 1, outputs, _EPS))


class SpectralNorm(_SpectralNorm):
    """torch's parametrisation of a weight, computed faster in train mode on the CPU."""

    def forward(self, weight: Tensor) -> Tensor:
        """Map ``(O, I, K, K)``, a transposed convolution's ``(I, O, K, K)``, or ``(O, I)`` to the same."""
        if self.training and worked_out_here(weight) and not has_torch_function((weight,)):
            return _divided(weight, *singular(self, weight), self.dim)
        normal: Tensor = super().forward(weight)
        return normal


@torch.no_grad()
def singular(norm: Any, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The largest singular value of a weight, as its spectral norm knows it.

    In train mode a power iteration comes first, which ``norm`` keeps. All is in full precision, also under
    autocast: it is a number by which a whole layer is divided.

    Args:
        norm: torch's ``_SpectralNorm``, or this module's.
        weight: What it divides.

    Returns:
        The left singular vector ``(O,)``, the right one in an order of its own, which :func:`slope` takes,
        and the value, ``()``.
    """
    matrices, dim = _matrices(weight, norm.dim), norm.dim
    v = _as_columns(norm._v, weight, dim)
    with torch.autocast(weight.device.type, enabled=False):
        if not norm.training:
            u = norm._u.clone()
            return u, v, u @ (matrices @ v[..., None]).sum(0)[:, 0]
        for _ in range(norm.n_power_iterations):
            u = F.normalize((matrices @ v[..., None]).sum(0)[:, 0], dim=0, eps=norm.eps)
            v = u @ matrices
            sigma = v.norm()
            v = v / sigma.clamp(min=norm.eps)
    norm._u.copy_(u)
    norm._v.copy_(_as_vector(v, weight, dim))
    return u, v, sigma


def slope(gradient: Tensor, weight: Tensor, u: Tensor, v: Tensor, sigma: Tensor, dim: int) -> Tensor:
    """The gradient in a weight from that in the divided weight (Miyato et al. 2018, equation 12).

    Args:
        gradient: In the divided weight, of its shape, which is returned too.
        weight: Before it is divided; ``(O, I, K, K)``, ``(I, O, K, K)`` or ``(O, I)``.
        u: As :func:`singular` gives it.
        v: The same.
        sigma: The same.
        dim: Of the outputs.
    """
    order = torch.channels_last if _last(weight) else torch.contiguous_format
    gradient = gradient.contiguous(memory_format=order)
    share = torch.dot(_flat(gradient, weight), _flat(weight, weight)) / sigma.square()
    found = gradient / sigma
    _matrices(found, dim).addcmul_(u[:, None], (-share * v)[:, None])
    return found


def _divided(weight: Tensor, u: Tensor, v: Tensor, sigma: Tensor, dim: int) -> Tensor:
    """``weight / (u^T W v)`` with given singular vectors, which take no gradient."""

    def slopes(inputs: Sequence[Tensor], gradient: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        weight, u, v, sigma = inputs
        if torch.is_grad_enabled():
            (found,) = as_written(
                lambda w: w / ((u @ _matrices(w, dim)) * v).sum(), (weight,), gradient, (True,)
            )
        else:
            found = slope(gradient, weight, u, v, sigma, dim)
        return found, None, None, None

    return with_slopes(lambda weight, u, v, sigma: weight / sigma, slopes, weight, u, v, sigma)


def _last(weight: Tensor) -> bool:
    """It is stored with its channels last, and only so."""
    return (
        weight.ndim == 4
        and not weight.is_contiguous()
        and weight.is_contiguous(memory_format=torch.channels_last)
    )


def _flat(x: Tensor, weight: Tensor) -> Tensor:
    return (x.permute(0, 2, 3, 1) if _last(weight) else x).reshape(-1)


def _matrices(x: Tensor, dim: int) -> Tensor:
    """``(B, O, J)`` without a copy, whose columns side by side are the matrix, but for their order."""
    if dim == 0:
        return (x.permute(0, 2, 3, 1) if _last(x) else x).flatten(1)[None]
    return x.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2) if _last(x) else x.flatten(2)


def _as_columns(v: Tensor, weight: Tensor, dim: int) -> Tensor:
    """The buffer ``_v`` as ``(B, J)`` in the order of :func:`_matrices`."""
    if dim == 1:
        return v.view(len(weight), -1)
    return v.view(weight.shape[1], -1).T.reshape(1, -1) if _last(weight) else v[None]


def _as_vector(columns: Tensor, weight: Tensor, dim: int) -> Tensor:
    """The way back."""
    if dim == 0 and _last(weight):
        columns = columns.view(-1, weight.shape[1]).T
    return columns.reshape(-1)
