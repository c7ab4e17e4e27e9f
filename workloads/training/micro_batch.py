"""How many sequences a forward pass takes, found by a short search: `run.micro_batch: auto`.

The number is doubled from 1 until there is no room (on a GPU), it is a rank's whole share of the batch, or it passes
`SEARCHED_ON_CPU` (on a CPU); of those that went, the smallest is taken that is nearly as fast as the fastest. What is
timed are forward and backward passes of a copy of the model, so the run itself begins as if nothing had been searched.
Costs five passes a size: under a second at `tiny`, and the model once more in memory meanwhile.

The number is execution, and decides the last bits (order of sums). So it is searched once for a run: what an attempt
has, those that continue its state take over, and so do later attempts at the same stage.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from sweeps.language.science import EngineScience, ModelScience
from sweeps.language.stage import AUTO, SEARCHED_ON_CPU, Execution
from sweeps.store import micro_batch as record
from sweeps.store.records import Checkpoint
from workloads.contract import StageContext
from workloads.training.engine import BUCKET_ELEMENTS, share_of
from workloads.training.model import recompute_activations, summed_loss
from workloads.training.process import Place

WARM, TIMED = 2, 3
"""Passes that are not timed, and those of whose times the median counts."""
NEARLY = 0.97
"""Share of the highest speed that is fast enough: a smaller number leaves more memory, and times are not that exact."""

Probe = Callable[[int], float]
"""Sequences of a pass -> sequences per second; raises torch.OutOfMemoryError."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One size."""

    micro_batch: int
    sequences_per_second: float | None
    """Mean over the ranks; None: no room."""


def settled(context: StageContext, place: Place, model: Any, start: Checkpoint | None, *, vocabulary: int) -> Execution:
    """Return the execution with a number in the place of `auto`, and record it; every rank must call it.

    Args:
        context: whose execution it is.
        place: this rank.
        model: on the CPU; stays as it is.
        start: the checkpoint that is continued.
        vocabulary: token ids of the model.

    Raises:
        torch.OutOfMemoryError: not even one sequence has room.
    """
    execution = context.execution
    if execution.micro_batch != AUTO:
        if place.first and isinstance(execution.micro_batch, int):
            record.note(context.attempt.folder, execution.micro_batch, "given")
        return execution
    kept = place.decide(lambda: _kept(context, start))
    began, tried = time.monotonic(), []
    if kept is None:
        with _probing(context, place, model, vocabulary) as probe:
            tried = search(probe, share_of(context.science["optim"], execution), place)
    found = kept if kept is not None else fastest(tried)
    if place.first:
        record.note(context.attempt.folder, found, "searched" if tried else "kept", device=_name(place.device),
                    tried=[asdict(one) for one in tried], seconds=time.monotonic() - began)
    return execution.model_copy(update={"micro_batch": found})


def _kept(context: StageContext, start: Checkpoint | None) -> int | None:
    """Return what the attempt had whose state is continued, else what an earlier one at this stage had."""
    stage = context.attempt.stage
    if start is not None:
        owner = start.owner
        return record.noted(stage.beside(owner.kind, owner.fingerprint).attempt(owner.attempt))
    return record.last_noted(stage)


def sizes(share: int) -> list[int]:
    """Return the divisors of a rank's share of the batch that are tried: each at least twice the one before."""
    found = [1]
    found += (n for n in range(2, share + 1) if share % n == 0 and n >= 2 * found[-1])
    return found if found[-1] == share else [*found, share]


def search(probe: Probe, share: int, place: Place) -> list[Tried]:
    """Return what became of each size, up to the first without room on some rank.

    Raises:
        torch.OutOfMemoryError: not even one sequence has room.
    """
    tried: list[Tried] = []
    most = share if place.device.type == "cuda" else SEARCHED_ON_CPU
    for size in (n for n in sizes(share) if n <= most):
        speed, full = 0.0, False
        try:
            speed = probe(size)
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            full = True
        if any(place.any(full)):
            return [*tried, Tried(micro_batch=size, sequences_per_second=None)]
        mean = float(place.total(torch.tensor(speed, dtype=torch.float64))) / place.world
        tried.append(Tried(micro_batch=size, sequences_per_second=mean))
    return tried


def fastest(tried: list[Tried]) -> int:
    """Return the smallest size that is nearly as fast as the fastest."""
    speeds = {one.micro_batch: one.sequences_per_second for one in tried if one.sequences_per_second is not None}
    limit = NEARLY * max(speeds.values())
    return min(size for size, speed in speeds.items() if speed >= limit)


@contextlib.contextmanager
def _probing(context: StageContext, place: Place, model: Any, vocabulary: int) -> Iterator[Prober]:
    """Yield a probe of the stage's model and precision, with the room taken that optimiser and buckets will take."""
    science, execution = context.science, context.execution
    prober = Prober(model, science["model"], science["engine"], vocabulary=vocabulary, device=place.device,
                    beat=context.pulse.beat)
    if execution.activation_checkpointing:
        prober.recompute()
    if place.device.type == "cuda":
        prober.reserve(state_bytes(prober.parameters, science["engine"], execution))
    try:
        yield prober
    finally:
        prober.close()


def state_bytes(parameters: int, engine: EngineScience, execution: Execution) -> int:
    """Return what a training run holds on a device beside weights, gradients and activations; at least what it takes.

    Adam's moments and fp32 master copies, which ZeRO spreads over the ranks, a second copy of the gradients where they
    are accumulated in fp32, and two buckets.
    """
    spread = execution.ranks if execution.zero_stage else 1
    held = 8 / spread if execution.zero_stage == 0 else 16 / spread
    accumulated = 4 if engine.precision == "bf16" else 0
    return int(parameters * (held + accumulated)) + 2 * 4 * min(BUCKET_ELEMENTS, parameters)


class Prober:
    """Times forward and backward passes of a copy of a model on random tokens."""

    def __init__(self, model: Any, science: ModelScience, engine: EngineScience, *, vocabulary: int,
                 device: torch.device, beat: Callable[[], None]) -> None:
        """Copy the model to the device; `beat` is called between passes."""
        self._precision, self._chunk = engine.precision, engine.loss_chunk
        kind = torch.bfloat16 if engine.precision == "bf16" else torch.float32
        self._model = copy.deepcopy(model).to(device=device, dtype=kind).train()
        self.parameters = sum(p.numel() for p in self._model.parameters())
        self._length, self._vocabulary, self._device, self._beat = science.sequence_length, vocabulary, device, beat
        self._reserved: torch.Tensor | None = None

    def recompute(self) -> None:
        """Compute activations again in the backward pass, as a run with `activation_checkpointing` does."""
        recompute_activations(self._model)

    def reserve(self, size: int) -> None:
        """Take room that the run will need for other things, bytes."""
        self._reserved = torch.empty(size, dtype=torch.uint8, device=self._device)

    def __call__(self, sequences: int) -> float:
        """Return sequences per second.

        Raises:
            torch.OutOfMemoryError: there is no room.
        """
        rows = np.random.default_rng(0).integers(0, self._vocabulary, (sequences, self._length))
        tokens_BT = torch.from_numpy(rows).to(self._device)
        seconds = []
        for _ in range(WARM + TIMED):
            began = time.perf_counter()
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._precision == "autocast"):
                total = summed_loss(self._model, tokens_BT, tokens_BT, self._chunk)
            total.backward()  # type: ignore[no-untyped-call]
            del total
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            seconds.append(time.perf_counter() - began)
            self._beat()
        return sequences / statistics.median(seconds[WARM:])

    def close(self) -> None:
        """Give the memory back."""
        del self._model
        self._reserved = None
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
