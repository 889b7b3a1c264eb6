"""Domains on one process, a process each, two processes each, and fewer processes than domains: one training.

Each network is trained in every layout from the same seed. Compared with one process: the gradients of θ_S,
θ_D and D in the first step's optimiser steps, those of lazy regularisers included, and all weights and
buffers after the last. What a process hands to reductions in a step without lazy regularisers is counted, and
set beside what the split implies and what averaging the whole model over all processes, as plain DDP does,
would take. Beside them stands one process whose first weights were disturbed in their last digits: what
rounding alone grows to, which says whether a difference is the layout's doing.
"""

import json  # noqa: I001
import tempfile
from collections import defaultdict
from itertools import count
from math import inf
from pathlib import Path
from typing import Any, Literal

import torch
from worlds import GAMES, SHARING, finish, fit, start, write_domains
from gansharing.setups.domain_state import parameter_names
from jsonargparse import auto_cli
from lightning.pytorch import Callback
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

ROUNDING = "rounding"  # the one process that is disturbed
PARTS = 2  # of a domain's batch: in one process one after the other, or in two at once
Found = dict[str, Tensor]


class Recorder(Callback):
    """Keeps a process's gradients of the first step, its weights after the last, and bytes of a step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: Found = {}
        self.sent: dict[str, int] = {}
        self.steps = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Look at every optimiser step."""
        for index, optimizer in enumerate(trainer.optimizers):
            names = parameter_names(pl_module, index)
            optimizer.register_step_pre_hook(
                lambda optimizer, *_, index=index, names=names: self.keep(
                    pl_module, f"{'GD'[index]}", names, optimizer.param_groups[0]["params"]
                )
            )

    def keep(self, setup: Any, player: str, names: list[str], parameters: list[Tensor]) -> None:
        """Keep the gradients that a step is taken with, by each parameter's own steps."""
        if setup.trainer.global_step == 0:
            for name, parameter in zip(names, parameters, strict=True):
                if parameter.grad is None:
                    continue
                keys = (f"gradient/{player}{step}/{name}" for step in count())
                self.found[next(key for key in keys if key not in self.found)] = kept(parameter.grad)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Keep what the cheapest batch with a generator step sent."""
        sent = dict(pl_module.owners.sent)
        if trainer.global_step > self.steps and (
            not self.sent or sum(sent.values()) < sum(self.sent.values())
        ):
            self.sent = sent
        self.steps = trainer.global_step

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Write all."""
        self.found |= {f"weight/{name}": kept(tensor) for name, tensor in pl_module.state_dict().items()}
        save_file(self.found, self.path, metadata={"sent": json.dumps(self.sent)})


class Disturb(Callback):
    """Moves the first weights by a few units in their last place."""

    @torch.no_grad()
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Move them."""
        for parameter in pl_module.generator.parameters():
            parameter.mul_(1 + 4 * torch.finfo(parameter.dtype).eps)


def kept(tensor: Tensor) -> Tensor:
    """A copy in the layout that safetensors writes."""
    return tensor.clone(memory_format=torch.contiguous_format)


def ranks_of(folder: Path) -> list[tuple[Found, dict[str, int]]]:
    """What every process of a layout left."""
    left = []
    for number in range(len(list(folder.glob("rank*.safetensors")))):
        with safe_open(folder / f"rank{number}.safetensors", framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}
            left.append((found, json.loads(file.metadata()["sent"])))
    return left


def kind_of(name: str) -> str:
    """Whose a tensor is: a gradient of θ_S, θ_D or D, or one of the weights."""
    what, player, *_ = name.split("/")
    if what == "weight":
        return "weights"
    return "D" if player.startswith("D") else "θ_S" if "/shared." in name else "θ_D"


def differences(one: Found, ranks: list[Found]) -> dict[str, float]:
    """Largest difference of any process from one process, by kind.

    Of gradients it is relative to the largest of the kind, of weights to a tensor's largest or to 1.
    """
    largest: dict[str, float] = defaultdict(float)
    for name, wanted in one.items():
        kind = kind_of(name)
        largest[kind] = max(largest[kind], float(wanted.abs().max()))
    apart: dict[str, float] = defaultdict(float)
    for name, wanted in one.items():
        kind = kind_of(name)
        size = max(1.0, float(wanted.abs().max())) if kind == "weights" else largest[kind]
        having = [float((found[name] - wanted).abs().max()) / size for found in ranks if name in found]
        # A tensor that no process has is as far away as can be.
        apart[kind] = max([apart[kind], *(having or [inf])])
    return dict(apart)


def agree(ranks: list[Found]) -> bool:
    """Whether processes have what they have in common alike, bit for bit, and all of them θ_S."""
    known = {name: tensor for found in ranks for name, tensor in found.items()}
    shared = {name for name in known if "/shared." in name}
    return all(
        shared <= found.keys() and all(torch.equal(known[name], tensor) for name, tensor in found.items())
        for found in ranks
    )


def bytes_of(network: str, domains: int, world: int, number: int) -> dict[str, int]:
    """What a step of both players must send, by the split, and what plain DDP of all domains' model would."""
    game = GAMES[network]()
    split = SHARING.apply(game.generator)
    judge = sum(parameter.numel() for parameter in game._judge().parameters() if parameter.requires_grad)
    own, shared = split.domain_size + judge, split.shared_size
    return {
        "shared": number * shared * (world > 1),
        "domain": number * own * (world > domains),
        "plain_ddp": number * (shared + domains * own) * (world > 1),
    }


