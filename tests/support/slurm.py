"""A real Slurm on this machine: one node on the loopback, all of it in one folder, gone with its fixture."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "squeue", "sinfo", "scancel", "scontrol")
PLACES = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
WAIT_SECONDS = 60.0

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.sock
CommunicationParameters=NoInAddrAny
SlurmctldPort={port}
SlurmdPort={other_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
ReturnToService=2
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
MailProg=/bin/true
JobRequeue=1
KillWait=5
MinJobAge=300
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=8000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE
"""


def why_not() -> str | None:
    """Say why there is no Slurm to be had here; None where there is one."""
    missing = [name for name in (*DAEMONS, *CLIENTS) if shutil.which(name, path=PLACES) is None]
    if missing:
        return f"no Slurm here: {', '.join(missing)} not found (Debian: slurm-wlm, munge)"
    return None if os.geteuid() == 0 else "a Slurm of one's own needs root"


@dataclass(frozen=True)
class Slurm:
    """A cluster that runs.

    Attributes
    ----------
    folder : Path
    environ : mapping of str to str
        What its commands need.
    """

    folder: Path
    environ: Mapping[str, str]

    def run(self, *words: object, cwd: Path | None = None, **environ: object) -> str:
        """Run a command of Slurm; returns what it prints."""
        variables = {**self.environ, **{name: str(value) for name, value in environ.items()}}
        done = subprocess.run(
            [*map(str, words)], check=False, capture_output=True, text=True, env=variables, cwd=cwd or self.folder
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout.strip()

    def states(self, job: str) -> list[str]:
        """States of the tasks of a job, while Slurm remembers it."""
        return self.run("squeue", "--noheader", "--array", "--states=all", "--jobs", job, "--format=%T").split()

    def wait(self, *jobs: str) -> list[str]:
        """Wait until no task of some jobs runs or waits; returns how they ended."""
        ended: list[str] = []
        for _ in range(20 * 60 * 10):
            ended = [state for job in jobs for state in self.states(job)]
            if not {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING"} & set(ended):
                return ended
            time.sleep(0.1)
        raise AssertionError(f"{jobs} did not end: {ended}; {self.logs()}")

    def logs(self) -> str:
        """The end of what daemons and jobs have written."""
        return "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in self.folder.glob("*.log"))


@contextmanager
def running_slurm(folder: Path, cores: int = 2) -> Iterator[Slurm]:
    """Start a cluster of one node, and end it."""
    for name in ("state", "spool", "run"):
        (folder / name).mkdir(parents=True)
    (folder / "run").chmod(0o700)
    key = folder / "run/munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host, (port, other_port) = socket.gethostname().partition(".")[0], _free_ports(2)
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(host=host, folder=folder, port=port, other_port=other_port, cores=cores))
    environ = {**os.environ, "SLURM_CONF": str(config), "PATH": PLACES}
    # What the tests run in may be a task itself.
    environ = {name: value for name, value in environ.items() if not name.startswith("SLURM_ARRAY")}
    run, started = folder / "run", []
    commands = {
        "munged": [
            "--foreground",
            "--force",
            f"--key-file={key}",
            f"--socket={run}/munge.sock",
            f"--pid-file={run}/munged.pid",
            f"--log-file={folder}/munged.log",
            f"--seed-file={run}/munged.seed",
        ],
        "slurmctld": ["-D", "-f", str(config)],
        "slurmd": ["-D", "-f", str(config), "-N", host],
    }
    try:
        for name, words in commands.items():
            program = shutil.which(name, path=PLACES)
            assert program is not None
            with (folder / f"{name}.out").open("wb") as said:
                started.append(subprocess.Popen([program, *words], stdout=said, stderr=said, env=environ))
            if name == "munged":
                _wait_until((run / "munge.sock").is_socket, folder)
        slurm = Slurm(folder, environ)
        _wait_until(lambda: _says(slurm, "sinfo", "--noheader", "--format=%t") == "idle", folder)
        yield slurm
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


def _says(slurm: Slurm, *words: str) -> str:
    try:
        return slurm.run(*words)
    except AssertionError:
        return ""


def _wait_until(happened: object, folder: Path) -> None:
    assert callable(happened)
    for _ in range(int(WAIT_SECONDS * 10)):
        if happened():
            return
        time.sleep(0.1)
    said = "\n".join(f"{path.name}: {path.read_text(errors='replace')[-800:]}" for path in folder.glob("*.*"))
    print(said, file=sys.stderr)
    raise AssertionError(f"Slurm did not start in {folder}: {said}")


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
