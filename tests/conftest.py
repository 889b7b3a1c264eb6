"""What every test stands on: a cache of its own, one thread, no network, the same draws in every run."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

_LOCAL = {"localhost", "127.0.0.1", "::1", "", None}

# Before anything reads them; worker processes and programs that tests start inherit them.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["WANDB_MODE"] = "offline"
os.environ["HF_HUB_OFFLINE"] = "1"

import gansharing  # noqa: E402, F401, I001  (before whatever imports torchvision)
import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

hypothesis.settings.register_profile(
    "tests",
    deadline=None,  # a busy machine is not a failure
    max_examples=25,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    """Give the session one cache, shared by the processes of a parallel run and removed at its end."""
    torch.set_num_threads(1)
    if not hasattr(config, "workerinput"):
        os.environ["GANSHARING_CACHE"] = tempfile.mkdtemp(prefix="gansharing-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["GANSHARING_CACHE"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _same_draws() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    # Where a test ran the program in this process; a group of processes would start from it, one alone not.
    os.environ.pop("PL_GLOBAL_SEED", None)


def _is_local(host: Any) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    return name in _LOCAL or name == socket.gethostname() or str(name).startswith("127.")


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Refuse whatever leaves this machine; processes that talk to each other on it may."""
    connect, getaddrinfo = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and not _is_local(address[0]):
            raise OSError(f"tests have no network: {address}")
        connect(self, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_local(host):
            raise socket.gaierror(f"tests have no network: {host}")
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
        yield
