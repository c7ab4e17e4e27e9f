"""How far each trial is. Fed by the reconciler's board, read by Tune's search and by the live table; thread-safe."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.board import ENDED, Board, Status
from sweeps.language.manifest import PlanTrial


@dataclass(frozen=True, kw_only=True)
class TrialEnd:
    """How a trial ended."""

    id: str
    state: str
    """`done`, `diverged`, `withheld`, `failed` or `cancelled`."""
    reason: str = ""


class Progress:
    """Counts what is left of each trial."""

    def __init__(self, trials: tuple[PlanTrial, ...], board: Board) -> None:
        """Trials that are complete already are in `ended` from the beginning."""
        self._lock = threading.Lock()
        self._board = board
        self.trials = {t.id: t for t in trials}
        self._left: dict[str, set[str]] = {t.id: {s.fingerprint for s in t.path} for t in trials}
        self._users: dict[str, list[str]] = {}
        for trial in trials:
            for key in self._left[trial.id]:
                self._users.setdefault(key, []).append(trial.id)
        self.ended: dict[str, TrialEnd] = {}
        self._live: dict[str, None] = {}
        self._queue: deque[str] = deque()
        self._first = {t.id: next(s.fingerprint for s in t.path if s.kind == "pretrain") for t in trials}
        self.update()
        self._queue = deque(t for t in self._queue if t not in self.ended)

    @property
    def news(self) -> bool:
        """True where `update` has something to take in."""
        return bool(self._board.changed or self._board.asked)

    def update(self) -> list[TrialEnd]:
        """Take in what changed; return the trials that ended since the last call."""
        with self._lock:
            status = self._board.status
            touched: dict[str, None] = {}
            while self._board.changed:
                key = self._board.changed.popleft()
                for trial in self._users.get(key, ()):
                    touched[trial] = None
                    (self._left[trial].discard if status[key] in ENDED else self._left[trial].add)(key)
            while self._board.asked:
                touched[self._board.asked.popleft()] = None
            return [end for end in map(self._look, touched) if end is not None]

    def reopen(self) -> list[str]:
        """Return the ended trials that were asked for again; they are handed out anew once they begin."""
        with self._lock:
            again = [t for t in self._board.asked if t not in self._board.cancelled and t in self.ended
                     and self.ended[t].state in ("failed", "cancelled")]
            for trial in again:
                self.ended.pop(trial, None)
                self._live.pop(trial, None)
            return again

    def _look(self, trial: str) -> TrialEnd | None:
        if trial in self.ended:
            return None
        if trial not in self._live and self._board.status[self._first[trial]] is not Status.WAITING:
            self._live[trial] = None
            self._queue.append(trial)
        if self._left[trial] and trial not in self._board.cancelled:
            return None
        self.ended[trial] = end = self._end(trial)
        if trial not in self._live:
            self._live[trial] = None
            self._queue.append(trial)
        return end

    def _end(self, trial: str) -> TrialEnd:
        status, reasons = self._board.status, self._board.reasons
        keys = [s.fingerprint for s in self.trials[trial].path]
        if trial in self._board.cancelled and self._left[trial] | {k for k in keys if status[k] is Status.CANCELLED}:
            how = self._board.cancelled_how.get(trial, "as asked")
            return TrialEnd(id=trial, state="cancelled", reason=f"{how}; orchestrator retry {trial} runs it again")
        for wanted, state in ((Status.FAILED, "failed"), (Status.DIVERGED, "diverged"), (Status.WITHHELD, "withheld"),
                              (Status.SKIPPED, "failed")):
            found = next((k for k in keys if status[k] is wanted), None)
            if found is not None:
                return TrialEnd(id=trial, state=state, reason=reasons.get(found, ""))
        return TrialEnd(id=trial, state="done")

    def next_live(self) -> str | None:
        """Return the next trial that has begun and was not handed out yet, None where there is none now."""
        with self._lock:
            return self._queue.popleft() if self._queue else None

    @property
    def all_ended(self) -> bool:
        """True when every trial has ended."""
        return len(self.ended) == len(self.trials)

    def counts(self) -> Mapping[str, int]:
        """Return how many trials are done, running, failed, diverged, withheld, cancelled and waiting."""
        with self._lock:
            found = {"done": 0, "diverged": 0, "withheld": 0, "failed": 0, "cancelled": 0}
            for end in self.ended.values():
                found[end.state] += 1
            live = sum(t not in self.ended for t in self._live)
            return {**found, "running": live, "waiting": len(self.trials) - len(self.ended) - live}
