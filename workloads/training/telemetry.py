"""What a training stage measures of itself: speed, its share of the hardware's, waiting for data and for checkpoints.

The values of a row are of the updates since the last one, the scores of all updates of the attempt. They are measured
and not computed: another run of the same stage has others (`sweeps.store.rows.MEASURED` names them all).

    tokens_per_second          of all ranks, over training time: evaluations and checkpoints do not count
    step_seconds_p50, p90, p99 of a step: fetching its sequences, forward, backward, update
    data_wait_share            of training time in which the host fetched sequences. On a GPU the host runs ahead of the
                               device, which then waits for less than this
    checkpoint_stall_seconds   in which training stood still for checkpoints
    mfu                        causal FLOPs (`ModelScience.flops_per_token`) over the cards' specified bf16 peak
    matmul_share               the same FLOPs over what the same cards reach in large matrix products
    slowest_rank, slowest_rank_factor   the rank that computes longest, and its time over the median of the others
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from workloads.training.cards import Cards
from workloads.training.process import Place
from workloads.training.spans import Spans

PERCENTILES = (50, 90, 99)


@dataclass
class Tally:
    """What was measured over some updates."""

    seconds: float = 0.0
    """Training time."""
    data: float = 0.0
    """Of it, fetching sequences, or waiting for the thread that does, seconds."""
    stall: float = 0.0
    """Beside it, standing still for checkpoints, seconds."""
    steps: array[float] = field(default_factory=lambda: array("d"))
    """Seconds of each step."""

    def add(self, other: Tally) -> None:
        """Add the updates that followed."""
        self.seconds += other.seconds
        self.data += other.data
        self.stall += other.stall
        self.steps.extend(other.steps)


class Telemetry:
    """Measures one attempt at a stage."""

    def __init__(self, place: Place, cards: Cards, *, update_tokens: int, flops_per_token: float) -> None:
        """Prepare.

        Args:
            place: this rank.
            cards: of all ranks.
            update_tokens: tokens of an update, all ranks together.
            flops_per_token: causal training FLOPs.
        """
        self._place = place
        self._cards = cards
        self._update_tokens = update_tokens
        self._flops_per_token = flops_per_token
        self._row, self._attempt = Tally(), Tally()
        self._steps, self._forward = Spans(place.device), Spans(place.device)
        self._since: float | None = None

    def watch(self, model: Any) -> None:
        """Time the forward passes of a model where there are several ranks: only there can one be slower.

        The forward pass is what a rank does on its own: in the backward pass it already waits for the others' sums of
        gradients. Under ZeRO 3 every layer waits for the others' weights, so that a slow rank cannot be told.
        """
        if self._place.world > 1:
            model.register_forward_pre_hook(lambda module, _: self._forward.begin() if module.training else None)
            model.register_forward_hook(lambda module, *_: self._forward.end() if module.training else None)

    def begin(self) -> None:
        """The first step begins."""
        self._since = time.monotonic()
        self._steps.begin()

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Count what is done inside as fetching sequences."""
        began = time.monotonic()
        yield
        self._row.data += time.monotonic() - began

    def step(self) -> None:
        """A step has ended, and the next one begins."""
        self._steps.end()
        self._steps.begin()

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Do not count what is done inside as training: an evaluation."""
        running = self._since is not None
        self.end()
        yield
        if running:
            self.begin()

    @contextmanager
    def saving(self) -> Iterator[None]:
        """The same, counted as standing still for a checkpoint."""
        began = time.monotonic()
        with self.standing():
            yield
        self._row.stall += time.monotonic() - began

    def end(self) -> None:
        """No step follows, or none for a while."""
        if self._since is not None:
            self._row.seconds += time.monotonic() - self._since
            self._since = None

    def row(self) -> dict[str, float]:
        """Return what was measured since the last row; waits for the device, and every rank must call it."""
        assert self._since is not None
        self.end()
        self._since = time.monotonic()
        row = self._close()
        return self._values(row) | self._slowest(sum(self._forward.take()) + row.data)

    def scores(self) -> dict[str, float]:
        """Return what was measured in all."""
        self._close()
        return self._values(self._attempt)

    def _close(self) -> Tally:
        row, self._row = self._row, Tally()
        row.steps.extend(self._steps.take())
        self._attempt.add(row)
        return row

    def _values(self, tally: Tally) -> dict[str, float]:
        speed = len(tally.steps) * self._update_tokens / max(1e-9, tally.seconds)
        values = {
            "tokens_per_second": speed, "data_wait_share": tally.data / max(1e-9, tally.seconds),
            "checkpoint_stall_seconds": tally.stall,
        }
        if tally.steps:
            found = np.percentile(tally.steps, PERCENTILES)
            values |= {f"step_seconds_p{p}": float(s) for p, s in zip(PERCENTILES, found, strict=True)}
        for name, peak in (("mfu", self._cards.specified_flops), ("matmul_share", self._cards.matmul_flops)):
            if peak is not None:
                values[name] = speed * self._flops_per_token / peak
        return values

    def _slowest(self, own_seconds: float) -> dict[str, float]:
        if self._place.world == 1:
            return {}
        return slowest(self._place.gather(own_seconds))


def slowest(seconds_R: list[float]) -> dict[str, float]:
    """Return the rank that took longest, and its time over the median of the others."""
    rank = max(range(len(seconds_R)), key=seconds_R.__getitem__)
    others = median(s for r, s in enumerate(seconds_R) if r != rank)
    return {"slowest_rank": float(rank), "slowest_rank_factor": seconds_R[rank] / max(1e-9, others)}
