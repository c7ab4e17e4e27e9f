"""A store, a cluster and the controllers of two sweeps, moved by hand: what the state machine acts on, and its checks.

Everything but time, processes and the disk's durability is the real thing: reconciler, ledger, claims, requests,
records. Jobs go phase by phase; controllers die at any change of a file; zombies go on writing.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cluster.executors.memory import Phase
from orchestrator.board import Status
from orchestrator.plan import Planned
from orchestrator.progress import Progress
from orchestrator.reconciler import Notice, Reconciler
from sweeps.errors import EnvironmentError_, OwnedError
from sweeps.language.graph import Graph, Node
from sweeps.language.manifest import PathStep, PlanFile, PlanTrial
from sweeps.language.stage import Input, StageSpec
from sweeps.store import requests
from sweeps.store.layout import Layout, StageFolder
from sweeps.store.ledger import Event, Ledger, State, begin_term, fold, read_events
from sweeps.store.owner import Owner
from sweeps.store.records import damage_of_result, read_result, stage_rows
from tests.orchestrator.machine_cluster import Cluster, Killed
from tests.orchestrator.plans import planned
from tests.workloads.tickets import anything

CHANGES = ("write", "fsync", "link", "unlink", "mkdir", "rename", "replace", "ftruncate")
"""Functions of `os` at which a controller may die."""
ROUNDS = 300
"""Passes in which healthy jobs and controllers must come to the end of everything."""


# -- what is run ---------------------------------------------------------------------------------------------------


def _stage(kind: str, *inputs: tuple[str, StageSpec], seed: int = 0, **segment: Any) -> StageSpec:
    whole = {"decay_from": None, "horizon_tokens": None, **segment}
    return StageSpec(
        kind=kind, revisions={}, inputs=tuple(Input(role=r, kind=s.kind, fingerprint=s.fingerprint) for r, s in inputs),
        sections={"segment": anything(**whole), "validation": anything(every_tokens=5_000),
                  "seed": anything(seed=seed)},
    )


CORPUS = _stage("corpus")
_AFTER: dict[str, StageSpec] = {}
"""Point of a trunk -> the one before it."""


def _trials(seed: int) -> dict[str, tuple[StageSpec, ...]]:
    """A trunk with two points and an end at each, a transfer, and an evaluation: nine stages."""
    corpus = "corpus", CORPUS
    upstream = _stage("prepretrain", seed=seed, end_tokens=9_000)
    first = _stage("pretrain", corpus, seed=seed, end_tokens=20_000)
    second = _stage("pretrain", corpus, seed=seed, end_tokens=40_000)
    first_end = _stage("pretrain", corpus, ("trunk", first), seed=seed, end_tokens=25_000, decay_from=20_000)
    second_end = _stage("pretrain", corpus, ("trunk", second), seed=seed, end_tokens=45_000, decay_from=40_000)
    transfer = _stage("pretrain", corpus, ("body", upstream), seed=seed, end_tokens=20_000)
    judged = _stage("evaluate", ("model", first_end), seed=seed)
    _AFTER[second.fingerprint] = first
    return {
        f"early-{seed}": (CORPUS, first, first_end), f"late-{seed}": (CORPUS, first, second, second_end),
        f"transfer-{seed}": (CORPUS, upstream, transfer), f"judged-{seed}": (CORPUS, first, first_end, judged),
    }


TRIALS = _trials(0) | _trials(1)
SWEEPS = {"one": ("early-0", "late-0", "transfer-0", "late-1"), "two": ("transfer-0", "late-0", "judged-0", "early-1")}
"""Thirteen stages, seven of them shared."""
PACKS = {"one": "1s", "two": "10s"}


@cache
def plan_of(name: str) -> Planned:
    """Return the plan of one of the two sweeps, in no store yet."""
    run = {"cluster": "memory", "pack": PACKS[name], "policy": {"breaker": None}}  # else three failures end it
    base = planned(Path("/nowhere"), name=name, run=run)
    nodes: dict[str, Node] = {}
    paths: dict[str, tuple[PathStep, ...]] = {}
    for position, trial in enumerate(SWEEPS[name]):
        for spec in TRIALS[trial]:
            tokens = spec.sections["segment"].values.get("end_tokens", 0)
            node = nodes.setdefault(spec.fingerprint, Node(
                spec=spec, label=f"{spec.kind} {tokens}", end_tokens=tokens, priority=position,
                flops_per_token=1.0))
            if earlier := _AFTER.get(spec.fingerprint):
                node.after = Input(role="", kind=earlier.kind, fingerprint=earlier.fingerprint)
        paths[trial] = tuple(PathStep(role="", kind=s.kind, fingerprint=s.fingerprint) for s in TRIALS[trial])
    trials = tuple(PlanTrial(id=t, arm=t, cell=t, upstream="none", domain="web", seed=0, pretrain_tokens=0, path=p)
                   for t, p in paths.items())
    file = PlanFile(name=name, question="", protocol="fair", scale="tiny", trials=trials, stages=())
    return replace(base, graph=Graph(nodes=nodes, paths=paths), file=file)


def expected_rows(segment: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Return the rows of a run that nothing disturbed: along the trunk, then the annealed end."""
    end, decay = segment["end_tokens"], segment["decay_from"]
    trunk = [(tokens, "validation") for tokens in range(5_000, (decay or end) + 1, 5_000)]
    return [*trunk, (end, "end")] if decay else trunk


