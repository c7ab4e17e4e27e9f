"""What the test of two ranks runs in each of its two processes: `python two_ranks.py STORE`.

For every layout: an uninterrupted run, then the same one stopped and resumed. Prints one JSON object (rank 0).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from sweeps.errors import RecordError
from sweeps.language.science import EngineScience
from sweeps.language.stage import Execution
from sweeps.store import records
from sweeps.store.layout import Layout
from tests.workloads.training.fakes import FakeContext, FakeCorpus, corpus_stage, science
from workloads.contract import Stopped
from workloads.training import runs
from workloads.training.process import join
from workloads.training.transfer import read_weights

RANK = int(os.environ["RANK"])
LAYOUTS = [("fp32", 0), ("fp32", 1), ("fp32", 2), ("fp32", 3), ("bf16", 1), ("bf16", 2), ("bf16", 3), ("autocast", 0)]


class RankContext(FakeContext):
    """Rank 0 makes the attempt, the other rank gets its folder."""

    def __post_init__(self) -> None:
        place = join(1)
        if place.first:
            super().__post_init__()
        place.barrier()
        if not place.first:
            self.attempt = type("Paths", (), {
                "folder": self.folder.attempt(max(int(p.name) for p in self.folder.attempts.iterdir())),
                "stage": self.folder,
            })()
        place.barrier()


def one(store: Layout, name: str, layout: tuple[Any, int], stop_after: int | None = None) -> Any:
    """Train one stage; return its context and scores, None for the scores where it was stopped."""
    fields = {**science(25), "engine": EngineScience(precision=layout[0])}
    context = RankContext(
        "pretrain", name, fields, store, given={"corpus": [corpus_stage(store)]}, stop_after=stop_after,
        execution=Execution(checkpoint_seconds=1e9, ranks=2, zero_stage=layout[1], micro_batch=1),
    )
    try:
        return context, dict(runs.pretrain(context))
    except Stopped:
        return context, None


def main() -> None:
    """Run every layout."""
    store = Layout(Path(sys.argv[1]))
    runs.open_reader = lambda folder, context: FakeCorpus(folder, seed=0, sequence_length=16)  # type: ignore
    join(1)
    found: dict[str, Any] = {}
    for layout in LAYOUTS:
        name = f"{layout[0]}-{layout[1]}"
        whole, scores = one(store, f"{name}-whole", layout)
        _, stopped = one(store, f"{name}-cut", layout, stop_after=9 if RANK else None)
        again, _ = one(store, f"{name}-cut", layout)
        assert stopped is None
        if RANK == 0:
            weights = [read_weights(c.attempt.artifacts) for c in (whole, again)]
            parent = records.read_parent(again.attempt.folder)
            found[name] = {
                "exact": all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0]),
                "parent_tokens": parent.tokens if parent else 0, "loss": scores["loss"],
                "adam_steps": scores["adam_steps"],
                "validation": [r.values["loss"] for r in whole.rows if r.kind == "validation"],
                "grad_norm": [r.values["grad_norm"] for r in whole.rows if r.kind == "train"],
            }
    try:
        runs.pretrain(RankContext("pretrain", "lost", science(24, decay_from=20), store, execution=Execution(ranks=2),
                                  given={"corpus": [corpus_stage(store)]}))
    except RecordError as error:  # rank 1 has looked at nothing: it hears of it
        found["refused"] = str(error)
    assert "refused" in found
    if RANK == 0:
        sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
