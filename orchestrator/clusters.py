"""From the sweep's `run.cluster` to an executor."""

from __future__ import annotations

import os
from typing import Any

from cluster import registry
from cluster.executors.local import default_slots
from cluster.executors.slurm import MAX_ARRAY_SIZE
from cluster.job import Executor
from cluster.profiles import SlurmProfile
from cluster.registry import Profile
from sweeps.errors import UsageError
from sweeps.language.spec import Run
from sweeps.store.layout import Layout


def cluster(run: Run) -> Profile:
    """Return the profile that a sweep names, with the slots that the sweep asks for.

    Raises:
        UsageError: there is none of that name.
        SweepFileError: its file is wrong; with every problem of it.
    """
    return registry.load(run.cluster, {} if run.slots is None else {"slots": run.slots})


def profile(run: Run) -> dict[str, Any]:
    """Return what the profile that a sweep names says, the key `executor` included; checked.

    Raises:
        UsageError: as `cluster`.
    """
    return cluster(run).values


def executor_of(run: Run, layout: Layout) -> Executor:
    """Return the executor that a sweep names, with its notes below the store."""
    options = dict(profile(run))
    return registry.make(options.pop("executor"), folder=layout.jobs, options=options)


def keep_simulations_apart(run: Run, layout: Layout) -> None:
    """Let made-up results and real ones never share a store: a root is one or the other, for good.

    Raises:
        UsageError: the root is of the other sort.
    """
    marker = layout.simulated
    if profile(run)["executor"] != "memory":
        if marker.exists():
            raise UsageError(f"{layout.root} holds simulated results ({marker.name}); real ones need another --root")
    elif not marker.exists():
        if layout.stages.exists():
            raise UsageError(f"{layout.root} holds real results; simulated ones (memory) need another --root")
        marker.write_text("Every result below was made up by the memory executor.\n", encoding="utf-8")


def slots_of(run: Run) -> int:
    """Return how many jobs run at once, as far as a plan can say."""
    slots = cluster(run).options.slots
    if slots is not None:
        return int(slots)
    megabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**2
    return default_slots(len(os.sched_getaffinity(0)), megabytes)


def batch_size(run: Run) -> int:
    """Return how many jobs are submitted in one call at most, as far as a plan can say (Slurm's default array size)."""
    options = cluster(run).options
    array = options.limits.array_tasks or MAX_ARRAY_SIZE if isinstance(options, SlurmProfile) else MAX_ARRAY_SIZE
    return min(slots_of(run), array)
