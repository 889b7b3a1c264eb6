"""The width-wise paper's Table 1 in miniature: one source, a near and a far target, every way of sharing.

A small StyleGAN2 learns Twemoji and is taken to OpenMoji (near: the same things drawn by others) and to
letters on black (far), by every strategy on several seeds. Finished runs are kept and stopped ones resumed,
so the command can be interrupted at will::

    python experiments/width_wise.py --runs runs/width_wise

It leaves ``table.md`` and ``runs.csv`` in that folder.
"""

import csv
import os
import shlex
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from compare import Comparison, cell, chosen, circumstances, fid, interval, main, significance, train, verdict

HERE = Path(__file__).parent / "width_wise"
FONTS = (
    "Sans",
    "Sans-Bold",
    "Sans-Oblique",
    "Serif",
    "Serif-Bold",
    "Serif-Italic",
    "SansMono",
    "SansMono-Bold",
)
# Latin, Greek, Cyrillic, Armenian letters and digits.
LETTERS = [
    *range(0x30, 0x3A),
    *range(0x41, 0x5B),
    *range(0x61, 0x7B),
    *range(0x391, 0x3A2),
    *range(0x3B1, 0x3CA),
]
LETTERS += [*range(0x410, 0x450), *range(0xC0, 0xD7), *range(0xE0, 0xF7), *range(0x100, 0x140)]


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        network: Options of both StyleGAN2 networks.
        generator: Further options of the generator.
        layers_1: Stages of layer-wise sharing with as many weights as width-wise at 1 %.
        layers_10: The same at 10 %.
        rank: Rank of the low-rank additions with about as many weights as width-wise at 10 %.
        batch: Images in a step.
        source_steps: Steps of the source.
        steps: Steps of a transfer.
        samples: Generated images for FID.
    """

    network: dict[str, int]
    generator: dict[str, int]
    layers_1: list[str]
    layers_10: list[str]
    rank: int
    batch: int
    source_steps: int
    steps: int
    samples: int

    def options(self, parts: Sequence[str]) -> list[str]:
        """Options of `gansharing fit` for data, and for the networks that are named."""
        given = [f"--data.resolution={self.network['resolution']}", f"--data.batch_size={self.batch}"]
        for part in parts:
            own = self.network | (self.generator if part == "generator" else {})
            given += [f"--model.{part}.{key}={value}" for key, value in own.items()]
        return [*given, f"--scores.num_samples={self.samples}"]


SCALES = {
    "mini": Scale(
        network={"resolution": 32, "channel_base": 512, "channel_max": 64},
        generator={"latent_dim": 64, "w_dim": 64, "mapping_layers": 4},
        layers_1=["fc0"],
        layers_10=["fc0", "fc1", "fc2", "fc3", "b4.const"],
        rank=4,
        batch=16,
        source_steps=5000,
        steps=400,
        samples=1000,
    ),
    # For a GPU: a generator of 4,760,792 weights.
    "64px": Scale(
        network={"resolution": 64, "channel_base": 4096, "channel_max": 256},
        generator={"latent_dim": 256, "w_dim": 256, "mapping_layers": 8},
        layers_1=["fc0"],
        layers_10=[f"fc{number}" for number in range(7)],
        rank=18,
        batch=32,
        source_steps=20000,
        steps=4000,
        samples=5000,
    ),
}


def strategies(scale: Scale) -> dict[str, list[str]]:
    """The ways of sharing, as options of `gansharing fit`; 1 % and 10 % are matched by real λ_D."""
    sharing = "--model.sharing"

    def width(ratio: float) -> list[str]:
        return [f"{sharing}=WidthWise", f"{sharing}.learn_ratio={ratio}", f"{sharing}.min_columns=1"]

    def layers(stages: list[str]) -> list[str]:
        return [f"{sharing}=LayerWise", f"{sharing}.stages=[{', '.join(stages)}]"]

    return {
        "full": [f"{sharing}=Full"],
        "minegan": [f"{sharing}=gansharing.sharing.Miner", f"{sharing}.residual=false"],
        "layer_10": layers(scale.layers_10),
        "layer_1": layers(scale.layers_1),
        "width_10": width(0.1),
        "width_1": width(0.01),
        "affine": [f"{sharing}=Affine"],
        "lowrank": [f"{sharing}=LowRank", f"{sharing}.rank={scale.rank}"],
        "offsets": [f"{sharing}=StyleOffsets"],
    }


# What the paper's Table 1 says on both targets: the first has the lower FID.
CLAIMS = [
    ("width_10", "layer_10"),
    ("width_1", "layer_1"),
    ("width_1", "layer_10"),
    ("width_1", "minegan"),
    ("width_10", "width_1"),
    ("full", "width_10"),
]


def write_letters(folder: Path) -> Path:
    """White letters on black at 64 px, in eight fonts: a folder of PNG files, whole or absent."""
    if folder.is_dir():
        return folder
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    for name in FONTS:
        font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf" / f"DejaVu{name}.ttf", 46)
        for letter in LETTERS:
            image = Image.new("RGB", (64, 64), "black")
            ImageDraw.Draw(image).text((32, 34), chr(letter), "white", font, anchor="mm")
            image.save(partial / f"{name}-{letter:04x}.png")
    partial.chmod(0o755)
    os.replace(partial, folder)
    return folder


def table(target: str, rows: dict[str, list[dict[str, Any]]]) -> str:
    """A Markdown table of one target: a row per strategy, marked where seeds cannot tell it from the best."""
    best = min(rows.values(), key=lambda results: statistics.mean(map(fid, results)))
    lines = [
        f"### {target}",
        "",
        "| strategy | trained | λ_D | FID | 95 % of samples | min |",
        "|---" * 6 + "|",
    ]
    untrained = next((r["history"][0] for r in rows.get("full", []) if r["history"][0]["step"] == 0), None)
    if untrained:
        lines.append(f"| source, untouched | 0 | 0 % | {untrained['fid_lite']:.4g} | – | – |")
    for name, results in rows.items():
        split = results[0]["sharing"]["generator"]
        values, lowest = list(map(fid, results)), list(map(fid, best))
        near = results is not best and significance(values, lowest) >= 0.05
        mark = " **best**" if results is best else " ≈ best" if near else ""
        minutes = statistics.mean(r["wall_seconds"] for r in results) / 60
        lines.append(
            f"| {name} | {split['domain']:,} | {split['learn_ratio']:.2%} | {cell(values)}{mark} "
            f"| {interval(results)} | {minutes:.1f} |"
        )
    claims = [pair for pair in CLAIMS if set(pair) <= rows.keys()]
    lines += ["", "| the paper's order | here |", "|---|---|"] if claims else []
    for first, second in claims:
        found = verdict(list(map(fid, rows[first])), list(map(fid, rows[second])))
        lines.append(f"| {first} below {second} | {found} |")
    return "\n".join(lines)


def write_csv(path: Path, results: dict[tuple[str, str, int], dict[str, Any]]) -> None:
    """A line per run."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["target", "strategy", "seed", "domain", "learn_ratio", "fid_lite", "low", "high", "seconds"]
        )
        for (target, strategy, seed), result in results.items():
            split, scores = result["sharing"]["generator"], result["scores"]
            ends = [scores["fid_lite_low"], scores["fid_lite_high"]]
            about = [split["domain"], split["learn_ratio"]]
            writer.writerow([target, strategy, seed, *about, fid(result), *ends, result["wall_seconds"]])


