"""What the steps of two players are made of."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Images = Tensor | tuple[Tensor, ...]  # of one head, or of several


def each(change: Callable[[Tensor], Tensor], images: Images) -> Images:
    """Change the images of every head; what is drawn is drawn for each."""
    return change(images) if isinstance(images, Tensor) else tuple(change(head) for head in images)


def main_head(images: Images) -> Tensor:
    """The images alone, without those of further heads."""
    return images if isinstance(images, Tensor) else images[0]


def in_full(tensor: Tensor) -> Tensor:
    """In single precision, or double where it is so already."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def fill_gradients(network: nn.Module) -> None:
    """Give what a loss did not reach the gradient 0, so that moments decay alike on one process and many."""
    for parameter in network.parameters():
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Compute no gradients of ``module``'s parameters inside; parameters frozen before stay so after."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def add(losses: dict[str, Tensor], name: str, value: Tensor) -> None:
    """Add to a loss by name, from 0."""
    losses[name] = losses[name] + value if name in losses else value
