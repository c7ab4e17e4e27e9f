"""What each stage of a plan is doing, from its records and from what a person asked for. Starts and stops nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from enum import StrEnum

from orchestrator.costs import seconds_guess
from orchestrator.packer import Packer, add_measurement, throughput, total_seconds
from orchestrator.plan import Planned, complete
from orchestrator.promotion import Promotions
from sweeps.errors import RecordError
from sweeps.language.gate import Verdict, verdict_of
from sweeps.language.graph import Node
from sweeps.language.presets import SCALES
from sweeps.store import records


class Status(StrEnum):
    """What a stage is doing."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    DIVERGED = "diverged"
    FAILED = "failed"
    SKIPPED = "skipped"
    """It needs a stage that failed or diverged."""
    WITHHELD = "withheld"
    """Its upstream was not learned, and the sweep requires that (`gate: require`); or its search goes on without it."""
    CANCELLED = "cancelled"
    """Every trial that needs it was cancelled."""


FRUITLESS = frozenset({Status.DIVERGED, Status.FAILED, Status.SKIPPED, Status.WITHHELD, Status.CANCELLED})
ENDED = FRUITLESS | {Status.DONE}
AGAIN = frozenset({Status.FAILED, Status.SKIPPED, Status.CANCELLED})
"""What `retry` runs again; a diverged stage is a result, and so is the verdict that withholds one."""


