"""The cluster of the state machine: jobs that go where they are told, and a journal of what became of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.executors.memory import MemoryExecutor, Phase, Process
from cluster.job import JobHandle, JobReport, JobRequest, JobState
from sweeps.errors import EnvironmentError_
from sweeps.language.stage import Ticket
from sweeps.store import claims
from sweeps.store.files import read_lines
from sweeps.store.layout import Layout, StageFolder
from sweeps.store.ledger import fold, read_events, terms


class Killed(BaseException):
    """A controller dies here: nothing catches it, and it does nothing more."""


@dataclass(kw_only=True, eq=False)
class Try:
    """An attempt, as the cluster saw it."""

    stage: StageFolder
    number: int
    process: Process
    fate: Phase = Phase.STARTED


class Cluster(MemoryExecutor):
    """Jobs that go where they are told, answers that get lost, and a journal of every attempt."""

    def __init__(self, layout: Layout) -> None:
        """Have three slots, and answer well."""
        super().__init__(slots=3, seconds=math.inf, saves=True, fail=lambda spec, attempt: self.outcome)
        self.layout = layout
        self.outcome = ""
        """What becomes of the next stage that a job computes; see `cluster.executors.memory.Fail`."""
        self.answer = ""
        """To the next submission: `lost`, `refused`, `killed before`, `killed after`; empty: as it should be."""
        self.silent = False
        """Nothing is known about live jobs."""
        self.deaf = False
        """A job that is asked to leave goes on until `obey`."""
        self.asked: dict[JobHandle, None] = {}
        self.zombies: list[Process] = []
        self.faults: dict[Process, str] = {}
        """Process -> what was done to it."""
        self.tries: list[Try] = []
        self.accepted: list[str] = []
        self.fencing = False
        """A newer term has begun inside the step that is going on: what it submits is nobody's."""
        self.counts: Counter[str] = Counter()

    # -- answers -------------------------------------------------------------------------------------------------

    def submit(self, request: JobRequest) -> list[JobHandle]:
        """Accept what has an intent."""
        answer, self.answer = self.answer, ""
        if answer == "refused":
            raise EnvironmentError_(f"{request.name}: refused (simulated)")
        if answer == "killed before":
            raise Killed
        self._check_intent(request)
        handles = super().submit(request)
        self.accepted.append(request.name)
        if self.fencing:
            self.faults |= {self.process(handle): "stray" for handle in handles}
        if answer == "killed after":
            raise Killed
        if answer == "lost":
            self.counts["answers lost"] += 1
            raise EnvironmentError_(f"{request.name}: no answer (simulated)")
        return handles

    def _check_intent(self, request: JobRequest) -> None:
        tickets = [Ticket.model_validate_json(Path(t).read_text(encoding="utf-8")) for t in request.tickets]
        folder = self.layout.sweep(tickets[0].sweep)
        term = int(request.name.split("-t")[1].split("-")[0])
        said = [e for e in read_lines(folder.ledger / f"{term}.jsonl") if e and e["event"] == "intent"]
        assert [e["tickets"] for e in said if e["name"] == request.name] == [
            [[s.spec.fingerprint for s in t.stages] for t in tickets]], "a submission without its intent"
        assert request.name not in self.accepted, "a name was used twice"
        if not self.fencing:
            assert term == max(terms(folder)), "a fenced controller submitted"
            assert request.name in fold(read_events(folder)).submissions, "the intent does not count"
            for stage in (s for t in tickets for s in t.stages):
                held = claims.holder(self.layout.stage(stage.spec.kind, stage.spec.fingerprint))
                assert held is not None and (held.submission, held.number) == (request.name, stage.claim)

    def poll(self, handles: Sequence[JobHandle]) -> list[JobReport]:
        """Tell the states, or that nothing is known."""
        found = super().poll(handles)
        return [r if r.state is JobState.ENDED or not self.silent else r.model_copy(update={"state": JobState.UNKNOWN})
                for r in found]

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        """Ask the jobs to leave."""
        live = [h for h in handles if h in self.running()]
        self.counts["jobs asked to leave"] += len(live)
        self.asked |= dict.fromkeys(live)
        if not self.deaf:
            self.obey()

    def obey(self) -> None:
        """Let the jobs leave that were asked to."""
        for handle in [h for h in self.asked if h in self.running()]:
            self.end(handle, "cancelled", lives=False)
        self.asked.clear()

    # -- what befalls jobs ---------------------------------------------------------------------------------------

    def end(self, handle: JobHandle, word: str, *, lives: bool) -> None:
        """End a job; its process may go on as a zombie."""
        self._leave(self.lose(handle, word), word, lives=lives)

    def restart(self, handle: JobHandle, *, lives: bool) -> None:
        """Start a job anew; its former process may go on as a zombie."""
        self._leave(self.requeue(handle), "requeued", lives=lives)

    def _leave(self, process: Process, word: str, *, lives: bool) -> None:
        self.faults[process] = f"{self.faults[process]}, {word}" if process in self.faults else word
        if lives:
            self.zombies.append(process)
        else:
            process.kill()

    def go(self, handle: JobHandle) -> Phase | None:
        """Let a job go one phase further."""
        process = self.process(handle)
        return self._note(process, super().advance(handle))

    def haunt(self, process: Process) -> Phase | None:
        """Let a zombie go one phase further."""
        phase = self._note(process, process.advance())
        if phase is None:
            self.zombies.remove(process)
        elif phase in (Phase.COMMITTED, Phase.REFUSED):
            self.counts[f"zombies' commits {phase}"] += 1
        return phase

    def _note(self, process: Process, phase: Phase | None) -> Phase | None:
        if phase is None:
            if process.detail == "killed by signal 9":
                self.faults.setdefault(process, "killed")
            return None
        attempt = process.attempt
        assert attempt is not None
        if phase is Phase.STARTED:
            self.tries.append(Try(stage=attempt.stage, number=attempt.folder.number, process=process))
            self._check_alone(process, attempt.stage)
        else:
            next(t for t in reversed(self.tries) if t.process is process).fate = phase
        self.counts[f"jobs {phase}"] += 1
        return phase

    def _check_alone(self, process: Process, stage: StageFolder) -> None:
        """No two jobs work on a stage, unless something befell one of them that nobody can know of."""
        working = (Phase.STARTED, Phase.HALF, Phase.WRITTEN)
        others = [t for t in self.tries if t.stage == stage and t.fate in working and t.process.detail is None
                  and t.process not in self.faults and t.process is not process]
        assert not others or process in self.faults, f"two healthy jobs run {stage.kind}/{stage.fingerprint} at once"
