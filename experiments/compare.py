"""Train several configurations on several seeds and table their scores: mean and standard deviation.

Finished runs are kept and skipped, stopped ones are resumed, so the command can be interrupted at will::

    python experiments/compare.py --runs runs/compare --options "--data.path FOLDER" \
        --configs '[experiments/spectral_style/paper.yaml, experiments/spectral_style/dcgan.yaml]'
"""

import json
import multiprocessing
import os
import platform
import shlex
import shutil
import statistics
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, TypeVar

from gansharing.errors import UserError
from gansharing.tools.seed_noise import cell, significance
from gansharing.usage import ToolParser

Job, Result = TypeVar("Job"), TypeVar("Result")

# Runs are forked from a process that has imported everything once: seconds less for each.
_RUNS = multiprocessing.get_context("forkserver")
_RUNS.set_forkserver_preload(["gansharing.cli"])


def _work(words: list[str], log: Path, threads: int) -> None:
    """Be ``gansharing WORDS`` with an output of its own."""
    import torch

    from gansharing.cli import main

    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    # By these Lightning starts the processes of further devices.
    sys.argv = [str(Path(sys.executable).with_name("gansharing")), *words]
    sys.modules["__main__"].__spec__ = None
    main()


def train(configs: list[Path], seed: int, run: Path, options: list[str], threads: int) -> dict[str, Any]:
    """Train one configuration, of files laid over one another, unless ``run`` holds the finished result.

    Raises:
        CalledProcessError: The training failed; ``output.log`` of the run says why.
    """
    results = run / "results.json"
    if not results.is_file() or json.loads(results.read_text())["status"] != "finished":
        resume = ["--ckpt_path", "last"] if (run / "checkpoints" / "last.ckpt").is_file() else []
        files = [word for config in configs for word in ("--config", str(config))]
        command = ["fit", *files, *options]
        command += ["--seed_everything", str(seed), "--data.seed", str(seed)]
        command += ["--trainer.default_root_dir", str(run), "--trainer.enable_progress_bar", "false", *resume]
        run.mkdir(parents=True, exist_ok=True)
        process = _RUNS.Process(target=_work, args=(command, run / "output.log", threads))
        process.start()
        process.join()
        if process.exitcode:
            raise CalledProcessError(process.exitcode, ["gansharing", *command])
        print(f"finished {run}", flush=True)
    return json.loads(results.read_text())


def verdict(better: list[float], worse: list[float]) -> str:
    """Whether the first set's mean is lower, beyond the noise of the seeds (p < 0.05)."""
    if significance(better, worse) >= 0.05:
        return "within seed noise"
    return "holds" if statistics.mean(better) < statistics.mean(worse) else "the other way round"


def fid(result: dict[str, Any]) -> float:
    """FID after the last step."""
    return result["scores"]["fid_lite"]


def interval(results: list[dict[str, Any]]) -> str:
    """The bootstrapped 95 % interval over generated images, averaged over the seeds."""
    low, high = (statistics.mean(r["scores"][f"fid_lite_{end}"] for r in results) for end in ("low", "high"))
    return f"{low:.4g} – {high:.4g}"


def table(rows: dict[str, list[dict[str, Any]]], scores: list[str]) -> str:
    """A Markdown table: a row per configuration."""
    lines = ["| configuration | " + " | ".join(scores) + " | best FID (step) | parameters G + D | min |"]
    lines.append("|" + "---|" * (len(scores) + 4))
    for name, results in rows.items():
        cells = [cell([r["scores"][score] for r in results]) for score in scores]
        best = [r["best"][scores[0]] for r in results]
        steps = ", ".join(str(r["best"]["step"]) for r in results)
        parameters = results[0]["parameters"]
        size = f"{parameters['generator']:,} + {parameters['discriminator']:,}"
        minutes = statistics.mean(r["wall_seconds"] for r in results) / 60
        lines.append(f"| {name} | {' | '.join(cells)} | {cell(best)} ({steps}) | {size} | {minutes:.1f} |")
    return "\n".join(lines)


