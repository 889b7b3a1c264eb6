"""A SLURM of two nodes on this machine, on loopback, as any user; needs Debian's slurm-wlm and munge."""

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# cred_expire is also how long a requeued job waits: 120 s by default, 5 at least. Two slurmd on one machine
# are told what they have (config_overrides), and listen on loopback only (No...InAddrAny). One
# partition makes room for itself by putting the others' jobs back into the queue, after their grace time.
_CONF = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={root}/munge.socket,cred_expire=5
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool.%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
KillWait=5
ReturnToService=2
JobRequeue=1
SlurmdParameters=config_overrides
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=4000
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=4000
PartitionName=common Nodes=ALL Default=YES MaxTime=30 PriorityTier=1 GraceTime=120 State=UP
PartitionName=brief Nodes=ALL MaxTime=30 PriorityTier=1 GraceTime=10 State=UP
PartitionName=urgent Nodes=ALL MaxTime=30 PriorityTier=9 State=UP
"""


@dataclass(frozen=True)
class Cluster:
    """A running SLURM.

    Attributes:
        root: Its folder: configuration, logs.
        environment: What a command that talks to it needs.
    """

    root: Path
    environment: dict[str, str]

    def call(self, *command: object) -> str:
        """Output of a command; it must succeed."""
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, env=self.environment
        )
        assert done.returncode == 0, f"{command}: {done.stderr}{self.logs()}"
        return done.stdout.strip()

    def state(self, job: str) -> dict[str, str]:
        """What SLURM says of a job, by its own keys: JobState, Restarts, ..."""
        words = self.call("scontrol", "show", "--oneliner", "job", job).split()
        return dict(word.partition("=")[::2] for word in words if "=" in word)

    def wait(self, what: str, done: Callable[[], object], seconds: float) -> None:
        """Until ``done()``."""
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"{what} took more than {seconds} s{self.logs()}"
            time.sleep(0.2)

    def logs(self) -> str:
        """The ends of all logs."""
        return "".join(f"\n-- {path}\n{path.read_text()[-2000:]}" for path in self.root.rglob("*.log"))


@contextmanager
def cluster(root: Path) -> Iterator[Cluster]:
    """Start two nodes, and stop them."""
    assert shutil.which("slurmctld", path=_path()), "no SLURM here: make test-slurm installs it"
    nodes = [socket.gethostname().partition(".")[0]]  # the first must resolve: processes meet there
    nodes.append(f"{nodes[0]}-second")
    for folder in ("state", *(f"spool.{node}" for node in nodes)):
        (root / folder).mkdir()
    root.chmod(0o755)
    conf = root / "slurm.conf"
    conf.write_text(
        _CONF.format(root=root, host=nodes[0], user=getpass.getuser(), nodes=nodes, ports=_free_ports(3))
    )
    environment = {**os.environ, "SLURM_CONF": str(conf), "PATH": _path()}
    if not _resolves(nodes[0]):
        environment["MASTER_ADDR"] = "127.0.0.1"
    running = Cluster(root, environment)
    try:
        _start(running, nodes)
        yield running
    finally:
        _stop(running)


def _start(running: Cluster, nodes: list[str]) -> None:
    root = running.root
    key = root / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    files = {
        "key": key,
        "socket": root / "munge.socket",
        "pid": root / "munged.pid",
        "seed": root / "munged.seed",
    }
    options = [f"--{name}{'' if name == 'socket' else '-file'}={path}" for name, path in files.items()]
    running.call("munged", "--force", *options, f"--log-file={root / 'munged.log'}")
    running.call("slurmctld")
    for node in nodes:
        running.call("slurmd", "-N", node)
    running.wait(
        "starting", lambda: len(running.call("sinfo", "-hN", "-pcommon", "-tidle").splitlines()) == 2, 30
    )


def _stop(running: Cluster) -> None:
    # Jobs first, and by SIGKILL: a node that is stopped before leaves its processes behind.
    pids = sorted(running.root.glob("*.pid"), key=lambda path: path.name == "munged.pid")
    up = any(path.name == "slurmctld.pid" for path in pids)
    for job in running.call("squeue", "-ho%A").split() if up else []:
        for more in (["--full", "--signal=KILL"], []):
            subprocess.run(["scancel", *more, job], env=running.environment, capture_output=True)
    running.wait("cancelling", lambda: not up or not running.call("squeue", "-h"), 30)
    for path in pids:
        os.kill(int(path.read_text()), 15)


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _resolves(name: str) -> bool:
    try:
        return bool(socket.gethostbyname(name))
    except OSError:
        return False


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
