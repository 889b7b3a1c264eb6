"""Train several configurations on several seeds and table their scores: mean and standard deviation.

Finished runs are kept and skipped, stopped ones are resumed, so the command can be interrupted at will; one
that was made by another command is an error::

    python experiments/compare.py --runs runs/compare --options "--data.path FOLDER" \
        --configs '[experiments/spectral_style/paper.yaml, experiments/spectral_style/dcgan.yaml]'
"""

import itertools
import json
import multiprocessing
import os
import platform
import shlex
import shutil
import statistics
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, TypeVar

import yaml

from gansharing.errors import UserError
from gansharing.files import write_atomically
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


class RunFailed(CalledProcessError):
    """A training ended with an error; as text, one line with the last one of its log."""

    def __init__(self, code: int, command: list[str], log: Path) -> None:
        super().__init__(code, command)
        self.log = log

    def __str__(self) -> str:
        said = self.log.read_text(errors="replace").strip().splitlines() if self.log.is_file() else []
        last = said[-1] if said else "it said nothing"
        return f"gansharing fit of {self.log.parent} failed ({self.returncode}): {last} (more in {self.log})"


def _settings(file: Path) -> list[str]:
    """Every value of a configuration file and of those that it names, a line each.

    Raises:
        UserError: It cannot be read.
    """

    def lines(name: str, value: Any) -> list[str]:
        if isinstance(value, str) and value.endswith(".yaml") and (file.parent / value).is_file():
            return [f"{name}: {line}" for line in _settings(file.parent / value)]
        if not isinstance(value, dict | list) or not value:
            return [f"{name}={json.dumps(value, default=str)}"]
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return [line for key, part in parts for line in lines(f"{name}.{key}", part)]

    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {file}: {' '.join(str(error).split())}") from error
    return lines(file.name, content)


def _asked(configs: list[Path], words: list[str]) -> list[str]:
    """What a run is made of, wherever its files lie: a line for each value and each option."""
    options: list[str] = []
    for word in words:
        if word.startswith("--") or not options:
            options.append(word)
        else:
            options[-1] += f"={word}"
    return [line for config in configs for line in _settings(config)] + options


def _know(run: Path, asked: list[str], kept: bool) -> None:
    """Note in ``command.json`` what a new run is made of; of one that is kept, see that it was the same.

    Raises:
        UserError: It was not, with what differs. Runs older than the note are taken as they are.
    """
    note = run / "command.json"
    if not kept:
        write_atomically(note, lambda file: file.write(json.dumps(asked, indent=0).encode()))
    elif note.is_file() and (made := json.loads(note.read_text())) != asked:
        sides = ([line for line in made if line not in asked], [line for line in asked if line not in made])
        had, has = ("; ".join([*lines[:3], *(["…"] if lines[3:] else [])]) or "nothing" for lines in sides)
        said = f"it had {had}, now {has}" if any(sides) else "the same in another order"
        raise UserError(
            f"{run} was made by another command: {said}; name other --runs, or delete that folder"
        )


def train(configs: list[Path], seed: int, run: Path, options: list[str], threads: int) -> dict[str, Any]:
    """Train one configuration, of files laid over one another, unless ``run`` holds the finished result.

    Raises:
        UserError: What ``run`` holds was made by another command.
        RunFailed: The training failed; ``output.log`` of the run says why.
    """
    results, resumed = run / "results.json", (run / "checkpoints" / "last.ckpt").is_file()
    finished = results.is_file() and json.loads(results.read_text())["status"] == "finished"
    words = [*options, "--seed_everything", str(seed), "--data.seed", str(seed)]
    _know(run, _asked(configs, words), kept=finished or resumed)
    if not finished:
        files = [word for config in configs for word in ("--config", str(config))]
        command = ["fit", *files, *words]
        command += ["--trainer.default_root_dir", str(run), "--trainer.enable_progress_bar", "false"]
        command += ["--ckpt_path", "last"] if resumed else []
        run.mkdir(parents=True, exist_ok=True)
        log = run / "output.log"
        process = _RUNS.Process(target=_work, args=(command, log, threads))
        process.start()
        process.join()
        if process.exitcode:
            raise RunFailed(process.exitcode, ["gansharing", *command], log)
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


def over_seeds(values: Sequence[float]) -> str:
    """Student's 95 % interval of the mean over seeds."""
    from scipy.stats import t

    if len(values) < 2:
        return "–"
    half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values) - half:.4g} – {statistics.mean(values) + half:.4g}"


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
        jobs, done = list(jobs), itertools.count(1)

        def counted(job: Job) -> Result:
            result = work(job)
            name = " ".join(map(str, job)) if isinstance(job, tuple) else job
            print(f"[{next(done)}/{len(jobs)}] {name}", flush=True)
            return result

        with ThreadPoolExecutor(self.parallel) as pool:
            return dict(zip(jobs, pool.map(counted, jobs), strict=True))

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
        kind(**{name: value for name, value in given.items() if name != "config"}).make()
    except (UserError, RunFailed) as error:
        raise SystemExit(f"{Path(sys.argv[0]).name}: {error}") from None


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
        named: dict[str, Path] = {}
        for config in self.configs:
            other = named.setdefault(config.stem, config)
            if other is not config:
                raise UserError(
                    f"{other} and {config} would share the runs {self.runs / config.stem}-sSEED: "
                    "copy one under another name"
                )

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