@dataclass(kw_only=True)
class WidthWise(Comparison):
    """Train the source, then every strategy on every target and seed, and write the tables.

    Args:
        runs: Where the runs are kept: source, TARGET-STRATEGY-sSEED.
        scale: Sizes: the miniature for two CPU cores, or 64px for a GPU.
        seeds: Seeds of weights, latents and data order of the transfers.
        targets: near (OpenMoji) and far (letters).
        only: Names of strategies; all when omitted.
        steps: Steps of a transfer; the scale's when omitted.
        source_steps: Steps of the source; the scale's when omitted.
    """

    runs: Path = Path("runs/width_wise")
    scale: Literal["mini", "64px"] = "mini"
    targets: list[Literal["near", "far"]] = field(default_factory=lambda: ["near", "far"])
    only: list[str] | None = None
    steps: int | None = None
    source_steps: int | None = None

    def make(self) -> None:
        """Make the runs that are missing, and the tables."""
        sizes, more = SCALES[self.scale], shlex.split(self.options)
        ways = strategies(sizes)
        names = chosen(self.only, ways, "strategy")
        paths = {"near": "openmoji", "far": str(write_letters(self.runs / "data" / "letters"))}
        steps, length = self.steps or sizes.steps, self.source_steps or sizes.source_steps
        source = self.runs / "source"
        lengths = [f"--trainer.max_steps={length}", f"--trainer.val_check_interval={max(1, length // 2)}"]
        lengths += sizes.options(("generator", "discriminator"))
        train([HERE / "mini_source.yaml"], 0, source, [*lengths, *more], self.threads)

        def transfer(job: tuple[str, str, int]) -> dict[str, Any]:
            target, strategy, seed = job
            given = [f"--model.source={source}/checkpoints/last.ckpt", f"--data.path={paths[target]}"]
            given += [f"--trainer.max_steps={steps}", f"--trainer.val_check_interval={steps}"]
            # All strategies start from one network, which is scored once.
            untrained = strategy == "full" and seed == self.seeds[0]
            given += ["--scores.bootstrap=1000", f"--scores.untrained={str(untrained).lower()}"]
            given += [*sizes.options(()), *ways[strategy], *more]
            files = [HERE / "mini_source.yaml", HERE / "mini_transfer.yaml"]
            return train(files, seed, self.runs / f"{target}-{strategy}-s{seed}", given, self.threads)

        jobs = [(target, name, seed) for seed in self.seeds for target in self.targets for name in names]
        results = self.each(jobs, transfer)
        titles = {"near": "Near: Twemoji to OpenMoji", "far": "Far: Twemoji to letters"}
        parts = [
            table(titles[target], {n: [results[target, n, seed] for seed in self.seeds] for n in names})
            for target in self.targets
        ]
        write_csv(self.runs / "runs.csv", results)
        self.write(*parts, circumstances(results[jobs[0]], self.seeds))


if __name__ == "__main__":
    main(WidthWise)
