"""What a step costs with n domains in one process, and with four domains on 1, 2 and 4 processes.

Numbers of domains take turns in one process on one thread: CPU time of a step, a domain. Memory is measured
in processes of their own: the median of their peaks, beside what the split implies, n times the state of θ_D
and D, the state of θ_S, and the activations of one domain, which are the peak of one domain less its state.
In several processes the CPU time within reductions, the workers' threads included, is the share of
communication.
"""

import json  # noqa: I001
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from worlds import OPTIMIZERS, SHARING, finish, fit, start, write_domains
from gansharing.augment import DiffAugment
from gansharing.networks import StyleGAN2Discriminator, StyleGAN2Generator
from gansharing.objectives import R1
from gansharing.setups import Adversarial
from gansharing.sharing import WidthWise
from jsonargparse import auto_cli
from lightning.pytorch import Callback

STATE = 4 * 4  # bytes a weight: itself, its gradient and Adam's two moments


def game(width: int) -> Adversarial:
    """The miniature's StyleGAN2 of 32 px."""
    nets: dict[str, Any] = {"channel_base": 8 * width, "channel_max": width}
    return Adversarial(
        StyleGAN2Generator(32, 64, 64, mapping_layers=4, mixing=0.9, **nets),
        StyleGAN2Discriminator(32, **nets),
        regularizers=[R1(0.1, 16)],
        augment=DiffAugment("translation"),
        **OPTIMIZERS,
    )


class Watch(Callback):
    """CPU seconds of steps after the first, and of the reductions in them."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.reducing = 0.0
        self.sent: dict[str, int] = {}
        self._began = 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Time the reductions."""
        for name in ("reduce_shared", "average_domain", "average_buffers"):
            setattr(pl_module.owners, name, self._timed(getattr(pl_module.owners, name)))

    def _timed(self, reduction: Callable[..., None]) -> Callable[..., None]:
        def timed(*args: Any) -> None:
            began = time.process_time()
            reduction(*args)
            self.reducing += time.process_time() - began

        return timed

    def on_train_batch_start(self, *_: Any) -> None:
        """Begin."""
        self._began = time.process_time()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """End; the first step warms up and has a lazy regulariser's."""
        taken = time.process_time() - self._began
        if trainer.global_step == 1:
            self.reducing = 0.0
        else:
            self.steps.append(taken)
            self.sent = dict(pl_module.owners.sent)


def peak() -> int:
    """The most memory that this process has held, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def train(paths: dict[str, str], root: Path, width: int, steps: int) -> Watch:
    """A short training."""
    watch = Watch()
    fit(root, partial(game, width), paths, [watch], steps=steps + 1)
    return watch


def turns(paths: dict[str, str], numbers: list[int], root: Path, width: int, repeats: int) -> dict[int, Any]:
    """CPU seconds of a step, a domain, by numbers of domains."""
    taken: dict[int, list[float]] = {number: [] for number in numbers}
    for _ in range(repeats):
        for number in numbers:
            watch = train(dict(list(paths.items())[:number]), root, width, 2)
            taken[number].append(statistics.median(watch.steps) / number)
    return taken


def spread_out(paths: dict[str, str], root: Path, width: int) -> dict[str, Any]:
    """CPU seconds of a step in this process, and of reductions in it, with the bytes it sent."""
    watch = train(paths, root, width, 4)
    reducing = watch.reducing / len(watch.steps)
    return {"step": statistics.mean(watch.steps), "reducing": reducing, "sent": watch.sent}


def held(paths: dict[str, str], root: Path, width: int) -> int:
    """How far the peak rises in a training."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak()
    train(paths, root, width, 1)
    return peak() - before


def apart(work: Callable[[], Any], world: int, log: Path) -> list[Any]:
    """What ``work`` gives in each of ``world`` processes, in no order."""
    answers: Queue[Any] = multiprocessing.get_context("fork").Queue()
    processes = start(world, lambda rank: answers.put(work()), log)
    found = [answers.get(timeout=600) for _ in processes]
    finish(processes)
    return found


def sizes(width: int) -> tuple[int, int]:
    """|θ_S|, and |θ_D| + |D|."""
    made = game(width)
    split = SHARING.apply(made.generator)
    return split.shared_size, split.domain_size + sum(p.numel() for p in made.discriminator.parameters())


def published() -> tuple[int, int, int]:
    """|θ_S|, |θ_D| and |D| of experiments/multi_domain/table_2.yaml, a tenth of StyleGAN2 at 256 px."""
    split = WidthWise(0.1).apply(StyleGAN2Generator(256))
    judge = sum(parameter.numel() for parameter in StyleGAN2Discriminator(256).parameters())
    return split.shared_size, split.domain_size, judge


def main(
    domains: list[int] = [1, 2, 4, 8, 16],  # noqa: B006
    worlds: list[int] = [1, 2, 4],  # noqa: B006
    width: int = 64,
    repeats: int = 3,
    out: str | None = None,
) -> None:
    """Print both tables.

    Args:
        domains: Numbers of domains in one process, beginning with 1.
        worlds: Numbers of processes for four domains.
        width: Most channels of the StyleGAN2 of 32 px.
        repeats: Turns.
        out: Write the results as JSON here.
    """
    shared, own = sizes(width)
    print(f"θ_S {shared:,}, θ_D and D {own:,} a domain; batches of 4")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        paths = write_domains(root / "images", max(*domains, 4))
        first = {n: dict(list(paths.items())[:n]) for n in (*domains, 4)}
        (times,) = apart(partial(turns, paths, domains, root, width, repeats), 1, root / "log")
        rows, activations = [], 0
        for n in domains:
            state = STATE * (shared + n * own)
            peaks = [
                risen
                for _ in range(repeats)
                for risen in apart(partial(held, first[n], root, width), 1, root / "log")
            ]
            memory = int(statistics.median(peaks))
            activations = activations or memory - state
            ratios = [value / one for value, one in zip(times[n], times[domains[0]], strict=True)]
            row = {"domains": n, "cpu_s": statistics.median(times[n]), "ratio": statistics.median(ratios)}
            rows.append(row | {"ratios": ratios, "memory": peaks, "bound": state + activations})
            print(
                f"{n:3} domains: {1e3 * row['cpu_s']:.0f} ms a domain, {row['ratio']:.2f}x "
                f"({min(ratios):.2f}-{max(ratios):.2f}) of {domains[0]}; {memory / 1e6:.1f} MB "
                f"({min(peaks) / 1e6:.1f}-{max(peaks) / 1e6:.1f}), bound {(state + activations) / 1e6:.1f}",
                flush=True,
            )
        spread = []
        for world in worlds:
            left = apart(partial(spread_out, first[4], root, width), world, root / "log")
            slowest = max(left, key=lambda found: found["step"])
            spread.append({"processes": world, **slowest})
            print(
                f"4 domains on {world} processes: {1e3 * slowest['step']:.0f} ms CPU a step and process, "
                f"{slowest['reducing'] / slowest['step']:.1%} of it in reductions; sent {slowest['sent']}",
                flush=True,
            )
    theirs = published()
    print("of StyleGAN2 at 256 px, λ 0.1: θ_S {:,}, θ_D {:,}, D {:,}".format(*theirs))
    if out:
        Path(out).write_text(
            json.dumps({"domains": rows, "processes": spread, "256 px": theirs}, indent=2) + "\n"
        )


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
