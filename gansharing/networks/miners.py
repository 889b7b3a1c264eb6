"""MineGAN's miners (Wang et al. 2020): small networks that move a generator's input towards a target.

Their state dicts have the names of the authors' code. What its files hold and never use is not built:
``transform_64`` and ``transform_128`` of the noise miner, ``shared`` of BigGAN's miner.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gansharing.errors import UserError
from gansharing.networks.base import Network, require_positive


class Miner(Network):
    """Latent to latent: linear, ReLU, linear; 525,312 parameters at 512.

    Keys ``transform.0`` and ``transform.2``.

    Args:
        dim: Length of the latents read and written.
        hidden: Width between the layers; ``dim`` in the original.
    """

    def __init__(self, dim: int = 512, hidden: int | None = None) -> None:
        super().__init__()
        hidden = dim if hidden is None else hidden
        require_positive(dim=dim, hidden=hidden)
        self.transform = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))

    def stages(self) -> Mapping[str, nn.Module]:
        """The two layers."""
        return {"transform.0": self.transform[0], "transform.2": self.transform[2]}

    def forward(self, latent: Tensor) -> Tensor:
        """Map ``(N, dim)`` to ``(N, dim)``."""
        return self.transform(latent)


class _Constant(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))


class _ScaledConv(nn.Module):
    """1x1 convolution without bias, at equalised learning rate."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.gain = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.gain)


class _BiasedLeakyReLU(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.bias[:, None, None], 0.2) * math.sqrt(2)


class ConvMiner(Network):
    """Replaces StyleGAN2's constant input; 70,176 parameters with the original's widths.

    A small constant through 1x1 convolutions with equalised learning rate, LeakyReLU(0.2) times sqrt(2)
    between them. Keys ``input.input``, ``convK.weight``, ``reluK.bias``.

    Args:
        channels: Channels of the constant and behind each convolution.
    """

    def __init__(self, channels: Sequence[int] = (8, 32, 128, 512)) -> None:
        super().__init__()
        if len(channels) < 2 or min(channels) < 1:
            raise UserError(f"channels are {list(channels)}; give at least two numbers of 1 or more")
        self.convs = len(channels) - 1
        self.input = _Constant(channels[0])
        for number in range(1, len(channels)):
            self.add_module(f"conv{number}", _ScaledConv(channels[number - 1], channels[number]))
            if number < self.convs:
                self.add_module(f"relu{number}", _BiasedLeakyReLU(channels[number]))

    def stages(self) -> Mapping[str, nn.Module]:
        """The constant, then convolutions and activations in turn."""
        return dict(self.named_children())

    def forward(self, latent: Tensor) -> Tensor:
        """``(N, channels[-1], 4, 4)``, the same for every row of ``latent``, whose values do not matter."""
        x: Tensor = self.input.input
        for name, layer in self.named_children():
            if name != "input":
                x = layer(x)
        return x.expand(len(latent), -1, -1, -1)


class NoiseMiner(Network):
    """Noise maps of a StyleGAN's first four resolutions, 4 to 32 px, from 16 normals.

    Keys ``transform_4.0``, ``transform_4.2``, ``transform_8.1``, ``transform_16.1``, ``transform_32.1``;
    281,440 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.transform_4 = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
        self.transform_8 = nn.Sequential(nn.ReLU(), nn.Linear(16, 64))
        self.transform_16 = nn.Sequential(nn.ReLU(), nn.Linear(64, 256))
        self.transform_32 = nn.Sequential(nn.ReLU(), nn.Linear(256, 1024))

    def stages(self) -> Mapping[str, nn.Module]:
        """One stage a resolution."""
        return dict(self.named_children())

    def forward(self, latent: Tensor) -> tuple[Tensor, ...]:
        """Map ``(N, 16)`` to maps of 4, 8, 16 and 32 px, flattened by row: ``(N, 16)`` ... ``(N, 1024)``."""
        maps = []
        x = latent
        for transform in self.children():
            x = transform(x)
            maps.append(x)
        return tuple(maps)


class _SpectralLinear(nn.Module):
    """Linear layer whose weight is divided by its largest singular value.

    BigGAN's form (Brock et al. 2019): one power iteration a forward in eval mode too, from a stored left
    vector ``u0`` that train mode moves. PyTorch's own keeps both vectors and does not iterate in eval mode.
    """

    u0: Tensor
    sv0: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        nn.init.orthogonal_(self.weight)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("u0", torch.randn(1, outputs))
        self.register_buffer("sv0", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            right = F.normalize(self.u0 @ self.weight, eps=1e-12)
            left = F.normalize(right @ self.weight.T, eps=1e-12)
        largest = (F.linear(right, self.weight) * left).sum()
        if self.training:
            self.u0.copy_(left)
            self.sv0.fill_(largest.detach())
        return F.linear(x, self.weight / largest, self.bias)


class BigGANMiner(Network):
    """BigGAN's miner: four spectrally normalised layers to the latent, four more to the class embedding.

    Nothing stands between the layers: each half is linear. Keys ``linear``, ``linear2`` ... ``linear8``.

    Args:
        dim: Length of the latent.
        shared_dim: Length of the class embedding.
    """

    def __init__(self, dim: int = 120, shared_dim: int = 128) -> None:
        super().__init__()
        require_positive(dim=dim, shared_dim=shared_dim)
        for number in range(1, 9):
            outputs = shared_dim if number == 8 else dim
            self.add_module(f"linear{number if number > 1 else ''}", _SpectralLinear(dim, outputs))

    def stages(self) -> Mapping[str, nn.Module]:
        """The layers, those of the latent first."""
        return dict(self.named_children())

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(N, dim)`` to a latent ``(N, dim)`` and a class embedding ``(N, shared_dim)``."""
        layers = list(self.children())
        mined, embedding = latent, latent
        for layer in layers[:4]:
            mined = layer(mined)
        for layer in layers[4:]:
            embedding = layer(embedding)
        return mined, embedding