class Board:
    """The stages' statuses, and which trials still want them."""

    def __init__(self, planned: Planned) -> None:
        """Take in the results that the store has."""
        self.layout = planned.layout
        self.graph = planned.graph
        self.packer = Packer(self.graph, self.seconds)
        self.status = dict.fromkeys(self.graph.nodes, Status.WAITING)
        self.reasons: dict[str, str] = {}
        self._barred: dict[str, str] = {}
        """Stages that must not run any more, and why: they never wait again."""
        search = planned.file.search
        self.promotions = Promotions(search.brackets if search else (), search.eta if search else 1)
        self.waiting: set[str] = set(self.graph.nodes)
        self.done: set[str] = set()
        self.ended: set[str] = set()
        self.changed: deque[str] = deque()
        """Stages whose status changed and that nobody has taken notice of yet."""
        self.asked: deque[str] = deque()
        """Trials that were cancelled or asked for again, and that nobody has taken notice of yet."""
        self.cancelled: set[str] = set()
        self.cancelled_how: dict[str, str] = {}
        """Trial -> when and by whom its job was cancelled on the cluster."""
        self._paths = {trial: tuple(s.fingerprint for s in path) for trial, path in self.graph.paths.items()}
        self._users: dict[str, set[str]] = {}
        for trial, path in self._paths.items():
            for key in path:
                self._users.setdefault(key, set()).add(trial)
        speed = SCALES[planned.sweep.scale].guessed_flops_per_second
        self._guess = {kind: planned.execution(kind).ranks * speed for kind in planned.registries.stages}
        self._cores = planned.cores
        self._measured: dict[str, tuple[float, float]] = {}
        done = complete(self.layout, self.graph.nodes.values())
        banks = self.graph.banks_to_read(done)
        for key in done:
            self._check(key, thorough=key in banks)

    # -- estimates -----------------------------------------------------------------------------------------------

    def seconds(self, node: Node) -> float:
        """Estimated seconds of a stage on one slot, from this run's own measurements where there are any."""
        kind = node.spec.kind
        return seconds_guess(node, throughput(self._measured, kind, self._guess[kind]), self._cores)

    def seconds_left(self, slots: int) -> float:
        """Estimated seconds until everything is done."""
        left = [k for k, s in self.status.items()
                if s in (Status.WAITING, Status.RUNNING) and k not in self.promotions.held]
        return total_seconds(self.graph, left, self.seconds) / slots

    def counts(self) -> Mapping[Status, int]:
        """Return how many stages have each status."""
        found = dict.fromkeys(Status, 0)
        for status in self.status.values():
            found[status] += 1
        return found

    # -- stages --------------------------------------------------------------------------------------------------

    def set(self, key: str, status: Status, reason: str = "") -> None:
        """Give a stage a status; one that its gate or its search has barred is withheld instead of waiting."""
        if key in self._barred and (status is Status.WAITING or (
                status is Status.CANCELLED and key in self.promotions.lost)):
            status, reason = Status.WITHHELD, self._barred[key]
        self.status[key] = status
        if status in ENDED:
            self.ended.add(key)
        else:
            self.ended.discard(key)
        if status is Status.WAITING:
            self.waiting.add(key)
        else:
            self.waiting.discard(key)
        if reason:
            self.reasons[key] = reason
        self.changed.append(key)

    def settle(self, key: str) -> records.Result | None:
        """Note a stage's result; None where there is none."""
        node = self.graph.nodes[key]
        result = records.read_result(self.layout.stage(node.spec.kind, key))
        if result is None:
            return None
        if result.status == "diverged":
            self.set(key, Status.DIVERGED)
            self.skip_readers(key, f"{node.label} diverged")
        else:
            self.set(key, Status.DONE)
            self.done.add(key)
            self._heed(key, result)
        self._promote(key, result)
        add_measurement(self._measured, node, result)
        return result

    def _heed(self, key: str, result: records.Result) -> None:
        """Withhold what a gate does not let through; what runs already may end."""
        verdict = verdict_of(result.scores)
        if verdict is Verdict.LEARNED:
            return
        gated = [reader for reader in self.packer.readers(key) if self.graph.nodes[reader].gate == key]
        self._barred |= dict.fromkeys(gated, f"upstream {verdict or 'gate without a verdict'}, and gate: require")
        for reader in gated:
            if self.status[reader] is Status.WAITING:
                self.set(reader, Status.WAITING)

    def _promote(self, key: str, result: records.Result) -> None:
        """Withhold what a search excludes; what of it runs is for the reconciler to stop."""
        excluded = self.promotions.note(key, records.loss_of(result))
        self._barred |= excluded
        for stage in excluded:
            if self.status[stage] is Status.WAITING:
                self.set(stage, Status.WAITING)

    def skip_undecidable(self) -> None:
        """Give up what waits for a promotion that cannot come any more."""
        open_ = {key for key, status in self.status.items() if status in (Status.WAITING, Status.RUNNING)}
        for key in self.promotions.undecidable(open_) if self.promotions.held else ():
            if self.status[key] is Status.WAITING:
                self.set(key, Status.SKIPPED, "another candidate of its search has no result: nobody knows who goes on")

    def withheld(self, key: str) -> int:
        """Return how many stages a gate withholds."""
        return sum(self.status[r] is Status.WITHHELD and self.graph.nodes[r].gate == key
                   for r in self.packer.readers(key))

    def _check(self, key: str, *, thorough: bool = False) -> None:
        """Settle a stage that an earlier run left; one that was changed since then is not believed."""
        node = self.graph.nodes[key]
        try:
            wrong = records.damage_of_result(self.layout.stage(node.spec.kind, key), thorough=thorough)
        except RecordError as error:
            wrong = str(error)
        if not wrong:
            self.settle(key)
            return
        self.fail(key, f"changed after it was complete: {wrong}; see `orchestrator why {key[:12]}`, remove the folder "
                       f"{self.layout.stage(node.spec.kind, key).path} to run it again")

    def fail(self, key: str, reason: str) -> None:
        """Give a stage up, and what needs it."""
        self.set(key, Status.FAILED, reason)
        self.skip_readers(key, f"{self.graph.nodes[key].label} failed")

    def skip_readers(self, key: str, reason: str) -> None:
        """Give up what needs a stage that will have no result."""
        for reader in self.packer.readers(key):
            node = self.graph.nodes[reader]
            needed = (node.gate, *(i.fingerprint for i in node.spec.inputs))
            if self.status[reader] is Status.WAITING and key in needed:
                self.set(reader, Status.SKIPPED, reason)
                self.skip_readers(reader, reason)

    # -- wishes --------------------------------------------------------------------------------------------------

    def wanted(self, key: str) -> bool:
        """True while a trial that was not cancelled, and that its search has not excluded, needs the stage."""
        return key not in self.promotions.lost and not self._users[key] <= self.cancelled

    def users(self, keys: Iterable[str]) -> list[str]:
        """Return the trials that need one of the stages, in the plan's order."""
        needing = set().union(*(self._users[key] for key in keys))
        return [trial for trial in self._paths if trial in needing]

    def cancel(self, trials: Iterable[str], how: Mapping[str, str] | None = None) -> None:
        """Run these trials no further. Stages that run are for the reconciler to stop.

        Args:
            trials: their ids; those that the plan does not have are passed over.
            how: trial -> when and by whom, of those that somebody cancelled on the cluster.
        """
        for trial in self._known(trials):
            self.cancelled.add(trial)
            if how and trial in how:
                self.cancelled_how[trial] = how[trial]
            self.asked.append(trial)
            for key in self._paths[trial]:
                if self.status[key] is Status.WAITING and not self.wanted(key):
                    self.set(key, Status.CANCELLED)

    def retry(self, trials: Iterable[str]) -> list[str]:
        """Let these trials run again; return the stages that wait again."""
        again: list[str] = []
        for trial in self._known(trials):
            self.cancelled.discard(trial)
            self.cancelled_how.pop(trial, None)
            self.asked.append(trial)
            for key in self._paths[trial]:
                if self.status[key] in AGAIN:
                    self.set(key, Status.WAITING)
                    again += [key] * (self.status[key] is Status.WAITING)
            for key in self._paths[trial]:
                if self.status[key] is Status.DIVERGED:
                    self.skip_readers(key, f"{self.graph.nodes[key].label} diverged")
        for key in complete(self.layout, (self.graph.nodes[key] for key in again)):
            self._check(key)  # what was changed after it was complete is still not believed
        return again

    def _known(self, trials: Iterable[str]) -> list[str]:
        return [t for t in trials if t in self._paths]
