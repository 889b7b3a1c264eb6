"""Reproduce the papers' tables: each in miniature on embedded images, or as published on data that you name.

Every table is made of runs; finished ones are kept and stopped ones resumed, so the command can be
interrupted at will::

    make reproduce                                     # every miniature, one after the other: hours on a CPU
    make reproduce AT_ONCE=2 OPTIONS="--parallel 1"    # two at a time, each training one network at a time
    make reproduce TABLE=width_wise-1
    make reproduce TABLE=fastgan-2 SCALE=full PATHS="obama=/data/obama" OPTIONS="--trainer.devices 1"

Results are written to ``docs/results``, runs are kept in ``runs/``.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from compare import RunFailed, train
from jsonargparse import auto_cli

from gansharing.errors import UserError
from gansharing.tools.report import report
from gansharing.usage import check_choice

HERE = Path(__file__).parent
_SOURCE = {"source": "--model.source", "source_discriminator": "--model.source_discriminator"}
_SIZES = " ".join(f"--{part}.resolution 32" for part in ("data", "model.generator", "model.discriminator"))


@dataclass(frozen=True)
class Table:
    """A table of a paper.

    Attributes:
        mini: The miniature: a script of this folder and its arguments.
        files: The paper's methods by name: configurations laid over one another, below ``experiments``;
            ``{data}`` in a path becomes the data set's name.
        data: The paper's data sets; each is trained on by every method.
        needs: Further paths, by the option that takes each.
        together: The data sets are the domains of one run.
        options: Of a method, beside its files, those of `gansharing fit`.
    """

    mini: list[str]
    files: dict[str, list[str]]
    data: list[str]
    needs: dict[str, str] = field(default_factory=dict)
    together: bool = False
    options: dict[str, list[str]] = field(default_factory=dict)

    @property
    def document(self) -> str:
        """What the results are called."""
        return self.mini[0].removesuffix(".py") if self.mini[0] != "compare.py" else "spectral_style"


def _laid(base: str, names: list[str]) -> dict[str, list[str]]:
    folder = base.partition("/")[0]
    return {name: [base, f"{folder}/{name}"] for name in names}


_SHARINGS = ["full", "minegan", "layer_10", "layer_1", "width_10", "width_1"]
_ABLATIONS = [
    "slimmable_g",
    "no_distillation",
    "naive_distillation",
    "same_d",
    "slimmable_d",
    "distillation_only",
]
# SNDCGAN's channels at the four widths; both rows' network of full width is the same.
_CHANNELS = {"0.25": 128, "0.5": 256, "0.75": 384, "1": 512}
_INDIVIDUAL = {f"individual-{width}": (narrow, narrow) for width, narrow in _CHANNELS.items()}
_INDIVIDUAL |= {f"individual_f-{width}": (narrow, 512) for width, narrow in _CHANNELS.items() if width != "1"}
_SPECTRAL = ["paper", "no_spectral_norm", "dcgan"]
TABLES = {
    "width_wise-1": Table(
        ["width_wise.py", "--only", f"[{','.join(_SHARINGS)}]"],
        {name: ["width_wise/ffhq_{data}", f"width_wise/{name}"] for name in _SHARINGS},
        ["metfaces", "church"],
        _SOURCE,
    ),
    "width_wise-2": Table(
        ["multi_domain.py"],
        {name: ["multi_domain/table_2", f"width_wise/{name}"] for name in _SHARINGS[2:]}
        | {"stargan_v2": ["multi_domain/stargan_v2"]},
        ["celeba_hq", "church", "cat", "bedroom"],
        together=True,
    ),
    "adafm-1": Table(
        ["adafm.py"],
        _laid("adafm/base", ["transfergan", "scratch", "our"]),
        ["celeba", "flowers", "cars", "cathedral"],
        _SOURCE,
    ),
    "fastgan-2": Table(
        ["fastgan.py"],
        {"stylegan2": ["stylegan2/256", "fastgan/stylegan2"], "ours": ["fastgan/official"]}
        | _laid("fastgan/official", ["baseline", "skip", "decode"]),
        ["animal_face_dog", "animal_face_cat", "obama", "panda", "grumpy_cat"],
    ),
    "slimgan-4": Table(
        ["slimgan.py"],
        {"slimgan": ["slimgan/base", "slimgan/dcgan_{data}"]}
        | {name: ["slimgan/base", "slimgan/dcgan_{data}", f"slimgan/{name}"] for name in _ABLATIONS}
        | {
            name: ["slimgan/base", "slimgan/dcgan_{data}", "slimgan/individual_dcgan_{data}"]
            for name in _INDIVIDUAL
        },
        ["cifar10"],
        options={
            name: [f"--model.generator.channels={g}", f"--model.discriminator.channels={d}"]
            for name, (g, d) in _INDIVIDUAL.items()
        },
    ),
    "spectral_style-1": Table(
        [
            *(
                "compare.py",
                "--configs",
                json.dumps([str(HERE / f"spectral_style/{name}.yaml") for name in _SPECTRAL]),
            ),
            *(
                "--options",
                f"{_SIZES} --trainer.max_epochs 8 --trainer.check_val_every_n_epoch 4 "
                "--scores.num_samples 1000 --scores.untrained false",
            ),
            *("--parallel", "2", "--threads", "1"),
        ],
        {name: [f"spectral_style/{name}"] for name in _SPECTRAL},
        ["afhq_dog"],
    ),
}


def miniature(name: str, runs: Path, results: Path, options: list[str]) -> None:
    """Run the script of a miniature; it keeps its runs, and writes its document and sheets.

    Raises:
        UserError: The script failed.
    """
    table = TABLES[name]
    script, *given = table.mini
    command = [sys.executable, str(HERE / script), *given, "--runs", str(runs / table.document)]
    command += ["--out", str(results / f"{table.document}.md"), *options]
    if subprocess.run(command).returncode:
        raise UserError(
            f"{name} stopped; the same command goes on where it did (its runs: {runs / table.document})"
        )


def check_paths(name: str, paths: dict[str, str]) -> None:
    """See that what every run of a table needs is named.

    Raises:
        UserError: It is not, with what to name.
    """
    table = TABLES[name]
    named = [data in paths for data in table.data]
    enough = all(named) if table.together else any(named)
    if enough and table.needs.keys() <= paths.keys():
        return
    either = (" " if table.together else " or ").join(f"{data}=FOLDER" for data in table.data)
    needed = " ".join([*(f"{need}=FILE" for need in table.needs), *(["and"] if table.needs else []), either])
    raise UserError(f'{name} at full scale trains on data that you have: PATHS="{needed}"')


def full(
    name: str, paths: dict[str, str], runs: Path, results: Path, options: list[str], seeds: list[int]
) -> None:
    """Train the paper's own configurations on the data sets that are named, and report them.

    Raises:
        UserError: A path that every run needs is not named, no data set is, or a run failed.
    """
    table = TABLES[name]
    check_paths(name, paths)
    always = [word for need, option in table.needs.items() for word in (option, paths[need])]
    sets = {data: ["--data.path", paths[data]] for data in table.data if data in paths}
    if table.together:
        sets = {"all": ["--data.domains", json.dumps({data: paths[data] for data in table.data})]}
    jobs = [(data, method, seed) for data in sets for method in table.files for seed in seeds]
    done = []
    for number, (data, method, seed) in enumerate(jobs, start=1):
        print(f"[{number}/{len(jobs)}] {name}: {method} on {data}, seed {seed}", flush=True)
        files = [HERE / f"{file.format(data=data)}.yaml" for file in table.files[method]]
        run = runs / f"{name}-full" / f"{method}-{data}-s{seed}"
        try:
            own = [*always, *sets[data], *table.options.get(method, []), *options]
            train(files, seed, run, own, os.cpu_count() or 1)
        except RunFailed as error:
            raise UserError(str(error)) from error
        done.append(str(run))
    results.mkdir(parents=True, exist_ok=True)
    report(done, str(results / f"{name}-full.md"), f"{name}, as published")


def main(
    table: str | None = None,
    scale: Literal["mini", "full"] = "mini",
    paths: str = "",
    options: str = "",
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    runs: Path = Path("runs"),
    results: Path = Path("docs/results"),
    at_once: int = 1,
) -> None:
    """Reproduce a table, or all of them.

    Args:
        table: PAPER-TABLE such as width_wise-1; every miniature when omitted.
        scale: mini (embedded images, small networks) or full (the paper's, on data that you name).
        paths: At full scale, NAME=PATH of data sets and source networks, separated by spaces.
        options: Further options: of the miniature's script, or of `gansharing fit` at full scale.
        seeds: Seeds at full scale.
        runs: Where runs are kept.
        results: Where documents go.
        at_once: Miniatures at the same time, each with runs of its own at the same time (its --parallel).
    """
    if table is not None:
        check_choice("table", table, TABLES)
    elif scale == "full":
        raise UserError(f"name the table to reproduce at full scale: TABLE= one of {', '.join(TABLES)}")
    more = shlex.split(options)
    given = dict(word.partition("=")[::2] for word in shlex.split(paths))
    chosen = [table] if table else list(TABLES)

    def work(numbered: tuple[int, str]) -> str | None:
        number, name = numbered
        started = time.monotonic()
        print(f"== {name} ({number} of {len(chosen)}), {scale}", flush=True)
        try:
            if scale == "mini":
                miniature(name, runs, results, more)
            else:
                full(name, given, runs, results, more, seeds)
        except UserError as error:
            return str(error)
        print(f"== {name}: {(time.monotonic() - started) / 60:.1f} min", flush=True)
        return None

    with ThreadPoolExecutor(at_once) as pool:
        failed = [said for said in pool.map(work, enumerate(chosen, start=1)) if said is not None]
    if failed:
        raise UserError("; ".join(failed))


if __name__ == "__main__":
    try:
        auto_cli(main, as_positional=False)
    except UserError as error:
        raise SystemExit(f"reproduce: {error}") from None
