"""What Slurm's programs say of the cluster, as tables. Asks each once; no answer is an answer too."""

from __future__ import annotations

import getpass
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.clients import Answer, Clients, NoAnswer, clean
from cluster.profiles import SlurmProfile

NEEDED = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
WANTED = ("sacct", "sacctmgr")
"""Of the accounts, which sweeps can do without."""
NODES = ("partition", "count", "state", "cpus", "memory_mb", "gres")
ASSOCIATIONS = ("Account", "Partition", "QOS", "DefaultQOS", "MaxSubmitJobs", "MaxWall")
QOS = ("Name", "MaxSubmitJobsPU", "MaxWall", "GraceTime", "PreemptMode")

DEFAULTS = {"MaxArraySize": 1001, "KillWait": 30}
"""What Slurm takes where its configuration says nothing."""
NO_ANSWER = "ask again when Slurm answers; `sinfo` and `squeue` must work in this shell"
"""What a person can do where there is none."""

Row = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a cluster whose controller answers says of itself."""

    config: Row
    partitions: Sequence[Row] | NoAnswer
    nodes: Sequence[Row] | NoAnswer
    """Nodes of the same kind and state, a row each, with the keys `NODES`."""
    associations: Sequence[Row] | NoAnswer
    """The accounts and limits of this user, with the keys `ASSOCIATIONS`."""
    qos: Sequence[Row] | NoAnswer
    """With the keys `QOS`."""
    accounts: Answer | NoAnswer
    """The user's jobs of the last hour, as sacct has them."""

    def setting(self, key: str) -> str:
        """Return a line of the configuration; empty where there is none."""
        return self.config.get(key, "")

    def number(self, key: str) -> int:
        """Return a number of the configuration, or Slurm's default."""
        return leading(self.setting(key)) or DEFAULTS[key]

    def chosen(self, profile: SlurmProfile) -> list[Row]:
        """Return the partitions to which jobs go, as far as they exist."""
        rows = [] if isinstance(self.partitions, NoAnswer) else self.partitions
        if profile.partition is None:
            return [row for row in rows if row.get("Default") == "YES"]
        return [row for row in rows if row.get("PartitionName") in profile.partition.split(",")]

    def mine(self, profile: SlurmProfile) -> list[Row]:
        """Return the associations under which jobs are submitted: those of the account, or all."""
        rows = [] if isinstance(self.associations, NoAnswer) else self.associations
        partitions = {"", *(row["PartitionName"] for row in self.chosen(profile))}
        return [row for row in rows if profile.account in (None, row["Account"]) and row["Partition"] in partitions]

    def qos_of(self, profile: SlurmProfile) -> list[Row]:
        """Return the QOS under which jobs are submitted, as far as they are known."""
        rows = [] if isinstance(self.qos, NoAnswer) else self.qos
        names = {profile.qos} if profile.qos else {row["DefaultQOS"] for row in self.mine(profile)}
        names |= {row.get("QoS", "") for row in self.chosen(profile)}  # a partition may have limits of its own
        return [row for row in rows if row["Name"] and row["Name"] in names]

    def enforces(self, *what: str) -> bool:
        """Tell whether the cluster enforces one of these, or everything."""
        return bool({"all", *what} & set(self.setting("AccountingStorageEnforce").lower().split(",")))


def versions(clients: Clients) -> dict[str, Answer | NoAnswer]:
    """Return program -> what it says of itself."""
    return {program: _ask(clients, program, "--version") for program in (*NEEDED, *WANTED)}


def config(clients: Clients) -> Row | NoAnswer:
    """Return the cluster's configuration, as its controller has it."""
    return settings(_ask(clients, "scontrol", "show", "config"))


def answers(clients: Clients, config: Row) -> Answers:
    """Ask everything else."""
    user = getpass.getuser()
    return Answers(
        config=config,
        partitions=fields(_ask(clients, "scontrol", "-o", "show", "partition")),
        nodes=table(_ask(clients, "sinfo", "-h", "-e", "-o", "%R|%D|%T|%c|%m|%G"), NODES),
        associations=table(_ask(clients, "sacctmgr", "-n", "-P", "show", "associations", f"user={user}",
                                f"format={','.join(ASSOCIATIONS)}"), ASSOCIATIONS),
        qos=table(_ask(clients, "sacctmgr", "-n", "-P", "show", "qos", f"format={','.join(QOS)}"), QOS),
        accounts=_ask(clients, "sacct", "-n", "-P", "-X", "-S", "now-1hours", "-o", "JobID"),
    )


def _ask(clients: Clients, *command: str) -> Answer | NoAnswer:
    return clients.run(command, environment=clean(os.environ, clients.conf), timeout_s=clients.timeout_s)


def settings(answer: Answer | NoAnswer) -> Row | NoAnswer:
    """Return `Key = value` lines as a mapping."""
    if isinstance(answer, NoAnswer):
        return answer
    pairs = (line.partition("=") for line in answer.text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs if value}


def fields(answer: Answer | NoAnswer) -> Sequence[Row] | NoAnswer:
    """Return `Key=value Key=value` lines as mappings."""
    if isinstance(answer, NoAnswer):
        return answer
    return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in answer.text.splitlines() if line.strip()]


def table(answer: Answer | NoAnswer, keys: Sequence[str]) -> Sequence[Row] | NoAnswer:
    """Return lines of fields between bars as mappings; lines with another number of fields are left out."""
    if isinstance(answer, NoAnswer):
        return answer
    rows = (line.split("|") for line in answer.text.splitlines())
    return [dict(zip(keys, row, strict=True)) for row in rows if len(row) == len(keys)]


def leading(text: str) -> int:
    """Return the number at the beginning of `64+` or `30 sec`; 0 where there is none."""
    found = re.match(r"\d+", text)
    return int(found.group()) if found else 0


def minutes(text: str) -> float:
    """Return the minutes of Slurm's `1-12:00:00`, `30:00` (minutes and seconds), `90` or `UNLIMITED` (inf)."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if found is None:
        return math.inf
    days, first, second, third = (int(n or 0) for n in found.groups())
    if found[1] is not None or found[4] is not None:  # with days, or hours:minutes:seconds
        return days * 1440 + first * 60 + second + third / 60
    return first + second / 60
