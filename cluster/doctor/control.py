"""The check of the job in which a controller runs (`sweep --controller slurm`): by the rules for all jobs."""

from __future__ import annotations

from dataclasses import replace

from cluster.doctor import limits, place
from cluster.doctor.ask import Answers
from cluster.doctor.finding import Finding, Verdict, ok
from cluster.profiles import SlurmProfile


def job(answers: Answers, profile: SlurmProfile) -> Finding:
    """Whether it may ask for what `controller` in the profile says. Not more than a warning: sweeps run without it."""
    found = [check(answers, of_job(profile)) for check in
             (place.partition, place.time_limit, place.nodes, limits.account)]
    order = (Verdict.FAILED, Verdict.UNKNOWN, Verdict.WARNING)
    bad = next((f for verdict in order for f in found if f.verdict is verdict), None)
    wanted = profile.controller
    if bad is None:
        return ok("control job", f"{wanted.time_limit_min} min on {wanted.cpus} CPUs, {wanted.memory_mb} MB",
                  "`--controller slurm` is taken")
    verdict = Verdict.UNKNOWN if bad.verdict is Verdict.UNKNOWN else Verdict.WARNING
    return replace(bad, check="control job", verdict=verdict, seen=f"{bad.check}: {bad.seen}",
                   means=f"of `sweep --controller slurm` alone: {bad.means}", fix=f"below `controller:`: {bad.fix}")


def of_job(profile: SlurmProfile) -> SlurmProfile:
    """Return the profile with what the controller's job asks for in place of what others ask for."""
    wanted = profile.controller
    return profile.model_copy(update={
        "partition": wanted.partition or profile.partition, "qos": wanted.qos or profile.qos, "cpu_partition": None,
        "time_limit_min": wanted.time_limit_min, "lead_s": wanted.lead_s, "nodes": 1, "cpus_per_task": wanted.cpus,
        "memory_mb": wanted.memory_mb, "gpus_per_node": 0, "gpu_type": None,
    })
