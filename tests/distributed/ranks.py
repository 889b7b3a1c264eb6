"""What each of two processes does in ``test_ddp``; started as ``python -m tests.distributed.ranks``."""

import os  # noqa: I001
import sys
from pathlib import Path
from typing import Any

import gansharing  # noqa: F401  (before whatever imports torchvision)
import torch
import torch.distributed as dist
from lightning.pytorch import Callback
from safetensors.torch import save_file
from torch import Tensor, nn

from gansharing.cli import main
from gansharing.distributed import average_buffers, average_gradients
from gansharing.networks import StyleGAN2Generator
from tests.cli.program import TINY


class KeepWeights(Callback):
    """Writes this process's weights and random state when training ends: ``rank0.safetensors``, ...

    Of a resumed run also whether the checkpoint's file was mapped, on loading and at the end.
    """

    def __init__(self) -> None:
        self.mapped: list[bool] = []

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.mapped.append("last.ckpt" in Path("/proc/self/maps").read_text())

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        state = {name: value.contiguous().clone() for name, value in pl_module.state_dict().items()}
        state["random"] = torch.get_rng_state()
        if self.mapped:
            state["mapped"] = torch.tensor([*self.mapped, "last.ckpt" in Path("/proc/self/maps").read_text()])
        save_file(state, Path(trainer.default_root_dir) / f"rank{trainer.global_rank}.safetensors")


def command(images: str, run: Path, *more: str) -> list[str]:
    """A training on two processes that keeps both processes' weights."""
    return [
        *("fit", "--config", str(TINY), "--data.path", images, f"--trainer.default_root_dir={run}"),
        *("--trainer.devices=2", "--trainer.callbacks+=tests.distributed.ranks.KeepWeights"),
        *("--scores.untrained=true", "--scores.num_samples=9", "--data.flip=true", *more),
    ]


class Net(nn.Module):
    """No batch norm: the mean of two half batches' gradients is the whole batch's."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 1))
        self.sometimes = nn.Linear(1, 1)

    def forward(self, x: Tensor, through: bool) -> Tensor:
        score = self.used(x)
        return (self.sometimes(score) if through else score).square().mean()


def gradients(rank: int, out: Path) -> None:
    """Average the gradients of this rank's half of a batch; only rank 0 uses the last layer."""
    torch.manual_seed(0)
    net, batch = Net(), torch.randn(6, 3, 8, 8)
    net(batch[3 * rank : 3 * rank + 3], through=rank == 0).backward()
    average_gradients(net)
    save_file({name: p.grad for name, p in net.named_parameters()}, out / f"gradients{rank}.safetensors")


def buffers(rank: int, out: Path) -> None:
    """Average what training changes of a generator whose buffers hold this rank's number."""
    net = StyleGAN2Generator(8, 4, 4, mapping_layers=1, channel_base=32, channel_max=4)
    for buffer in net.buffers():
        buffer.fill_(rank + 1.0)
    average_buffers(net)
    save_file(dict(net.named_buffers()), out / f"buffers{rank}.safetensors")


def rank_main(rank: int, port: str, images: str, out: Path) -> None:
    """Train four steps; train two and resume for two more; average gradients."""
    torch.set_num_threads(1)
    for name, value in {
        **{"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"},
    }.items():
        os.environ[name] = str(value)
    main(command(images, out / "whole"))
    main(command(images, out / "parts", "--trainer.max_steps=2"))
    dist.barrier()  # the first process writes the last files of a run after the others have left it
    main(command(images, out / "parts", "--ckpt_path=last"))
    gradients(rank, out)
    buffers(rank, out)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    rank_main(int(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
