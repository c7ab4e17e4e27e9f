"""The training loop, the only one: pre-pre-training and pre-training differ in their feed and in being validated.

A row every `ROW_UPDATES` updates of the absolute count holds the mean loss since the last one; losses that no row has
reported yet travel in the checkpoints. So the rows of an interrupted run equal those of an uninterrupted one, except
for the values that are measured and not computed (`workloads.training.telemetry`).
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import Any

import torch

from sweeps.errors import RecordError, UsageError
from sweeps.language.science import EngineScience, OptimScience, SegmentScience, ValidationScience
from sweeps.language.stage import Execution
from sweeps.store.records import Checkpoint
from workloads.contract import CorpusReader, Diverged, LossSpike, SequenceBatch, StageContext, Stopped
from workloads.training import checkpoints, transfer
from workloads.training.cards import cards_of, record
from workloads.training.checkpoints import Progress
from workloads.training.engine import Engine
from workloads.training.feeds import Feed, Window
from workloads.training.incidents import Sentinel
from workloads.training.losses import held_out
from workloads.training.process import Place
from workloads.training.saving import Saver
from workloads.training.schedule import update_rate
from workloads.training.telemetry import Telemetry

ROW_UPDATES = 20
"""Updates between two rows. Only there, at checkpoints and at evaluations does the host wait for the device."""

log = logging.getLogger("workloads.training.loop")


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
    execution: Execution
    """The context's, with the micro-batch settled."""
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
        self.cards = cards_of(run.place)  # measured before the engine takes the memory
        self.engine = Engine(run.model, run.optim, run.engine, run.execution, run.place)
        self.progress = Progress()
        self.window = Window(run.feed, batch=run.optim.batch_sequences, last_update=self.last, place=run.place)
        self.telemetry = Telemetry(
            run.place, self.cards, update_tokens=run.update_tokens, flops_per_token=run.flops_per_token)
        self.telemetry.watch(run.model)
        self.sentinel = Sentinel(run.context, run.place, self.window)
        self.first_step = 0.0
        self.began_updates = 0
        self.saved_at = time.monotonic()
        self.stall = 0.0
        """Seconds in which training stood still for the last checkpoint."""
        self.points = frozenset(
            -(-tokens // run.update_tokens) * run.update_tokens for tokens in run.context.execution.keep_at_tokens)
        """Token counts at which a checkpoint is made and kept: the end of the update that reaches what was asked."""
        self.saver = Saver(
            self.engine, run.context.attempt, run.context.execution, run.context.pulse, self.points)

    @property
    def tokens(self) -> int:
        """Tokens consumed since the beginning of the run."""
        return self.progress.updates * self.run.update_tokens

    def train(self) -> dict[str, float]:
        """Train to the end, leave the weights as an artifact, return the scores.

        Raises:
            Stopped: the job was asked to leave, and a checkpoint was written; or another one has taken its place.
            Diverged: a loss or a gradient is not finite.
            LossSpike: a loss jumped, and `on_spike` says to stop then.
            RecordError: a checkpoint that had to be continued is damaged.
            StorageError: there is no space for a checkpoint, a row or the weights.
        """
        try:
            self._continue()
            self._updates()
            self.telemetry.end()
            self._end()
            return self._scores()
        except (Diverged, LossSpike):  # of all ranks at once; what was finite before is kept
            self.saver.flush()
            raise
        finally:
            self.saver.close()
            self.engine.close()

    def _continue(self) -> None:
        found = self.run.start
        if found is not None:
            context = self.run.context
            self.progress = checkpoints.load(self.engine, found, context.execution, context.attempt)
            if self.tokens != found.tokens:
                raise RecordError(f"{found.folder} holds {self.progress.updates} updates or {self.tokens} tokens")
            if self.run.place.first:
                context.attempt.set_parent(found.owner)
            self._tell_relayout()
        if self.run.place.first:
            record(self.cards, self.run.context.attempt.folder)
        self.began_updates = self.progress.updates
        self.telemetry.begin()
        self.saved_at = time.monotonic()

    def _tell_relayout(self) -> None:
        """Say it loudly where this attempt goes on with another number of ranks: a row, the log, and the scores."""
        last = self.progress.relayouts[-1:]
        if last and last[0]["tokens"] == self.tokens:
            before, now = last[0]["ranks_before"], last[0]["ranks"]
            self._row("relayout", {"ranks_before": float(before), "ranks": float(now)})
            log.warning("%d tokens were trained on %d ranks, this job has %d: what follows equals an uninterrupted run "
                        "only within 1e-5 nats (fp32) or 3e-4 (bf16, autocast)", self.tokens, before, now)

    def _updates(self) -> None:
        run, progress = self.run, self.progress
        while progress.updates < self.last:
            lr = update_rate(run.optim, run.segment, progress.updates, run.update_tokens)
            with self.telemetry.fetching():
                batch = self.window.update(progress.updates)
            loss, norm = self.engine.update(batch, lr=lr)
            progress.pending.append(loss)
            progress.norms.append(norm)
            progress.updates += 1
            self.telemetry.step()
            run.context.pulse.step()
            self.first_step = self.first_step or time.monotonic() - run.began
            if progress.updates % ROW_UPDATES == 0:
                self._train_row(lr)
            self._validation_row()
            self._leave_or_save()

    def _train_row(self, lr: float) -> None:
        losses_U, norms_U = self._pending_losses(), self._norms()
        self.progress.loss = float(losses_U.mean())
        values = {"loss": self.progress.loss, "lr": lr, "grad_norm": float(norms_U[-1])}
        self._row("train", {**values, **self.telemetry.row()})
        self.sentinel.refuse_divergence(self.progress, losses_U, norms_U)
        spike = self.sentinel.spike(self.progress, losses_U.tolist())
        self.progress.pending, self.progress.norms = [], []
        if spike is not None:
            self._row("spike", spike.values())
            self.sentinel.stop_at(spike)

    def _pending_losses(self) -> torch.Tensor:
        """Return the loss of each update since the last row, fp64; waits for the device."""
        return self.run.place.total(torch.stack(self.progress.pending).cpu().double())

    def _pending_loss(self) -> float:
        """Return the mean loss since the last row (the last row's where there is none yet); waits for the device."""
        return float(self._pending_losses().mean()) if self.progress.pending else self.progress.loss

    def _norms(self) -> torch.Tensor:
        """Return the gradient norms of the updates that this attempt made since the last row; waits for the device."""
        return torch.stack(self.progress.norms).cpu() if self.progress.norms else torch.zeros(0)

    def _refuse_divergence(self) -> None:
        """End the run, with a last row, where a loss or a gradient since the last row is not finite.

        Raises:
            Diverged: so it is.
        """
        losses_U, norms_U = self._pending_losses(), self._norms()
        if not bool(losses_U.isfinite().all() and norms_U.isfinite().all()):
            self._row("train", {"loss": float(losses_U.mean())})
            self.sentinel.refuse_divergence(self.progress, losses_U, norms_U)

    def _validation_row(self) -> None:
        run = self.run
        if run.validation is None or run.segment.decay_from is not None:
            return
        if self.tokens % run.validation.science.every_tokens or (run.scored and self.progress.updates == self.last):
            return
        self._evaluate("validation", run.validation, run.validation.science.trunk_tokens)

    def _evaluate(self, kind: str, validation: Validation, tokens: int) -> None:
        with self.telemetry.standing():
            measured = held_out(self._summed_loss, validation.reader, tokens)
        self._row(kind, {"loss": measured.loss, "bits_per_byte": measured.bits_per_byte})
        if kind == "end":
            self.progress.loss = measured.loss
        if not math.isfinite(measured.loss):
            if self.progress.pending:
                self._refuse_divergence()  # the training's own losses say at which update
            self.sentinel.refuse_held_out(self.progress, measured.loss)

    def _summed_loss(self, batch: SequenceBatch) -> tuple[float, int]:
        self.run.context.pulse.beat()
        return self.engine.held_out_loss(batch)

    def _row(self, kind: str, values: dict[str, float]) -> None:
        if self.run.place.first:
            self.run.context.attempt.row(tokens=self.tokens, kind=kind, values=values)

    def _leave_or_save(self) -> None:
        context = self.run.context
        if self.progress.updates == self.last:
            return
        late = not self.saver.underway and time.monotonic() - self.saved_at >= self._interval()
        gone = self.run.place.first and bool(context.attempt.superseded())
        stop, late, gone, *writing = self.run.place.any(context.should_stop(), late, gone, *self.saver.flags())
        if gone:
            raise Stopped(f"superseded after {self.tokens} tokens; nothing more was written")
        self.saver.go_on(*writing)
        if stop or late or self.tokens in self.points:
            self._save(leaving=stop)
        if stop:
            raise Stopped(f"stopped after {self.tokens} tokens")

    def _interval(self) -> float:
        """Return the seconds from a checkpoint to the next: as asked, or longer, so that they take a bounded share."""
        execution = self.run.context.execution
        return max(execution.checkpoint_seconds, self.stall * (1.0 / execution.checkpoint_share - 1.0))

    def _save(self, *, leaving: bool) -> None:
        self.run.context.pulse.slow()
        began = time.monotonic()
        with self.telemetry.saving():
            self.saver.flush()
            if self.progress.pending:
                self._refuse_divergence()
            self.saver.save(self.tokens, self.progress, leaving=leaving)
            self.saved_at = time.monotonic()
            self.stall = self.saved_at - began

    def _end(self) -> None:
        run = self.run
        if self.progress.updates > self.began_updates and run.scored and run.validation is not None:
            self._evaluate("end", run.validation, run.validation.science.end_tokens)
        self._save(leaving=True)
        weights = self.engine.weights()
        if run.place.first:
            transfer.write_weights(run.context.attempt.artifacts, weights, self.engine.config_json)
        run.place.barrier()

    def _scores(self) -> dict[str, float]:
        steps = self.engine.adam_steps()
        if steps != self.progress.updates:
            raise RecordError(f"Adam counts {steps} steps after {self.progress.updates} updates")
        ended = self.run.scored and self.run.validation is not None
        relayouts = len(self.progress.relayouts)
        return ({"relayouts": float(relayouts)} if relayouts else {}) | {
            "loss": self.progress.loss if ended else self._pending_loss(),
            "updates": float(self.progress.updates),
            "adam_steps": float(steps),
            "tokens": float(self.tokens),
            "loss_spikes": float(self.progress.spikes),
            **self.telemetry.scores(),
            "seconds_to_first_step": self.first_step,
            "flops": self.tokens * self.run.flops_per_token,
        }
