"""Two sweeps on one root under every order of faults that a state machine can think of."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from cluster.executors.memory import DIVERGED, KILLED, Phase
from cluster.job import JobHandle
from sweeps.errors import OwnedError
from sweeps.store import requests
from sweeps.store.ledger import begin_term
from tests.orchestrator.machine import SWEEPS, TRIALS, World, die

SWEEP = st.sampled_from(sorted(SWEEPS))
WHICH = st.integers(0, 5)
"""Of the jobs, zombies or controllers that there are, this one (modulo their number)."""
MOMENT = st.integers(1, 60)
"""The change of a file at which something happens inside a step; steps have 2 to 60."""
MEMORY = Path("/dev/shm")
"""Where there is a filesystem in memory, an example takes half the time."""
CANCELLED = 2
"""Trials of a sweep that are cancelled at a time, at most: with more there is little left to see."""


class Machine(RuleBasedStateMachine):
    """What can happen; after each, everything is checked."""

    states: ClassVar[set[int]] = set()
    counts: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        """Begin with an empty store."""
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="state-machine-", dir=MEMORY if MEMORY.is_dir() else None))
        self.world = World(self.root)
        self.cluster = self.world.cluster

    def teardown(self) -> None:
        """Let everything come to its end."""
        try:
            self.world.end_well()
            self.counts.update(self.cluster.counts)
            self.counts["examples"] += 1
            self.counts["submissions"] += self.cluster.submissions
        finally:
            self.world.close()
            shutil.rmtree(self.root)

    def _job(self, which: int) -> JobHandle:
        running = self.cluster.running()
        return running[which % len(running)]

    def _controlled(self, which: int) -> str:
        names = sorted(self.world.newest)
        return names[which % len(names)]

    def _until(self, job: JobHandle, *ends: Phase) -> None:
        while self.cluster.go(job) not in (None, *ends):
            pass

    # -- controllers ---------------------------------------------------------------------------------------------

    @rule(sweep=SWEEP)
    def submit(self, sweep: str) -> None:
        """A pass of a controller."""
        self.world.step(sweep)

    @rule(which=WHICH)
    def go_on(self, which: int) -> None:
        """For a moment nothing goes wrong: both controllers make a pass, and a job gets on."""
        for sweep in SWEEPS:
            self.world.step(sweep)
        if self.cluster.running():
            self._until(self._job(which), Phase.COMMITTED, Phase.REFUSED)

    @rule(sweep=SWEEP, answer=st.sampled_from(["lost", "lost", "refused", "killed before", "killed after"]))
    def lost_acknowledgement(self, sweep: str, answer: str) -> None:
        """A pass in which the answer to a submission does not come, nor, perhaps, the submission."""
        self.cluster.answer = answer
        self.world.step(sweep)

    @precondition(lambda self: self.cluster.running())
    @rule(silent=st.booleans())
    def silence(self, silent: bool) -> None:
        """Nothing is known about the jobs from now on, or everything again."""
        self.cluster.silent = silent

    @rule(sweep=SWEEP, moment=MOMENT, torn=st.booleans())
    def kill_controller_inside_a_step(self, sweep: str, moment: int, torn: bool) -> None:
        """A controller dies at a change of a file."""
        self.world.step(sweep, moment, die, torn=torn)

    @precondition(lambda self: self.world.newest)
    @rule(which=WHICH, moment=st.integers(0, 12))
    def kill_controller(self, which: int, moment: int) -> None:
        """A controller dies between two steps; its successor perhaps while it begins."""
        sweep = self._controlled(which)
        self.world.counts["controllers killed between steps"] += 1
        self.world.kill_controller(self.world.newest[sweep])
        self.world.begin(sweep, moment)

    @precondition(lambda self: self.world.newest)
    @rule(which=WHICH, deaf=st.booleans())
    def interrupt(self, which: int, deaf: bool) -> None:
        """Ctrl-C: the jobs are asked to leave, and the controller goes."""
        sweep = self._controlled(which)
        self.world.counts["interruptions"] += 1
        self.cluster.deaf = deaf
        self.world.newest[sweep].reconciler.stop(0.0, threading.Event())
        self.world.leave(sweep)

    @precondition(lambda self: self.world.newest)
    @rule(which=WHICH)
    def takeover(self, which: int) -> None:
        """A second controller begins while the first is alive; without --takeover it is refused."""
        sweep = self._controlled(which)
        with pytest.raises(OwnedError):
            begin_term(self.world.layout.sweep(sweep))
        self.world.counts["takeovers between steps"] += 1
        self.world.begin(sweep, takeover=True)

    @rule(sweep=SWEEP, moment=MOMENT)
    def takeover_inside_a_step(self, sweep: str, moment: int) -> None:
        """A second controller begins at a moment at which the first does not look."""
        self.world.step(sweep, moment, lambda: self.world.fence(sweep))

    @precondition(lambda self: self.world.fenced)
    @rule(which=WHICH)
    def step_of_a_fenced_controller(self, which: int) -> None:
        """It sees that it was taken over."""
        self.world.counts["steps of fenced controllers"] += 1
        self.world.step_fenced(self.world.fenced[which % len(self.world.fenced)])

    # -- wishes --------------------------------------------------------------------------------------------------

    @precondition(lambda self: any(len(self.world.unwanted(sweep)) < CANCELLED for sweep in SWEEPS))
    @rule(sweep=SWEEP, which=WHICH, deaf=st.booleans())
    def cancel(self, sweep: str, which: int, deaf: bool) -> None:
        """A person wants a trial no longer; its jobs may take their time to leave."""
        self.cluster.deaf = deaf
        wanted = [trial for trial in SWEEPS[sweep] if trial not in self.world.unwanted(sweep)]
        if len(wanted) > len(SWEEPS[sweep]) - CANCELLED:
            self._ask(requests.Wish.CANCEL, sweep, wanted[which % len(wanted)])

    @precondition(lambda self: self.cluster.counts["wishes to cancel"] or self.cluster.counts["jobs failed"])
    @rule(sweep=SWEEP)
    def retry(self, sweep: str) -> None:
        """A person wants every trial after all."""
        self._ask(requests.Wish.RETRY, sweep, *SWEEPS[sweep])

    def _ask(self, wish: requests.Wish, sweep: str, *trials: str) -> None:
        self.world.counts[f"wishes to {wish}"] += 1
        requests.ask(self.world.layout.sweep(sweep), wish, trials)

    @precondition(lambda self: self.cluster.asked)
    @rule()
    def obey(self) -> None:
        """The jobs that were asked to leave do so."""
        self.cluster.obey()

    # -- jobs ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.cluster.running())
    @rule(which=WHICH)
    def start(self, which: int) -> None:
        """A job makes its next attempt's folder, or has nothing left to do."""
        self._until(self._job(which), Phase.STARTED)

    @precondition(lambda self: self.cluster.running())
    @rule(which=WHICH)
    def write(self, which: int) -> None:
        """A job goes one phase further."""
        self.cluster.go(self._job(which))

    @precondition(lambda self: self.cluster.running())
    @rule(which=WHICH)
    def finish(self, which: int) -> None:
        """A job commits its stage, or has nothing left to do."""
        self._until(self._job(which), Phase.COMMITTED, Phase.REFUSED)

    @precondition(lambda self: self.cluster.running())
    @rule(which=WHICH, outcome=st.sampled_from([KILLED, "ValueError", "ValueError", DIVERGED]))
    def fail(self, which: int, outcome: str) -> None:
        """A stage raises, diverges, or its job vanishes while it computes."""
        self.cluster.outcome = outcome
        self._until(self._job(which), Phase.FAILED, Phase.HALF)
        self.cluster.outcome = ""

    @precondition(lambda self: self.cluster.running())
    @rule(which=WHICH, lives=st.booleans())
    def kill(self, which: int, lives: bool) -> None:
        """A job is gone; where its node was only cut off, its process goes on."""
        self.cluster.counts["jobs killed"] += 1
        self.cluster.end(self._job(which), "NODE_FAIL" if lives else "killed by signal 9", lives=lives)

    @precondition(lambda self: self.cluster.running())
    @rule(which=WHICH, lives=st.booleans())
    def requeue(self, which: int, lives: bool) -> None:
        """The cluster starts a job anew; where its node was only cut off, its former process goes on."""
        self.cluster.counts["jobs requeued"] += 1
        self.cluster.restart(self._job(which), lives=lives)

    @precondition(lambda self: self.cluster.zombies)
    @rule(which=WHICH, phases=st.integers(1, 6))
    def zombie_write(self, which: int, phases: int) -> None:
        """A process that everybody takes for dead writes, saves and tries to commit."""
        zombie = self.cluster.zombies[which % len(self.cluster.zombies)]
        for _ in range(phases):
            if self.cluster.haunt(zombie) is None:
                break

    # -- after each ----------------------------------------------------------------------------------------------

    @invariant()
    def everything_holds(self) -> None:
        """See `World.check`."""
        self.world.check()
        self.counts["steps"] += 1
        self.states.add(hash(self.world.state()))


