"""The checks of what a test job found, and of the disk under the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cluster.doctor.finding import Finding, failed, ok, unknown, warning
from cluster.doctor.job import VISIBLE_S, Outcome
from cluster.doctor.probe import VERSIONED
from cluster.profiles import SlurmProfile

SKEW_S = 5.0
"""Difference of clocks from which records of several hosts read oddly; authentication (munge) fails at 300."""
LITTLE_BYTES, LITTLE_INODES = 10e9, 100_000
"""Below this a sweep soon pauses: checkpoints of small models are 10 MB, of 1.6b 25 GB; a stage has some 20 files."""
NO_BYTES, NO_INODES = 500e6, 2_000
SLOW_S = 60.0
"""Imports that take longer make short stages expensive."""
LATER = "run it again with a longer --timeout, or when the cluster is less busy"


def checks(outcome: Outcome, here: Mapping[str, str], disk: Mapping[str, int], root: str,
           profile: SlurmProfile | None = None) -> Iterator[Finding]:
    """Yield all of them.

    Args:
        outcome: of the test job.
        here: what is installed on this machine (`probe.versions`).
        disk: under the store, as this machine sees it (`probe.space`).
        root: the store.
        profile: of the cluster; None: this machine.
    """
    yield space(disk, root)
    yield test_job(outcome)
    yield shared(outcome, root)
    if profile is not None:
        yield clock(outcome)
    yield python(outcome)
    yield same_versions(outcome, here)
    if profile is not None and profile.gpus_per_node:
        yield devices(outcome, profile.gpus_per_node)
    yield scratch(outcome, profile.scratch if profile else None)


def space(disk: Mapping[str, int], root: str) -> Finding:
    """Free bytes and file names under the store."""
    inodes = disk["inodes"] if disk["all_inodes"] else None  # some filesystems have no fixed number
    seen = f"{disk['bytes'] / 1e9:,.1f} GB, " + ("files without limit" if inodes is None else f"{inodes:,} files free")
    fix = f"free space below {root} (orchestrator gc), or name another --root"
    if disk["bytes"] < NO_BYTES or (inodes is not None and inodes < NO_INODES):
        return failed("space", seen, "the sweep pauses (exit 6) as soon as something cannot be written", fix)
    if disk["bytes"] < LITTLE_BYTES or (inodes is not None and inodes < LITTLE_INODES):
        return warning("space", seen, "a large sweep pauses (exit 6) when it is used up; `plan` says what it needs",
                       fix)
    return ok("space", seen)


def test_job(outcome: Outcome) -> Finding:
    """Whether a job can be submitted and runs."""
    if outcome.refused:
        return failed("test job", f"refused: {outcome.refused}", "every submission is refused",
                      "put right in the profile what the message names")
    if outcome.answer is not None or outcome.began is not None:
        where = f"ran on {outcome.began['host']}" if outcome.began else "ran"
        return ok("test job", f"{where} after {outcome.waited_s:.0f} s" if outcome.job else "started")
    if not outcome.over:
        return unknown("test job", f"{outcome.state or 'not seen'} for {outcome.waited_s:.0f} s, cancelled",
                       "what needs a compute node was not checked", LATER)
    return failed("test job", f"ended without a word{f' ({outcome.state})' if outcome.state else ''}"
                  + (f": {outcome.log}" if outcome.log else ""), "every job ends like this before it begins",
                  "look at `modules`, `setup`, `container` and `python` in the profile" if outcome.log else
                  "the node may not see the store: see the next line")


def shared(outcome: Outcome, root: str) -> Finding:
    """Whether a job sees the store as this machine does, and may make results in it."""
    if outcome.began is None:
        if outcome.over and outcome.job and not outcome.log:
            return failed("shared disk",
                          f"nothing that the job wrote below {root} is seen here, {VISIBLE_S:.0f} s later",
                          "no result would ever be seen", "name a --root on a disk that all nodes share")
        return _not_seen("shared disk", outcome)
    if outcome.began["nonce"] != outcome.nonce:
        return failed("shared disk", f"the job did not read what was written here: {outcome.began['nonce']}",
                      "jobs would not find their tickets", "name a --root on a disk that all nodes share")
    if outcome.began["links"]:
        return failed("shared disk", f"link(2) below {root}: {outcome.began['links']}",
                      "no stage could be completed: a result's name is made by a link, which only one process gets",
                      "name a --root on another filesystem")
    return ok("shared disk" if outcome.job else "store", f"a job reads, writes and links below {root}")


def clock(outcome: Outcome) -> Finding:
    """Whether the node's clock is this machine's."""
    if outcome.began is None:
        return _not_seen("clock", outcome)
    low, high = outcome.skew_s
    least = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    if least > SKEW_S:
        return warning("clock", f"the node's differs by {low:+.0f} to {high:+.0f} s",
                       "nothing is decided by it, but times in records and logs do not fit together; at 300 s Slurm's "
                       "authentication fails", "ask the site to synchronise the clocks (chrony, ntpd)")
    return ok("clock", f"no difference seen, to within {max(abs(low), abs(high)):.1f} s")


def python(outcome: Outcome) -> Finding:
    """Whether what stages need can be imported there."""
    answer = outcome.answer
    if answer is None:
        if outcome.began is not None and outcome.over:
            return failed("python", f"an import ended the process: {outcome.log or outcome.state or 'without a word'}",
                          "no stage runs", "try `import torch, deepspeed` in a job of your own there")
        return _not_seen("python", outcome)
    broken = {name: why for name, why in answer["imports"].items() if why}
    if broken:
        return failed("python", f"{answer['executable']}: " + "; ".join(f"{n}: {why}" for n, why in broken.items()),
                      "no stage runs",
                      "install the extra [run] there, or name another interpreter: `python` in the profile")
    seen = f"{answer['executable']} imports {', '.join(answer['imports'])} in {answer['seconds']:.0f} s"
    if answer["seconds"] > SLOW_S:
        return warning("python", seen, "every job pays for it; a second one on the same node perhaps less",
                       "a container image or a local disk loads faster; raise run.pack in the sweep file")
    return ok("python", seen)


def same_versions(outcome: Outcome, here: Mapping[str, str]) -> Finding:
    """Whether jobs run the same code and libraries as the controller."""
    if outcome.answer is None:
        return _not_seen("versions", outcome)
    there: Mapping[str, Any] = outcome.answer["versions"]
    other = [f"{name} {there.get(name, '?')} (here {version})" for name, version in here.items()
             if there.get(name) != version]
    if other:
        return warning("versions", f"jobs have {', '.join(other)}",
                       "the plan was made with what is here: records would name these, and stages that read texts of "
                       "installed packages are refused", "install the same versions, or name the interpreter that the "
                       "controller has (`python` in the profile)")
    return ok("versions", ", ".join(f"{n} {there[n]}" for n in ("python", *VERSIONED[:3])) + "; the code is the same")


def devices(outcome: Outcome, wanted: int) -> Finding:
    """Whether torch sees the GPU that the job asked for."""
    if outcome.answer is None or outcome.answer["gpus"] is None:
        return _not_seen("GPU", outcome)
    if not outcome.answer["gpus"]:
        return failed("GPU", f"gpus_per_node = {wanted}, but torch sees none", "stages would compute on CPUs",
                      "install torch with CUDA; in a container, container_options: [--nv]")
    return ok("GPU", f"torch sees {outcome.answer['gpus']}, of one that the test job asked for")


def scratch(outcome: Outcome, wanted: str | None) -> Finding:
    """Whether temporary files can be written, and go where the profile says."""
    if outcome.began is None:
        return _not_seen("temporary", outcome)
    seen = outcome.began["scratch"]
    if seen["wrong"]:
        return failed("temporary", f"{seen['folder']}: {seen['wrong']}", "jobs end where they write temporary files",
                      "name another folder: `scratch` in the profile")
    if wanted and not Path(seen["folder"]).name.startswith("orchestrator-"):
        return warning("temporary", f"{seen['folder']}, not below {wanted}: Slurm could not make a folder there",
                       "jobs write temporary files where there may be little space",
                       "make that folder on every node, or name another: `scratch` in the profile")
    if seen["bytes"] < NO_BYTES:
        return warning("temporary", f"{seen['folder']}: {seen['bytes'] / 1e6:,.0f} MB free",
                       "jobs that write temporary files pause the sweep (exit 6)", "name another folder: `scratch`")
    return ok("temporary", f"{seen['folder']}: {seen['bytes'] / 1e9:,.1f} GB free")


def _not_seen(check: str, outcome: Outcome) -> Finding:
    return unknown(check, "the test job did not come so far", "it was not checked",
                   "see the test job above" if outcome.over or outcome.refused else LATER)
