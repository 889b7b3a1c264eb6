"""Training on a real SLURM of two nodes; ``make test-slurm`` installs it and runs this."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from gansharing.checkpoints import read_checkpoint
from gansharing.tools.slurm import slurm as write
from tests.callbacks.test_resume import assert_equal
from tests.cli.program import write_images
from tests.slurm.cluster import Cluster, cluster

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
TINY = Path(__file__).with_name("tiny.yaml")
# Long enough to be caught half way, twice.
STEPS = 160
LONG = f"--trainer.max_steps={STEPS} --trainer.val_check_interval={STEPS}"
WANDB = "--trainer.logger=WandbLogger --trainer.logger.offline=true"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    for number, name in enumerate(("twemoji", "openmoji")):
        write_images(folder / name, count=8 + number)
    return folder


def submit(slurm: Cluster, here: Path, name: str, *more: str, options: str = "") -> str:
    """Submit the miniature as ``gansharing slurm`` does; its job number."""
    domains = json.dumps({path.name: str(path) for path in sorted(here.glob("*moji"), reverse=True)})
    words = [ROOT / "experiments/multi_domain/mini.yaml", TINY, "--name", name, "--accelerator", "cpu"]
    words += ["--time", "20", "--options", f"--data.domains '{domains}' {LONG} {options}", *more, "--submit"]
    command = f'cd "{here}" && exec "$@"'
    said = slurm.call("bash", "-c", command, "-", sys.executable, "-m", "gansharing", "slurm", *words)
    return said.split()[-1]


def finished(slurm: Cluster, here: Path, job: str, name: str) -> Path:
    """Wait for the end of a job; the run's folder."""
    slurm.wait(name, lambda: slurm.state(job)["JobState"] not in ("PENDING", "RUNNING", "COMPLETING"), 400)
    run = here / "runs" / f"{name}-{job}"
    logs = "".join(path.read_text() for path in [*(run / "logs").iterdir(), *(here / "runs/slurm").iterdir()])
    assert slurm.state(job)["JobState"] == "COMPLETED", logs
    assert json.loads((run / "results.json").read_text())["status"] == "finished"
    return run


def in_a_hurry(slurm: Cluster) -> str:
    """A job that needs both nodes at once; its number."""
    return slurm.call("sbatch", "--parsable", "-purgent", "-N2", "--exclusive", "-o/dev/null", "--wrap=true")


def steps(path: Path) -> list[int]:
    return [int(row["step"]) for row in csv.DictReader(path.read_text().splitlines())]


def test_a_run_on_two_nodes_that_is_preempted_twice_equals_the_undisturbed(
    slurm: Cluster, here: Path
) -> None:
    whole = submit(slurm, here, "whole", "--nodes=2")
    expected = finished(slurm, here, whole, "whole")
    results = json.loads((expected / "results.json").read_text())
    assert (results["steps"], results["world_size"]) == (STEPS, 2)
    assert {path.name for path in (expected / "logs").iterdir()} == {"rank-0.log", "rank-1.log"}

    cut = submit(slurm, here, "cut", "--nodes=2", options=WANDB)
    run = here / "runs" / f"cut-{cut}"
    csvs = [run / f"csv/version_{number}/metrics.csv" for number in range(3)]
    last = run / "checkpoints/last.ckpt"
    slurm.wait("the first checkpoint", last.exists, 300)
    slurm.call("scancel", "-sUSR1", cut)  # as SLURM itself does before the time is up
    slurm.wait("the resumed run's first step", csvs[1].exists, 300)
    assert slurm.state(cut)["Restarts"] == "1"
    urgent = in_a_hurry(slurm)
    finished_run = finished(slurm, here, cut, "cut")
    assert slurm.state(urgent)["JobState"] == "COMPLETED" and slurm.state(cut)["Restarts"] == "2"

    ranges = [steps(path) for path in csvs]
    assert all(earlier[-1] < later[0] < STEPS for earlier, later in zip(ranges, ranges[1:], strict=False))
    assert finished_run == run and sorted(run.parent.glob("cut-*")) == [run]
    assert {path.name.split("-", 3)[3] for path in (here / "wandb").glob("offline-run-*")} == {f"cut-{cut}"}
    assert not list(run.rglob("hpc_ckpt*"))
    one, other = (read_checkpoint(path / "checkpoints/last.ckpt") for path in (expected, run))
    for key in ("state_dict", "live_generator", "optimizer_states", "clock", "random_states", "global_step"):
        assert_equal(one[key], other[key], key)


def test_a_sweep_is_a_job_array(slurm: Cluster, here: Path) -> None:
    sweep = here / "sweep.yaml"
    sweep.write_text("method: grid\nparameters: {model.reduction: {values: [mean, sum]}}\n")
    few = "--trainer.max_steps=2 --trainer.val_check_interval=2"
    job = submit(slurm, here, "grid", "--sweep", str(sweep), options=few)
    for number, reduction in enumerate(("mean", "sum")):
        run = finished(slurm, here, f"{job}_{number}", "grid")
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert config["model"]["init_args"]["reduction"] == reduction


def test_what_slurm_ends_by_sigterm_is_slurms_to_cancel_or_requeue(
    slurm: Cluster, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The script around a program that leaves on SIGTERM as training does, and no other signal before it.
    monkeypatch.chdir(here)
    config = str(ROOT / "experiments/multi_domain/mini.yaml")
    write(
        [config],
        nodes=2,
        accelerator="cpu",
        time="20",
        sbatch="--partition=brief",
        name="term",
        out="term.sbatch",
    )
    leaving = """bash -c 'trap "exit 143" TERM; echo ready; sleep 300 & wait' -"""
    text = Path("term.sbatch").read_text().replace(f'{sys.executable} -c "$start" fit', leaving)
    Path("term.sbatch").write_text(text.replace("#SBATCH --signal=USR1@180\n", ""))

    def started() -> str:
        job = slurm.call("sbatch", "--parsable", "term.sbatch")
        logs = [here / f"runs/term-{job}/logs/rank-{rank}.log" for rank in (0, 1)]
        slurm.wait("start", lambda: all(path.exists() and path.read_text() for path in logs), 60)
        return job

    cancelled = started()
    slurm.call("scancel", cancelled)
    slurm.wait("scancel", lambda: slurm.state(cancelled)["JobState"] == "CANCELLED", 60)
    preempted = started()
    in_a_hurry(slurm)
    slurm.wait("requeue", lambda: slurm.state(preempted)["Restarts"] == "1", 60)
    assert slurm.state(cancelled)["Restarts"] == "0"
    slurm.call("scancel", preempted)
