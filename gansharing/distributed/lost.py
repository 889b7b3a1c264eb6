"""Another process of the run is gone: said in one line, in place of the network library's words."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from gansharing.errors import UserError

# What gloo, NCCL and the store say when a peer's connection is closed; gloo raises no type of its own.
_SIGNS = ("by peer", "broken pipe", "connection was likely closed", "remote process exited", "socket timeout")


@contextmanager
def naming_a_lost_process() -> Iterator[None]:
    """Let a collective that another process did not live to take part in end as an error of one line.

    The processes that are left learn of it at their next collective, at most a step later.

    Raises:
        UserError: Another process has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_of_a_lost_process(error):
            raise
        raise UserError(
            "another process of this run has ended, so this one stops too (what the other said is above, or "
            "in its log; nothing if it was killed); last.ckpt is whole: resume with --ckpt_path last"
        ) from error


def is_of_a_lost_process(error: RuntimeError) -> bool:
    """Whether a collective failed because another process is gone."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(sign in text for sign in _SIGNS)