# -- what it found, in short ----------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def ask(world: World, wish: requests.Wish, sweep: str, *trials: str) -> None:
    requests.ask(world.layout.sweep(sweep), wish, trials)


def finish(world: World, job: JobHandle, outcome: str = "") -> None:
    """Let a job come to its end, all its stages with this outcome."""
    world.cluster.outcome = outcome
    while world.cluster.go(job) is not None:
        pass
    world.cluster.outcome = ""


def go_on(world: World) -> None:
    """Let nothing go wrong for a while."""
    for _ in range(20):
        for sweep in list(world.newest):
            world.step(sweep)
        for job in world.cluster.running():
            finish(world, job)


def begin_and_submit(world: World, *sweeps: str) -> None:
    for sweep in sweeps:
        world.begin(sweep)
        world.step(sweep)


def test_trials_that_were_all_cancelled_run_when_they_are_asked_for_again(world: World) -> None:
    ask(world, requests.Wish.CANCEL, "one", *SWEEPS["one"])
    begin_and_submit(world, "one")
    assert "one" not in world.newest, "with nothing left to do the session ends"
    ask(world, requests.Wish.RETRY, "one", *SWEEPS["one"])
    world.begin("one")
    assert "one" in world.newest
    world.end_well()


def test_what_needs_a_diverged_stage_does_not_wait_for_it_when_asked_for_again(world: World) -> None:
    begin_and_submit(world, "one")
    corpus = world.cluster.running()[0]
    finish(world, corpus, DIVERGED)
    world.step("one")
    ask(world, requests.Wish.RETRY, "one", *SWEEPS["one"])
    go_on(world)
    assert not world.newest, "it waits for ever"
    world.end_well()


