"""Jobs that take their time on a clock that the test moves, with files dated by it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cluster.executors.memory import MemoryExecutor, Phase
from cluster.job import JobHandle, JobRequest
from sweeps.store import files
from sweeps.store.records import Attempt

EPOCH = 1e9
"""When simulations begin, s."""


@dataclass
class Timed(MemoryExecutor):
    """One slot, one rank; a stage takes what `duration` says, and what is asked to leave does so after `grace_s`."""

    seconds: float = float("inf")
    duration: Callable[[str], float] = lambda key: 1.0
    """Fingerprint -> true seconds."""
    grace_s: float = 0.0
    time: float = EPOCH
    used_at_submit: list[float] = field(default_factory=list)
    """True seconds that all attempts had used when a job was submitted."""
    _due: dict[JobHandle, float] = field(default_factory=dict)
    _spans: list[list[float]] = field(default_factory=list)
    """Attempts: [begin, end]; the end is infinite while it runs."""
    _span: dict[JobHandle, list[float]] = field(default_factory=dict)

    def used(self) -> float:
        """Return the true seconds of all attempts until now."""
        return sum(min(end, self.time) - begin for begin, end in self._spans)

    def submit(self, request: JobRequest) -> list[JobHandle]:
        """Start the jobs at once."""
        self._advance()
        self.used_at_submit.append(self.used())
        handles = super().submit(request)
        self._due |= dict.fromkeys(handles, self.time)
        self._advance()
        return handles

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        """Let the jobs leave in order, at the end of the grace."""
        self.time += self.grace_s
        self._advance()
        for handle in [h for h in handles if h in self.running()]:
            attempt = self.process(handle).attempt
            if attempt is not None and self._span.get(handle, [0, 0])[1] == float("inf"):
                files.create(attempt.folder.stopped, files.to_json({"reason": "asked to leave"}))
                self._end_attempt(handle, attempt, self.time)
            self.lose(handle, "cancelled").kill()

    def _advance(self) -> None:
        for handle in self.running():
            while handle in self.running() and self._due[handle] <= self.time:
                self._go(handle, self._due[handle])

    def _go(self, handle: JobHandle, at: float) -> None:
        """Let a job come to its next event, which is at time `at`."""
        process = self.process(handle)
        phase = self.advance(handle)
        if phase is Phase.STARTED:
            assert process.attempt is not None
            process.stage_seconds = self.duration(process.attempt.stage.fingerprint)
            self._span[handle] = [at, float("inf")]
            self._spans.append(self._span[handle])
            date(process.attempt, at)
            self._due[handle] = at + process.stage_seconds
        elif process.attempt is not None and handle in self._span:
            self._end_attempt(handle, process.attempt, at)

    def _end_attempt(self, handle: JobHandle, attempt: Attempt, at: float) -> None:
        self._span[handle][1] = min(at, self._span[handle][1])
        date(attempt, at, began=False)


def date(attempt: Attempt, at: float, *, began: bool = True) -> None:
    """Date an attempt's files; `began`: its beginning, too."""
    for path in attempt.folder.path.iterdir():
        if began or path != attempt.folder.execution:
            os.utime(path, (at, at))
