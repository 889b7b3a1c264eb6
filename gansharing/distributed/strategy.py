"""A strategy that launches processes and leaves the gradients to the setup."""

from lightning.pytorch.strategies import DDPStrategy


class ExplicitDDP(DDPStrategy):
    """Lightning's DDP strategy without the DistributedDataParallel wrapper.

    The wrapper expects one backward pass through all parameters per step. Two players with a step each,
    double backward and modules that only real images pass break that in every variant (Lightning issues
    20866, 20328, 20685, 19238). Here the strategy only starts processes and groups, and the setup
    averages gradients by :func:`~gansharing.distributed.average_gradients`.
    """

    def configure_ddp(self) -> None:
        """Leave the module unwrapped."""
