"""What programs leave behind: notes of ended jobs, unused code, temporary files, Ray's folders. Nobody needs it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from orchestrator import ray_folder
from orchestrator.housekeeping import Item, Reason, Survey, item
from orchestrator.watch import open_stages
from sweeps.store.layout import Layout

OLD_SECONDS = 3600.0
"""A temporary file lives for moments; one of this age belongs to nobody."""
TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}|\.probe-[0-9]+")
"""What `sweeps.store.files` writes beside (tempfile adds eight characters), and the probes of a root."""


def leftovers(layout: Layout, survey: Survey) -> Iterator[Item]:
    """Yield what may be deleted besides stages."""
    yield from _notes(layout, survey)
    yield from _code(layout, survey)
    yield from _temporary(layout, survey)
    yield from _ray()


def _notes(layout: Layout, survey: Survey) -> Iterator[Item]:
    """Yield the executors' notes of submissions all of whose jobs have ended."""
    use = survey.use
    known = {name: submission for state in use.states.values() for name, submission in state.submissions.items()}
    kept = {name for sweep in use.alive for name in use.states[sweep].submissions}
    if not layout.jobs.is_dir():
        return
    for folder in sorted(p for p in layout.jobs.iterdir() if p.is_dir() and p.name not in kept):
        submission = known.get(folder.name)
        ended = _all_noted(folder) if submission is None else len(submission.ended) == len(submission.tickets)
        if ended:
            yield item(folder, Reason.LEFTOVER, f"notes of the ended jobs {folder.name}")


def _all_noted(folder: Path) -> bool:
    """True where each job of a submission that no ledger knows has left its exit note."""
    names = {p.name for p in folder.iterdir()}
    jobs = [n for n in names if re.fullmatch(r"[0-9]+\.json", n)]
    return bool(jobs) and all(f"{n.removesuffix('.json')}.exit.json" in names for n in jobs)


def _code(layout: Layout, survey: Survey) -> Iterator[Item]:
    """Yield copies of the code that no job can be running and no completed stage names as its own."""
    use, needed = survey.use, survey.codes()
    for name, state in use.states.items():
        folder = layout.sweep(name).code
        if name in use.alive or any(open_stages(state)) or not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            if path.name not in needed:
                yield item(path, Reason.LEFTOVER, f"code that jobs of sweep {name} ran: {path.name}")


def _temporary(layout: Layout, survey: Survey) -> Iterator[Item]:
    busy, now = survey.use.busy, time.time()
    for folder, below, names in os.walk(layout.root):
        below[:] = [name for name in below if name not in busy]
        for name in names:
            path = Path(folder) / name
            if name[0] == "." and TEMPORARY.fullmatch(name) and not path.is_symlink():
                with suppress(FileNotFoundError):  # it was one of somebody who lives, and is gone
                    found = item(path, Reason.LEFTOVER, f"temporary file {path.relative_to(layout.root)}")
                    if now - found.newest > OLD_SECONDS:
                        yield found


def _ray() -> Iterator[Item]:
    """Yield Ray's folders whose controllers are dead; of an unknown one's, those that no process names."""
    now, found = time.time(), list(ray_folder.folders())
    running = "\n".join(_commands()) if found else ""
    for folder in found:
        with suppress(FileNotFoundError):  # its controller left meanwhile
            lives = ray_folder.owner_lives(folder)
            each = item(folder, Reason.LEFTOVER, f"Ray's folder {folder} (dead controller)")
            unknown = lives is None and str(folder) not in running and now - each.newest > OLD_SECONDS
            if lives is False or unknown:
                yield each


def _commands() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_text(encoding="utf-8", errors="replace")
        except OSError:  # it has ended
            continue
