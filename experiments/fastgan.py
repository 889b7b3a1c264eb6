"""FastGAN's Table 2 in miniature: 100 faces at 64 px, with and without skip-layer excitation and decoders.

The faces are Twemoji's; ten more are held out and sought in each generator's images, as the paper's Table 5
does. Finished runs are kept and stopped ones resumed, so the command can be interrupted at will::

    python experiments/fastgan.py --runs runs/fastgan --out docs/results/fastgan.md

It leaves ``table.md``, ``runs.csv``, a sheet of samples, one of style mixing and one of held-out faces beside
what the generators make of them in that folder, and copies of table and sheets beside ``--out``.
"""

import csv
import json
import os
import shlex
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from compare import Comparison, cell, chosen, circumstances, fid, interval, main, over_seeds, train, verdict
from torch import Tensor

from gansharing.files import write_atomically

HERE = Path(__file__).parent / "fastgan"
# Code points of round faces.
FACES = [(0x1F600, 0x1F644), (0x1F910, 0x1F917), (0x1F920, 0x1F92F), (0x1F970, 0x1F97A), (0x1FAE0, 0x1FAE8)]
HELD_OUT = 10
_NO_SKIP = ["--model.generator.skip=false", "--model.discriminator.skip=false"]
_NO_DECODE = ["--model.discriminator.decoders=false", "--model.tasks=[]"]
VARIANTS = {
    "baseline": [*_NO_SKIP, *_NO_DECODE],
    "skip": _NO_DECODE,
    "decode": _NO_SKIP,
    "both": [],
}
# What the paper says of FID on every set of Table 2: the first is lower.
CLAIMS = [
    ("skip", "baseline"),
    ("decode", "baseline"),
    ("both", "skip"),
    ("both", "decode"),
    ("decode", "skip"),
]
Rows = dict[str, list[dict[str, Any]]]


