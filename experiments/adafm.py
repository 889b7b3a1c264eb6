"""Zhao et al.'s comparisons in miniature: one source, a target of 1,000 and one of 25 images, every method.

A small GP-GAN learns Twemoji and is taken to a part of OpenMoji by the methods of ``experiments/adafm``, on
several seeds, each with images of its own; FID is taken against all of OpenMoji. Finished runs are kept and
stopped ones resumed, so the command can be interrupted at will::

    python experiments/adafm.py --runs runs/adafm --out docs/results/adafm.md

It leaves ``table.md``, ``runs.csv`` and a sheet of images a target in that folder, and copies of table and
sheets beside ``--out``.
"""

import csv
import shlex
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compare import Comparison, cell, chosen, circumstances, fid, interval, main, train, verdict

HERE = Path(__file__).parent / "adafm"
Result = dict[str, Any] | None  # None: the run diverged
_GPGAN = {"resolution": 32, "base_channels": 8, "channel_max": 64, "coarsest": 4, "latent_dim": 64}
_HEAD = {"resolution": 32, "base_channels": 8, "style_dim": 64, "mapping_layers": 4, "latent_dim": 64}
# Title, the files laid over base.yaml, the target's options.
METHODS: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "transfergan": ("TransferGAN", ["transfergan"], _GPGAN),
    "scratch": ("Scratch", ["scratch"], _HEAD),
    "gpgan": ("GP-GAN", ["gpgan"], _GPGAN),
    "gphead": ("GPHead", ["gphead"], _GPGAN),
    "smallhead": ("SmallHead", ["smallhead"], _HEAD),
    "our": ("Our", ["our"], _HEAD),
    "our_d5": ("Our-G4D5", ["our", "d5"], _HEAD),
    "our_fs": ("Our, FS for AdaFM", ["our_fs"], _HEAD),
    "freezed": ("FreezeD", ["freezed"], _GPGAN),
    "minegan": ("MineGAN", ["minegan"], _GPGAN),
    "bsa": ("BSA", ["bsa"], _GPGAN),
}
# Where the paper freezes part of the discriminator, it freezes more of it for 25 images: D6.
_GENERAL = {"gphead", "smallhead", "our", "our_fs"}
TARGETS = {
    "1000": [name for name in METHODS],
    "25": [name for name in METHODS if name != "our_d5"],
}
# The first has the lower FID, and where the paper says so.
CLAIMS: dict[str, list[tuple[str, str, str]]] = {
    "1000": [
        ("our", "transfergan", "Table 1"),
        ("our", "scratch", "Tables 1 and 3"),
        ("smallhead", "gphead", "Table 2, small sets"),
        ("smallhead", "gpgan", "Table 2, small sets"),
        ("our", "smallhead", "Table 2"),
        ("our", "gphead", "Table 2"),
        ("our", "our_fs", "Figure 7"),
        ("our_d5", "our", "Table 3, Flowers and Cathedral"),
        ("our", "freezed", "expected in section 2.2"),
        ("our", "minegan", "expected in section 2.2"),
    ],
    "25": [
        ("our", "bsa", "Figure 11"),
        ("our", "transfergan", "expected in section 2.2"),
        ("our", "freezed", "expected in section 2.2"),
        ("our", "minegan", "expected in section 2.2"),
    ],
}


def gain_of(source: Path) -> float:
    """Deviation of the source's features where a small head hands over, which it must begin with."""
    import torch

    from gansharing import load
    from gansharing.networks.seeded import seeded_latents

    generator: Any = load(source)
    seen: list[float] = []
    generator.resnet_3_0.register_forward_pre_hook(lambda _, args: seen.append(float(args[0].std())))
    with torch.no_grad():
        generator(seeded_latents(generator, list(range(256))))
    return round(seen[0], 3)


def best_fid(result: dict[str, Any]) -> float:
    """The lowest FID of a run's validations, as Table 3 has it."""
    return result["best"]["fid_lite"]


def diversity(name: str) -> Callable[[dict[str, Any]], float]:
    """Reads one of the diversity scores after the last step."""
    return lambda result: result["diversity"]["scores"][name]


