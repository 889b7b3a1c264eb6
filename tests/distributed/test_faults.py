"""A process that is killed: the others stop with one line each, and the run resumes to the same numbers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

from gansharing.distributed import naming_a_lost_process
from gansharing.errors import UserError
from tests.distributed.test_ddp import ROOT

pytestmark = pytest.mark.timeout(300)


def test_one_killed_in_a_step_and_one_in_a_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, "benchmarks/multi_domain_faults.py", "--trials=2", "--steps=4", "--moves=[]"]
    done = subprocess.run([*command, f"--out={out}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    rows = json.loads(out.read_text())["trials"]
    assert [row["when"] for row in rows] == ["step", "checkpoint"]
    for row in rows:
        assert row["seconds"] < 60 and row["equal"] and row["tracebacks"] == 0
        assert sorted(row["status"]) == [-9, *[2] * (row["processes"] - 1)]
        assert row["lines"] == row["processes"] - 1


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:20721"),
        RuntimeError("[gloo/transport/tcp/pair.cc:446] writev [127.0.0.1]:1: Connection reset by peer"),
        RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:82] Timed out waiting 4000ms for recv operation"),
        dist.DistBackendError("NCCL error: remote process exited or there was a network error"),
        dist.DistNetworkError("failed to recv, got 0 bytes. Connection was likely closed."),
    ],
)
def test_what_collectives_say_of_a_lost_process_becomes_one_line(error: RuntimeError) -> None:
    with pytest.raises(UserError, match="another process of this run has ended") as raised:
        with naming_a_lost_process():
            raise error
    assert raised.value.__cause__ is error and "\n" not in str(raised.value)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="out of memory") as raised:
        with naming_a_lost_process():
            raise RuntimeError("out of memory")
    assert not isinstance(raised.value, UserError)