# -- what goes wrong -----------------------------------------------------------------------------------------------


@contextmanager
def disturbed(at: int, strike: Callable[[], None], *, torn: bool = False) -> Iterator[None]:
    """Call `strike` in front of the `at`-th change of a file (0: never); if it kills, nothing changes any more.

    Args:
        at: counted from 1.
        strike: what happens.
        torn: of a line that is being written then, the first half comes to the disk.
    """
    count, dead = 0, False

    def watched(original: Callable[..., Any], call: str) -> Callable[..., Any]:
        def changed(*arguments: Any, **options: Any) -> Any:
            nonlocal count, dead
            count += 1
            if count == at:
                dead = True
                if torn and call == "write":
                    original(arguments[0], arguments[1][: len(arguments[1]) // 2])
                strike()
                dead = False
            if dead and count > at:
                raise Killed
            return original(*arguments, **options)

        return changed

    with pytest.MonkeyPatch.context() as patch:
        for call in CHANGES if at else ():
            patch.setattr(os, call, watched(getattr(os, call), call))
        yield


def die() -> None:
    """Kill whoever changes the file."""
    raise Killed


@dataclass(kw_only=True, eq=False)
class Controller:
    """One reign over a sweep."""

    serial: int
    plan: Planned
    ledger: Ledger
    reconciler: Reconciler
    progress: Progress


# -- the whole -----------------------------------------------------------------------------------------------------


class World:
    """Everything, and what must be true of it at any time."""

    def __init__(self, root: Path) -> None:
        """Plan both sweeps; nothing runs yet."""
        self.patch = pytest.MonkeyPatch()
        # Durability cannot be seen by a process that lives on; without it an example takes a tenth of the time.
        self.patch.setattr(os, "fsync", lambda descriptor: None)
        self.patch.setattr(Owner, "me", self._me)
        self.patch.setattr(Owner, "alive", lambda owner: owner.start in self.living)
        self.serial = 0
        self.living: set[int] = set()
        """Serial numbers of the controllers whose process is alive."""
        self.layout = Layout(root.resolve())
        self.plans = {name: replace(plan_of(name), layout=self.layout) for name in SWEEPS}
        self.cluster = Cluster(self.layout)
        self.newest: dict[str, Controller] = {}
        self.fenced: list[Controller] = []
        self.said: list[str] = []
        """What the controllers told a person."""
        self.nodes = {k: n for plan in self.plans.values() for k, n in plan.graph.nodes.items()}
        self.results: dict[str, bytes] = {}
        self.events: dict[str, list[Event]] = {name: [] for name in SWEEPS}
        self.folded: dict[str, list[State]] = {name: [fold([])] for name in SWEEPS}
        self.counts = self.cluster.counts

    def _me(self) -> Owner:
        return Owner(host="here", boot="now", pid=1, start=self.serial)

    def _hear(self, notice: Notice) -> None:
        self.said.append(f"{notice.kind} {notice.stage[:6]} {notice.text}")

    def close(self) -> None:
        """Give back what this process lent."""
        for controller in [*self.newest.values(), *self.fenced]:
            os.close(controller.ledger._descriptor)
        for process in {t.process for t in self.cluster.tries}:
            process.kill()
        self.patch.undo()

    def stage(self, key: str) -> StageFolder:
        """Return a stage's folder."""
        return self.layout.stage(self.nodes[key].spec.kind, key)

    # -- controllers ---------------------------------------------------------------------------------------------

    def begin(self, name: str, at: int = 0, *, takeover: bool = False) -> None:
        """Begin a reign, the way `orchestrator sweep` does; with `at`, die there."""
        self.serial += 1
        serial, plan, ledger = self.serial, self.plans[name], None
        self.living.add(serial)
        try:
            with disturbed(at, die):
                ledger, state = begin_term(plan.layout.sweep(name), takeover=takeover)
                reconciler = Reconciler(plan, self.cluster, ledger, state, self._hear)
        except Killed:
            self.counts["controllers killed while they began"] += 1
            self.living.discard(serial)
            if ledger is not None:
                os.close(ledger._descriptor)
            return
        if name in self.newest:
            self.fenced.append(self.newest.pop(name))
        self.newest[name] = Controller(serial=serial, plan=plan, ledger=ledger, reconciler=reconciler,
                                       progress=Progress(plan.file.trials, reconciler.board))
        self._check_board(self.newest[name])
        if self.newest[name].progress.all_ended:
            self.leave(name)

    def step(self, name: str, at: int = 0, strike: Callable[[], None] = die, *, torn: bool = False) -> None:
        """Let a sweep's controller make a pass; one begins where there is none. With `at`, something happens there."""
        if name not in self.newest:
            self.begin(name)
            return
        controller, answer = self.newest[name], self.cluster.answer
        try:
            with disturbed(at, strike, torn=torn):
                controller.reconciler.step()
        except Killed:
            self.counts["controllers killed inside a step"] += 1
            self.kill_controller(controller)
            return
        except EnvironmentError_:
            assert answer == "refused", "a lost answer is looked up by name"
            self.counts["submissions refused"] += 1
            self.leave(name)
            return
        finally:
            self.cluster.answer, self.cluster.fencing = "", False
        controller.progress.reopen()
        controller.progress.update()
        if self.newest.get(name) is controller:
            self._check_board(controller)
            if controller.progress.all_ended:
                self.leave(name)

    def leave(self, name: str) -> None:
        """Let a controller end in order."""
        controller = self.newest.pop(name)
        controller.ledger.close()
        self.living.discard(controller.serial)

    def kill_controller(self, controller: Controller) -> None:
        """Let a controller vanish."""
        os.close(controller.ledger._descriptor)
        self.living.discard(controller.serial)
        self.newest = {k: v for k, v in self.newest.items() if v is not controller}
        self.fenced = [c for c in self.fenced if c is not controller]

    def fence(self, name: str) -> None:
        """Begin a newer reign, inside a pass of the older one."""
        self.cluster.fencing = True
        self.counts["takeovers inside a step"] += 1
        self.begin(name, takeover=True)

    def step_fenced(self, controller: Controller) -> None:
        """A controller that was taken over does nothing more, and what it still writes counts for nothing."""
        folder = controller.plan.layout.sweep(controller.plan.sweep.name)
        before, accepted = list(read_events(folder)), len(self.cluster.accepted)
        with pytest.raises(OwnedError):
            controller.reconciler.step()
        controller.ledger.append("intent", name="late", tickets=[])
        controller.ledger.close()
        self.living.discard(controller.serial)
        self.fenced.remove(controller)
        assert list(read_events(folder)) == before and len(self.cluster.accepted) == accepted

    # -- what must be true ---------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check the store and the ledgers."""
        for key in self.nodes:
            self._check_result(key)
        for name in SWEEPS:
            self._check_ledger(name)

    def _check_result(self, key: str) -> None:
        stage = self.stage(key)
        committed = [t for t in self.cluster.tries if t.stage == stage and t.fate is Phase.COMMITTED]
        if not stage.result.exists():
            assert key not in self.results, f"{stage.path} was finished and is not any more"
            assert not committed
            return
        text = stage.result.read_bytes()
        assert self.results.setdefault(key, text) == text, f"{stage.result} was changed"
        result = read_result(stage)
        assert result is not None and [t.number for t in committed] == [result.attempt], "committed more than once"
        assert damage_of_result(stage) == ""

    def _check_ledger(self, name: str) -> None:
        """The fold is a function of the events, and what was once read is a prefix of what is read later."""
        events, seen, states = list(read_events(self.layout.sweep(name))), self.events[name], self.folded[name]
        assert events[: len(seen)] == seen, "events were lost, or others came before them"
        assert fold(events[: len(seen)]) == states[-1]
        for length in range(len(seen) + 1, len(events) + 1):
            states.append(fold(events[:length]))
            assert states[-1] == fold(iter(events[:length]))
        self.events[name] = events

    def _check_board(self, controller: Controller) -> None:
        """A controller believes what the store and its ledger say."""
        board, folder = controller.reconciler.board, self.layout.sweep(controller.plan.sweep.name)
        cancelled = fold(read_events(folder)).cancelled
        assert board.cancelled == cancelled & set(controller.plan.graph.paths), "the board forgot what was asked"
        for key, status in board.status.items():
            if status in (Status.DONE, Status.DIVERGED):
                assert key in self.results or self.stage(key).result.exists()

    def unwanted(self, name: str) -> set[str]:
        """Return the trials of a sweep that were cancelled, or are about to be."""
        found = set(self.folded[name][-1].cancelled)
        for request in requests.pending(self.layout.sweep(name)):
            (found.update if request.wish is requests.Wish.CANCEL else found.difference_update)(request.trials)
        return found

    def state(self) -> tuple[object, ...]:
        """Return what distinguishes one situation from another."""
        boards = tuple(tuple(self.newest[n].reconciler.board.status.values()) if n in self.newest else ()
                       for n in SWEEPS)
        lines = tuple(min(len(self.events[n]) // 8, 8) for n in SWEEPS)
        jobs = tuple(sorted((self.cluster.process(h).attempt is not None) for h in self.cluster.running()))
        tries = tuple(Counter(t.stage.fingerprint for t in self.cluster.tries)[k] for k in self.nodes)
        return boards, lines, jobs, tries, frozenset(self.results), len(self.cluster.zombies), len(self.fenced)

    # -- the end -------------------------------------------------------------------------------------------------

    def end_well(self) -> None:
        """Let nothing go wrong any more: everything that can have a result gets it, and every attempt is explained."""
        self.cluster.outcome, self.cluster.silent, self.cluster.deaf = "", False, False
        self.cluster.obey()
        for controller in list(self.fenced):
            self.step_fenced(controller)
        for name in SWEEPS:
            if name not in self.newest:
                self.begin(name)
        self._drive()
        for _ in range(2):  # in the first of them, what failed in an adopted job comes to light
            for name in SWEEPS:
                requests.ask(self.layout.sweep(name), requests.Wish.RETRY, SWEEPS[name])
                self.begin(name)
            self._drive()
        while self.cluster.zombies:
            self.cluster.haunt(self.cluster.zombies[0])
        self.check()
        for key in self.nodes:
            self._check_end(key)

    def _drive(self) -> None:
        for _ in range(ROUNDS):
            for name in list(self.newest):
                self.step(name)
            for handle in self.cluster.running():
                self.cluster.go(handle)
            if not self.newest and not self.cluster.running():
                return
        waiting = {n: c.reconciler.board.counts() for n, c in self.newest.items()}
        raise AssertionError(f"not at the end after {ROUNDS} passes: {waiting}")

    def _check_end(self, key: str) -> None:
        stage, spec = self.stage(key), self.nodes[key].spec
        tries = [t for t in self.cluster.tries if t.stage == stage]
        assert {str(t.number) for t in tries} == (
            {p.name for p in stage.attempts.iterdir()} if stage.attempts.exists() else set())
        inputs = (read_result(self.layout.stage(i.kind, i.fingerprint)) for i in spec.inputs)
        if any(r is None or r.status != "done" for r in inputs):  # one of them diverged, or has such an input itself
            assert key not in self.results
            return
        assert key in self.results, "\n".join([f"{spec.kind} {key[:6]} has no result", *self.said])
        for one in tries:
            assert one.fate in (Phase.COMMITTED, Phase.FAILED) or one.process in self.cluster.faults or any(
                t.fate is Phase.COMMITTED and t.process in self.cluster.faults for t in tries
            ), f"attempt {one.number} of {spec.kind} ended as {one.fate} for no reason"
        if spec.kind == "pretrain":
            rows = [(r.tokens, r.kind) for r in stage_rows(self.layout, stage)]
            assert rows == expected_rows(spec.sections["segment"].values)
