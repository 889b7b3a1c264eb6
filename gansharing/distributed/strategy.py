"""A strategy that launches processes and leaves the gradients to the setup."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor


class ExplicitDDP(DDPStrategy):
    """Lightning's DDP strategy without the DistributedDataParallel wrapper.

    The wrapper expects one backward pass through all parameters per step. Two players with a step each,
    double backward and modules that only real images pass break that in every variant (Lightning issues
    20866, 20328, 20685, 19238). Here the strategy only starts processes and groups, and the setup
    averages gradients by :func:`~gansharing.distributed.average_gradients`.
    """

    def configure_ddp(self) -> None:
        """Leave the module unwrapped."""

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load the optimisers' states, and leave none of them in the checkpoint's mapped file.

        On the CPU an optimiser keeps the very tensors that it is given. A file that is replaced through
        another machine can take its mapped pages away.
        """
        super().load_optimizer_state_dict(checkpoint)
        for optimizer in self.optimizers:
            for state in optimizer.state.values():
                for key, value in state.items():
                    if isinstance(value, Tensor) and value.device.type == "cpu":
                        state[key] = value.clone()