def test_a_job_whose_cancelling_was_cut_short_is_not_doubled_by_a_retry(world: World) -> None:
    begin_and_submit(world, "one")
    for job in world.cluster.running():
        world.cluster.go(job)
    ask(world, requests.Wish.CANCEL, "one", "transfer-0")
    world.step("one", at=2)  # the word is in the ledger, the job was not asked yet
    world.begin("one")
    ask(world, requests.Wish.RETRY, "one", "transfer-0")
    world.step("one")
    world.step("one")
    for job in world.cluster.running():
        world.cluster.go(job)
    world.end_well()


def test_two_controllers_that_gave_up_what_the_other_follows_do_not_wait_for_each_other(world: World) -> None:
    begin_and_submit(world, "one", "two")  # one runs the corpus and the upstream stage, two follows
    corpus, upstream = world.cluster.running()
    finish(world, corpus)
    finish(world, upstream, "ValueError")
    world.step("two")  # takes the trunks
    world.step("one")  # gives up the upstream stage, follows the trunks
    for job in world.cluster.running():
        finish(world, job, "ValueError")
    go_on(world)
    assert not world.newest, "they wait for ever"
    world.end_well()


def test_a_followed_stage_that_is_skipped_stays_skipped_when_its_owner_goes(world: World) -> None:
    begin_and_submit(world, "two")  # one job for everything
    job, trunk = world.cluster.running()[0], TRIALS["early-0"][1].fingerprint
    process = world.cluster.process(job)
    world.cluster.go(job)
    while process.attempt is None or process.attempt.stage.fingerprint != trunk:
        world.cluster.go(job)
    begin_and_submit(world, "one")  # follows the trunk and its end
    world.cluster.outcome = DIVERGED
    assert [world.cluster.go(job) for _ in range(3)] == [Phase.HALF, Phase.WRITTEN, Phase.COMMITTED]
    world.cluster.outcome = ""
    world.leave("two")
    world.cluster.end(job, "killed by signal 9", lives=False)
    go_on(world)
    assert not world.newest, "it waits for ever"
    world.end_well()


def explore(examples: int, steps: int, *, quick: bool) -> str:
    """Run the machine; return what was seen. Quick: the same examples every time, and a failing one is not shrunk."""
    Machine.states, Machine.counts = set(), Counter()
    run_state_machine_as_test(Machine, settings=settings(
        max_examples=examples, stateful_step_count=steps, derandomize=quick, database=None,
        phases=(Stage.generate,) if quick else (Stage.generate, Stage.shrink), report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck), print_blob=True,
    ))
    seen = "\n".join(f"  {count:9,} {word}" for word, count in sorted(Machine.counts.items()))
    return f"{len(Machine.states):,} distinct states\n{seen}\n"


def test_two_sweeps_survive_what_the_machine_does_to_them(record_property: Callable[[str, object], None]) -> None:
    record_property("explored", explore(20, 30, quick=True))
    assert {"answers lost", "controllers killed inside a step", "jobs requeued", "jobs committed",
            "takeovers between steps", "wishes to retry"} <= Machine.counts.keys()


@pytest.mark.proof
@pytest.mark.timeout(3600)
def test_two_sweeps_survive_thousands_of_orders_of_faults(capsys: pytest.CaptureFixture[str],
                                                          record_property: Callable[[str, object], None]) -> None:
    seen = explore(1_000, 60, quick=False)
    record_property("explored", seen)
    with capsys.disabled():
        print(f"\n{seen}")  # noqa: T201 - the figures are what the proof is run for
    assert len(Machine.states) > 5_000
    assert {"zombies' commits refused", "zombies' commits committed", "steps of fenced controllers",
            "takeovers inside a step", "controllers killed while they began"} <= Machine.counts.keys()
