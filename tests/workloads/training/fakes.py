"""A store, a context, an upstream and a corpus for training tests; all small, all in memory or a temporary folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sweeps.language.plugins import Plugin, Science, Upstream
from sweeps.language.science import (
    EngineScience,
    ModelScience,
    OptimScience,
    SeedScience,
    SegmentScience,
    TransferScience,
    ValidationScience,
)
from sweeps.language.stage import Execution, Input, StageSpec, section
from sweeps.store import files, records
from sweeps.store.layout import Layout, StageFolder
from workloads.contract import Ints, SequenceBatch
from workloads.watchdog import Pulse

VOCABULARY = 40
UPSTREAM_VOCABULARY = 30
LENGTH = 16
BATCH = 4
UPDATE = LENGTH * BATCH
"""Tokens of one update."""
MODEL = ModelScience(layers=2, width=16, mlp=32, heads=2, sequence_length=LENGTH)


class FakeScience(Science):
    """Science of the fake upstream."""


class FakeSource:
    """Sequence i repeats a random frame of 4 tokens; the first frame is never a target."""

    vocabulary = UPSTREAM_VOCABULARY
    period: int | None = 4

    def __init__(self, *, seed: int, stream: str, sequence_length: int) -> None:
        self.sequence_length = sequence_length
        self.salt = seed * 2 + (stream == "held_out")
        self.asked: list[int] = []

    def sequences(self, index_B: Ints) -> SequenceBatch:
        self.asked += index_B.tolist()
        frames = [np.random.default_rng([self.salt, int(i)]).integers(0, self.vocabulary, 4) for i in index_B]
        tokens_BT = np.tile(np.stack(frames), (1, 64))[:, : self.sequence_length].astype(np.int32)
        target_BT = np.ones(tokens_BT.shape, dtype=np.bool_)
        target_BT[:, :4] = False
        return SequenceBatch(tokens_BT=tokens_BT, target_BT=target_BT)


def make_source(
    science: Any, *, seed: int, stream: str, sequence_length: int, banks: Sequence[Path]
) -> FakeSource:
    """Signature of `MakeSource`."""
    return FakeSource(seed=seed, stream=stream, sequence_length=sequence_length)


class FakeCorpus:
    """Text whose tokens stand for two bytes each; remembers which sequences were asked for."""

    domain = "web"
    vocabulary = VOCABULARY
    train_sequences = 64
    validation_sequences = 20

    def __init__(self, folder: Path, *, seed: int, sequence_length: int) -> None:
        self.seed = seed
        self.sequence_length = sequence_length
        self.asked: list[int] = []

    def _rows(self, salt: int, index_B: Ints) -> np.ndarray:
        draws = [np.random.default_rng([salt, int(i)]).integers(0, 8, self.sequence_length) for i in index_B]
        return (np.stack(draws).cumsum(axis=1) % VOCABULARY).astype(np.int32)

    def train(self, index_B: Ints) -> np.ndarray:
        self.asked += index_B.tolist()
        return self._rows(self.seed + 1, index_B)

    def validation(self, index_B: Ints) -> np.ndarray:
        assert index_B.max() < self.validation_sequences
        return self._rows(10_000, index_B)

    def bytes_of(self, tokens: np.ndarray) -> int:
        return 2 * tokens.size


@dataclass
class FakeContext:
    """Keeps `StageContext`; `stop_after` counts updates before should_stop turns True; 0: before the first."""

    kind: str
    fingerprint: str
    science: Mapping[str, Any]
    store: Layout
    execution: Execution = Execution(checkpoint_seconds=1e9)
    given: dict[str, list[StageFolder]] = field(default_factory=dict)
    earlier: list[StageFolder] = field(default_factory=list)
    stop_after: int | None = None
    attempt: Any = None
    pulse: Pulse = field(default_factory=Pulse)
    made: ClassVar[list[FakeContext]] = []

    def __post_init__(self) -> None:
        folder = self.store.stage(self.kind, self.fingerprint)
        folder.attempts.mkdir(parents=True, exist_ok=True)
        plain = {k: section(v) for k, v in self.science.items() if not k.startswith("task.") and k != "upstream"}
        spec = StageSpec(kind=self.kind, revisions={}, sections=plain, inputs=tuple(
            Input(role=r, kind=s.kind, fingerprint=s.fingerprint) for r, given in self.given.items() for s in given
        ))
        files.create(folder.spec, spec.to_text().replace(spec.fingerprint, self.fingerprint))  # a name that tests give
        self.attempt = records.open_attempt(folder, {})
        self.made.append(self)

    def plugin(self, section: str) -> Plugin:
        return Upstream(science=FakeScience, revision=1, implementation=f"{__name__}:make_source",
                        vocabulary=lambda _: UPSTREAM_VOCABULARY)

    def inputs(self, role: str) -> list[Path]:
        return [records.artifacts_of(s) for s in self.given.get(role, [])]

    def stages(self, role: str) -> list[StageFolder]:
        return self.given.get(role, [])

    def continues(self) -> list[StageFolder]:
        return self.earlier

    def should_stop(self) -> bool:
        if self.stop_after is None:
            return False
        self.stop_after -= 1
        return self.stop_after < 0

    @property
    def folder(self) -> StageFolder:
        return self.store.stage(self.kind, self.fingerprint)

    @property
    def rows(self) -> list[records.Row]:
        return records.lineage_rows(self.store, self.attempt.folder)


def science(
    end: int, *, decay_from: int | None = None, seed: int = 0, embedding_init: float = 1.0, **optim: Any
) -> dict[str, Any]:
    """Sections of a pretrain stage that ends after `end` updates (a branch from update `decay_from`)."""
    return {
        "model": MODEL, "optim": OptimScience(batch_sequences=BATCH, lr=1e-2, **optim), "engine": EngineScience(),
        "seed": SeedScience(seed=seed), "transfer": TransferScience(embedding_init=embedding_init),
        "upstream": FakeScience(),
        "segment": SegmentScience(end_tokens=end * UPDATE, warmup_tokens=2 * UPDATE,
                                  decay_from=None if decay_from is None else decay_from * UPDATE),
        "validation": ValidationScience(every_tokens=10 * UPDATE, trunk_tokens=4 * LENGTH, end_tokens=20 * LENGTH),
    }


def finished(context: FakeContext, scores: Mapping[str, float]) -> StageFolder:
    """Commit a stage as the job's runner would."""
    assert context.attempt.commit(scores)
    context.attempt.close()
    return context.folder


def corpus_stage(store: Layout) -> StageFolder:
    """A finished corpus stage with an empty artifact folder."""
    folder = store.stage("corpus", "c")
    if not folder.result.exists():
        attempt = records.open_attempt(folder, {})
        _ = attempt.artifacts
        attempt.commit({})
        attempt.close()
    return folder