def circumstances(result: dict[str, Any], seeds: list[int]) -> str:
    """What must stand beside a table: date, machine, commit, protocol and the command."""
    protocol = {k: v for k, v in result["protocol"].items() if not k.endswith("fingerprint")}
    machine = platform.processor() or platform.machine()
    about = f"{date.today()}, {machine}, {result['device']}, seeds {seeds}"
    here = f"{Path(__file__).resolve().parents[1]}{os.sep}"
    command = f"python {' '.join(shlex.quote(word.replace(here, '')) for word in sys.argv)}"
    return f"{about}; git {result['git']}.\n\nProtocol: `{protocol}`\n\n```\n{command}\n```\n"


@dataclass(kw_only=True)
class Comparison(ABC):
    """A table of runs, each made once: the same command goes on where it stopped.

    Args:
        runs: Where the runs are kept, and the table.
        seeds: Seeds of weights, latents and data order.
        options: Further options of `gansharing fit` for every run, as one string.
        parallel: Runs at the same time.
        threads: CPU threads of each.
        out: Also write the Markdown to this file, and pictures beside it.
    """

    runs: Path
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    options: str = ""
    parallel: int = 2
    threads: int = 1
    out: Path | None = None

    @abstractmethod
    def make(self) -> None:
        """Make the runs that are missing, and the table."""

    def each(self, jobs: Iterable[Job], work: Callable[[Job], Result]) -> dict[Job, Result]:
        """What ``work`` makes of every job, so many at a time."""
        jobs = list(jobs)
        with ThreadPoolExecutor(self.parallel) as pool:
            return dict(zip(jobs, pool.map(work, jobs), strict=True))

    def write(self, *parts: str, pictures: Iterable[Path] = ()) -> None:
        """Keep the paragraphs beside the runs, print them, and copy them and the pictures to ``out``."""
        text = "\n\n".join(parts)
        self.runs.mkdir(parents=True, exist_ok=True)
        (self.runs / "table.md").write_text(text)
        print(text)
        if self.out:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self.out.write_text(text)
            for picture in pictures:
                shutil.copyfile(picture, self.out.with_name(picture.name))


def main(kind: type[Comparison]) -> None:
    """Make a table as the command line asks for it."""
    parser = ToolParser(description=str(kind.__doc__).partition("\n")[0])
    parser.add_argument("--config", action="config", help="Path to a configuration file.")
    parser.add_class_arguments(kind, as_group=False)
    try:
        given = parser.parse_args().as_dict()
    except UserError as error:
        raise SystemExit(f"{Path(sys.argv[0]).name}: {error}") from None
    kind(**{name: value for name, value in given.items() if name != "config"}).make()


def chosen(only: list[str] | None, names: Iterable[str], what: str) -> list[str]:
    """The names asked for, in the order in which they are given; all when none are.

    Raises:
        SystemExit: One is not among them, with those that are.
    """
    names = list(names)
    if unknown := set(only or []) - set(names):
        raise SystemExit(f"no such {what}: {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    return [name for name in names if not only or name in only]


@dataclass(kw_only=True)
class Configurations(Comparison):
    """Train every configuration on every seed and print the table.

    Args:
        configs: Configuration files.
        runs: Where the runs are kept, as CONFIG-sSEED.
        scores: Columns, as results.json names them; the first decides what "best" means.
    """

    configs: list[Path]
    runs: Path = Path("runs/compare")
    scores: list[str] = field(
        default_factory=lambda: ["fid_lite", "kid_lite", "precision_lite", "recall_lite"]
    )
    parallel: int = 1
    threads: int = 2

    def make(self) -> None:
        """Make the runs that are missing, and the table."""

        def work(job: tuple[Path, int]) -> dict[str, Any]:
            config, seed = job
            run = self.runs / f"{config.stem}-s{seed}"
            return train([config], seed, run, shlex.split(self.options), self.threads)

        done = self.each([(config, seed) for seed in self.seeds for config in self.configs], work)
        rows = {config.stem: [done[config, seed] for seed in self.seeds] for config in self.configs}
        first = done[self.configs[0], self.seeds[0]]
        self.write(table(rows, self.scores), circumstances(first, self.seeds))


if __name__ == "__main__":
    main(Configurations)
