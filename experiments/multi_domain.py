"""The width-wise paper's Table 2 in miniature: paired emoji domains trained at once, by every way of sharing.

A small StyleGAN2 learns all domains from scratch, layer-wise and width-wise at 1 % and 10 %, beside one whole
generator a domain and beside StarGAN v2, which translates between them. The four domains are the same emoji
as Noto, Twemoji, Fluent 3D and OpenMoji draw them; the first run fetches two of them with npm, and
``--domains 2`` does with what pip has installed. Finished runs are kept and stopped ones resumed, so the
command can be interrupted at will::

    python experiments/multi_domain.py --runs runs/multi_domain --out docs/results/multi_domain.md

It leaves ``table.md``, ``runs.csv`` and a sheet of images in that folder, and copies of table and sheet
beside ``--out``. A run takes about 150 s of one thread of an unhurried CPU.
"""

import csv
import json
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from compare import Comparison, cell, chosen, circumstances, fid, main, train, verdict
from width_wise import SCALES, strategies

from gansharing.data.emoji import write_emoji4
from gansharing.networks import StarGANv2Generator, StarGANv2Mapping

HERE = Path(__file__).parent / "multi_domain"
RESOLUTION = 32
PIP = ["openmoji", "twemoji"]
FOUR = ["fluent", "noto", "openmoji", "twemoji"]
# StarGAN v2's steps, which are longer, in the same CPU time as one of the others: 0.35 s against 0.21 s.
TRANSLATION_SHARE = 0.6
# λ_D by name: the paper's Table 2, and one generator for each domain, which it does not have.
WAYS = {
    "layer_1": "layer-wise 1 %",
    "layer_10": "layer-wise 10 %",
    "stargan_v2": "StarGAN v2",
    "width_1": "width-wise 1 %",
    "width_10": "width-wise 10 %",
    "individual": "individual, 100 %",
}
# What Table 2 says: the first has the lower FID, and in how many of its four domains.
CLAIMS = [
    ("width_1", "layer_1", "4 of 4"),
    ("width_10", "layer_10", "4 of 4"),
    ("width_1", "layer_10", "4 of 4"),
    ("width_1", "stargan_v2", "4 of 4"),
    ("width_10", "stargan_v2", "4 of 4"),
    ("layer_10", "stargan_v2", "4 of 4"),
    ("width_10", "width_1", "3 of 4"),
    ("layer_10", "layer_1", "3 of 4"),
]


def of_domain(result: dict[str, Any], name: str, end: str = "") -> float:
    """FID of a domain after the last step, or an end of its bootstrapped 95 % interval."""
    return result["scores"][f"fid_lite{end}/{name}"]


def bracket(results: list[dict[str, Any]], name: str) -> str:
    """The interval of a domain's FID in brackets; nothing where the runs have none."""
    if any(f"fid_lite_low/{name}" not in result["scores"] for result in results):
        return ""
    low, high = (statistics.mean(of_domain(r, name, end) for r in results) for end in ("_low", "_high"))
    return f" ({low:.4g} – {high:.4g})"


def owned(way: str, result: dict[str, Any]) -> tuple[int, float]:
    """|θ_D| of one domain's generator and λ_D; of StarGAN v2 what makes images of latents, heads its own."""
    if way != "stargan_v2":
        split = result["sharing"]["generator"]
        return split["domain"], split["learn_ratio"]
    init = _file("stargan_v2_mini")["model"]["init_args"]["generator"]["init_args"]
    one, two = (
        sum(weight.numel() for weight in StarGANv2Mapping(*sizes).parameters())
        for sizes in ((init["latent_dim"], init["style_dim"], n, init["hidden"]) for n in (1, 2))
    )
    sizes = (init["resolution"], init["style_dim"], init["channel_base"], init["channel_max"])
    common = sum(weight.numel() for weight in StarGANv2Generator(*sizes).parameters())
    return two - one, (two - one) / (common + one)


def _file(name: str) -> dict[str, Any]:
    import yaml

    return yaml.safe_load((HERE / f"{name}.yaml").read_text())


def table(rows: dict[str, list[dict[str, Any]]], names: Sequence[str]) -> str:
    """A row a way of sharing, a column a domain; then the paper's orders and whether they are seen."""
    best = min(rows, key=lambda way: statistics.mean(map(fid, rows[way])))
    lines = [
        f"| sharing | θ_D of a domain | λ_D | FID mean | {' | '.join(names)} | steps | min |",
        "|---" * (len(names) + 6) + "|",
    ]
    for way, results in rows.items():
        domain, ratio = owned(way, results[0])
        cells = [f"{cell([of_domain(r, name) for r in results])}{bracket(results, name)}" for name in names]
        mark = " **best**" if way == best else ""
        minutes = statistics.mean(r["wall_seconds"] for r in results) / 60
        lines.append(
            f"| {WAYS[way]} | {domain:,} | {ratio:.2%} | {cell(list(map(fid, results)))}{mark} "
            f"| {' | '.join(cells)} | {results[0]['steps']:,} | {minutes:.1f} |"
        )
    lines += [
        "",
        "In brackets: the bootstrapped 95 % interval over generated images, averaged over the seeds.",
    ]
    if "stargan_v2" in rows:
        lines.append("StarGAN v2 translates real images of the other domains, which draw the same emoji.")
    return "\n".join([*lines, *orders(rows, names)])


