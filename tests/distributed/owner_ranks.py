"""What each of two processes does in ``test_owners``; ``python -m tests.distributed.owner_ranks``."""

import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import cast

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import nn

from gansharing.distributed import Owners, naming_a_lost_process
from gansharing.distributed.owners import Compression
from gansharing.errors import UserError
from gansharing.sharing.layout import DomainLayout

SHARED, DOMAIN = [(40, 25), (7,)], [(30, 11)]
SILENT = 5.0


def start(rank: int, port: str, **options: timedelta) -> None:
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2, **options)


def parameters(rank: int, shapes: list[tuple[int, ...]]) -> list[nn.Parameter]:
    """Parameters with this rank's gradients, the same in every call; rank 1 has none of the last."""
    source = torch.Generator().manual_seed(rank)
    made = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for parameter in made:
        parameter.grad = torch.randn(parameter.shape, generator=source)
    if rank == 1 and len(made) > 1:
        made[-1].grad = None
    return made


def reduce(rank: int, compression: str, out: Path) -> None:
    """Leave the means of both ranks' gradients, and the bytes that were sent."""
    owners = Owners(DomainLayout(1, 2), cast(Compression, compression))
    shared, domain = parameters(rank, SHARED), parameters(rank, DOMAIN)
    owners.reduce_shared(shared, 1 / 2)
    owners.average_domain(0, domain)
    found = {f"shared{n}": p.grad for n, p in enumerate(shared)} | {"domain0": domain[0].grad}
    sent = {f"sent_{name}": torch.tensor(count) for name, count in owners.sent.items()}
    gradients = {name: gradient for name, gradient in found.items() if gradient is not None}
    save_file(gradients | sent, out / f"{compression}{rank}.safetensors")


def wait_for_the_silent(rank: int, out: Path) -> None:
    """Rank 1 takes no part in a domain's reduction, and lives until rank 0 has given up."""
    owners = Owners(DomainLayout(1, 2))
    said = out / "said.txt"
    if rank == 1:
        while not said.exists():
            time.sleep(0.1)
        return
    began = time.monotonic()
    try:
        with naming_a_lost_process():
            owners.average_domain(0, parameters(rank, DOMAIN))
    except UserError as error:
        (out / "seconds.txt").write_text(str(time.monotonic() - began))
        said.write_text(str(error))


def rank_main(rank: int, ports: list[str], out: Path) -> None:
    """Reduce with and without compression; then wait in vain."""
    torch.set_num_threads(1)
    start(rank, ports[0])
    for compression in ("none", "bf16"):
        reduce(rank, compression, out)
    dist.barrier()
    dist.destroy_process_group()
    start(rank, ports[1], timeout=timedelta(seconds=SILENT))
    wait_for_the_silent(rank, out)


if __name__ == "__main__":
    rank_main(int(sys.argv[1]), sys.argv[2].split(","), Path(sys.argv[3]))
