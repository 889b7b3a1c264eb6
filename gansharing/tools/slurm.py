"""``gansharing slurm``: a batch script that trains on several nodes and survives preemption."""

import itertools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import yaml

from gansharing.errors import UserError
from gansharing.files import write_atomically
from gansharing.usage import check_config_files

_TEMPLATE = Path(__file__).with_name("slurm.sbatch")
_STARTING = 120  # seconds: SLURM may warn a minute early, and imports take a part of another
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<rest>\d+(?::\d+){0,2})")


def slurm(
    configs: list[str],
    nodes: int = 1,
    devices: int = 1,
    time: str = "24:00:00",
    accelerator: Literal["gpu", "cpu"] = "gpu",
    margin: int = 180,
    options: str = "",
    sweep: str | None = None,
    sbatch: str = "",
    name: str | None = None,
    runs: str = "runs",
    out: str | None = None,
    submit: bool = False,
) -> None:
    """Write a batch script for 'gansharing fit', one process a device on every node, and submit it.

    Before the time runs out, or when SLURM makes room for others, the run is warned, writes its checkpoint at
    the end of the batch, is put back into the queue and goes on in the same folder: docs/slurm.md. Paths are
    kept as given: submit the script in this folder.

    Args:
        configs: Configuration files, each laid over those before it.
        nodes: Computers.
        devices: Processes on each, with one device each.
        time: Time limit as SLURM writes it: minutes, hours:minutes:seconds, days-hours, ...; not a limit of
            the training, which goes on in the next allocation.
        accelerator: gpu asks for one GPU a process; cpu for none.
        margin: Seconds before the limit at which the run is warned: longer than a batch, a checkpoint and, on
            several processes, a validation.
        options: Further options of 'gansharing fit', as one text: "--data.path DIR --trainer.max_steps 9".
        sweep: A W&B sweep of method grid: a job array, one job for each combination of its values.
        sbatch: Further options of sbatch, as one text: "--partition=gpu --cpus-per-task=8 --array=0-5%2".
        name: Name of the job and, with the job's number, of the run; the last configuration's when omitted.
        runs: Folder that gets the run's folder.
        out: The script; NAME.sbatch when omitted.
        submit: Submit it.

    Raises:
        UserError: A file is missing, a value is none that SLURM takes, the sweep is no grid, or sbatch
            refuses.
    """
    check_config_files([word for path in configs for word in ("--config", path)])
    name = name or Path(configs[-1]).stem
    _check(name, nodes, devices, time, margin)
    trials = [] if sweep is None else _trials(Path(sweep))
    directives = {
        "job-name": name,
        "nodes": nodes,
        "ntasks-per-node": devices,
        **({"gpus-per-node": devices} if accelerator == "gpu" else {}),
        "time": time,
        "signal": f"USR1@{margin}",
        "output": f"{runs}/slurm/{name}-{'%A_%a' if trials else '%j'}.log",
        **({"array": f"0-{len(trials) - 1}"} if trials else {}),
    }
    lines = [f"--{key}={shlex.quote(str(value))}" for key, value in directives.items()]
    lines += [shlex.join(words)] if (words := _words(sbatch, "sbatch")) else []
    command = [
        *(word for path in configs for word in ("--config", path)),
        *_words(options, "options"),
    ]
    text = _filled(
        DIRECTIVES="\n".join(f"#SBATCH {line}" for line in lines),
        TRIALS=_cases(trials),
        RUN=f'{shlex.quote(f"{runs}/{name}")}-"$job"',
        RUN_ID=f'{shlex.quote(name)}-"$job"',
        PYTHON=shlex.quote(sys.executable),
        COMMAND=shlex.join(command),
        TRAINER=f"--trainer.num_nodes={nodes} --trainer.devices={devices} "
        f"--trainer.accelerator={accelerator}",
    )
    script = Path(out or f"{name}.sbatch")
    write_atomically(script, lambda file: file.write(text.encode()))
    print(f"{script}: {nodes} x {devices} processes, {max(len(trials), 1)} job(s); logs in {runs}/slurm")
    (Path(runs) / "slurm").mkdir(parents=True, exist_ok=True)  # without it SLURM drops the log silently
    if submit:
        _submit(script)


def _check(name: str, nodes: int, devices: int, time: str, margin: int) -> None:
    if name in ("bash", "interactive") or not re.fullmatch(r"[\w.-]+", name):
        raise UserError(
            f"'{name}' is no name for a job: Lightning takes bash and interactive for a terminal, and signs "
            "other than letters, digits and . _ - trouble SLURM or W&B; give --name"
        )
    for key, value in (("nodes", nodes), ("devices", devices), ("margin", margin)):
        if value < 1:
            raise UserError(f"{key} is {value}; give at least 1")
    if (limit := seconds(time)) < margin + _STARTING:
        raise UserError(
            f"time {time} leaves {limit - margin} s before the warning at --margin {margin} s: less than "
            f"{_STARTING} s, in which a run hardly starts; give more time or a smaller margin"
        )


def seconds(time: str) -> int:
    """A time limit in seconds.

    Args:
        time: As sbatch takes it: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S.

    Raises:
        UserError: It is none of these.
    """
    match = _TIME.fullmatch(time)
    if match is None:
        raise UserError(
            f"time is '{time}'; write minutes, hours:minutes:seconds or days-hours, such as 24:00:00"
        )
    parts = [int(part) for part in match["rest"].split(":")]
    if match["days"] is not None:
        parts = [int(match["days"]) * 24 + parts[0], *parts[1:], 0, 0][:3]
    elif len(parts) < 3:
        parts = [0, *parts, 0][:3]
    hours, minutes, rest = parts
    return 3600 * hours + 60 * minutes + rest


def _trials(path: Path) -> list[list[str]]:
    """The command line of each combination of a grid, written as W&B's agent writes it."""
    check_config_files(["--config", str(path)])
    content = yaml.safe_load(path.read_text())
    parameters = content.get("parameters")
    if not isinstance(parameters, dict) or content.get("method") != "grid":
        raise UserError(
            f"{path} is no sweep of method grid; a job array needs combinations that can be listed"
        )
    return [
        [f"--{key}={value}" for key, value in zip(parameters, values, strict=True)]
        for values in itertools.product(*(_values(path, key, of) for key, of in parameters.items()))
    ]


def _values(path: Path, key: str, parameter: Any) -> list[Any]:
    given = parameter if isinstance(parameter, dict) else {}
    values = given.get("values", [given["value"]] if "value" in given else None)
    if not isinstance(values, list) or not values:
        raise UserError(f"{path}: parameter {key} has neither values nor a value")
    return values


def _cases(trials: list[list[str]]) -> str:
    if not trials:
        return "job=$SLURM_JOB_ID\ntrial=()"
    cases = [f"  {number}) trial=({shlex.join(words)}) ;;" for number, words in enumerate(trials)]
    return "\n".join(
        ["job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID", "case $SLURM_ARRAY_TASK_ID in", *cases, "esac"]
    )


def _words(text: str, option: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UserError(f"--{option} is not a command line: {error}") from error


def _filled(**places: str) -> str:
    text = _TEMPLATE.read_text()
    for place, value in places.items():
        text = text.replace(f"@{place}@", value)
    return text


def _submit(script: Path) -> None:
    if shutil.which("sbatch") is None:
        raise UserError(f"there is no sbatch here; run 'sbatch {script}' on a machine of the cluster")
    done = subprocess.run(["sbatch", str(script)], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"sbatch refused {script}: {done.stderr.strip()}")
    print(done.stdout.strip())