def measure(
    network: str, layout: str, world: int, folder: Path, paths: dict[str, str], steps: int, precision: str
) -> dict[str, Any]:
    """Train in one layout and compare it with ``one`` beside it."""
    root = folder / layout
    root.mkdir(parents=True)

    def work(rank: int) -> None:
        parts = 1 if layout == "two_each" else PARTS
        recorder = Recorder(root / f"rank{rank}.safetensors")
        more = [Disturb()] if layout == ROUNDING else []
        fit(root, GAMES[network], paths, [*more, recorder], precision, parts, 2 * PARTS, steps)

    finish(start(world, work))
    (one, _), *_ = ranks_of(folder / "one")
    ranks = ranks_of(root)
    return {
        "network": network,
        "layout": layout,
        "processes": world,
        "differences": differences(one, [found for found, _ in ranks]),
        "agree": agree([found for found, _ in ranks]),
        "sent": ranks[0][1],
        "implied": bytes_of(network, len(paths), world, 8 if precision == "64-true" else 4),
    }


def show(row: dict[str, Any]) -> None:
    """Print a layout's line."""
    figures = ", ".join(f"{kind} {value:.0e}" for kind, value in row["differences"].items())
    sent, implied = row["sent"], row["implied"]
    wire = ", ".join(f"{sent.get(name, 0):,} of {implied[name]:,} ({name})" for name in ("shared", "domain"))
    same = "alike" if row["agree"] else "NOT ALIKE"
    print(f"{row['network']:10}{row['layout']:9}{row['processes']} processes, {same}: {figures}")
    if row["processes"] > 1:
        print(f"{'':19}bytes a step: {wire}; plain DDP {implied['plain_ddp']:,}")


def main(
    networks: list[Literal["stylegan2", "sngan", "fastgan"]] = ["stylegan2", "sngan", "fastgan"],  # noqa: B006
    domains: int = 3,
    steps: int = 50,
    precision: Literal["64-true", "32-true"] = "64-true",
    keep: str | None = None,
    out: str | None = None,
) -> None:
    """Train all, and print the largest differences and the bytes.

    Args:
        networks: Which.
        domains: How many.
        steps: Generator steps.
        precision: Of weights and arithmetic.
        keep: Leave what each process had in NETWORK/LAYOUT/rank0.safetensors, ... of this folder.
        out: Write the results as JSON here.
    """
    bar = 1e-10 if precision == "64-true" else 1e-5
    layouts = {"one": 1, ROUNDING: 1, "each": domains, "two_each": PARTS * domains, "fewer": domains - 1}
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(keep or temporary)
        paths = write_domains(Path(temporary) / "images", domains)
        for network in networks:
            for layout, world in layouts.items():
                row = measure(network, layout, world, folder / network, paths, steps, precision)
                show(row)
                results.append(row)
    if out:
        Path(out).write_text(json.dumps(results, indent=2) + "\n")
    judged = [row for row in results if row["layout"] != ROUNDING]
    if any(not row["agree"] or max(row["differences"].values()) > bar for row in judged):
        raise SystemExit(f"a layout differs by more than {bar}")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
