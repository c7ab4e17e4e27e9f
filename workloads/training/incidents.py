"""What goes wrong inside a training: losses that are not finite, and losses that jump.

Losses stay on the device between two rows, so both are looked for at row points, in the loss of every update since the
last row: found a few updates late, and told of the very update.

    not finite  the run ends (`Diverged`); the attempt keeps `divergence.json`: the first such update, the ranks whose
                part of its loss it is, and the indices of the sequences that they read, and read in the update
                before. A gradient that is not finite is told by its norm. What the updates after it made of the weights
                is in no checkpoint
    spike       a loss above the median of the SPIKE_WINDOW losses before it by more than SPIKE_DEVIATIONS deviations
                (median absolute deviation x 1.4826, the standard deviation of normal noise) and SPIKE_NATS; a row of
                kind `spike`, which ends the run only under `run.on_spike: stop`
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch

from sweeps.store import files
from workloads.contract import Diverged, LossSpike, StageContext
from workloads.training.checkpoints import Progress
from workloads.training.feeds import Window
from workloads.training.process import Place

SPIKE_WINDOW = 100
"""Losses that a loss is compared with: those of as many updates before it."""
SPIKE_LEAST = 40
"""Fewer than this many say nothing yet."""
SPIKE_DEVIATIONS = 8.0
SPIKE_NATS = 0.1
"""Least height, nats per token: where a loss hardly moves, any number of deviations is nothing."""
NORMAL = 1.4826
"""Standard deviation of normal noise over its median absolute deviation: 1 / 0.6745."""


@dataclass(frozen=True, kw_only=True)
class Spike:
    """Losses above the limit between two rows."""

    update: int
    """The first of them, counted from 1."""
    loss: float
    """The highest, nats per token."""
    limit: float
    """What the first of them exceeded, nats per token."""
    updates: int
    """How many."""

    def values(self) -> dict[str, float]:
        """Return the values of its row."""
        return {"update": float(self.update), "loss": self.loss, "limit": self.limit, "updates": float(self.updates)}

    def __str__(self) -> str:
        """For people."""
        more = f", {self.updates} updates above it" if self.updates > 1 else ""
        return f"loss {self.loss:.4g} at update {self.update:,}, limit {self.limit:.4g}{more}"


def spike_in(recent: Sequence[float], losses: Sequence[float], first: int) -> Spike | None:
    """Return the spike among the losses since the last row; None: there is none. Pure.

    Args:
        recent: losses of the updates before them, oldest first; the last SPIKE_WINDOW are enough.
        losses: finite, one an update.
        first: number of the first of these updates, counted from 1.
    """
    every = np.asarray([*recent[-SPIKE_WINDOW:], *losses])
    found: list[tuple[int, float, float]] = []
    for at in range(len(every) - len(losses), len(every)):
        before = every[max(0, at - SPIKE_WINDOW): at]
        if len(before) < SPIKE_LEAST:
            continue
        middle = float(np.median(before))
        deviation = NORMAL * float(np.median(np.abs(before - middle)))
        limit = middle + max(SPIKE_NATS, SPIKE_DEVIATIONS * deviation)
        if every[at] > limit:
            found.append((first + at - (len(every) - len(losses)), float(every[at]), limit))
    if not found:
        return None
    return Spike(update=found[0][0], loss=max(loss for _, loss, _ in found), limit=found[0][2], updates=len(found))


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """The first update of a run that was not finite."""

    what: str
    """`loss`, `gradient` or `held-out loss`, of which the last update before it is told."""
    update: int
    """Counted from 1."""
    value: float
    """The update's loss, or the norm of its gradient."""
    ranks: tuple[int, ...]
    """Whose part of the loss is not finite; all of them where the weights were not finite either."""
    world: int
    sequences_R: tuple[tuple[int, ...], ...]
    """What each rank read: indices of the sequences."""

    def __str__(self) -> str:
        """For people; the file has the rest."""
        everywhere = len(self.ranks) == self.world
        who = "" if self.world == 1 else " on every rank" if everywhere else f" on rank {_listed(self.ranks)}"
        read = sorted(i for rank in self.ranks for i in self.sequences_R[rank])
        before = (f"; the update before, {self.update - 1:,}, may have made the weights so"
                  if everywhere and self.what == "loss" and self.update > 1 else "")
        return f"{self.what} {self.value} at update {self.update:,}{who}, sequences {_listed(read)}{before}"

    def note(self, before_R: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Return the content of `divergence.json`; `before_R` is what each rank read in the update before."""
        return {
            "schema_version": files.SCHEMA_VERSION, "what": self.what, "update": self.update, "value": self.value,
            "ranks": list(self.ranks), "sequences": _by_rank(self.sequences_R), "sequences_before": _by_rank(before_R),
            "text": str(self),
        }


def first_not_finite(parts_RU: Sequence[Sequence[float]]) -> tuple[int, tuple[int, ...]] | None:
    """Return the first update with a part of the loss that is not finite, and the ranks of such parts; else None."""
    for at, parts_R in enumerate(zip(*parts_RU, strict=True)):
        if ranks := tuple(rank for rank, part in enumerate(parts_R) if not math.isfinite(part)):
            return at, ranks
    return None


class Sentinel:
    """Looks at the losses of a run, row after row."""

    def __init__(self, context: StageContext, place: Place, window: Window) -> None:
        """Look at the stage of `context`, whose sequences come through `window`."""
        self._context = context
        self._place = place
        self._window = window

    def refuse_divergence(self, progress: Progress, losses_U: torch.Tensor, norms_U: torch.Tensor) -> None:
        """End the run where it is not finite any more; every rank must call it, before the losses are forgotten.

        Args:
            progress: with the parts of this rank of the losses since the last row.
            losses_U: those losses, one an update.
            norms_U: norms of the gradients of the last updates: fewer, where an earlier attempt made the first ones.

        Raises:
            Diverged: with the update, the ranks and the sequences.
        """
        place, world = self._place, self._place.world
        found: list[tuple[int, str, float, tuple[int, ...]]] = []
        if not bool(losses_U.isfinite().all()):
            first = first_not_finite(place.gather(torch.stack(progress.pending).tolist()))
            assert first is not None
            found.append((progress.updates - len(losses_U) + first[0], "loss", float(losses_U[first[0]]), first[1]))
        if first := first_not_finite([norms_U.tolist()]):
            found.append((progress.updates - len(norms_U) + first[0], "gradient", float(norms_U[first[0]]),
                          tuple(range(world))))
        if not found:
            return
        self._refuse(*min(found, key=lambda bad: bad[0]))  # of one update, its loss

    def refuse_held_out(self, progress: Progress, loss: float) -> NoReturn:
        """End the run where a held-out loss is not finite, though those of training are; every rank must call it.

        Raises:
            Diverged: with the last update, which may have made the weights so.
        """
        self._refuse(progress.updates - 1, "held-out loss", loss, tuple(range(self._place.world)))

    def _refuse(self, number: int, what: str, value: float, ranks: tuple[int, ...]) -> NoReturn:
        """Keep what is known of an update, counted from 0, and end the run."""
        bad = Divergence(what=what, update=number + 1, value=value, ranks=ranks, world=self._place.world,
                         sequences_R=tuple(self._window.indices(number)))
        if self._place.first:
            before = self._window.indices(number - 1) if number else []
            files.create(self._context.attempt.folder.divergence, files.to_json(bad.note(before)))
        raise Diverged(str(bad))

    def spike(self, progress: Progress, losses: Sequence[float]) -> Spike | None:
        """Return the spike among the losses since the last row, and remember them for the next ones."""
        found = spike_in(progress.recent, losses, progress.updates - len(losses) + 1)
        progress.recent = [*progress.recent, *losses][-SPIKE_WINDOW:]
        progress.spikes += found is not None
        return found

    def stop_at(self, spike: Spike) -> None:
        """Stop where that is asked for.

        Raises:
            LossSpike: it is.
        """
        if self._context.execution.on_spike == "stop":
            raise LossSpike(f"{spike}; run.on_spike is stop: with report, `orchestrator retry` goes on from the last "
                            "checkpoint")


def _by_rank(sequences_R: Sequence[Sequence[int]]) -> Mapping[str, list[int]]:
    return {str(rank): list(read) for rank, read in enumerate(sequences_R)}


def _listed(numbers: Sequence[int]) -> str:
    """Return `3`, `3, 5` or, where they follow each other, `3 to 9`."""
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))
