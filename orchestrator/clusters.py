"""From the sweep's `run.cluster` to an executor."""

from __future__ import annotations

import os
from typing import Any

from cluster import registry
from cluster.executors.local import default_slots
from cluster.job import Executor
from sweeps.errors import UsageError
from sweeps.language.read import parse, read_text
from sweeps.language.spec import Run
from sweeps.store.layout import Layout


def profile(run: Run) -> dict[str, Any]:
    """Return the options of the profile that a sweep names; an executor's own name is a profile without options.

    Raises:
        UsageError: there is none of that name.
    """
    name = run.cluster
    if name not in registry.profiles() and name in registry.names():
        options: dict[str, Any] = {"executor": name}
    else:
        path = registry.profile_path(name)
        options = dict(parse(read_text(path), str(path)).values)
    if "executor" not in options:
        raise UsageError(f"cluster profile {name}: the key 'executor' is missing; one of {', '.join(registry.names())}")
    if run.slots is not None:
        options["slots"] = run.slots
    return options


def executor_of(run: Run, layout: Layout) -> Executor:
    """Return the executor that a sweep names, with its notes below the store."""
    options = profile(run)
    name = options.pop("executor")
    return registry.make(name, folder=layout.jobs, options=options)


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
    slots = profile(run).get("slots")
    if isinstance(slots, int):
        return slots
    megabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**2
    return default_slots(len(os.sched_getaffinity(0)), megabytes)
