"""Archives of torch.export, and what they are given."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from gansharing.networks import Generator
from tests.tools.generators import labels_of


def loaded(path: Path) -> tuple[Callable[..., Tensor], dict[str, object]]:
    extra = {"gansharing.json": ""}
    graph = torch.export.load(path, extra_files=extra).module()
    return graph, json.loads(extra["gansharing.json"])


def inputs_of(network: Generator, count: int) -> tuple[Tensor, ...]:
    latents = network.sample_latent(count, torch.Generator().manual_seed(count))
    labels = labels_of(network, count)
    return (latents,) if labels is None else (latents, labels)
