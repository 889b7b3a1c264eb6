"""What each of four processes does in ``test_domains``; ``python -m tests.distributed.domain_ranks``."""

import os  # noqa: I001
import sys
from pathlib import Path
from typing import Any

import gansharing  # noqa: F401  (before whatever imports torchvision)
import torch
import torch.distributed as dist

from gansharing.augment import ADA
from gansharing.callbacks import GeneratorEMA, Resumable
from gansharing.data import MultiDomainData
from gansharing.distributed import ExplicitDDP
from gansharing.networks import StyleGAN2Discriminator, StyleGAN2Generator
from gansharing.objectives import R1, PathLength
from gansharing.setups import Adversarial, MultiDomain
from gansharing.sharing import WidthWise, split_of
from tests.support import quiet_trainer

STEPS, SIZE = 3, 4
DOMAINS = ["left", "middle", "right"]


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-3, betas=(0.0, 0.99))


def setup(domains: int, accumulate: int = 1) -> MultiDomain:
    torch.manual_seed(0)
    game = Adversarial(
        StyleGAN2Generator(16, 6, 6, mapping_layers=2, channel_base=64, channel_max=6, mixing=0.9),
        StyleGAN2Discriminator(16, channel_base=64, channel_max=6, group_size=2),
        regularizers=[R1(1.0, 2)],
        generator_regularizers=[PathLength(2.0, 2)],
        augment=ADA(kimg=0.1),
        optimizer_g=adam,
        optimizer_d=adam,
    )
    return MultiDomain(game, DOMAINS[:domains], WidthWise(0.4), accumulate=accumulate).double()


def data(folder: Path, domains: int) -> MultiDomainData:
    paths = {name: str(folder / name) for name in DOMAINS[:domains]}
    return MultiDomainData(paths, batch_size=SIZE, resolution=16)


def fit(
    folder: Path,
    name: str,
    world: int = 1,
    domains: int = 2,
    accumulate: int = 1,
    steps: int = STEPS,
    source: str | None = None,
) -> MultiDomain:
    """Train ``steps`` steps and leave NAME/checkpoints/last.ckpt; begin with that of ``source``, if given."""
    os.environ["WORLD_SIZE"] = os.environ["LOCAL_WORLD_SIZE"] = str(world)
    more = {"strategy": ExplicitDDP(process_group_backend="gloo"), "devices": world} if world > 1 else {}
    callbacks = [GeneratorEMA(0.5, None), Resumable(every_n_steps=2)]
    trainer = quiet_trainer(folder / name, max_steps=steps, precision="64-true", callbacks=callbacks, **more)
    trained = setup(domains, accumulate)
    start = None if source is None else last(folder, source)
    torch.manual_seed(9)
    trainer.fit(trained, datamodule=data(folder, domains), ckpt_path=start, weights_only=True)
    return trained


def last(folder: Path, name: str) -> Path:
    return folder / name / "checkpoints" / "last.ckpt"


def check_bytes(trained: MultiDomain) -> None:
    """The last step's bytes: a main step of each player; the third batch has both penalties too."""
    generator, discriminator = (split_of(getattr(trained._first, p)) for p in ("generator", "discriminator"))
    passes, size = 2, 8
    assert trained.owners.sent["shared"] == passes * size * generator.shared_size
    together = passes * size * (generator.domain_size + discriminator.domain_size)
    assert trained.owners.sent["domain"] == (together if trained.owners.layout.replicas > 1 else 0)


def leave(rank: int, port: int) -> None:
    """End one world, and get ready for the next."""
    dist.barrier()
    dist.destroy_process_group()
    os.environ["MASTER_PORT"] = str(port)


def rank_main(rank: int, ports: list[str], folder: Path) -> None:
    """Train the same in worlds of four, two and one."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {"TORCHELASTIC_RUN_ID": "test", "MASTER_PORT": ports[0]}
    check_bytes(fit(folder, "four", 4))
    fit(folder, "four_at_2", 4, steps=2)
    leave(rank, int(ports[1]))
    if rank < 2:
        check_bytes(fit(folder, "two", 2, accumulate=2))
        fit(folder, "three_domains_on_two", 2, domains=3)
        fit(folder, "four_then_two", 2, accumulate=2, source="four_at_2")
        leave(rank, 0)
    if rank == 0:
        fit(folder, "one", accumulate=2)
        fit(folder, "three_domains_on_one", domains=3)
        fit(folder, "four_then_one", accumulate=2, source="four_at_2")


if __name__ == "__main__":
    rank_main(int(sys.argv[1]), sys.argv[2].split(","), Path(sys.argv[3]))
