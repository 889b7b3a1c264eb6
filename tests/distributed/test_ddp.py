"""Two real processes on one machine (gloo): the same weights, the same scores, the same resume."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.cli.program import run, write_images
from tests.distributed.ranks import Net, command

ROOT = Path(__file__).parents[2]


def start(*command: object) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    text = [sys.executable, "-m", *map(str, command)]
    return subprocess.Popen(
        text, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(*processes: subprocess.Popen[str], seconds: float = 100) -> None:
    try:
        printed = [process.communicate(timeout=seconds)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(printed)[-4000:]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "images")


def weights(folder: Path, rank: int) -> dict[str, Tensor]:
    return load_file(folder / f"rank{rank}.safetensors")


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def assert_ranks_agree(folder: Path) -> None:
    first, second = weights(folder, 0), weights(folder, 1)
    # Batch statistics too, or the processes would score different networks.
    assert any("running_mean" in name for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first if name != "random")
    assert not torch.equal(first["random"], second["random"])  # each draws its own latents


def test_processes_started_by_a_scheduler(images: Path, tmp_path: Path) -> None:
    port = free_port()
    finish(*(start("tests.distributed.ranks", rank, port, images, tmp_path) for rank in range(2)))
    for name in ("whole", "parts"):
        assert_ranks_agree(tmp_path / name)

    # Resumed after two of four steps, on both processes.
    for rank in range(2):
        whole, parts = weights(tmp_path / "whole", rank), weights(tmp_path / "parts", rank)
        assert all(torch.equal(whole[name], parts[name]) for name in whole)
        assert parts["mapped"].tolist() == [True, False]  # the optimisers too hold copies
    checkpoints = [
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)
        for name in ("whole", "parts")
    ]
    for a, b in zip(*(c["random_states"] for c in checkpoints), strict=True):
        assert torch.equal(a["torch"], b["torch"])

    # Scores of the untrained network: nine samples over two processes, and over one.
    single = command(str(images), tmp_path / "single", "--trainer.devices=1", "--trainer.max_steps=1")
    assert run(*single).code == 0
    ours, reference = results(tmp_path / "whole"), results(tmp_path / "single")
    assert (ours["world_size"], reference["world_size"]) == (2, 1)
    assert ours["protocol"]["n_fake"] == reference["protocol"]["n_fake"] == 9
    for name, value in reference["history"][0].items():
        assert ours["history"][0][name] == pytest.approx(value, rel=1e-6, abs=1e-9), name
    assert ours["images"] == 32  # four steps of eight, over both processes

    # Scores of the trained network: taken by two processes, and by one from its checkpoint.
    validated = run("validate", "--ckpt_path", tmp_path / "whole/checkpoints/last.ckpt")
    shown = float(re.search(r"fid_lite\W+([\d.]+)", validated.out)[1])  # type: ignore[index]
    assert shown == pytest.approx(ours["history"][-1]["fid_lite"], rel=1e-6)

    # Gradients of two halves against those of the whole; the layer that only rank 0 used gets half of its.
    torch.manual_seed(0)
    net, batch = Net(), torch.randn(6, 3, 8, 8)
    ((net(batch[:3], through=True) + net(batch[3:], through=False)) / 2).backward()
    for rank in range(2):
        averaged = load_file(tmp_path / f"gradients{rank}.safetensors")
        for name, parameter in net.named_parameters():
            torch.testing.assert_close(averaged[name], parameter.grad)
    torch.manual_seed(0)
    plain = Net()
    plain(batch, through=False).backward()
    assert plain.sometimes.weight.grad is None

    # Of a generator's buffers, each of which held the rank's number, only what training changes is averaged.
    for rank in range(2):
        for name, buffer in load_file(tmp_path / f"buffers{rank}.safetensors").items():
            expected = 1.5 if name == "mapping.w_avg" else rank + 1.0
            assert torch.equal(buffer, torch.full_like(buffer, expected)), name


def test_the_program_starts_its_processes_itself(images: Path, tmp_path: Path) -> None:
    finish(start("gansharing", *command(str(images), tmp_path / "run")))
    assert_ranks_agree(tmp_path / "run")
    assert results(tmp_path / "run")["status"] == "finished"
    names = {path.name for path in (tmp_path / "run/checkpoints").iterdir()}
    assert names == {"best.ckpt", "last.ckpt"}


def test_torchrun_starts_the_processes(images: Path, tmp_path: Path) -> None:
    run_folder = tmp_path / "runs/x"
    torchrun = ("torch.distributed.run", "--nproc_per_node", 2, "--master_port", free_port())
    finish(start(*torchrun, "-m", "gansharing", *command(str(images), run_folder)))
    assert_ranks_agree(run_folder)
    found = results(run_folder)
    assert (found["status"], found["world_size"]) == ("finished", 2)
    assert [path.name for path in run_folder.parent.iterdir()] == ["x"]
