"""A pre-training stage without a sweep: what the benchmarks of training train on, and what a stage sees of them.

Shape suffixes: B sequences, S stored sequences, T tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.language.presets import SCALES
from sweeps.language.science import (
    EngineScience,
    ModelScience,
    OptimScience,
    SeedScience,
    SegmentScience,
    TransferScience,
    ValidationScience,
)
from sweeps.language.stage import Execution
from sweeps.store import records
from sweeps.store.layout import Layout, StageFolder
from workloads.contract import Ints
from workloads.training import runs
from workloads.watchdog import Pulse

NEVER = 10**9
"""Tokens, or seconds, that no benchmark reaches."""


class RandomCorpus:
    """Random tokens, the same ones every time; keeps `workloads.contract.CorpusReader`."""

    domain = "random"
    train_sequences = validation_sequences = 512

    def __init__(self, vocabulary: int, sequence_length: int) -> None:
        """Draw them."""
        self.vocabulary, self.sequence_length = vocabulary, sequence_length
        shape = self.train_sequences, sequence_length
        self._tokens_ST = np.random.default_rng(0).integers(0, vocabulary, shape, np.int32)

    def train(self, index_B: Ints) -> Any:
        """Return these sequences."""
        return self._tokens_ST[index_B % len(self._tokens_ST)]

    validation = train

    def bytes_of(self, tokens: Any) -> int:
        """Return one byte a token."""
        return int(tokens.size)


def model_of(scale: str) -> ModelScience:
    """Return the model of a scale."""
    prefix = "model."
    fields = SCALES[scale].fields().items()
    return ModelScience.model_validate({k.removeprefix(prefix): v for k, v in fields if k.startswith(prefix)})


def sections(scale: str, *, batch_sequences: int, updates: int) -> dict[str, Any]:
    """Return the science of a stage of a scale, fp32 on one thread, without evaluations."""
    model = model_of(scale)
    return {
        "model": model, "optim": OptimScience(batch_sequences=batch_sequences, lr=SCALES[scale].lr),
        "engine": EngineScience(), "seed": SeedScience(), "transfer": TransferScience(),
        "segment": SegmentScience(end_tokens=updates * batch_sequences * model.sequence_length),
        "validation": ValidationScience(every_tokens=NEVER, trunk_tokens=NEVER, end_tokens=NEVER),
    }


@dataclass
class Context:
    """One attempt at such a stage; keeps what training asks of `workloads.contract.StageContext`."""

    store: Layout
    fingerprint: str
    science: dict[str, Any]
    execution: Execution = field(default_factory=lambda: Execution(checkpoint_seconds=NEVER))
    pulse: Pulse = field(default_factory=Pulse)
    kind: str = "pretrain"

    def __post_init__(self) -> None:
        self.attempt = records.open_attempt(self.store.stage(self.kind, self.fingerprint), {})

    def inputs(self, role: str) -> list[Path]:
        """Return a folder for the corpus, which is not read."""
        return [self.store.root] if role == "corpus" else []

    def continues(self) -> list[StageFolder]:
        """Return nothing: no other stage is an earlier state of this one."""
        return []

    def should_stop(self) -> bool:
        """Nobody asks."""
        return False


def train(context: Context, corpus: RandomCorpus) -> dict[str, float]:
    """Run the stage in this process; return its scores."""
    runs.open_reader = lambda *_: corpus
    given: Any = context
    try:
        return dict(runs.pretrain(given))
    finally:
        context.attempt.close()


def timed(function: Callable[..., Any], told: Callable[[float], None]) -> Callable[..., Any]:
    """Return the function; after each call `told` gets its seconds."""
    def wrapped(*args: Any, **named: Any) -> Any:
        began = time.monotonic()
        made = function(*args, **named)
        told(time.monotonic() - began)
        return made

    return wrapped
