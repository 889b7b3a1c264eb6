"""Many domains on two real processes (gloo) that were not seeded alike."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.distributed.test_ddp import finish, free_port, start
from tests.setups.unlike import NAMES


def test_all_domains_start_as_the_first_process_does(tmp_path: Path) -> None:
    port = free_port()
    finish(*(start("tests.setups.unlike", rank, port, tmp_path) for rank in range(2)))
    found: dict[str, dict[str, torch.Tensor]] = {name: {} for name in NAMES}
    for rank in range(2):
        for key, value in load_file(tmp_path / f"{rank}.safetensors").items():
            name, _, rest = key.partition(".")
            found[name][rest] = value
    first = found["left"]
    assert any("noise_const" in key for key in first)
    for name in NAMES[1:]:
        assert found[name].keys() == first.keys()
        assert all(torch.equal(value, first[key]) for key, value in found[name].items()), name
