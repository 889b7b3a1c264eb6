"""Another process of the run is gone or silent: said in one line, in place of the network library's words."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from gansharing.errors import UserError

# What gloo, NCCL and the store say when a peer's connection is closed, or when it keeps silent for too long
# ("Timed out waiting 4000ms for recv operation"); gloo raises no type of its own.
_SIGNS = (
    *("by peer", "broken pipe", "connection was likely closed", "remote process exited", "socket timeout"),
    "timed out waiting",
)


@contextmanager
def naming_a_lost_process() -> Iterator[None]:
    """Let a collective that another process did not live to take part in end as an error of one line.

    The processes that are left learn of it at their next collective, at most a step later; of one that is
    silent, once the time limit of the process group is over.

    Raises:
        UserError: Another process has ended, or was silent for too long.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_of_a_lost_process(error):
            raise
        raise UserError(
            "another process of this run has ended, or was silent for longer than the process group's "
            "timeout, so this one stops too (what the other said is above, or in its log; nothing if it was "
            "killed); last.ckpt is whole: resume with --ckpt_path last"
        ) from error


def is_of_a_lost_process(error: RuntimeError) -> bool:
    """Whether a collective failed because another process is gone or silent."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(sign in text for sign in _SIGNS)
