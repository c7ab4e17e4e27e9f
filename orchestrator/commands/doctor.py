"""Check a cluster for what sweeps rely on, and say how to put right what is wrong.

It asks Slurm's programs, and runs one small job that writes and reads below --root and imports what stages import. Each
check is ok, a warning, failed or unknown. Exit code 4 where one failed. With `local` it checks this machine.

With --sandbox it tries, on this machine, every known way out of the sandboxes in which programs that a model wrote are
run. Exit code 4 where no kind of sandbox stops them all: such programs are not run here then.
"""

from __future__ import annotations

import argparse
import signal
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from orchestrator.arguments import PROFILES, add_json, add_root, layout, out, out_json, say, seconds_of, writable
from sweeps.errors import EnvironmentError_

if TYPE_CHECKING:
    from cluster.doctor.finding import Finding
    from workloads.sandbox.ladder import Examined

EXAMPLES = """  orchestrator doctor
  orchestrator doctor --cluster gpu --root /shared/store
  orchestrator doctor --cluster my_cluster.yaml --timeout 1h --json
  orchestrator doctor --sandbox"""

WIDTH = 80
NAME, VERDICT = 13, 9
"""Columns of a check's name and of its verdict, the gap included."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--cluster", metavar="NAME|FILE.yaml", default="local",
                        help=f"cluster profile{PROFILES} (default: local)")
    parser.add_argument("--timeout", type=seconds_of, default=300.0, metavar="AGE", dest="timeout_s",
                        help="how long to wait for the job on a compute node: 90s, 30min, 2h (default: 5min)")
    parser.add_argument("--sandbox", action="store_true",
                        help="try to escape from the sandboxes of this machine instead")
    add_root(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check, and print each finding as it comes."""
    if arguments.sandbox:
        return _sandbox(arguments)
    from cluster.doctor.examine import Examination
    from cluster.doctor.finding import Verdict, worst
    from cluster.registry import load

    store = layout(arguments)
    examination = Examination(profile=load(arguments.cluster), layout=store, timeout_s=arguments.timeout_s, say=say)
    fresh = not store.root.exists()
    writable(store.root)
    try:
        findings: list[Finding] = []
        with _terminable():
            for finding in examination.findings():
                findings.append(finding)
                if not arguments.json:
                    out("\n".join(lines(finding)))
    finally:
        if fresh and not any(store.root.iterdir()):
            store.root.rmdir()
    verdict = worst([f.verdict for f in findings])
    if arguments.json:
        out_json({"cluster": arguments.cluster, "profile": examination.profile.place, "root": str(store.root),
                  "verdict": verdict, "findings": [asdict(f) for f in findings]})
    else:
        counts = {v: sum(f.verdict is v for f in findings) for v in Verdict}
        out("\n" + ", ".join(f"{count} {v}" for v, count in counts.items() if count)
            + f"  ({arguments.cluster}, {store.root})")
    return EnvironmentError_.exit_code if verdict is Verdict.FAILED else 0


def _sandbox(arguments: argparse.Namespace) -> int:
    """Try every escape case in every kind of sandbox; print a table."""
    from workloads.sandbox.confine import available
    from workloads.sandbox.escapes import CASES
    from workloads.sandbox.kinds import LADDER
    from workloads.sandbox.ladder import examined

    kernel = available()
    found = []
    with _terminable():
        for kind in LADDER:
            if not arguments.json:
                say(f"trying {len(CASES)} ways out of {kind.name}")
            found.append(examined(kind, CASES))
    holding = [one.kind for one in found if one.holds]
    if arguments.json:
        out_json({"landlock": kernel.landlock, "seccomp": kernel.seccomp, "holds": holding, "sandboxes": [
            {"kind": one.kind, "reason": one.reason, "holds": one.holds,
             "cases": [{"area": t.case.area, "case": t.case.name, "stopped": t.stopped, "seen": t.seen}
                       for t in one.tried]} for one in found]})
    else:
        out("\n".join(sandbox_lines(found)))
        out(f"kernel: Landlock {kernel.landlock or 'missing'}, seccomp {'used' if kernel.seccomp else 'missing'}")
    return 0 if holding else EnvironmentError_.exit_code


def sandbox_lines(found: Sequence[Examined]) -> Iterator[str]:
    """Yield a table of cases and kinds of sandboxes, and a line for each kind."""
    tried = [one for one in found if one.tried]
    if tried:
        yield f"{'area':<10}{'case':<40}" + "".join(f"{one.kind:<12}" for one in tried).rstrip()
    for row in zip(*(one.tried for one in tried), strict=True):
        yield f"{row[0].case.area:<10}{row[0].case.name:<40}" + "".join(
            f"{'stopped' if t.stopped else 'ESCAPED':<12}" for t in row).rstrip()
    yield ""
    for one in found:
        count = len(one.tried)
        yield (f"{one.kind:<12}not tried: {one.reason}" if one.reason else f"{one.kind:<12}stops all {count} cases"
               if one.holds else f"{one.kind:<12}does not stop {len(one.escaped)} of {count}: {', '.join(one.escaped)}")
    yield next((f"\nprograms that a model wrote are run in: {one.kind}" for one in found if one.holds),
               "\nNo sandbox holds here: what needs one is not evaluated. Installing bubblewrap often helps.")


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the verb as Ctrl-C does: its job is taken off the cluster first."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def lines(finding: Finding) -> Iterator[str]:
    """Yield a finding as lines of at most 80 columns: what was seen, what it means, what can be done."""
    from cluster.doctor.finding import Verdict

    good = finding.verdict is Verdict.OK
    yield from _wrapped(f"{finding.check:<{NAME}}{finding.verdict if good else finding.verdict.upper():<{VERDICT}}",
                        finding.seen)
    for label, text in (("means", finding.means), ("fix", finding.fix)):
        if text and not good:
            yield from _wrapped(f"{'':<{NAME}}{label:<{VERDICT}}", text)


def _wrapped(first: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * (NAME + VERDICT),
                         break_on_hyphens=False) or [first.rstrip()]
