"""The checks of programs, partitions and nodes: what the cluster says of itself, against the profile; without a job.

`clients` and `controller` come first: without them there is nothing to check.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence

from cluster.clients import Answer, NoAnswer
from cluster.doctor.ask import NEEDED, NO_ANSWER, WANTED, Answers, Row, leading, minutes
from cluster.doctor.finding import Finding, failed, ok, unknown, warning
from cluster.profiles import SlurmProfile
from sweeps.errors import nearest

BY_NAME = (21, 8)
"""Slurm's release from which the accounts know a job's command line, so that a submission in doubt is found there."""
UNUSABLE = re.compile(r"down|drain|fail|error|unknown|inval|future|not_responding|maint", re.IGNORECASE)
"""States of nodes that start no job."""
REFUSED = "every submission is refused"


def checks(answers: Answers, profile: SlurmProfile) -> Iterator[Finding]:
    """Yield those of a cluster whose controller answers."""
    yield partition(answers, profile)
    yield time_limit(answers, profile)
    yield nodes(answers, profile)


def clients(versions: Mapping[str, Answer | NoAnswer]) -> Finding:
    """Slurm's programs, and their version."""
    found = {p: version(a.text) for p, a in versions.items() if isinstance(a, Answer)}
    missing = [p for p in NEEDED if p not in found]
    if missing:
        return failed("clients", f"without an answer: {', '.join(missing)}", "no job can be submitted or watched",
                      "run this on a login node of the cluster; `module load slurm` where it is a module")
    seen = f"Slurm {', '.join(sorted({_dotted(v) for v in found.values()}))}: {', '.join(found)}"
    if len(set(found.values())) > 1:
        return warning("clients", f"of different versions: {seen}", "what they print may not fit together",
                       "put one installation first in PATH")
    if found["sbatch"] < BY_NAME:
        return warning("clients", seen, "a submission whose outcome is in doubt is looked up in the queue alone, which "
                       "forgets jobs MinJobAge after their end", f"Slurm {_dotted(BY_NAME)} or newer")
    absent = [p for p in WANTED if p not in found]
    if absent:
        return warning("clients", f"{seen}; not {', '.join(absent)}",
                       "limits and ended jobs are not seen in the accounts",
                       "install them, if the cluster keeps accounts")
    return ok("clients", seen)


def version(text: str) -> tuple[int, ...]:
    """Return the numbers of `slurm-wlm 22.05.8`."""
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(n) for n in found.groups() if n) if found else ()


def _dotted(numbers: Sequence[int]) -> str:
    return ".".join(f"{n:02d}" if i == 1 else str(n) for i, n in enumerate(numbers)) or "of an unknown version"


def controller(config: Row | NoAnswer) -> Finding:
    """Whether the controller daemon answers."""
    if isinstance(config, NoAnswer):
        return failed("controller", config.text, "no job can be submitted or watched; nothing else was checked",
                      "wait until slurmctld answers (`scontrol ping`); where SLURM_CONF is needed, name it in the "
                      "profile: slurm_conf: /path/slurm.conf")
    name, release = config.get("ClusterName", "?"), config.get("SLURM_VERSION", "?")
    return ok("controller", f"cluster {name}, Slurm {release}")


def partition(answers: Answers, profile: SlurmProfile) -> Finding:
    """Whether the partitions are there and open to the account and QOS."""
    if isinstance(answers.partitions, NoAnswer):
        return unknown("partition", answers.partitions.text, "whether it takes jobs is not known", NO_ANSWER)
    known = {row.get("PartitionName", ""): row for row in answers.partitions}
    chosen = answers.chosen(profile)
    for key, value in (("partition", profile.partition), ("cpu_partition", profile.cpu_partition)):
        absent = [name for name in value.split(",") if name not in known] if value else []
        if absent:
            return failed("partition", f"{', '.join(absent)}: does not exist", REFUSED,
                          f"set `{key}` in the profile; {nearest(absent[0], known)}")
    if not chosen:
        return failed("partition", "none is named, and the cluster has no default", REFUSED,
                      f"set `partition` in the profile; known: {', '.join(sorted(known))}")
    names = ", ".join(row["PartitionName"] for row in chosen)
    chosen = chosen + [known[name] for name in (profile.cpu_partition or "").split(",") if name]
    shut = [f"{row['PartitionName']} is {row['State']}" for row in chosen if row.get("State", "UP") != "UP"]
    if shut:
        return warning("partition", ", ".join(shut), "jobs wait until it is UP",
                       "ask the site, or name another partition")
    for key, value in (("AllowAccounts", profile.account), ("AllowQos", profile.qos)):
        closed = [row["PartitionName"] for row in chosen if value and not _allows(row.get(key, "ALL"), value)]
        if closed:
            return failed("partition", f"{closed[0]} has {key}={known[closed[0]][key]}, the profile {value}",
                          REFUSED, f"name one of those, or another partition than {closed[0]}")
    return ok("partition", names + ("" if profile.partition else " (the cluster's default)") + ": up")