lpips = diversity("lpips_lite")
COLUMNS = {
    "best FID": best_fid,
    "LPIPS of pairs": lpips,
    "within clusters": diversity("intra_lpips_lite"),
    "copied": diversity("copied_lite"),
}


def judged(better: list[Result], worse: list[Result], value: Callable[[dict[str, Any]], float]) -> str:
    """Whether the first has the lower values; a method all of whose runs diverged has lost."""
    first, second = (list(map(value, filter(None, results))) for results in (better, worse))
    if not first or not second:
        return "both failed" if not first + second else "holds" if first else "the other way round"
    return verdict(first, second)


def row(title: str, results: list[Result]) -> str:
    """A method's line."""
    done = [result for result in results if result]
    if not done:
        return f"| {title} | failed |" + " – |" * (len(COLUMNS) + 3)
    failed = f", {len(results) - len(done)} of {len(results)} failed" if len(done) < len(results) else ""
    values = [cell([value(result) for result in done]) for value in COLUMNS.values()]
    minutes = statistics.mean(result["wall_seconds"] for result in done) / 60
    trained = done[0]["sharing"]["generator"]["domain"]
    cells = [f"{trained:,}", cell(list(map(fid, done))) + failed, interval(done), *values, f"{minutes:.1f}"]
    return f"| {title} | {' | '.join(cells)} |"


def table(target: str, rows: dict[str, list[Result]]) -> str:
    """A Markdown table of one target, and what became of the paper's orders."""
    lines = [
        f"### {int(target):,} images",
        "",
        f"| method | trained | FID | 95 % of samples | {' | '.join(COLUMNS)} | min |",
        "|---" * (len(COLUMNS) + 5) + "|",
        *(row(METHODS[name][0], results) for name, results in rows.items()),
    ]
    claims = [claim for claim in CLAIMS[target] if {claim[0], claim[1]} <= rows.keys()]
    if claims:
        lines += [
            "",
            "| the paper's order | from | FID | best FID | more diverse (LPIPS) |",
            "|---" * 5 + "|",
        ]
    for first, second, where in claims:
        a, b = rows[first], rows[second]
        found = [judged(a, b, fid), judged(a, b, best_fid), judged(a, b, lambda r: -lpips(r))]
        lines.append(f"| {METHODS[first][0]} below {METHODS[second][0]} | {where} | {' | '.join(found)} |")
    return "\n".join(lines)


def write_sheet(path: Path, runs: dict[str, Path], columns: int = 8) -> None:
    """A row of training images, then one a method: its first images after the last step."""
    from PIL import Image, ImageDraw

    pictures = {"real": next(iter(runs.values())) / "images" / "real.png"}
    for name, run in runs.items():
        pictures |= {METHODS[name][0]: max((run / "images").glob("step_*[0-9].png"), default=Path())}
    pictures = {title: picture for title, picture in pictures.items() if picture.is_file()}
    sheet = Image.new("RGB", (130 + 34 * columns, 34 * len(pictures)), "white")
    for line, (title, picture) in enumerate(pictures.items()):
        with Image.open(picture) as tiles:
            sheet.paste(tiles.crop((0, 0, 34 * columns - 2, 32)), (130, 34 * line))
        ImageDraw.Draw(sheet).text((4, 34 * line + 10), title, "black")
    sheet.save(path)


