"""The training loop, the only one: pre-pre-training and pre-training differ in their feed and in being validated.

A row every `ROW_UPDATES` updates of the absolute count holds the mean loss since the last one; losses that no row has
reported yet travel in the checkpoints. So the rows of an interrupted run equal those of an uninterrupted one, except
for `tokens_per_second`, the only value that is measured and not computed.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sweeps.errors import RecordError, UsageError
from sweeps.language.science import EngineScience, OptimScience, SegmentScience, ValidationScience
from sweeps.store.records import Checkpoint
from workloads.contract import CorpusReader, Diverged, StageContext, Stopped
from workloads.training import checkpoints, transfer
from workloads.training.checkpoints import Progress
from workloads.training.engine import Engine
from workloads.training.feeds import Feed, Window
from workloads.training.losses import held_out
from workloads.training.process import Place
from workloads.training.schedule import update_rate

ROW_UPDATES = 20
"""Updates between two rows; the only points where the host waits for the device."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Evaluations along a run."""

    science: ValidationScience
    reader: CorpusReader


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that a training stage is made of."""

    context: StageContext
    place: Place
    model: Any
    """Freshly initialised (and transferred into); a checkpoint that is continued replaces its values."""
    start: Checkpoint | None
    """Checkpoint to continue."""
    feed: Feed
    optim: OptimScience
    segment: SegmentScience
    engine: EngineScience
    sequence_length: int
    flops_per_token: float
    began: float
    """When the stage began, `time.monotonic()` seconds."""
    validation: Validation | None = None

    @property
    def update_tokens(self) -> int:
        """Tokens of one update."""
        return self.optim.batch_sequences * self.sequence_length

    @property
    def scored(self) -> bool:
        """True where the end of this stage is scored: an annealed end, or the end of a cosine."""
        return self.segment.decay_from is not None or self.segment.horizon_tokens is not None


class Stopwatch:
    """Training time of this attempt: evaluations and checkpoints do not count."""

    def __init__(self) -> None:
        """Start running."""
        self.seconds = 0.0
        self._since = time.monotonic()

    def __enter__(self) -> None:
        """Pause."""
        self.seconds += time.monotonic() - self._since

    def __exit__(self, *_: object) -> None:
        """Go on."""
        self._since = time.monotonic()

    def read(self) -> float:
        """Return the seconds so far."""
        return self.seconds + time.monotonic() - self._since


class Trainer:
    """Trains one stage to its end."""

    def __init__(self, run: Run) -> None:
        """Prepare; nothing is written yet.

        Raises:
            UsageError: the segment is not a whole number of updates, or the layout is impossible.
        """
        self.run = run
        for name in ("end_tokens", "decay_from"):
            if (getattr(run.segment, name) or 0) % run.update_tokens:
                raise UsageError(f"segment.{name} {getattr(run.segment, name)} is not a whole number of updates of "
                                 f"{run.update_tokens} tokens")
        self.last = run.segment.end_tokens // run.update_tokens
        self.engine = Engine(run.model, run.optim, run.engine, run.context.execution, run.place)
        self.progress = Progress()
        self.window = Window(run.feed, batch=run.optim.batch_sequences, last_update=self.last, place=run.place)
        self.watch = Stopwatch()
        self.first_step = 0.0
        self.began_updates = 0
        self.seconds = 0.0
        self.row_mark = (0, 0.0)
        self.saved_at = time.monotonic()

    @property
    def tokens(self) -> int:
        """Tokens consumed since the beginning of the run."""
        return self.progress.updates * self.run.update_tokens

    def train(self) -> dict[str, float]:
        """Train to the end, leave the weights as an artifact, return the scores.

        Raises:
            Stopped: the job was asked to leave, and a checkpoint was written; or another one has taken its place.
            Diverged: a loss is not finite.
            RecordError: a checkpoint that had to be continued is damaged.
            StorageError: there is no space for a checkpoint, a row or the weights.
        """
        try:
            self._continue()
            self._updates()
            self.seconds = self.watch.read()
            self._end()
            return self._scores()
        finally:
            self.engine.close()

    def _continue(self) -> None:
        found = self.run.start
        if found is not None:
            self.progress = checkpoints.load(self.engine, found, self.run.context.execution)
            if self.tokens != found.tokens:
                raise RecordError(f"{found.folder} holds {self.progress.updates} updates or {self.tokens} tokens")
            if self.run.place.first:
                self.run.context.attempt.set_parent(found.owner)
        self.began_updates = self.progress.updates
        self.watch = Stopwatch()
        self.row_mark = (self.progress.updates, 0.0)
        self.saved_at = time.monotonic()

    def _updates(self) -> None:
        run, progress = self.run, self.progress
        while progress.updates < self.last:
            lr = update_rate(run.optim, run.segment, progress.updates, run.update_tokens)
            batch = self.window.update(progress.updates)
            row_due = (progress.updates + 1) % ROW_UPDATES == 0
            loss, norm = self.engine.update(batch, lr=lr, want_norm=row_due)
            progress.pending.append(loss)
            progress.updates += 1
            run.context.pulse.step()
            self.first_step = self.first_step or time.monotonic() - run.began
            if row_due:
                self._train_row(lr, norm)
            self._validation_row()
            self._leave_or_save()

    def _train_row(self, lr: float, norm: float) -> None:
        self.progress.loss = self._pending_loss()
        self.progress.pending = []
        updates, seconds = self.row_mark
        self.row_mark = (self.progress.updates, self.watch.read())
        speed = (self.progress.updates - updates) * self.run.update_tokens / max(1e-9, self.row_mark[1] - seconds)
        self._row("train", {"loss": self.progress.loss, "lr": lr, "grad_norm": norm, "tokens_per_second": speed})
        self._refuse_divergence()

    def _pending_loss(self) -> float:
        """Return the mean loss since the last row (the last row's where there is none yet); waits for the device."""
        if not self.progress.pending:
            return self.progress.loss
        return float(self.run.place.total(torch.stack(self.progress.pending).cpu().double()).mean())

    def _refuse_divergence(self) -> None:
        if not math.isfinite(self.progress.loss):
            raise Diverged(f"loss {self.progress.loss} after {self.tokens} tokens")

    def _validation_row(self) -> None:
        run = self.run
        if run.validation is None or run.segment.decay_from is not None:
            return
        if self.tokens % run.validation.science.every_tokens or (run.scored and self.progress.updates == self.last):
            return
        self._evaluate("validation", run.validation, run.validation.science.trunk_tokens)

    def _evaluate(self, kind: str, validation: Validation, tokens: int) -> None:
        with self.watch:
            measured = held_out(self._logits, validation.reader, tokens)
        self._row(kind, {"loss": measured.loss, "bits_per_byte": measured.bits_per_byte})
        if kind == "end":
            self.progress.loss = measured.loss
        if not math.isfinite(measured.loss):
            raise Diverged(f"held-out loss {measured.loss} after {self.tokens} tokens")

    def _logits(self, tokens_BT: npt.NDArray[np.int32]) -> torch.Tensor:
        self.run.context.pulse.beat()
        return self.engine.logits(tokens_BT)

    def _row(self, kind: str, values: dict[str, float]) -> None:
        if self.run.place.first:
            self.run.context.attempt.row(tokens=self.tokens, kind=kind, values=values)

    def _leave_or_save(self) -> None:
        context = self.run.context
        if self.progress.updates == self.last:
            return
        due = time.monotonic() - self.saved_at > context.execution.checkpoint_seconds
        gone = self.run.place.first and bool(context.attempt.superseded())
        stop, due, gone = self.run.place.any(context.should_stop(), due, gone)
        if gone:
            raise Stopped(f"superseded after {self.tokens} tokens; nothing more was written")
        if stop or due:
            self._save()
        if stop:
            raise Stopped(f"stopped after {self.tokens} tokens")

    def _save(self) -> None:
        self.run.context.pulse.slow()
        with self.watch:
            if self.progress.pending and not math.isfinite(loss := self._pending_loss()):
                self._row("train", {"loss": loss})
                raise Diverged(f"loss {loss} before {self.tokens} tokens")
            context = self.run.context
            checkpoints.save(self.engine, context.attempt, self.tokens, self.progress, context.execution)
            self.saved_at = time.monotonic()

    def _end(self) -> None:
        run = self.run
        if self.progress.updates > self.began_updates and run.scored and run.validation is not None:
            self._evaluate("end", run.validation, run.validation.science.end_tokens)
        self._save()
        weights = self.engine.weights()
        if run.place.first:
            transfer.write_weights(run.context.attempt.artifacts, weights, self.engine.config_json)
        run.place.barrier()

    def _scores(self) -> dict[str, float]:
        steps, made = self.engine.adam_steps(), self.progress.updates - self.began_updates
        if steps != self.progress.updates:
            raise RecordError(f"Adam counts {steps} steps after {self.progress.updates} updates")
        ended = self.run.scored and self.run.validation is not None
        return {
            "loss": self.progress.loss if ended else self._pending_loss(),
            "updates": float(self.progress.updates),
            "adam_steps": float(steps),
            "tokens": float(self.tokens),
            "tokens_per_second": made * self.run.update_tokens / max(1e-9, self.seconds),
            "seconds_to_first_step": self.first_step,
            "flops": self.tokens * self.run.flops_per_token,
        }
