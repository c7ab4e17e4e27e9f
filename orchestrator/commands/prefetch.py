"""Bring the data that a sweep reads from elsewhere into the cache, on a machine that has a network.

Compute nodes are often without one. The cache is $HF_HUB_CACHE, else $HF_HOME/hub, else huggingface/hub below --root,
and jobs are told where. What was interrupted goes on when the command is run again; what is complete is left alone.
Files that lie here are looked at too: whether they have their columns. Of a published task it says how many items it
asks and their SHA-256, which TASK.count and TASK.sha256 of a sweep file pin.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.arguments import (
    add_json,
    add_root,
    add_sweep,
    duration,
    layout,
    out,
    out_json,
    overrides,
    say,
    size,
)

if TYPE_CHECKING:
    from orchestrator.remotes import Source
    from workloads.contract import Brought

EXAMPLES = """  orchestrator prefetch my_sweep.yaml --root /shared/store
  orchestrator prefetch my_sweep.yaml --cluster gpu --scale 400m --json"""
EVERY_S = 5.0
"""Time between two lines about one download."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_sweep(parser)
    add_root(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Say what is missing, bring it, and read a first row of every file, of those that lie here too."""
    from orchestrator.plan import make_plan
    from orchestrator.remotes import CACHE, cache, local_files, sources
    from sweeps.store.space import filesystem, see_room

    store = layout(arguments)
    planned = make_plan(arguments.file, overrides(arguments), store.root)
    found, local = sources(planned), local_files(planned)
    asked = [here.read_one() for here in local]
    folder = cache(store, os.environ)
    os.environ[CACHE] = str(folder)
    listed = _missing(found)
    needed = sum(listed.values())
    if needed:
        say(f"{size(needed)} in all, to {filesystem(folder)}")
        see_room(folder, needed, f"{len(found)} sources")
    began = time.monotonic()
    for source in found:
        source.remote.bring(_reporter(source.remote.label))
        asked.append(source.read_one())
    seconds = time.monotonic() - began
    tasks = [found for found in asked if found]
    if arguments.json:
        out_json({"name": planned.sweep.name, "cache": str(folder), "brought_bytes": needed, "seconds": seconds,
                  "local": [s.key for s in local], "tasks": [vars(task) for task in tasks],
                  "sources": [{"domain": s.key, "label": s.remote.label, "brought_bytes": listed[s.remote.label]}
                              for s in found]})
    else:
        for task in tasks:
            out(f"{task.task:<16} {task.items:,} items, SHA-256 {task.sha256}")
        out(_text(found, listed, seconds) + f"\nnext: orchestrator sweep {arguments.file}")
    return 0


def _missing(found: list[Source]) -> dict[str, int]:
    """Return label -> bytes to bring, and say each as it is known."""
    listed = {}
    for source in found:
        listed[source.remote.label] = missing = source.remote.missing_bytes()
        say(f"{source.key:<16} {source.remote.label}: {size(missing) + ' to bring' if missing else 'here'}")
    return listed


def _reporter(label: str) -> Callable[[Brought], None]:
    """Return what tells how far a download is, with the time that is left at the mean rate so far."""
    began = told = time.monotonic()

    def report(brought: Brought) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told < EVERY_S and brought.done_bytes < brought.of_bytes:
            return
        told = now
        rate = brought.done_bytes / max(now - began, 1e-9)
        left = (brought.of_bytes - brought.done_bytes) / max(rate, 1e-9)
        say(f"{label}: {size(brought.done_bytes)} of {size(brought.of_bytes)}, {size(rate)}/s, "
            f"{duration(left)} left")

    return report


def _text(found: list[Source], listed: dict[str, int], seconds: float) -> str:
    if not found:
        return "nothing to bring: all that this sweep reads is here"
    return (f"all here: {len(found)} sources, {size(sum(listed.values()))} brought in {duration(seconds)}; commits,\n"
            "files, sizes and the first row of each file were checked, not how many documents there are")
