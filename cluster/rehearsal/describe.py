"""The description of one rehearsal cluster. Frozen, and the only thing that other code needs to use it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sweeps.errors import RecordError, UsageError

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
SLUG_CHARS = 16
"""Longest prefix of a node name; it enters the path of a socket twice (`SOCKET_PATH_BYTES`)."""
SOCKET_PATH_BYTES = 107
"""Longest path of a Unix socket on Linux (`sun_path` less its closing zero)."""
MAX_NODES, MAX_CPUS = 64, 256
MAIN, URGENT = "main", "urgent"
"""Partitions: jobs of `urgent` preempt jobs of `main`, the default."""
FILE = "rehearsal.json"


class Preemption(StrEnum):
    """What happens to a job of `main` when one of `urgent` needs its node."""

    REQUEUE = "requeue"
    CANCEL = "cancel"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What one asks for. Two clusters of one shape differ only in names, places and ports.

    Raises:
        UsageError: a number is outside what is allowed.
    """

    nodes: int = 2
    """Nodes; each is a slurmd on this machine."""
    cpus: int = 2
    """CPUs of a node, whatever the machine really has."""
    memory_mb_per_cpu: int = 4096
    """Memory of a node per CPU, MB, whatever the machine really has; a job may use what it asked for, no more."""
    accounting: bool = True
    """Run slurmdbd and MariaDB; False: `sacct` has no answer, as on many small clusters."""
    preemption: Preemption = Preemption.REQUEUE
    user_signal: bool = True
    """A preempted job first gets the signal that it asked for with `--signal`; False: SIGTERM only."""
    min_job_age_s: int = 300
    """Seconds after which a finished job leaves squeue and scontrol."""
    slurmd_timeout_s: int = 5
    """Seconds of silence after which a node is down and its jobs are requeued (Slurm's default is 300)."""
    scratch_mb: int = 64
    """Size of the scratch disk, MB (memory, taken as it fills), where this machine allows mounting one."""

    def __post_init__(self) -> None:
        """Check."""
        limits = {"nodes": MAX_NODES, "cpus": MAX_CPUS, "memory_mb_per_cpu": 1_000_000, "min_job_age_s": 86_400,
                  "slurmd_timeout_s": 3600, "scratch_mb": 100_000}
        for key, largest in limits.items():
            given = getattr(self, key)
            if not 1 <= given <= largest:
                raise UsageError(f"{key} {given}: a rehearsal takes 1 to {largest}")


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """One cluster: where it is, how to reach it, what it consists of."""

    name: str
    folder: Path
    """All its state, as a real path."""
    home: Path
    """A link to `folder`: short enough for sockets, and plain enough for slurm.conf, whatever `folder` is called."""
    shape: Shape
    version: str
    """Slurm's release, such as 22.05.8."""
    user: str
    """Owner of the daemons and of the jobs."""
    host: str
    boot: str
    """Identity of the machine's boot; after another one, none of its processes can be alive."""
    controller_port: int
    accounting_port: int
    node_ports: tuple[int, ...]

    @property
    def conf(self) -> Path:
        """slurm.conf: what SLURM_CONF names."""
        return self.home / "etc" / "slurm.conf"

    @property
    def nodes(self) -> tuple[str, ...]:
        """Node names; they carry the cluster's name, since some of what Slurm makes is named by them alone."""
        return tuple(f"{slug(self.name)}-n{i}" for i in range(1, self.shape.nodes + 1))

    @property
    def release(self) -> tuple[int, int]:
        """The part of Slurm's version that its configuration depends on: (22, 5)."""
        year, month = self.version.split(".")[:2]
        return int(year), int(month)

    @property
    def munge_socket(self) -> Path:
        """Where munged listens."""
        return self.home / "run" / "munge"

    @property
    def database_socket(self) -> Path:
        """Where MariaDB listens; it has no port."""
        return self.home / "run" / "mariadb"

    @property
    def scratch(self) -> Path:
        """Scratch disk for jobs; `fill-scratch` fills it."""
        return self.home / "scratch"

    @property
    def logs(self) -> Path:
        """Logs of the daemons."""
        return self.home / "log"

    @property
    def ports(self) -> dict[str, int]:
        """Port of each daemon that has one, loopback only where Slurm can be told so."""
        accounting = {"slurmdbd": self.accounting_port} if self.shape.accounting else {}
        return {"slurmctld": self.controller_port, **accounting,
                **{f"slurmd.{node}": port for node, port in zip(self.nodes, self.node_ports, strict=True)}}

    def environment(self) -> dict[str, str]:
        """Return what a client (sbatch, squeue, sacct, submitit) needs beyond its usual environment."""
        return {"SLURM_CONF": str(self.conf)}

    def client_environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Return a client's whole environment.

        Variables of another job or cluster (SLURM_*, SBATCH_*, SRUN_* and the like) are dropped: SLURM_MEM_PER_NODE,
        for instance, makes a --mem-per-cpu job fatal.
        """
        foreign = ("SLURM", "SBATCH_", "SRUN_", "SALLOC_", "SACCT", "SQUEUE_", "SINFO_", "SCANCEL_", "SCONTROL_")
        return {k: v for k, v in inherited.items() if not k.startswith(foreign)} | self.environment()

    def node(self, given: str) -> str:
        """Return a node by its name or its short one (`n1`).

        Raises:
            UsageError: there is none.
        """
        for name in self.nodes:
            if given in (name, name.rpartition("-")[2]):
                return name
        raise UsageError(f"no node {given!r} in rehearsal {self.name}; its nodes: {', '.join(self.nodes)}")


def slug(name: str) -> str:
    """Return the prefix of a rehearsal's node names: lower-case letters, digits and hyphens, as host names have."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if plain == name and len(plain) <= SLUG_CHARS:
        return plain
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{plain[:SLUG_CHARS - 7].strip('-') or 'x'}-{digest}"


def checked_name(name: str) -> str:
    """Return the name of a rehearsal.

    Raises:
        UsageError: it cannot be one.
    """
    if not NAME.fullmatch(name) or name in (".", ".."):
        raise UsageError(f"rehearsal name {name!r}: use 1 to 64 letters, digits, '.', '_' and '-'")
    return name


def to_fields(rehearsal: Rehearsal) -> dict[str, Any]:
    """Return a description as JSON has it."""
    return asdict(rehearsal) | {"folder": str(rehearsal.folder), "home": str(rehearsal.home)}


def from_fields(fields: Mapping[str, Any]) -> Rehearsal:
    """Return the description that `to_fields` wrote.

    Raises:
        RecordError: it is damaged, or of another release.
    """
    try:
        shape = dict(fields["shape"])
        shape["preemption"] = Preemption(shape["preemption"])
        known = {k: v for k, v in fields.items() if k in Rehearsal.__dataclass_fields__}
        return Rehearsal(**{**known, "shape": Shape(**shape), "folder": Path(fields["folder"]),
                            "home": Path(fields["home"]), "node_ports": tuple(fields["node_ports"])})
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{FILE} of a rehearsal cannot be read ({error}); take it down with the release that made "
                          "it, or remove its folder") from error