def write_faces(folder: Path, images: int) -> Path:
    """Folder of ``train/`` with so many faces and ``val/`` with ten others; whole or absent."""
    from gansharing.data.sources import open_source

    if folder.is_dir():
        return folder
    source = open_source("twemoji")
    points = {item: item.name.removesuffix(".png") for item in source.items}
    faces = [
        item
        for item, name in points.items()
        if "-" not in name and any(low <= int(name, 16) <= high for low, high in FACES)
    ][: images + HELD_OUT]
    every = len(faces) // HELD_OUT
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    for number, item in enumerate(faces):
        path = partial / ("val" if number % every == every // 2 else "train") / item.name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(source.read(item))
    partial.chmod(0o755)
    os.replace(partial, folder)
    return folder


def watched(results: list[dict[str, Any]], name: str) -> list[float]:
    """A value of the diversity watch, by seeds."""
    return [result["diversity"]["scores"][name] for result in results]


def table(rows: Rows, found: dict[str, float]) -> str:
    """A Markdown table: a row a variant, and below it what the paper says of their order."""
    lines = [
        "| model | FID | 95 % of samples | lowest FID (step) | LPIPS between samples | 95 % of seeds "
        "| nearest real | held-out faces, LPIPS | parameters G + D | min |",
        "|---" * 10 + "|",
    ]
    for name, results in rows.items():
        best = [result["best"] for result in results]
        steps = ", ".join(str(entry["step"]) for entry in best)
        parameters = results[0]["parameters"]
        diversity = watched(results, "lpips_lite")
        cells = [
            cell([*map(fid, results)]),
            interval(results),
            f"{cell([entry['fid_lite'] for entry in best])} ({steps})",
            cell(diversity),
            over_seeds(diversity),
            cell(watched(results, "nearest_real_lite")),
            f"{found[name]:.3f}" if name in found else "–",
            f"{parameters['generator']:,} + {parameters['discriminator']:,}",
            f"{statistics.mean(result['wall_seconds'] for result in results) / 60:.1f}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    claims = [pair for pair in CLAIMS if set(pair) <= rows.keys()]
    lines += ["", "| the paper's order | here |", "|---|---|"] if claims else []
    for first, second in claims:
        lines.append(
            f"| {first} below {second} | {verdict([*map(fid, rows[first])], [*map(fid, rows[second])])} |"
        )
    return "\n".join(lines)


def write_csv(path: Path, rows: Rows, seeds: list[int]) -> None:
    """A line per run."""
    columns = ["lpips_lite", "intra_lpips_lite", "nearest_real_lite", "copied_lite"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "seed", "fid_lite", "low", "high", *columns, "seconds"])
        for name, results in rows.items():
            for seed, result in zip(seeds, results, strict=True):
                scores = [result["scores"][f"fid_lite{end}"] for end in ("", "_low", "_high")]
                watch = [result["diversity"]["scores"][column] for column in columns]
                writer.writerow([name, seed, *scores, *watch, result["wall_seconds"]])


def seek(run: Path, faces: Path, steps: int) -> float:
    """Seek held-out faces among a generator's images: their mean LPIPS at the end; both lie in the run.

    They are sought again where that was done in another number of steps.
    """
    from gansharing import load
    from gansharing.latent import project_latent
    from gansharing.metrics.perceptual import build_distance
    from gansharing.visual import grid, save_png

    results = run / "held_out.json"
    kept = json.loads(results.read_text()) if results.is_file() else {}
    if kept.get("steps") != steps:
        generator, embed = load(run).requires_grad_(False), build_distance("lpips_lite").embed
        targets = [read_face(path, generator.resolution) for path in sorted(faces.iterdir())]
        found = [project_latent(generator, target, embed, steps) for target in targets]
        save_png(grid(torch.cat([*targets, *(f.image for f in found)]), len(targets)), run / "held_out.png")
        distances = {path.stem: f.end for path, f in zip(sorted(faces.iterdir()), found, strict=True)}
        kept = {"steps": steps, "lpips_lite": distances}
        write_atomically(results, lambda file: file.write(json.dumps(kept).encode()))
    return statistics.mean(kept["lpips_lite"].values())


def read_face(path: Path, resolution: int) -> Tensor:
    """An image as the data give it: ``(1, 3, H, W)`` in [-1, 1]."""
    from gansharing.data.decode import Recipe, decode

    pixels = torch.tensor(decode(path.read_bytes(), Recipe(resolution)))
    return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1


def draw_mixing(run: Path, path: Path, rows: int = 4, columns: int = 6) -> None:
    """A sheet: the left column's images in the styles of the upper row's."""
    from gansharing import load
    from gansharing.networks.seeded import seeded_latents
    from gansharing.visual import grid, save_png

    generator: Any = load(run)
    contents = seeded_latents(generator, [*range(rows)])
    styles = seeded_latents(generator, [*range(rows, rows + columns)])
    with torch.no_grad():
        left, upper = generator(contents), generator(styles)
        lines = [torch.ones_like(upper[:1]), upper]
        for image, content in zip(left.split(1), contents.split(1), strict=True):
            lines += [image, generator.mix(content.expand_as(styles), styles, generator.excited)]
    save_png(grid(torch.cat(lines), columns + 1), path)


def draw_samples(runs: Sequence[Path], path: Path, columns: int = 10) -> None:
    """A sheet of samples, one row a model."""
    from gansharing import load
    from gansharing.networks.seeded import seeded_latents
    from gansharing.visual import grid, save_png

    rows = []
    for run in runs:
        generator = load(run)
        with torch.no_grad():
            rows.append(generator(seeded_latents(generator, [*range(columns)])))
    save_png(grid(torch.cat(rows), columns), path)


@dataclass(kw_only=True)
class FastGAN(Comparison):
    """Train every model on every seed, seek the held-out faces, and write table and pictures.

    Args:
        runs: Where the runs are kept, as MODEL-sSEED.
        only: Names of models; all when omitted.
        images: Faces trained on.
        steps: Steps of a run, with two validations.
        seek_steps: Steps of seeking a face, with the first seed's models; 0 for none. The paper's 1,000.
    """

    runs: Path = Path("runs/fastgan")
    only: list[str] | None = None
    images: int = 100
    steps: int = 600
    seek_steps: int = 50

    def make(self) -> None:
        """Make the runs that are missing, and table and pictures."""
        names = chosen(self.only, VARIANTS, "model")
        faces = write_faces(self.runs / "data" / f"faces-{self.images}", self.images)
        torch.set_num_threads(self.threads)

        def fit(job: tuple[int, str]) -> dict[str, Any]:
            seed, name = job
            given = [f"--data.path={faces}", f"--trainer.max_steps={self.steps}", *VARIANTS[name]]
            given += [f"--trainer.val_check_interval={max(1, self.steps // 2)}", *shlex.split(self.options)]
            return train([HERE / "mini.yaml"], seed, self.run(name, seed), given, self.threads)

        results = self.each([(seed, name) for seed in self.seeds for name in names], fit)
        first = {name: self.run(name, self.seeds[0]) for name in names}
        found = {}
        if self.seek_steps:
            found = self.each(names, lambda name: seek(first[name], faces / "val", self.seek_steps))
        rows = {name: [results[seed, name] for seed in self.seeds] for name in names}
        write_csv(self.runs / "runs.csv", rows, self.seeds)
        about = circumstances(results[self.seeds[0], names[0]], self.seeds)
        self.write(table(rows, found), *self.draw(first), about, pictures=self.runs.glob("fastgan_*.png"))

    def run(self, name: str, seed: int) -> Path:
        """The folder of a run."""
        return self.runs / f"{name}-s{seed}"

    def draw(self, first: dict[str, Path]) -> list[str]:
        """Draw the first seed's pictures, and return the paragraphs that show them."""
        draw_samples([*first.values()], self.runs / "fastgan_samples.png")
        parts = [f"![A row a model, seed {self.seeds[0]}](fastgan_samples.png)"]
        if mixing := [name for name in first if name in ("both", "skip")]:
            draw_mixing(first[mixing[-1]], self.runs / "fastgan_mixing.png")
            parts.append("![Left: content; above: style](fastgan_mixing.png)")
        if self.seek_steps:
            last = [*first][-1]
            shutil.copyfile(first[last] / "held_out.png", self.runs / "fastgan_held_out.png")
            parts.append(f"![Held-out faces; below what {last} finds](fastgan_held_out.png)")
        return parts


if __name__ == "__main__":
    main(FastGAN)