def write_csv(path: Path, results: dict[tuple[str, str, int], Result]) -> None:
    """A line per run."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["target", "method", "seed", "status", "fid_lite", *COLUMNS, "best step"])
        for (target, method, seed), result in results.items():
            line = [target, method, seed, "finished" if result else "failed"]
            if result:
                line += [fid(result), *(value(result) for value in COLUMNS.values()), result["best"]["step"]]
            writer.writerow(line)


def train_or_fail(files: list[Path], seed: int, run: Path, options: list[str], threads: int) -> Result:
    """As ``train``; None where the losses have become infinite, which the paper calls failed too."""
    try:
        return train(files, seed, run, options, threads)
    except subprocess.CalledProcessError:
        if "training has diverged" not in (run / "output.log").read_text():
            raise
        return None


def asked(targets: list[str], only: list[str] | None) -> dict[str, list[str]]:
    """The methods that are asked for, by target; a target that has none of them is left out.

    Raises:
        SystemExit: No target is left, or there is no such target or method.
    """
    methods = chosen(only, METHODS, "method")
    chosen(targets, TARGETS, "target")
    names = {target: [name for name in TARGETS[target] if name in methods] for target in targets}
    if not any(names.values()):
        raise SystemExit(f"not tried on {' or '.join(targets)} images: {', '.join(methods)}")
    return {target: methods for target, methods in names.items() if methods}


@dataclass(kw_only=True)
class AdaFMTransfer(Comparison):
    """Train the source, then every method on every target and seed, and write tables and sheets.

    Args:
        runs: Where the runs are kept: source, TARGET-METHOD-sSEED.
        seeds: Seeds of weights, latents, data order and of which images are the target's.
        targets: 1000 and 25 images.
        only: Names of methods; all when omitted.
        steps: Steps of a transfer, with two validations.
        source_steps: Steps of the source.
    """

    runs: Path = Path("runs/adafm")
    targets: list[str] = field(default_factory=lambda: ["1000", "25"])
    only: list[str] | None = None
    steps: int = 300
    source_steps: int = 8000

    def make(self) -> None:
        """Make the runs that are missing, and tables and sheets."""
        from gansharing.data.sources import open_source

        names = asked(self.targets, self.only)
        more, source, images = shlex.split(self.options), self.runs / "source", open_source("openmoji").items
        lengths = [f"--trainer.max_steps={self.source_steps}"]
        lengths += [f"--trainer.val_check_interval={self.source_steps // 2}"]
        train([HERE / "mini_source.yaml"], 0, source, [*lengths, *more], self.threads)
        gain = gain_of(source)

        def transfer(job: tuple[str, str, int]) -> Result:
            target, method, seed = job
            _, laid, network = METHODS[method]
            sizes = network | ({"gain": gain} if network is _HEAD else {})
            # A share that makes exactly so many of the pool's images.
            given = [
                f"--model.source={source}/checkpoints/last.ckpt",
                f"--data.fraction={(int(target) + 0.5) / len(images)}",
            ]
            # BSA has no discriminator to train, but a perceptual network that costs as much as three steps.
            length = max(1, self.steps // 4) if method == "bsa" else self.steps
            given += [f"--trainer.max_steps={length}", f"--trainer.val_check_interval={max(1, length // 2)}"]
            if target == "25":
                sizes |= {"latent_dim": 4} if network is _HEAD else {}
                given += ["--model.sharing_discriminator.stages=6"] if method in _GENERAL else []
            if method == "minegan":
                given += [f"--trainer.callbacks.at_step={self.steps // 4}"]
            given += [f"--model.target.{key}={value}" for key, value in sizes.items()]
            if method == "bsa":
                given += ["--model.perceptual=gansharing.metrics.perceptual.LiteDistance"]
            players = ["mini_players", *(["mini_25"] if target == "25" else [])]
            files = ["base", *laid, "mini", *(players if method != "bsa" else [])]
            paths = [HERE / f"{name}.yaml" for name in files]
            given += ["--scores.bootstrap=1000", *more]
            return train_or_fail(paths, seed, self.run(target, method, seed), given, self.threads)

        jobs = [(target, n, seed) for seed in self.seeds for target in names for n in names[target]]
        results = self.each(jobs, transfer)
        parts, sheets = [], []
        for target in names:
            sheets.append(self.runs / f"adafm_{target}.png")
            write_sheet(sheets[-1], {n: self.run(target, n, self.seeds[0]) for n in names[target]})
            rows = {n: [results[target, n, seed] for seed in self.seeds] for n in names[target]}
            parts.append(table(target, rows))
            parts.append(f"![One row a method, seed {self.seeds[0]}]({sheets[-1].name})")
        about = circumstances(next(filter(None, results.values())), self.seeds)
        write_csv(self.runs / "runs.csv", results)
        self.write(*parts, f"Gain of the heads: {gain}. {about}", pictures=sheets)

    def run(self, target: str, method: str, seed: int) -> Path:
        """The folder of a run."""
        return self.runs / f"{target}-{method}-s{seed}"


if __name__ == "__main__":
    main(AdaFMTransfer)
