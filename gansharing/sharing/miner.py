"""MineGAN: a small network before a frozen generator."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from gansharing.networks import Generator, Network
from gansharing.networks.miners import Miner as MinerNetwork
from gansharing.sharing.base import Sharing


class LatentMiner(nn.Module):
    """Moves latents before the generator reads them.

    Args:
        latent_dim: Length of a latent.
        residual: Add to the latent what the miner gives, the miner starting at zero.
    """

    def __init__(self, latent_dim: int, residual: bool) -> None:
        super().__init__()
        self.network, self.residual = MinerNetwork(latent_dim), residual
        if residual:
            last: Any = self.network.transform[2]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, latent: Tensor) -> Tensor:
        """Map ``(N, latent_dim)`` to ``(N, latent_dim)``."""
        moved = self.network(latent)
        return latent + moved if self.residual else moved


class Miner(Sharing):
    """The domain owns a small network that moves the latents (MineGAN, Wang et al. 2020, section 4.1).

    Everything else is frozen for good, as Webster et al. (2022, section 3) compare it; MineGAN's own code
    unfreezes the generator after 1,000 iterations, and never zeroes the miner's gradients.

    Args:
        residual: Start from the unmoved latent, so that dividing the generator changes no image. MineGAN's
            own miner replaces the latent from the first step on: ``residual: false``.
    """

    merges = False

    def __init__(self, residual: bool = True) -> None:
        self.residual = residual

    def divide(self, network: Network) -> Iterable[nn.Parameter]:
        """Put a miner before the module that reads the latent."""
        if not isinstance(network, Generator):
            return []
        entry = network.latent_entry()
        miner = LatentMiner(network.latent_dim, self.residual)
        entry.add_module("miner", miner.to(next(network.parameters())))
        # It asks the module it is called with: copies of the network use their own miner.
        entry.register_forward_pre_hook(_mine)
        return entry.get_submodule("miner").parameters()

    def why_empty(self) -> str:
        """Only generators read latents."""
        return "only a generator reads latents"


def _mine(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    miner: Any = module.miner
    return (miner(args[0]), *args[1:])
