"""A cap on GPU-hours with jobs on a real Slurm: what runs ends or leaves, and a larger cap goes on with the rest."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.rehearsal import Rehearsal
from orchestrator.board import Status
from orchestrator.plan import Planned
from sweeps.errors import BudgetError
from sweeps.store.files import read_json
from tests.cluster.slurm.test_policy import reign, toys
from tests.cluster.slurm.test_real import began, client
from tests.workloads.tickets import spec, stage_folder

pytestmark = pytest.mark.slurm
CAP_S = 7.0
"""Room for one toy stage, which is estimated at 5 s, and not for two."""


def capped(plan: Planned, seconds: float, at_cap: str = "drain") -> Planned:
    run = plan.sweep.run.model_copy(update={"max_gpu_hours": seconds / 3600, "at_cap": at_cap})
    return replace(plan, sweep=plan.sweep.model_copy(update={"run": run}))


def test_at_the_cap_jobs_checkpoint_and_leave_and_a_larger_cap_goes_on(slurm: Rehearsal, tmp_path: Path) -> None:
    stage, other = spec("wait"), spec(salt=1)
    plan = toys(tmp_path, {"a": stage, "b": other})
    with reign(capped(plan, CAP_S, "stop"), slurm, slots=1) as run:
        with pytest.raises(BudgetError, match="2 of 2 trials are not complete"):
            run.drive()
        assert run.reconciler.budget.used >= CAP_S / 3600 and began(tmp_path, stage), "it ran until the cap"
        assert run.reconciler.stop(30.0, threading.Event()) == 0
        assert stage_folder(tmp_path, stage).attempt(1).stopped.exists()
        assert not client(slurm, "squeue", "-h", "-r") and not run.events("failed", "interrupted")
        assert len(run.events("intent")) == 1
    with reign(capped(plan, 3600), slurm, slots=1) as run:
        run.drive()
        assert set(run.reconciler.board.status.values()) == {Status.DONE}
        assert read_json(stage_folder(tmp_path, stage).result)["scores"]["resumed_from"] == 7
        assert (run.attempts(stage), run.attempts(other)) == (2, 1)


@pytest.mark.proof
def test_a_cap_that_drains_lets_what_runs_end_and_submits_nothing_more(slurm: Rehearsal, tmp_path: Path) -> None:
    stage, other = spec("hold"), spec(salt=1)
    plan = toys(tmp_path, {"a": stage, "b": other})
    with reign(capped(plan, CAP_S), slurm, slots=2) as run:
        run.drive(lambda: run.reconciler.budget.used >= 1.5 * CAP_S / 3600)
        assert not run.reconciler._jobs[0].asked and not run.attempts(other), "there was a slot, but no budget"
        (stage_folder(tmp_path, stage).path / "go").touch()
        with pytest.raises(BudgetError, match="1 of 2 trials are not complete"):
            run.drive()
        assert run.reconciler.board.status == {stage.fingerprint: Status.DONE, other.fingerprint: Status.WAITING}
        assert [n.kind for n in run.notices if n.kind == "budget"] == ["budget"] and len(run.events("intent")) == 1
    with reign(capped(plan, 3600), slurm) as run:
        run.drive()
        assert set(run.reconciler.board.status.values()) == {Status.DONE}
        assert (run.attempts(stage), run.attempts(other)) == (1, 1)
