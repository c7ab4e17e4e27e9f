"""`orchestrator sweep` on the memory executor, killed at every point: its own writes and those of its jobs.

Everything from the command line to the report runs as it does for a person, but for Ray Tune, which holds no truth and
costs six seconds a run, and the figures. One slot: the calls then come in the same order in every run.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from analysis import figures
from orchestrator import __main__ as command_line
from orchestrator import controller, session
from orchestrator.plan import Planned
from sweeps.store.layout import Layout
from tests.faults import points

SWEEP = Path(__file__).parent / "points.yaml"


def without_tune(planned: Planned, thread: controller.ReconcilerThread) -> None:
    """Stand in for `controller.run_trials`: the reconciler in this thread."""
    thread.run()
    if thread.error is not None:
        raise thread.error


def run(root: Path, upstreams: str) -> int:
    """Run the command with these arms."""
    session.run_trials = without_tune
    controller.INTERVAL_SECONDS = 0.0
    vars(figures)["registry"] = dict
    return command_line.main(["sweep", str(SWEEP), "--root", str(root), "--quiet", "--set",
                              f"upstream=[{upstreams}]"])


def facts(root: Path) -> Mapping[str, str]:
    """Return every table but the costs, and every stage's rows and scores."""
    tables = root / "sweeps" / "faults" / "report" / "tables"
    written = {p.name: p.read_text(encoding="utf-8") for p in tables.glob("[a-z]*") if p.stem != "cost"}
    return written | points.records(Layout(root))


def prepare(root: Path) -> None:
    """Leave everything to the command."""


def warm_up() -> None:
    """Run once in this process, so that its children find everything imported and compiled."""
    with TemporaryDirectory() as folder:
        assert run(Path(folder), "none") == 0


if __name__ == "__main__":
    warm_up()
    points.main({
        name: points.Scenario(prepare=prepare, run=partial(run, upstreams=arms), facts=facts)
        for name, arms in {"one-arm": "none", "two-arms": "none,shuffle_dyck"}.items()
    }, sys.argv[1:])
