"""Adam as GANs of today use it, without the moment that they switch off."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.adam import adam


class MomentumFreeAdam(Optimizer):
    """``torch.optim.Adam`` with ``betas[0] = 0``, whose first moment is the gradient and is not stored.

    The steps are Adam's (Kingma and Ba 2015, algorithm 1), bit for bit, by PyTorch's fused kernel; a trained
    number costs one number of state in place of two.

    Args:
        params: What is trained: floating-point tensors on the CPU or a GPU.
        lr: Learning rate.
        betas: 0, and the decay of the second moment.
        eps: Added to the root of the second moment.

    Raises:
        ValueError: ``betas[0]`` is not 0, or a number is out of its range.
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.0, 0.99), eps: float = 1e-8
    ) -> None:
        if betas[0] != 0:
            raise ValueError(f"betas[0] is {betas[0]}, but there is no first moment; use torch.optim.Adam")
        if lr < 0 or eps < 0 or not 0 <= betas[1] < 1:
            raise ValueError(f"lr {lr} or eps {eps} is negative, or betas[1] {betas[1]} not in [0, 1)")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step; parameters without a gradient stay what they are.

        Args:
            closure: Computes the loss anew, and gradients.

        Returns:
            What ``closure`` returns.
        """
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            states = [self._state_of(p) for p in params]
            adam(
                params,
                grads,
                grads,  # the first moment: 0 times itself and once the gradient
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=0.0,
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=0.0,
                eps=group["eps"],
                maximize=False,
            )
        return loss

    def _state_of(self, parameter: torch.Tensor) -> dict[str, Any]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return state
