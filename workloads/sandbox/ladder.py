"""Opens the first kind of sandbox that holds on this machine.

A kind that starts is not believed: the quick escape cases are tried in it first (about half a second). Where no kind
holds, nothing is run: what needs a sandbox is `not evaluated`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.errors import EnvironmentError_
from workloads.sandbox.box import Box, BrokenSandbox
from workloads.sandbox.confine import Limits
from workloads.sandbox.escapes import QUICK
from workloads.sandbox.escapes.case import Case
from workloads.sandbox.examine import Tried, escapes_of
from workloads.sandbox.kinds import LADDER, UNSAFE, Kind


class NoSandbox(EnvironmentError_):  # noqa: N818 - what there is
    """No kind of sandbox holds on this machine."""


def open_box(limits: Limits | None = None, *, workers: int = 0, unsafe: bool = False, ladder: Sequence[Kind] = LADDER
             ) -> Box:
    """Return a box of the first kind that holds, to be entered with `with`; `Box.kind.name` is to be recorded.

    Args:
        limits: Of each program.
        workers: Programs at once; 0: one for each processor.
        unsafe: A person has typed --unsafe-exec: where none holds, without namespaces, and without a trial.
        ladder: Kinds to try, best first.

    Raises:
        NoSandbox: none holds; the message has the reason for each.
    """
    limits = limits or Limits()
    reasons = []
    for kind in ladder:
        if not (reason := fault(kind)):
            return Box(kind=kind, limits=limits, workers=workers)
        reasons.append(f"{kind.name}: {reason}")
    if unsafe:
        return Box(kind=UNSAFE, limits=limits, workers=workers)
    raise NoSandbox("programs that a model wrote are run in a sandbox only, and none holds here: " + "; ".join(reasons)
                    + ". See `orchestrator doctor --sandbox`; installing bubblewrap often helps")


def fault(kind: Kind) -> str:
    """Return why a kind cannot be used here; empty where it holds."""
    found = examined(kind, QUICK)
    return found.reason or ("it does not stop: " + ", ".join(found.escaped) if found.escaped else "")


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What was found out about a kind of sandbox on this machine."""

    kind: str
    reason: str = ""
    """Why it could not be tried; empty where it was."""
    tried: tuple[Tried, ...] = ()

    @property
    def escaped(self) -> tuple[str, ...]:
        """Names of the cases that it does not stop."""
        return tuple(tried.case.name for tried in self.tried if not tried.stopped)

    @property
    def holds(self) -> bool:
        """Whether it stops every case."""
        return bool(self.tried) and not self.escaped


def examined(kind: Kind, cases: Sequence[Case]) -> Examined:
    """Try the cases in a kind of sandbox."""
    if reason := kind.missing():
        return Examined(kind=kind.name, reason=reason)
    try:
        return Examined(kind=kind.name, tried=tuple(escapes_of(kind, cases)))
    except BrokenSandbox as error:
        return Examined(kind=kind.name, reason=str(error))
