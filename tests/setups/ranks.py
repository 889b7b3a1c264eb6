"""One of two processes that train StyleGAN2 with ADA: ``python -m tests.setups.ranks RANK PORT FOLDER``."""

import os  # noqa: I001
import sys
from collections.abc import Iterator
from pathlib import Path

import gansharing  # noqa: F401  (before whatever imports torchvision)
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from gansharing.augment import ADA
from gansharing.distributed import ExplicitDDP
from tests.setups.test_stylegan2_training import stylegan2
from tests.support import FixedBatches, quiet_trainer


class Half(FixedBatches):
    """Other images in each process."""

    def __init__(self, rank: int) -> None:
        super().__init__(count=6, batch_size=4)
        self.rank = rank

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for batch in super().__iter__():
            yield {"image": batch["image"].roll(self.rank, 1) * (1 - self.rank / 2), "label": batch["label"]}


def main(rank: int, port: str, folder: Path) -> None:
    """Train and keep everything that must be the same in both processes."""
    torch.set_num_threads(1)
    for name, value in {
        **{"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"},
    }.items():
        os.environ[name] = str(value)
    setup = stylegan2(ADA(target=-0.9, kimg=0.1))
    quiet_trainer(folder, max_steps=6, devices=2, strategy=ExplicitDDP()).fit(setup, Half(rank))
    state = {name: value.contiguous().clone() for name, value in setup.state_dict().items()}
    save_file(state | {"random": torch.get_rng_state()}, folder / f"rank{rank}.safetensors")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
