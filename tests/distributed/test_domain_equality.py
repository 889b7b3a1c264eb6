"""SNGAN and FastGAN of three domains on 1, 3, 6 and 2 processes: one step's gradients, buffers and bytes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from tests.distributed.test_ddp import ROOT

pytestmark = pytest.mark.timeout(600)
WORLDS = {"one": 1, "each": 3, "two_each": 6, "fewer": 2}
NETWORKS = ["sngan", "fastgan"]
SHARED = "/shared."


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every process had, and ``out.json``."""
    keep = tmp_path_factory.mktemp("equality")
    options = ["--networks=[sngan,fastgan]", "--steps=1", f"--keep={keep}", f"--out={keep / 'out.json'}"]
    command = [sys.executable, "benchmarks/multi_domain_equality.py", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    rows = len(NETWORKS) * (len(WORLDS) + 1)  # and one process that is disturbed
    assert done.stdout.count("alike") == rows and "NOT" not in done.stdout
    return keep


def ranks(folder: Path) -> list[dict[str, Tensor]]:
    found = []
    for path in sorted(folder.glob("rank*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found.append({name: file.get_tensor(name) for name in file.keys()})
    return found


@pytest.mark.parametrize("layout", [name for name in WORLDS if name != "one"])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_has_the_gradients_of_one_process(left: Path, network: str, layout: str) -> None:
    (one,), many = ranks(left / network / "one"), ranks(left / network / layout)
    assert len(many) == WORLDS[layout]
    assert set().union(*many) == one.keys()
    for found in many:
        assert any(name.startswith("gradient/D") for name in found)
        for name, tensor in found.items():
            torch.testing.assert_close(
                tensor, one[name], rtol=1e-10, atol=1e-10, msg=f"{name} of {network} on {layout} is another"
            )


@pytest.mark.parametrize("network", NETWORKS)
def test_who_has_the_same(left: Path, network: str) -> None:
    many = ranks(left / network / "two_each")
    shared = {name for name in many[0] if SHARED in name}
    assert shared
    for found in many:  # θ_S: all
        assert {name for name in found if SHARED in name} == shared
        assert all(torch.equal(found[name], many[0][name]) for name in shared)
    for number in range(3):  # θ_D, D and all buffers: the two processes of a domain
        first, second = many[2 * number : 2 * number + 2]
        assert first.keys() == second.keys() and len(first) > 60
        assert all(torch.equal(first[name], second[name]) for name in first)
    for part in ("running_mean", "gradient/G0/domain"):  # not those of different domains
        names = [name for name in many[0] if part in name]
        others = [many[2][name.replace("domain0", "domain1")] for name in names]
        assert names and not all(torch.equal(many[0][n], o) for n, o in zip(names, others, strict=True))


@pytest.mark.parametrize("network", NETWORKS)
def test_bytes_are_those_of_the_split(left: Path, network: str) -> None:
    rows: dict[str, Any] = {
        row["layout"]: row for row in json.loads((left / "out.json").read_text()) if row["network"] == network
    }
    found = ranks(left / network / "two_each")[0]

    def numbers(start: str) -> int:
        return sum(tensor.numel() for name, tensor in found.items() if name.startswith(start))

    # One generator step and the discriminator's of the same batch, in numbers of eight bytes.
    shared, own = numbers("gradient/G0/shared."), numbers("gradient/G0/domain0.")
    judge = numbers("gradient/D0/")
    assert rows["one"]["sent"] == {}
    for layout in ("each", "fewer"):
        assert rows[layout]["sent"] == {"shared": 8 * shared}
    assert rows["two_each"]["sent"] == {"shared": 8 * shared, "domain": 8 * (own + judge)}
    # Plain DDP of a model of all domains sends all of it.
    assert rows["two_each"]["implied"]["plain_ddp"] == 8 * (shared + 3 * (own + judge))
