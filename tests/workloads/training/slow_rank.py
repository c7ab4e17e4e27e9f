"""What the test of a slow rank runs in each of its two processes: `python -m ... STORE`.

Rank 1 takes longer for every forward pass; in a second run one part of its losses is not a number.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from sweeps.language.stage import Execution
from sweeps.store.layout import Layout
from tests.workloads.training.fakes import FakeContext, FakeCorpus, corpus_stage, science
from workloads.contract import Diverged
from workloads.training import runs
from workloads.training.engine import Engine
from workloads.training.process import join, leave

RANK = int(os.environ["RANK"])
SLOWER_S = 0.03


class RankContext(FakeContext):
    """Rank 0 makes the attempt, the other rank gets its folder."""

    def __post_init__(self) -> None:
        place = join(1)
        if place.first:
            super().__post_init__()
        place.barrier()
        if not place.first:
            self.attempt = type("Paths", (), {"folder": self.folder.attempt(1), "stage": self.folder})()
        place.barrier()


def context(store: Layout, name: str, updates: int) -> RankContext:
    return RankContext("pretrain", name, science(updates), store, given={"corpus": [corpus_stage(store)]},
                       execution=Execution(checkpoint_seconds=1e9, ranks=2))


def slower(*_: object) -> None:
    time.sleep(SLOWER_S * RANK)


def main() -> None:
    """Train twice."""
    store = Layout(Path(sys.argv[1]))
    runs.open_reader = lambda folder, context: FakeCorpus(folder, seed=0, sequence_length=16)  # type: ignore
    join(1)
    made = runs.build_model

    def build_model(*given: Any, **more: Any) -> Any:
        model = made(*given, **more)
        model.model.register_forward_hook(slower)
        return model

    runs.build_model = build_model
    runs.pretrain(context(store, "slow", 65))
    runs.build_model = made
    update, calls = Engine.update, [0]

    def broken(self: Engine, *given: Any, **more: Any) -> Any:
        loss, norm = update(self, *given, **more)
        calls[0] += 1
        return (loss * float("nan") if RANK == 1 and calls[0] == 7 else loss), norm

    Engine.update = broken  # type: ignore[method-assign]
    try:
        runs.pretrain(context(store, "broken", 30))
    except Diverged as reason:
        sys.stdout.write(f"{reason}\n")
    leave()


if __name__ == "__main__":
    main()
