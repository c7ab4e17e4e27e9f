"""What the test of a hung rank runs in each of its two processes: `python -m ... STORE`; training that never ends."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path

from sweeps.language.science import EngineScience
from sweeps.language.stage import Execution
from sweeps.store.layout import Layout
from tests.workloads.training.fakes import FakeCorpus, corpus_stage, science
from tests.workloads.training.ranks import RankContext
from workloads.training import runs
from workloads.watchdog import Watchdog

FLOOR_S = 3.0


def main() -> None:
    """Train under ZeRO 3 until something hangs."""
    store = Layout(Path(sys.argv[1]))
    runs.open_reader = lambda folder, context: FakeCorpus(folder, seed=0, sequence_length=16)  # type: ignore
    context = RankContext(
        "pretrain", "hung", {**science(10_000_000), "engine": EngineScience(precision="fp32")}, store,
        given={"corpus": [corpus_stage(store)]},
        execution=Execution(checkpoint_seconds=1e9, ranks=2, zero_stage=3, micro_batch=1),
    )
    watchdog = Watchdog(floor_s=FLOOR_S, rank=int(os.environ["RANK"]), ranks=int(os.environ["WORLD_SIZE"]))
    with closing(watchdog), watchdog.watch(context.attempt.folder.path) as context.pulse:
        runs.pretrain(context)


if __name__ == "__main__":
    main()