def orders(rows: dict[str, list[dict[str, Any]]], names: Sequence[str]) -> list[str]:
    """Lines of a table of the paper's orders: in the mean, and in each domain."""
    claims = [claim for claim in CLAIMS if set(claim[:2]) <= rows.keys()]
    if not claims:
        return []
    lines = ["", f"| the paper's order | there | here, mean | {' | '.join(names)} |"]
    lines.append("|---" * (len(names) + 3) + "|")
    for first, second, there in claims:
        found = [verdict(list(map(fid, rows[first])), list(map(fid, rows[second])))]
        for name in names:
            found.append(verdict(*([of_domain(r, name) for r in rows[way]] for way in (first, second))))
        lines.append(f"| {WAYS[first]} below {WAYS[second]} | {there} | {' | '.join(found)} |")
    return lines


def write_sheet(path: Path, runs: dict[str, Path], columns: int = 8) -> None:
    """Real images, then of each way a row a domain with the same latents in columns."""
    from PIL import Image, ImageDraw

    pictures = {"real": next(iter(runs.values())) / "images" / "real.png"}
    for way, run in runs.items():
        pictures[WAYS[way]] = max((run / "images").glob("step_*_domains.png"), default=Path())
    tiles = {title: Image.open(picture) for title, picture in pictures.items() if picture.is_file()}
    if not tiles:
        return
    tall = max(picture.height for picture in tiles.values()) + 8
    sheet = Image.new("RGB", (130 + (RESOLUTION + 2) * columns, tall * len(tiles)), "white")
    for line, (title, picture) in enumerate(tiles.items()):
        sheet.paste(picture, (130, tall * line))
        ImageDraw.Draw(sheet).text((4, tall * line + tall // 2 - 10), title, "black")
        picture.close()
    sheet.save(path)


def write_csv(path: Path, results: dict[tuple[str, int], dict[str, Any]], names: Sequence[str]) -> None:
    """A line per run and domain."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sharing", "seed", "domain", "fid_lite", "low", "high", "steps", "seconds"])
        for (way, seed), result in results.items():
            for name in names:
                scores = [result["scores"].get(f"fid_lite{end}/{name}", "") for end in ("", "_low", "_high")]
                writer.writerow([way, seed, name, *scores, result["steps"], result["wall_seconds"]])


def emoji(runs: Path, packages: Path | None) -> dict[str, str]:
    """Paths of the four paired domains, written once."""
    folder = runs / "emoji4"
    if not folder.is_dir():
        runs.mkdir(parents=True, exist_ok=True)
        write_emoji4(folder, RESOLUTION, packages, skin_tones=False)
    return {name: str(folder / name) for name in FOUR}


def given(way: str, paths: dict[str, str], steps: int) -> tuple[Path, list[str]]:
    """The file and the options of `gansharing fit` of a way of sharing."""
    names = sorted(paths)
    if way == "stargan_v2":
        file, own = HERE / "stargan_v2_mini.yaml", [f"--model.diversity_steps={steps}"]
        own += [f"--model.{net}.num_domains={len(names)}" for net in ("generator", "discriminator")]
        # Two sources a domain, the original's batch; a rate at which so few steps go somewhere.
        own += ["--data.batch_size=6", *(f"--model.optimizer_{player}.lr=0.001" for player in "gd")]
    else:
        file = HERE / "mini.yaml"
        own = ["--data.batch_size=4", *strategies(SCALES["mini"])["full" if way == "individual" else way]]
    own += [f"--model.domains={json.dumps(names)}", f"--data.domains={json.dumps(paths)}"]
    own += [f"--trainer.max_steps={steps}", f"--trainer.val_check_interval={steps}"]
    scores = {"num_samples": 500, "metrics": "[fid]", "bootstrap": 500, "untrained": "false"}
    return file, [*own, *(f"--scores.{key}={value}" for key, value in scores.items())]


@dataclass(kw_only=True)
class ManyDomains(Comparison):
    """Train every way of sharing on every seed, and write the tables and the sheet.

    Args:
        runs: Where the runs are kept, as SHARING-sSEED, and the domains.
        domains: 4, two of which npm fetches, or the 2 that pip has installed; each with a folder of its own.
        only: Names of ways of sharing; all when omitted.
        steps: Generator steps; of StarGAN v2, whose steps are longer, as many as take the same time.
        packages: Folder with the two packages as `npm pack` names them, where npm has no network.
    """

    runs: Path = Path("runs/multi_domain")
    domains: Literal[2, 4] = 4
    only: list[str] | None = None
    steps: int = 500
    packages: Path | None = None

    def make(self) -> None:
        """Make the runs that are missing, the tables and the sheet."""
        ways = chosen(self.only, WAYS, "way of sharing")
        paths = emoji(self.runs, self.packages) if self.domains == 4 else {name: name for name in PIP}

        def learn(job: tuple[str, int]) -> dict[str, Any]:
            way, seed = job
            own = max(1, round(self.steps * (TRANSLATION_SHARE if way == "stargan_v2" else 1)))
            file, words = given(way, paths, own)
            return train(
                [file], seed, self.run(way, seed), [*words, *shlex.split(self.options)], self.threads
            )

        results = self.each([(way, seed) for seed in self.seeds for way in ways], learn)
        names, sheet, first = sorted(paths), self.runs / "multi_domain.png", self.seeds[0]
        write_sheet(sheet, {way: self.run(way, first) for way in ways})
        rows = {way: [results[way, seed] for seed in self.seeds] for way in ways}
        shown = f"![{', '.join(names)}: a row each; the same latents in columns; seed {first}]({sheet.name})"
        write_csv(self.runs / "runs.csv", results, names)
        about = circumstances(results[ways[0], first], self.seeds)
        self.write(table(rows, names), shown, about, pictures=[sheet] if sheet.is_file() else [])

    def run(self, way: str, seed: int) -> Path:
        """The folder of a run."""
        return self.runs / f"domains_{self.domains}" / f"{way}-s{seed}"


if __name__ == "__main__":
    main(ManyDomains)
