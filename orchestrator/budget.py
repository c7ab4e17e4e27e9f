"""The cap on a sweep's GPU-hours, enforced: a ticket is admitted while what was used, what runs and it fit under it.

What was used is read from the records (`orchestrator.meter`) all the while, so a new controller knows the same. What
runs and what is to come are estimates and may be wrong, so the cap is held twice: nothing is admitted that would pass
it, and at `at_cap: stop` running jobs leave once the metered use has reached it. Then the sweep pauses; it goes on when
it is run with a larger cap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate

from cluster.profiles import SlurmProfile
from orchestrator.board import Board, Status
from orchestrator.clusters import cluster
from orchestrator.meter import gpu_seconds, spent, store_time
from orchestrator.plan import Planned
from sweeps.errors import BudgetError
from sweeps.store.ledger import Ledger, State

METER_S = 1.0
"""Records are read again after so long, or when a job began or ended."""
LEAST_SHARE = 0.1
"""Of its estimate that a stage is taken to need at least, whatever it has used: estimates may be too small."""


@dataclass(frozen=True, kw_only=True)
class Cap:
    """What a sweep may use."""

    gpu_hours: float
    source: str
    """Who says so, for people: `--max-gpu-hours`, `run.max_gpu_hours, FILE:LINE`, or the cluster profile's key."""
    at_cap: str
    """`drain` or `stop`."""
    raise_it: str
    """How a person raises it: begins a sentence, a number of GPU-hours follows."""


def cap_of(planned: Planned) -> Cap | None:
    """Return the smallest cap that holds; None: there is none.

    Raises:
        UsageError: the cluster profile is none.
    """
    run = planned.sweep.run
    found: list[tuple[float, str, str]] = []
    if run.max_gpu_hours is not None:
        where = planned.source.where("run", "max_gpu_hours")
        source = "--max-gpu-hours" if where.startswith("--") else f"run.max_gpu_hours, {where}"
        found.append((run.max_gpu_hours, source, "run the same command with --max-gpu-hours"))
    profile = cluster(run)
    if isinstance(profile.options, SlurmProfile) and profile.options.limits.gpu_hours is not None:
        found.append((profile.options.limits.gpu_hours, f"limits.gpu_hours of cluster profile {run.cluster}",
                      f"run the same command once limits.gpu_hours in {profile.place} is at least"))
    if not found:
        return None
    gpu_hours, source, raise_it = min(found)
    return Cap(gpu_hours=gpu_hours, source=source, at_cap=run.at_cap, raise_it=raise_it)


def rest(estimate: float, used: float) -> float:
    """Return what a stage will still need: it goes on from its last checkpoint."""
    return max(estimate - used, LEAST_SHARE * estimate)


class Budget:
    """Holds a sweep under its cap; without one it admits everything, and reads nothing."""

    def __init__(self, planned: Planned, board: Board, ledger: Ledger, state: State,
                 notify: Callable[[str], None]) -> None:
        """`state` is what older terms left: what they used counts. The cap is recorded, for `status`."""
        self.cap = cap_of(planned)
        recorded = asdict(self.cap) if self.cap else None
        if recorded != state.cap:
            ledger.append("cap", cap=recorded)
        self.clock = partial(store_time, planned.layout.sweep(planned.sweep.name).path)
        self._planned = planned
        self._board = board
        self._notify = notify
        self._spent: dict[str, float] = {}
        """Stage -> GPU-seconds."""
        if self.cap:
            self._spent = spent(planned.layout, planned.sweep.name, state)
        self._running: Mapping[str, str] = {}
        self._open: set[str] = set()
        """Stages that may use something: read again at the next pass."""
        self._read_at = -math.inf
        self._said = False

    @property
    def used(self) -> float:
        """GPU-hours until the last `check`."""
        return sum(self._spent.values()) / 3600

    def check(self, running: Mapping[str, str]) -> None:
        """Meter what was used until now.

        Args:
            running: stage -> the submission whose job is to run it.

        Raises:
            BudgetError: the cap is reached, and what runs is to stop.
        """
        if self.cap is None:
            return
        now = self.clock()
        if running == self._running and 0 <= now - self._read_at < METER_S:
            return
        self._read_at = now
        for key in self._open | running.keys():
            stage = self._planned.layout.stage(self._board.graph.nodes[key].spec.kind, key)
            self._spent[key] = gpu_seconds(stage, self._planned.sweep.name, submission=running.get(key, ""), now=now)
        self._running, self._open = running, set(running)
        if running and self.cap.at_cap == "stop" and self.used >= self.cap.gpu_hours:
            raise BudgetError(self._why(self.cap))

    def admit(self, tickets: Sequence[list[str]]) -> list[list[str]]:
        """Return the tickets that fit under the cap, in their order, the last one perhaps without its last stages.

        Raises:
            BudgetError: none fits, and nothing runs that could leave something over.
        """
        if self.cap is None or not tickets:
            return list(tickets)
        left = self.cap.gpu_hours - self.used - self._needed(self._running)
        stages = [key for ticket in tickets for key in ticket]
        fit = {key for key, sum_ in zip(stages, accumulate(map(self._rest, stages)), strict=True) if sum_ <= left}
        if not fit and not self._running:
            raise BudgetError(self._why(self.cap))
        if len(fit) < len(stages) and not self._said:
            self._said = True
            self._notify(f"{self.used:.3g} of {self.cap.gpu_hours:g} GPU-hours used ({self.cap.source}); what runs is "
                         "estimated to take the rest")
        self._open |= fit
        return [part for part in ([key for key in ticket if key in fit] for ticket in tickets) if part]

    def _rest(self, key: str) -> float:
        """Return the GPU-hours that a stage still needs, estimated."""
        node = self._board.graph.nodes[key]
        estimate = self._planned.execution(node.spec.kind).ranks * self._board.seconds(node)
        return rest(estimate, self._spent.get(key, 0.0)) / 3600

    def _needed(self, keys: Iterable[str]) -> float:
        return sum(map(self._rest, keys))

    def _why(self, cap: Cap) -> str:
        """Return why the sweep pauses, what is left undone, and how it goes on."""
        undone = {k for k, status in self._board.status.items() if status in (Status.WAITING, Status.RUNNING)}
        paths = {t: path for t, path in self._board.graph.paths.items() if t not in self._board.cancelled}
        trials = sum(any(step.fingerprint in undone for step in path) for path in paths.values())
        needed = self._needed(undone)
        rest_of_it = "" if self.used >= cap.gpu_hours else ", and what is next needs more than the rest"
        return (f"{self.used:.3g} of {cap.gpu_hours:g} GPU-hours used ({cap.source}){rest_of_it}; {trials} of "
                f"{len(paths)} trials are not complete and need about {needed:.3g} more. Nothing is lost: to go on, "
                f"{cap.raise_it} {round_up(self.used + needed):g}")


def round_up(hours: float) -> float:
    """Return the next number with two digits: 0.0341 -> 0.035."""
    step = 10.0 ** (math.floor(math.log10(hours)) - 1)
    return float(f"{math.ceil(hours / step) * step:.2g}")
