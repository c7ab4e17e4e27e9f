"""Training speed of this project against a bare PyTorch loop: same model, batch, precision, optimiser and clipping.

    python benchmarks/training.py [--json] [--runs 10] [--updates 60]

Both sides run in this process, one after the other, `runs` times interleaved, and the median of the ratios counts.
Ours is the whole stage's training time: data, rows and all, without evaluations and checkpoints, which are timed apart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BEGAN = time.monotonic()

import numpy as np  # noqa: E402 - the clock starts before the imports
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from sweeps.language.science import (  # noqa: E402
    EngineScience,
    ModelScience,
    OptimScience,
    SeedScience,
    SegmentScience,
    TransferScience,
    ValidationScience,
)
from sweeps.language.stage import Execution  # noqa: E402
from sweeps.store import records  # noqa: E402
from sweeps.store.layout import Layout, StageFolder  # noqa: E402
from workloads.training import checkpoints, runs  # noqa: E402
from workloads.training.model import build_model, parameter_groups  # noqa: E402
from workloads.watchdog import Pulse  # noqa: E402

VOCABULARY = 1_024
MODEL = ModelScience()
OPTIM = OptimScience()
UPDATE = OPTIM.batch_sequences * MODEL.sequence_length
TARGET = 0.9
"""Least median ratio."""


class Random:
    """A corpus of random tokens."""

    domain, vocabulary, sequence_length = "random", VOCABULARY, MODEL.sequence_length
    train_sequences = validation_sequences = 4_096

    def __init__(self) -> None:
        self.tokens_ST = np.random.default_rng(0).integers(0, VOCABULARY, (4_096, self.sequence_length), np.int32)

    def train(self, index_B: Any) -> Any:
        """Return these sequences."""
        return self.tokens_ST[index_B % len(self.tokens_ST)]

    validation = train

    def bytes_of(self, tokens: Any) -> int:
        """Return one byte a token."""
        return int(tokens.size)


@dataclass
class Context:
    """What a stage of the benchmark sees."""

    store: Layout
    fingerprint: str
    science: dict[str, Any]
    kind: str = "pretrain"
    execution: Execution = field(default_factory=lambda: Execution(checkpoint_seconds=1e9))

    def __post_init__(self) -> None:
        self.pulse = Pulse()
        self.attempt = records.open_attempt(self.store.stage(self.kind, self.fingerprint), {})

    def inputs(self, role: str) -> list[Path]:
        """Return an unused folder for the corpus."""
        return [self.store.root] if role == "corpus" else []

    def continues(self) -> list[StageFolder]:
        """Return nothing: every run is fresh."""
        return []

    def should_stop(self) -> bool:
        """Never."""
        return False


def ours(store: Layout, name: str, updates: int) -> dict[str, float]:
    """Train one stage; return its scores."""
    context: Any = Context(store, name, {
        "model": MODEL, "optim": OPTIM, "engine": EngineScience(), "seed": SeedScience(), "transfer": TransferScience(),
        "segment": SegmentScience(end_tokens=updates * UPDATE),
        "validation": ValidationScience(every_tokens=10**9, trunk_tokens=4_096, end_tokens=4_096),
    })
    scores = dict(runs.pretrain(context))
    context.attempt.close()
    return scores


def bare(updates: int) -> float:
    """Train the same model in a plain loop; return tokens per second."""
    model = build_model(MODEL, VOCABULARY, seed=0, purpose="pretrain", embedding_std=1.0)
    optimiser = torch.optim.AdamW(list(parameter_groups(model, OPTIM.weight_decay)), lr=OPTIM.lr, betas=(0.9, 0.95),
                                  fused=True)
    corpus = Random()
    batches = [torch.from_numpy(corpus.train(np.arange(u * 4, u * 4 + 4)).astype(np.int64)) for u in range(updates)]
    labels = [F.pad(tokens[:, 1:], (0, 1), value=-100) for tokens in batches]  # saves a copy of the logits
    began = time.monotonic()
    for tokens, label in zip(batches, labels, strict=True):
        logits = model(input_ids=tokens).logits
        F.cross_entropy(logits.flatten(0, 1), label.flatten()).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIM.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return updates * UPDATE / (time.monotonic() - began)


def checkpoint_seconds(monkeypatched: list[float]) -> None:
    """Time every checkpoint from now on into `monkeypatched`."""
    plain = checkpoints.save

    def timed(*args: Any) -> None:
        began = time.monotonic()
        plain(*args)
        monkeypatched.append(time.monotonic() - began)

    checkpoints.save = timed  # type: ignore[assignment]


def main() -> int:
    """Print the figures; exit 1 where the ratio is below the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--updates", type=int, default=60)
    given = parser.parse_args()
    corpus = Random()
    saves: list[float] = []
    runs.open_reader = lambda *_: corpus
    checkpoint_seconds(saves)
    with tempfile.TemporaryDirectory() as folder:
        store = Layout(Path(folder))
        imported = time.monotonic() - BEGAN
        first = ours(store, "first", 1)
        second_began = time.monotonic()
        second = ours(store, "second", 1)
        second_seconds = time.monotonic() - second_began
        bare(5)
        pairs = [(ours(store, f"r{n}", given.updates)["tokens_per_second"], bare(given.updates))
                 for n in range(given.runs)]
    ratios = [a / b for a, b in pairs]
    figures = {
        "ratio_median": statistics.median(ratios), "ratio_least": min(ratios), "ratio_most": max(ratios),
        "tokens_per_second": statistics.median(a for a, _ in pairs),
        "bare_tokens_per_second": statistics.median(b for _, b in pairs),
        "job_to_first_step_seconds": imported + first["seconds_to_first_step"],
        "second_stage_first_step_seconds": second["seconds_to_first_step"], "second_stage_seconds": second_seconds,
        "checkpoint_seconds_median": statistics.median(saves), "target": TARGET,
    }
    print(json.dumps(figures) if given.json else "\n".join(f"{k:34} {v:,.3f}" for k, v in figures.items()))
    return int(figures["ratio_median"] < TARGET)


if __name__ == "__main__":
    raise SystemExit(main())
