"""The whole text of what is submitted to Slurm. Pure: a request and a profile in, an sbatch script out.

submitit writes the script. Beyond what it does by itself: nothing is pickled (`_slurm_starts`), signals wait from the
first line of Python on, a dead rank ends the step, and every submission is an array, even of one job.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from submitit.slurm.slurm import SlurmExecutor

from cluster.job import JobRequest
from cluster.profiles import SlurmProfile, spread
from sweeps.errors import UsageError

NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
UNFIT = re.compile(r"[\x00-\x1f\x7f%\\]")
"""What a folder's name may not hold: sbatch fills in % patterns and drops backslashes, also within quotes."""
PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "VIRTUAL_ENV", "PYTHONPATH")
"""Variables that every job gets from the submitting environment, with all LC_*; profiles name more."""
GPU_OPTIONS = frozenset({"gpu-bind", "gpu-freq", "gres", "mem-per-gpu", "nodelist", "tres-per-task"})
"""sbatch options that ask for GPUs, or name the nodes that have them."""
JOB = "cluster.executors._slurm_job"
RUN = "{job}_{index}"
"""Slurm's name of one job of an array."""


class Submitit(SlurmExecutor):  # type: ignore[misc] # submitit has no types
    """submitit's writer of scripts, usable where Slurm is not installed."""

    @classmethod
    def affinity(cls) -> int:
        """Say that Slurm is there: scripts are also shown on laptops."""
        return 2


def script(request: JobRequest, profile: SlurmProfile, *, module: str = JOB) -> str:
    """Return the script of a request.

    Args:
        request: what to run.
        profile: where.
        module: what runs in each of a job's processes, with the request's folder as its argument.

    Raises:
        UsageError: the request cannot run with this profile, or a name in it cannot be used.
    """
    check(request)
    executor = Submitit(folder=request.folder, python=interpreter(profile))
    executor.update_parameters(**parameters(request, profile))
    executor.parameters["map_count"] = len(request.tickets)
    command = f"{executor.python} -P -u -m {module} {shlex.quote(str(executor.folder))}"
    text: str = executor._make_submission_file_text(command, "")
    return text


def check(request: JobRequest) -> None:
    """Refuse names that would mean something else to a shell, to sbatch or to squeue.

    Raises:
        UsageError: one does.
    """
    if not NAME.fullmatch(request.name):
        raise UsageError(f"submission name {request.name!r}: use 1 to 128 letters, digits, '.', '_' and '-'")
    unfit = UNFIT.search(request.folder)
    if unfit or not Path(request.folder).is_absolute():
        what = f"it contains {unfit.group()!r}, which Slurm would change" if unfit else "it is not absolute"
        raise UsageError(f"folder {request.folder!r} cannot be used on Slurm: {what}; use another --root")
    for node in request.exclude:
        if not NAME.fullmatch(node):
            raise UsageError(f"node {node!r} cannot be excluded: no node has such a name")


def parameters(request: JobRequest, profile: SlurmProfile) -> dict[str, Any]:
    """Return submitit's parameters.

    Raises:
        UsageError: the ranks cannot be spread over the profile's nodes.
    """
    nodes, per_node = spread(request.ranks, profile)
    cpus = profile.cpus_per_task or math.ceil(request.cores / request.ranks)
    gpus = f"{profile.gpu_type}:{per_node}" if profile.gpu_type else per_node
    chosen = {
        "job_name": request.name, "partition": profile.partition if request.gpus else profile.cpu_partition,
        "account": profile.account, "qos": profile.qos,
        "constraint": profile.constraint if request.gpus else None,
        "time": profile.time_limit_min, "signal_delay_s": profile.lead_s,
        "nodes": nodes, "ntasks_per_node": per_node, "cpus_per_task": cpus,
        "gpus_per_node": gpus if profile.gpus_per_node and request.gpus else None,
        "mem": f"{profile.memory_mb or math.ceil(_memory_mb(request, profile) / nodes)}M",
        "array_parallelism": len(request.tickets), "wckey": None, "setup": prepared(request, profile),
        "srun_args": ["--export=ALL", "--kill-on-bad-exit=1", "--open-mode=append", f"--cpus-per-task={cpus}"],
        "additional_parameters": {"chdir": request.folder, "export": "ALL", "requeue": True,
                                  **further(request, profile), **excluded(request, profile)},
    }
    return chosen


def further(request: JobRequest, profile: SlurmProfile) -> dict[str, str | int | bool]:
    """Return the profile's own sbatch options, without those of GPUs for jobs that need none."""
    return {k: v for k, v in profile.sbatch.items() if request.gpus or k not in GPU_OPTIONS}


def excluded(request: JobRequest, profile: SlurmProfile) -> dict[str, str]:
    """Return sbatch's option for the nodes to avoid, the profile's own among them; none where there are none."""
    nodes = [str(profile.sbatch["exclude"])] if "exclude" in profile.sbatch else []
    nodes += [node for node in request.exclude if node not in nodes]
    return {"exclude": ",".join(nodes)} if nodes else {}


def _memory_mb(request: JobRequest, profile: SlurmProfile) -> int:
    """Return what a job needs on all its nodes, MB."""
    return request.memory_mb + (0 if profile.gpus_per_node else request.activations_mb)


def interpreter(profile: SlurmProfile) -> str:
    """Return the shell words that start Python in a job."""
    if profile.container is None:
        return shlex.quote(profile.python or sys.executable)
    words = ("apptainer", "exec", *profile.container_options, profile.container, profile.python or "python3")
    return shlex.join(words)


def prepared(request: JobRequest, profile: SlurmProfile) -> list[str]:
    """Return the lines that make a node's shell what the profile wants it to be."""
    names = ", ".join((*crossing(profile, request), "LC_*", "SLURM_CONF"))
    lines = [f"# Only these variables cross from the submitting shell: {names}.", "set -e", "umask 077"]
    if profile.modules:
        lines.append("if [ \"$(type -t module)\" = '' ]; then set +e; . /etc/profile; set -e; fi")
        lines += [f"module load {shlex.quote(module)}" for module in profile.modules]
    if profile.scratch:
        lines.append(f'export TMPDIR="{profile.scratch}/orchestrator-$SLURM_JOB_ID"')
    return [*lines, *profile.setup]


def crossing(profile: SlurmProfile, request: JobRequest) -> list[str]:
    """Return the variables that cross, those of the request included, each once."""
    return list(dict.fromkeys((*PASSED_ON, *profile.environment, "OMP_NUM_THREADS", *request.environment)))


def environment(request: JobRequest, profile: SlurmProfile, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which sbatch runs, and so the job: an allow-list, and the threads of a rank."""
    wanted = {*PASSED_ON, *profile.environment}
    kept = {k: v for k, v in inherited.items() if k in wanted or k.startswith("LC_")}
    threads = str(math.ceil(request.cores / request.ranks))
    return {"PATH": os.defpath, **kept, "OMP_NUM_THREADS": threads, **request.environment}
