"""Small multi-domain trainings on processes of this machine, for the benchmarks beside this folder."""

import multiprocessing  # noqa: I001
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import gansharing  # noqa: F401  (before whatever imports torchvision)
import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint
from PIL import Image

from gansharing.augment import ADA
from gansharing.checkpoints import AtomicCheckpointIO
from gansharing.data import MultiDomainData
from gansharing.distributed import ExplicitDDP, naming_a_lost_process
from gansharing.errors import UserError
from gansharing.networks import (
    FastGANDiscriminator,
    FastGANGenerator,
    SNGANDiscriminator,
    SNGANGenerator,
    StyleGAN2Discriminator,
    StyleGAN2Generator,
)
from gansharing.objectives import R1, Hinge, PathLength
from gansharing.objectives.self_supervision import AutoEncoding
from gansharing.setups import Adversarial, MultiDomain, SelfSupervised
from gansharing.sharing import WidthWise

ADAM: Any = partial(torch.optim.Adam, lr=1e-3, betas=(0.0, 0.99))
SHARING = WidthWise(0.4)
OPTIMIZERS: dict[str, Any] = {"optimizer_g": ADAM, "optimizer_d": ADAM}


def stylegan2() -> Adversarial:
    """With R1, path length, style mixing and ADA; 16 px."""
    return Adversarial(
        StyleGAN2Generator(16, 6, 6, mapping_layers=2, channel_base=64, channel_max=6, mixing=0.9),
        StyleGAN2Discriminator(16, channel_base=64, channel_max=6, group_size=2),
        regularizers=[R1(1.0, 2)],
        generator_regularizers=[PathLength(2.0, 2)],
        augment=ADA(kimg=0.1),
        **OPTIMIZERS,
    )


# Of SNGAN and FastGAN. At five times the rate rounding grows by half in every step, in whatever layout, and
# after 50 steps it hides what the layouts do.
CALM: Any = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))


def sngan() -> Adversarial:
    """With the hinge loss and two discriminator steps a generator step; 32 px."""
    nets = SNGANGenerator(32, 8, channels=16), SNGANDiscriminator(32, channels=16)
    # The gradient of biases before a batch norm is zero but for rounding, which a smaller eps makes steps of.
    adam: Any = partial(CALM, eps=1e-4)
    return Adversarial(*nets, loss=Hinge(), discriminator_steps=2, optimizer_g=adam, optimizer_d=adam)


def fastgan() -> Adversarial:
    """With fakes made once for both steps and decoders that see real images only; 32 px."""
    nets = FastGANGenerator(32, 8, base_channels=4), FastGANDiscriminator(32, 4, decoder_channels=4)
    return SelfSupervised(*nets, tasks=[AutoEncoding()], optimizer_g=CALM, optimizer_d=CALM)


GAMES: dict[str, Callable[[], Adversarial]] = {"stylegan2": stylegan2, "sngan": sngan, "fastgan": fastgan}


def write_domains(folder: Path, count: int, size: int = 32) -> dict[str, str]:
    """Folders of noise, of unequal sizes: a path for each name."""
    draw, paths = np.random.default_rng(0), {}
    for number in range(count):
        name = f"domain{number}"
        (folder / name).mkdir(parents=True)
        for at in range(8 + 4 * (number % 3)):
            pixels = draw.integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{at:03}.png")
        paths[name] = str(folder / name)
    return paths


def fit(
    root: Path,
    game: Callable[[], Adversarial],
    paths: dict[str, str],
    callbacks: list[Callback],
    precision: Any = 32,
    accumulate: int = 1,
    batch_size: int = 4,
    steps: int = 1,
    resume: Path | None = None,
) -> MultiDomain:
    """Train as one of the processes that the environment names, or alone."""
    torch.manual_seed(0)
    made = game()
    setup = MultiDomain(made, list(paths), SHARING, accumulate=accumulate)
    if precision == "64-true":
        setup.double()
    world = int(os.environ["WORLD_SIZE"])
    more: dict[str, Any] = {"strategy": ExplicitDDP(process_group_backend="gloo")} if world > 1 else {}
    trainer = Trainer(
        accelerator="cpu",
        devices=world,
        max_steps=steps,
        precision=precision,
        callbacks=callbacks,
        default_root_dir=root,
        plugins=[AtomicCheckpointIO()],
        logger=False,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        **more,
    )
    data = MultiDomainData(paths, batch_size=batch_size, resolution=made.generator.resolution)
    torch.manual_seed(9)
    trainer.fit(setup, datamodule=data, ckpt_path=resume, weights_only=True)
    return setup


def start(world: int, work: Callable[[int], None], log: Path | None = None) -> list[BaseProcess]:
    """Run ``work(rank)`` in ``world`` processes, in the environment that torchrun gives its own.

    One that loses another says so in a line and ends with status 2. They are forks, for which this process
    must have imported everything and differentiated nothing.

    Args:
        world: How many.
        work: What each does.
        log: What they print goes here.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    processes: list[BaseProcess] = [
        context.Process(target=_rank, args=(rank, world, port, work, log)) for rank in range(world)
    ]
    for process in processes:
        process.start()
    return processes


def finish(processes: list[BaseProcess]) -> None:
    """Wait for all.

    Raises:
        SystemExit: One failed.
    """
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit(f"a process failed: {[process.exitcode for process in processes]}")


def _rank(rank: int, world: int, port: int, work: Callable[[int], None], log: Path | None) -> None:
    torch.set_num_threads(1)
    os.environ |= {name: str(rank) for name in ("RANK", "LOCAL_RANK")}
    os.environ |= {name: str(world) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")}
    os.environ |= {"GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["TORCHELASTIC_RUN_ID"] = "benchmark"
    if log is not None:
        with log.open("ab") as target:
            os.dup2(target.fileno(), 1)
            os.dup2(target.fileno(), 2)
    try:
        with naming_a_lost_process():
            work(rank)
            if dist.is_initialized():
                dist.barrier()
                dist.destroy_process_group()
    except UserError as error:
        print(f"gansharing: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
