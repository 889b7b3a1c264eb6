"""Train several configurations on several seeds and table their scores: mean and standard deviation.

Finished runs are kept and skipped, stopped ones are resumed, so the command can be interrupted at will::

    python experiments/compare.py --configs experiments/spectral_style/paper.yaml \
        experiments/spectral_style/dcgan.yaml --seeds 0 1 2 --runs runs/compare --options "--data.path FOLDER"
"""

import json
import multiprocessing
import os
import platform
import shlex
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from jsonargparse import auto_cli

from gansharing.tools.seed_noise import cell, significance

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


def main(
    configs: list[Path],
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    runs: Path = Path("runs/compare"),
    options: str = "",
    scores: list[str] = ["fid_lite", "kid_lite", "precision_lite", "recall_lite"],  # noqa: B006
    parallel: int = 1,
    threads: int = 2,
    out: Path | None = None,
) -> None:
    """Train every configuration on every seed and print the table.

    Args:
        configs: Configuration files.
        seeds: Seeds of weights, latents and data order.
        runs: Where the runs are kept, as CONFIG-sSEED.
        options: Further options of `gansharing fit`, as one string.
        scores: Columns, as results.json names them; the first decides what "best" means.
        parallel: Runs at the same time.
        threads: CPU threads of each.
        out: Also write the table, with the command and the protocol, to this Markdown file.
    """
    jobs = [(config, seed) for seed in seeds for config in configs]
    with ThreadPoolExecutor(parallel) as pool:
        done = list(
            pool.map(
                lambda j: train([j[0]], j[1], runs / f"{j[0].stem}-s{j[1]}", shlex.split(options), threads),
                jobs,
            )
        )
    rows = {c.stem: [r for (config, _), r in zip(jobs, done, strict=True) if config == c] for c in configs}
    text = table(rows, scores)
    print(text)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(f"{text}\n\n{circumstances(done[0], seeds)}")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
