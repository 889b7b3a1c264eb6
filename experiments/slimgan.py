"""SlimGAN's Table 4 in miniature: individual networks, a slimmable one, and each of its ablations.

A small SNDCGAN learns Twemoji at 32 px: four widths by themselves, and all four in one generator, by every
way of the table, on several seeds. Finished runs are kept and stopped ones resumed, so the command can be
interrupted at will::

    python experiments/slimgan.py --runs runs/slimgan

It leaves ``table.md`` and ``runs.csv`` in that folder.
"""

import csv
import shlex
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compare import Comparison, cell, chosen, circumstances, main, over_seeds, train, verdict

HERE = Path(__file__).parent / "slimgan"
WIDTHS = (0.25, 0.5, 0.75, 1.0)
CHANNELS = 64  # of both networks in mini.yaml and individual_mini.yaml

# Rows of Table 4 with one generator: files that are laid over mini.yaml.
SLIMMABLE = {
    "slimmable_g": ["slimmable_g"],
    "shared_d": ["no_distillation"],
    "slimgan": [],
    "same_d": ["same_d"],
    "slimmable_d": ["slimmable_d"],
    "distillation_only": ["distillation_only"],
    "naive": ["naive_distillation"],
}
# Rows with a generator for each width, by whether its discriminator is as narrow.
INDIVIDUAL = {"individual": True, "individual_f": False}
ROWS = [*INDIVIDUAL, *SLIMMABLE]

# What the paper says, as (score, row, row): that of the first row is lower.
CLAIMS = [
    ("mIC", "slimgan", "shared_d"),
    ("0.25", "slimgan", "individual"),
    ("AVG", "slimgan", "individual"),
    ("AVG", "shared_d", "slimmable_g"),
    ("AVG", "slimgan", "same_d"),
    ("AVG", "slimgan", "slimmable_d"),
    ("AVG", "slimgan", "distillation_only"),
]


def jobs_of(row: str) -> list[tuple[str, list[str], list[str]]]:
    """Runs of a row: their name, the files laid over mini.yaml, further options."""
    if row in SLIMMABLE:
        return [(row, SLIMMABLE[row], [])]
    jobs = []
    for width in WIDTHS:
        narrow = int(CHANNELS * width)
        judge = narrow if INDIVIDUAL[row] else CHANNELS
        # At full width both rows are the same run.
        name = f"{row if width < 1 else 'individual'}-{width:g}"
        options = [f"--model.generator.channels={narrow}", f"--model.discriminator.channels={judge}"]
        jobs.append((name, ["individual_mini"], options))
    return jobs


def scores_of(row: str, results: list[dict[str, Any]]) -> dict[str, float]:
    """FID by width (``0.25`` ... ``1``) with the ends of its interval, their mean ``AVG``, and ``mIC``."""
    found = {}
    for number, width in enumerate(WIDTHS):
        scores = results[number if row in INDIVIDUAL else 0]["scores"]
        suffix = "" if row in INDIVIDUAL or width == 1 else f"/{width:g}"
        for end in ("", "_low", "_high"):
            found[f"{width:g}{end}"] = scores[f"fid_lite{end}{suffix}"]
    found["AVG"] = statistics.mean(found[f"{width:g}"] for width in WIDTHS)
    found["minutes"] = sum(result["wall_seconds"] for result in results) / 60
    return found if row in INDIVIDUAL else found | {"mIC": results[0]["scores"]["mic_lite"]}


def column(seeds: list[dict[str, float]], name: str) -> list[float]:
    """A score on every seed; empty where a row has none."""
    return [scores[name] for scores in seeds if name in scores]


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: scores by row and width, their intervals, and what became of the paper's claims."""
    columns = [*(f"{width:g}" for width in WIDTHS), "AVG", "mIC"]
    head = "| | " + " | ".join(f"{name}x" if name[0] in "01" else name for name in columns)
    lines = [f"{head} | min |", "|---" * (len(columns) + 2) + "|"]
    for row, seeds in rows.items():
        values = [column(seeds, name) for name in columns]
        cells = [cell(v) if v else "–" for v in values]
        minutes = statistics.mean(column(seeds, "minutes"))
        lines.append(f"| {row} | {' | '.join(cells)} | {minutes:.1f} |")
    lines += [
        "",
        "95 % intervals: of FID over generated images, averaged over the seeds; of mIC over seeds.",
        "",
    ]
    lines += [f"{head} |", "|---" * (len(columns) + 1) + "|"]
    for row, seeds in rows.items():
        ends = [[statistics.mean(column(seeds, f"{w:g}_{e}")) for e in ("low", "high")] for w in WIDTHS]
        cells = [f"{low:.4g} – {high:.4g}" for low, high in ends]
        lines.append(f"| {row} | {' | '.join(cells)} | – | {over_seeds(column(seeds, 'mIC'))} |")
    claims = [claim for claim in CLAIMS if set(claim[1:]) <= rows.keys()]
    lines += ["", "| the paper's order | here |", "|---|---|"] if claims else []
    for name, first, second in claims:
        found = verdict(column(rows[first], name), column(rows[second], name))
        what = "mIC" if name == "mIC" else f"FID {name}{'' if name == 'AVG' else 'x'}"
        lines.append(f"| {what}: {first} below {second} | {found} |")
    return "\n".join(lines)


def write_csv(path: Path, rows: dict[str, list[dict[str, float]]], seeds: list[int]) -> None:
    """A line per row and seed."""
    names = [f"{width:g}{end}" for width in WIDTHS for end in ("", "_low", "_high")]
    names += ["AVG", "mIC", "minutes"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "seed", *names])
        for row, found in rows.items():
            for seed, scores in zip(seeds, found, strict=True):
                writer.writerow([row, seed, *(scores.get(name, "") for name in names)])


@dataclass(kw_only=True)
class SlimGAN(Comparison):
    """Train every row of the table on every seed, and write the table.

    Args:
        runs: Where the runs are kept: ROW-sSEED, and ROW-WIDTH-sSEED of individual networks.
        only: Names of rows; all when omitted.
        steps: Generator steps; mini.yaml's when omitted.
    """

    runs: Path = Path("runs/slimgan")
    only: list[str] | None = None
    steps: int | None = None

    def make(self) -> None:
        """Make the runs that are missing, and the table."""
        rows, length = chosen(self.only, ROWS, "row"), self.steps
        more = [f"--trainer.max_steps={length}", f"--trainer.val_check_interval={length}"] if length else []
        more += shlex.split(self.options)
        jobs = {
            (name, seed): (files, given)
            for seed in self.seeds
            for row in rows
            for name, files, given in jobs_of(row)
        }

        def one(job: tuple[str, int]) -> dict[str, Any]:
            (name, seed), (files, given) = job, jobs[job]
            configs = [HERE / f"{file}.yaml" for file in ("base", "mini", *files)]
            return train(configs, seed, self.runs / f"{name}-s{seed}", [*given, *more], self.threads)

        results = self.each(jobs, one)
        scores = {
            row: [scores_of(row, [results[name, seed] for name, _, _ in jobs_of(row)]) for seed in self.seeds]
            for row in rows
        }
        write_csv(self.runs / "runs.csv", scores, self.seeds)
        self.write(table(scores), circumstances(next(iter(results.values())), self.seeds))


if __name__ == "__main__":
    main(SlimGAN)
