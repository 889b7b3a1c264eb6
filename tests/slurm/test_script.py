"""The batch script: what it asks for, what it starts, and what it makes of each way in which a run ends."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gansharing.errors import UserError
from gansharing.tools.slurm import seconds
from tests.cli.program import run

ROOT = Path(__file__).parents[2]
MINI = ROOT / "experiments/multi_domain/mini.yaml"
SHIPPED = ROOT / "experiments/slurm"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def script(*args: object) -> str:
    done = run("slurm", *args, "--out", "job.sbatch")
    assert done.code == 0, done.err
    return Path("job.sbatch").read_text()


def directives(text: str) -> dict[str, str]:
    return dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", text, re.MULTILINE))


def test_it_asks_for_one_task_a_device_and_a_warning() -> None:
    text = script(MINI, "--nodes", 2, "--devices", 4, "--time", "1-12", "--sbatch=--partition=a --mem=64G")
    asked = directives(text)
    assert (asked["nodes"], asked["ntasks-per-node"], asked["gpus-per-node"]) == ("2", "4", "4")
    assert (asked["time"], asked["signal"], asked["output"]) == ("1-12", "USR1@180", "runs/slurm/mini-%j.log")
    assert "#SBATCH --partition=a --mem=64G\n" in text and "#SBATCH --requeue\n" in text
    assert "#SBATCH --open-mode=append\n" in text and Path("runs/slurm").is_dir()


@given(st.integers(0, 9), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_times_are_read_as_slurm_reads_them(days: int, hours: int, minutes: int, rest: int) -> None:
    whole = 86400 * days + 3600 * hours + 60 * minutes + rest
    assert seconds(f"{days}-{hours:02}:{minutes:02}:{rest:02}") == whole
    assert seconds(f"{days}-{hours}:{minutes}") == whole - rest
    assert seconds(f"{days}-{hours}") == 86400 * days + 3600 * hours
    assert seconds(f"{hours}:{minutes:02}:{rest:02}") == whole - 86400 * days
    assert (seconds(f"{minutes}:{rest}"), seconds(f"{minutes}")) == (60 * minutes + rest, 60 * minutes)


@pytest.mark.parametrize("wrong", ["", "1h", "1-", "1:2:3:4", "-1", "infinite"])
def test_other_times_are_refused(wrong: str) -> None:
    with pytest.raises(UserError, match="write minutes"):
        seconds(wrong)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--time=4:59"], "time 4:59 leaves 119 s before the warning at --margin 180 s"),
        (["--nodes=0"], "nodes is 0"),
        (["--name=bash"], "Lightning takes bash and interactive for a terminal"),
        (["--name=a/b"], "give --name"),
        (["--options='"], "--options is not a command line"),
        (["--sweep=none.yaml"], "no configuration file none.yaml"),
        ([f"--sweep={MINI}"], "is no sweep of method grid"),
        (["--accelerator=tpu"], "gpu"),
    ],
)
def test_what_cannot_run_is_refused_before_it_waits(options: list[str], said: str) -> None:
    done = run("slurm", MINI, *options)
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1
    assert not list(Path().glob("*.sbatch"))


def test_without_slurm_the_script_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = run("slurm", MINI, "--submit")
    assert done.code == 2 and "there is no sbatch here; run 'sbatch mini.sbatch'" in done.err
    assert Path("mini.sbatch").is_file()


def stub(name: str, body: str) -> None:
    """A command of SLURM that writes down how it was called."""
    Path("bin").mkdir(exist_ok=True)
    path = Path("bin") / name
    path.write_text(f'#!/bin/bash\nprintf "%s\\n" {name} "$@" | paste -sd "\\t" >>calls\n{body}\n')
    path.chmod(0o755)


def played(text: str, status: int, **environment: str) -> tuple[int, list[list[str]]]:
    """Run the script where srun ends with ``status``; its own status, and the calls."""
    stub("srun", f"exit {status}")
    stub("scontrol", '[ "$1" = requeue ] || echo localhost')
    stub("sleep", "")
    Path("calls").unlink(missing_ok=True)
    Path("job.sbatch").write_text(text)
    known = {"PATH": f"{Path('bin').absolute()}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "n[1-2]"}
    done = subprocess.run(
        ["bash", "job.sbatch"], env={**known, "SLURM_JOB_ID": "7", **environment}, capture_output=True
    )
    calls = Path("calls").read_text().splitlines() if Path("calls").exists() else []
    return done.returncode, [line.split("\t") for line in calls]


@pytest.mark.parametrize(
    ("status", "then"),
    [
        (0, []),
        (1, []),
        (138, [["scontrol", "requeue", "7"]]),  # warned
        (143, [["sleep", "600"]]),  # SLURM decides
        (137, []),
    ],
)
def test_only_a_run_that_was_warned_is_requeued(status: int, then: list[list[str]]) -> None:
    ended, calls = played(script(MINI), status)
    assert ended == status
    assert calls[-len(then) :] == then if then else calls[-1][0] == "srun"


def test_the_same_job_has_the_same_run_each_time() -> None:
    text = script(MINI, "--options", "--data.path 'a b'", "--runs", "out put", "--accelerator=cpu")
    (_, first), (_, again) = played(text, 138), played(text, 0)
    started = first[1]
    assert first[1] == again[1] and started[0] == "srun"
    assert started[started.index("--config") + 1] == str(MINI)
    assert started[started.index("--data.path") + 1] == "a b"
    assert started[-2:] == ["--trainer.default_root_dir=out put/mini-7", "--ckpt_path=last"]
    assert Path("out put/mini-7/logs").is_dir()
    assert 'WANDB_RUN_ID=mini-"$job" WANDB_RESUME=allow' in text


def test_a_sweep_is_an_array_with_a_trial_a_job() -> None:
    sweep = ROOT / "experiments/sweeps/slimmable.yaml"
    text = script(MINI, "--sweep", sweep, "--name=s")
    parameters = yaml.safe_load(sweep.read_text())["parameters"]
    assert directives(text)["array"] == "0-14"
    assert directives(text)["output"] == "runs/slurm/s-%A_%a.log"
    told = []
    for number in range(15):
        _, calls = played(text, 0, SLURM_ARRAY_JOB_ID="5", SLURM_ARRAY_TASK_ID=str(number))
        told.append(
            tuple(word for word in calls[1] if word.startswith(tuple(f"--{key}=" for key in parameters)))
        )
        assert f"--trainer.default_root_dir=runs/s-5_{number}" in calls[1]
    assert len(set(told)) == 15
    assert told[4] == ("--model.distillation=2.0", "--seed_everything=1")


def test_a_first_node_without_a_name_is_told_at_once() -> None:
    ended, calls = played(script(MINI), 0, MASTER_ADDR="no.such.name.invalid")
    assert ended == 1 and calls == []


@pytest.mark.parametrize(
    ("name", "command"),
    [
        (
            "table_2",
            [
                *("experiments/multi_domain/table_2.yaml", "experiments/width_wise/width_1.yaml"),
                *("--name", "table_2", "--nodes", 2, "--devices", 4, "--time", "1-00:00:00", "--options"),
                "--data.domains '{celeba_hq: data/celeba_hq, church: data/church, cat: data/cat, "
                "bedroom: data/bedroom}'",
            ],
        ),
        (
            "sharing_sweep",
            [
                *("experiments/multi_domain/mini.yaml", "--sweep", "experiments/sweeps/sharing.yaml"),
                *("--name", "sharing_sweep", "--time", "4:00:00", "--sbatch=--cpus-per-task=4"),
            ],
        ),
    ],
)
def test_the_shipped_scripts_are_what_the_command_writes(name: str, command: list[object]) -> None:
    Path("experiments").symlink_to(ROOT / "experiments")
    assert script(*command).replace(sys.executable, "python3") == (SHIPPED / f"{name}.sbatch").read_text()