def _allows(listed: str, value: str) -> bool:
    return listed == "ALL" or value in listed.split(",")


def time_limit(answers: Answers, profile: SlurmProfile) -> Finding:
    """Whether jobs may last as long as the profile asks for."""
    limits = {f"partition {row['PartitionName']}": minutes(row.get("MaxTime", "")) for row in answers.chosen(profile)}
    limits |= {f"QOS {row['Name']}": minutes(row["MaxWall"]) for row in answers.qos_of(profile)}
    limits |= {f"account {row['Account']}": minutes(row["MaxWall"]) for row in answers.mine(profile)}
    if not limits:
        return unknown("time limit", "no partition and no QOS to compare with", "jobs may ask for too much time",
                       NO_ANSWER)
    who, least = min(limits.items(), key=lambda item: item[1])
    asked = profile.time_limit_min
    if asked > least:
        return failed("time limit", f"time_limit_min = {asked}, {who} allows {least:.0f}",
                      "Slurm refuses the jobs, or lets them wait for ever (PartitionTimeLimit)",
                      f"time_limit_min: {least:.0f}; jobs checkpoint before, and go on in the next")
    allowed = f" of {least:.0f} allowed" if least < math.inf else "; there is no limit"
    return ok("time limit", f"{asked} min{allowed}",
              f"a job checkpoints {profile.lead_s} s before (Slurm may ask it 60 s earlier), and the next goes on")


def nodes(answers: Answers, profile: SlurmProfile) -> Finding:
    """Whether some nodes have what a job asks of one, and whether they are up."""
    if isinstance(answers.nodes, NoAnswer):
        return unknown("nodes", answers.nodes.text, "whether jobs fit onto a node is not known", NO_ANSWER)
    names = {row.get("PartitionName") for row in answers.chosen(profile)}
    here = [row for row in answers.nodes if row["partition"] in names]
    fitting = [row for row in here if _fits(row, profile)]
    needs = _needs(profile)
    count = sum(leading(row["count"]) for row in fitting)
    if count < profile.nodes:
        kinds = sorted({f"{row['cpus']} CPUs, {row['memory_mb']} MB, GRES {row['gres']}" for row in here})
        return failed("nodes", f"{count} nodes have {needs}; a job wants {profile.nodes}",
                      "Slurm refuses the jobs, or lets them wait for ever",
                      "ask for less in the profile, or name another partition; its nodes have: "
                      f"{'; '.join(kinds[:3]) or 'nothing'}")
    up = sum(leading(row["count"]) for row in fitting if not UNUSABLE.search(row["state"]))
    if up < profile.nodes:
        return warning("nodes", f"{count} nodes have {needs}, but only {up} of them are up",
                       f"jobs wait until {profile.nodes} are", "`sinfo -R` says why they are down")
    return ok("nodes", f"{up} nodes up with {needs}")


def _needs(profile: SlurmProfile) -> str:
    """Return what a job asks of a node, for people."""
    parts = [f"{profile.cpus_per_task or 1} CPUs"]
    parts += [f"{profile.memory_mb} MB"] if profile.memory_mb else []
    parts += [f"{profile.gpus_per_node} GPUs {profile.gpu_type or ''}".strip()] if profile.gpus_per_node else []
    return ", ".join(parts)


def _fits(row: Row, profile: SlurmProfile) -> bool:
    return (leading(row["cpus"]) >= (profile.cpus_per_task or 1)
            and leading(row["memory_mb"]) >= (profile.memory_mb or 0)
            and gpus(row["gres"], profile.gpu_type) >= profile.gpus_per_node)


def gpus(gres: str, kind: str | None) -> int:
    """Return the GPUs of `gpu:a100:4(S:0-1),gpu:v100:2`, of one type or all."""
    found = re.findall(r"(?:^|,)gpu(?::([^:,(]+))??(?::(\d+))?(?=[,(]|$)", gres)
    return sum(int(number or 1) for name, number in found if kind in (None, name))
