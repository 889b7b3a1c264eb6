"""One of two processes whose seeds differ: ``python -m tests.setups.unlike RANK PORT FOLDER``."""

import os  # noqa: I001
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gansharing  # noqa: F401  (before whatever imports torchvision)
import torch
import torch.distributed as dist
from lightning.pytorch import Callback
from safetensors.torch import save_file
from torch import Tensor

from gansharing.distributed import ExplicitDDP
from gansharing.networks.stylegan2 import StyleGAN2Generator
from gansharing.setups import Adversarial, MultiDomain
from gansharing.sharing import WidthWise
from tests.support import PlainDiscriminator, quiet_trainer

NAMES = ["left", "middle", "right"]


class Once:
    """A single batch of every domain."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[dict[str, dict[str, Tensor]]]:
        yield {name: {"image": torch.zeros(2, 3, 32, 32)} for name in NAMES}


class First(Callback):
    """Keeps what each of the process's domains starts from."""

    def __init__(self) -> None:
        self.found: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Any, pl_module: MultiDomain) -> None:
        for name, game in pl_module.games.items():
            self.found |= {
                f"{name}.{key}": value.contiguous().clone() for key, value in game.state_dict().items()
            }


def main(rank: int, port: str, folder: Path) -> None:
    """Keep the first weights of this process's domains."""
    torch.set_num_threads(1)
    for name, value in {
        **{"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"},
    }.items():
        os.environ[name] = str(value)
    torch.manual_seed(rank)
    generator = StyleGAN2Generator(32, 8, 8, mapping_layers=2, channel_base=128, channel_max=8)
    game = Adversarial(generator, PlainDiscriminator())
    first = First()
    trainer = quiet_trainer(folder, max_steps=1, devices=2, strategy=ExplicitDDP(), callbacks=[first])
    trainer.fit(MultiDomain(game, NAMES, WidthWise(0.4)), Once())
    save_file(first.found, folder / f"{rank}.safetensors")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
