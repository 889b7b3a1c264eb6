"""Kill one process of a multi-domain training at random, resume, and compare with an undisturbed run.

In turn the kill comes in the middle of a step and while a checkpoint is being written, to any process.
Afterwards the others must have stopped with one line each, ``last.ckpt`` must be whole, and the run that is
resumed from it must end with the undisturbed run's numbers, bit for bit. Then a run is stopped halfway and
resumed with another number of processes: its numbers are the undisturbed run's up to the order of sums.
"""

import json  # noqa: I001
import multiprocessing
import random
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from worlds import GAMES, finish, fit, start, write_domains
from gansharing.callbacks import GeneratorEMA, Resumable
from gansharing.checkpoints import read_checkpoint
from jsonargparse import auto_cli
from lightning.pytorch import Callback
from torch import Tensor, equal

DOMAINS, WORLDS = 2, (2, 4)
LIMIT = 60.0  # seconds in which all must have stopped
Moment = Literal["step", "checkpoint"]


class Clock(Callback):
    """Tells the killer which batch has begun."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Count."""
        self.batch.value = trainer.global_step + 1


def last(root: Path) -> Path:
    """The checkpoint of a run."""
    return root / "checkpoints" / "last.ckpt"


def run(root: Path, paths: dict[str, str], world: int, steps: int, clock: Any = None) -> list[BaseProcess]:
    """Start a run of ``world`` processes, or go on with it; what they print is in its ``log``."""
    root.mkdir(parents=True, exist_ok=True)

    def work(rank: int) -> None:
        callbacks: list[Callback] = [GeneratorEMA(0.5, None), Resumable(every_n_steps=2)]
        callbacks += [] if clock is None else [Clock(clock)]
        parts = 2 * DOMAINS // max(world, DOMAINS)
        resume = last(root) if last(root).exists() else None
        fit(root, GAMES["stylegan2"], paths, callbacks, "64-true", parts, 4, steps, resume)

    return start(world, work, root / "log")


def numbers(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint that training makes."""
    checkpoint = read_checkpoint(path)
    kept = ("state_dict", "live_generator", "optimizer_states")
    return tensors({key: checkpoint[key] for key in kept})


def tensors(value: Any, at: str = "") -> dict[str, Tensor]:
    """Tensors within plain values, by their way."""
    if isinstance(value, Tensor):
        return {at: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {name: t for key, inner in items for name, t in tensors(inner, f"{at}/{key}").items()}


def kill(processes: list[BaseProcess], victim: int, when: Moment, root: Path, moment: Any) -> None:
    """Wait for the moment, and kill."""
    clock, batch, wait = moment
    while clock.value < batch and any(process.is_alive() for process in processes):
        time.sleep(0.002)
    if when == "step":
        time.sleep(wait)
    else:
        while not list(last(root).parent.glob(".last.ckpt*")) and processes[0].is_alive():
            time.sleep(0.0005)
    processes[victim].kill()


def trial(root: Path, paths: dict[str, str], steps: int, when: Moment, draw: random.Random) -> dict[str, Any]:
    """One run that is killed and resumed."""
    world = draw.choice(WORLDS)
    victim, batch, wait = draw.randrange(world), draw.randint(1, steps - 1), draw.uniform(0, 0.3)
    if when == "checkpoint" and draw.random() < 0.5:
        victim = 0  # which writes the file
    clock = multiprocessing.get_context("fork").Value("i", 0)
    processes = run(root, paths, world, steps, clock)
    kill(processes, victim, when, root, (clock, batch, wait))
    began = time.monotonic()
    for process in processes:
        process.join(max(0.0, LIMIT - (time.monotonic() - began)))
    stuck = [process for process in processes if process.is_alive()]
    for process in stuck:
        process.kill()
    seconds = time.monotonic() - began
    torn = len(list(last(root).parent.glob(".last.ckpt*")))
    step = read_checkpoint(last(root))["global_step"] if last(root).exists() else 0
    said = (root / "log").read_text()
    finish(run(root, paths, world, steps))
    return {
        "when": when,
        "processes": world,
        "victim": victim,
        "batch": batch,
        "seconds": round(seconds, 2),
        "stopped": not stuck,
        "status": [process.exitcode for process in processes],
        "lines": said.count("another process of this run has ended"),
        "tracebacks": said.count("Traceback"),
        "mid_save": bool(torn),
        "resumed_from": step,
    }


def moved(folder: Path, paths: dict[str, str], steps: int, before: int, after: int) -> float:
    """Stop halfway with ``before`` processes, go on with ``after``: the largest difference."""
    root = folder / f"{before}_to_{after}"
    finish(run(root, paths, before, steps // 2))
    finish(run(root, paths, after, steps))
    wanted, found = numbers(last(folder / f"whole_{before}")), numbers(last(root))
    return max(float((found[name] - tensor).abs().max()) for name, tensor in wanted.items())


def main(
    trials: int = 20,
    steps: int = 8,
    moves: list[list[int]] = [[4, 1], [1, 2], [2, 4]],  # noqa: B006
    seed: int = 0,
    out: str | None = None,
) -> None:
    """Run the trials and the moves, and print what came of them.

    Args:
        trials: Kills; every second one in the middle of a checkpoint.
        steps: Generator steps of a run.
        moves: Numbers of processes before and after.
        seed: Of the random moments.
        out: Write the results as JSON here.
    """
    draw, rows = random.Random(seed), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_domains(folder / "images", DOMAINS)
        for world in {*WORLDS, *(before for before, _ in moves)} if moves else WORLDS:
            finish(run(folder / f"whole_{world}", paths, world, steps))
        for number in range(trials):
            root = folder / f"trial_{number}"
            row = trial(root, paths, steps, ("step", "checkpoint")[number % 2], draw)
            wanted, found = numbers(last(folder / f"whole_{row['processes']}")), numbers(last(root))
            row["equal"] = wanted.keys() == found.keys() and all(equal(wanted[n], found[n]) for n in wanted)
            rows.append(row)
            print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            if row["tracebacks"]:
                print((root / "log").read_text())
        apart = {f"{a} to {b}": moved(folder, paths, steps, a, b) for a, b in moves}
    good = [
        row["equal"] and row["stopped"] and row["lines"] == row["processes"] - 1 and not row["tracebacks"]
        for row in rows
    ]
    print(f"{sum(good)} of {trials} stopped clearly and ended as the undisturbed run; ", end="")
    print(f"{sum(row['mid_save'] for row in rows)} left half a file beside last.ckpt")
    for way, value in apart.items():
        print(f"from {way} processes: largest difference {value:.0e}")
    if out:
        Path(out).write_text(json.dumps({"trials": rows, "moves": apart}, indent=2) + "\n")
    if not all(good) or any(value > 1e-9 for value in apart.values()):
        raise SystemExit("a run did not stop clearly, or did not resume to the same numbers")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
