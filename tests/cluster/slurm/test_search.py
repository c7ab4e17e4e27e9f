"""A search whose candidates are jobs on a real Slurm: what a loser runs leaves at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.rehearsal import Rehearsal
from orchestrator.board import Status
from sweeps.language.asha import Bracket, Candidate
from sweeps.language.manifest import PlanSearch
from tests.cluster.slurm.test_policy import reign, toys
from tests.cluster.slurm.test_real import began, client
from tests.workloads.tickets import spec, stage_folder

pytestmark = pytest.mark.slurm


def test_the_job_of_a_candidate_that_has_lost_leaves_while_the_others_go_on(slurm: Rehearsal, tmp_path: Path) -> None:
    """A toy's loss is its salt. The second candidate runs ahead, until the last two beat it on the rung below."""
    low = [spec("succeed", 9), spec("succeed", 8), spec("hold", 1), spec("hold", 2)]
    high = [spec("succeed", 19), spec("wait", 18), spec("hold", 11), spec("succeed", 12)]
    plan = toys(tmp_path, {f"{rung}{n}": s for rung, row in (("low", low), ("high", high)) for n, s in enumerate(row)})
    bracket = Bracket(cell="scratch | web", key="k", upstream_tokens=0, pretrain_tokens=1, candidates=tuple(
        Candidate(values={"lr": float(n)}, runs=(((a.fingerprint,), (b.fingerprint,)),))
        for n, (a, b) in enumerate(zip(low, high, strict=True))))
    plan = replace(plan, file=plan.file.model_copy(update={"search": PlanSearch(eta=2, brackets=(bracket,))}))
    with reign(plan, slurm, slots=4) as run:
        status = run.reconciler.board.status
        run.drive(lambda: began(tmp_path, high[1]))
        job = next(j for j in run.reconciler._jobs if high[1].fingerprint in j.stages)
        assert status[high[0].fingerprint] is Status.WAITING and not job.asked
        for held in low[2:]:
            (stage_folder(tmp_path, held).path / "go").touch()
        run.drive(lambda: began(tmp_path, high[2]) and job not in run.reconciler._jobs)
        assert stage_folder(tmp_path, high[1]).attempt(1).stopped.exists(), "it was asked, and left by itself"
        assert job.handle.job_id not in client(slurm, "squeue", "-h", "-r", "-o", "%i").split()
        assert status[high[1].fingerprint] is Status.WITHHELD and not run.events("failed", "interrupted")
        assert status[high[2].fingerprint] is Status.RUNNING, "the better ones go on"
        (stage_folder(tmp_path, high[2]).path / "go").touch()
        run.drive()
        ends = [status[s.fingerprint] for s in high]
        assert ends == [Status.WITHHELD, Status.WITHHELD, Status.DONE, Status.DONE]
        assert [run.attempts(s) for s in high] == [0, 1, 1, 1]
