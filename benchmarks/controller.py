"""1,000 complete trials through Ray Tune on the memory executor, and resuming them when all are done.

    python -m benchmarks.controller [--json] [--seeds 48] [--runs 3]

The grid is sweeps/complexity_by_domain.yaml with more seeds (21 trials a seed); every stage leaves real records (spec,
claim, attempt, rows, result; all fsynced). The alternative in the same run is the same reconciler without Tune.

    trials, stages      in the grid
    tune_s              through Ray Tune, seconds
    resume_s            the same command again, when all are done
    reconciler_alone_s  the alternative
    ratio               of `tune_s` to it
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import ratio, show
from orchestrator.clusters import executor_of
from orchestrator.plan import Planned, make_plan
from orchestrator.reconciler import Reconciler
from orchestrator.session import run_sweep
from sweeps.language.spec import Overrides
from sweeps.store.ledger import begin_term

SWEEP = Path(__file__).parent.parent / "sweeps" / "complexity_by_domain.yaml"
SMALLEST = ("--seeds", "1", "--runs", "1")


def timed(action: Callable[[], object]) -> float:
    """Return wall seconds."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def without_tune(planned: Planned) -> None:
    """Drive the reconciler alone."""
    planned.layout.sweep(planned.sweep.name).path.mkdir(parents=True)
    ledger, state = begin_term(planned.layout.sweep(planned.sweep.name))
    reconciler = Reconciler(planned, executor_of(planned.sweep.run, planned.layout), ledger, state, lambda notice: None)
    while not reconciler.finished:
        reconciler.step()
    ledger.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seeds", default="48")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    tune, again, bare, trials, stages = [], [], [], 0, 0
    for _ in range(arguments.runs):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            overrides = Overrides(seeds=arguments.seeds, cluster="memory")
            planned = make_plan(SWEEP, overrides, Path(one))
            trials, stages = len(planned.trials), len(planned.graph.nodes)
            tune.append(timed(lambda p=planned: run_sweep(p, takeover=False, quiet=True)))  # type: ignore[misc]
            again.append(timed(lambda p=planned: run_sweep(p, takeover=False, quiet=True)))  # type: ignore[misc]
            alone = make_plan(SWEEP, overrides, Path(other))
            bare.append(timed(lambda p=alone: without_tune(p)))  # type: ignore[misc]
    show({
        "trials": trials, "stages": stages, "tune_s": statistics.median(tune), "resume_s": statistics.median(again),
        "reconciler_alone_s": statistics.median(bare), "ratio": ratio(tune, bare),
    }, as_json=arguments.json)


if __name__ == "__main__":
    main()
