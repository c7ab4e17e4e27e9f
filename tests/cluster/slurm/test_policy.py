"""Jobs that die on a real Slurm: each ends in its class, and the policy's action follows."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from cluster.rehearsal import Rehearsal, breaks
from cluster.rehearsal.scratch import mounted
from orchestrator.__main__ import main
from orchestrator.board import Status
from orchestrator.plan import Planned
from orchestrator.reconciler import Notice, Reconciler
from sweeps.errors import EnvironmentError_, StorageError
from sweeps.language.graph import Graph, Node
from sweeps.language.manifest import PathStep, PlanFile, PlanStage, PlanTrial
from sweeps.language.stage import StageSpec
from sweeps.store import files, requests
from sweeps.store.files import read_json
from sweeps.store.layout import Layout
from sweeps.store.ledger import Event, begin_term, read_events
from tests.cluster.slurm.test_contract import executor
from tests.cluster.slurm.test_real import began, client
from tests.orchestrator.plans import planned
from tests.workloads.tickets import PLUGIN_TEXT, spec, stage_folder
from workloads.registry import load_registries

pytestmark = pytest.mark.slurm
PATIENCE_S = 120.0


def toys(root: Path, stages: dict[str, StageSpec], name: str = "s", **policy: Any) -> Planned:
    """Return a plan of a sweep: each trial is one toy stage."""
    plugin = root / "toy.py"
    plugin.write_text(PLUGIN_TEXT)
    base = planned(root, name=name, run={"cluster": "memory", "pack": "1 s", "policy": policy})
    paths = {t: (PathStep(role="toy", kind=s.kind, fingerprint=s.fingerprint),) for t, s in stages.items()}
    trials = tuple(PlanTrial(id=t, arm=t, cell=t, upstream="none", domain="web", seed=0, pretrain_tokens=0, path=path)
                   for t, path in paths.items())
    planned_stages = tuple(PlanStage(kind=s.kind, fingerprint=s.fingerprint, label=t, trials=1)
                           for t, s in stages.items())
    return replace(base, plugins=(plugin,), registries=load_registries((plugin,)), graph=Graph(paths=paths, nodes={
        s.fingerprint: Node(spec=s, label=t) for t, s in stages.items()}), file=PlanFile(
            name=name, question="", protocol="fair", scale="tiny", trials=trials, stages=planned_stages))


@dataclass(kw_only=True)
class Reign:
    """A controller of the plan."""

    plan: Planned
    reconciler: Reconciler
    notices: list[Notice] = field(default_factory=list)

    def drive(self, until: Callable[[], object] = lambda: False, *, patience_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + patience_s
        while not self.reconciler.finished and not until():
            assert time.monotonic() < deadline, self.notices
            self.reconciler.step()
            time.sleep(0.1)

    def events(self, *kinds: str) -> list[Event]:
        return [e for e in read_events(self.plan.layout.sweep(self.plan.sweep.name)) if e["event"] in kinds]

    def attempts(self, stage: StageSpec) -> int:
        folder = self.plan.layout.stage(stage.kind, stage.fingerprint).attempts
        return len(list(folder.iterdir())) if folder.exists() else 0


@contextmanager
def reign(plan: Planned, slurm: Rehearsal, **options: Any) -> Iterator[Reign]:
    ledger, state = begin_term(plan.layout.sweep(plan.sweep.name))
    notices: list[Notice] = []
    cluster = executor(plan.layout.root, slurm, **options)
    yield Reign(plan=plan, notices=notices, reconciler=Reconciler(plan, cluster, ledger, state, notices.append))
    ledger.close()


def test_a_job_that_uses_more_memory_than_it_asked_for_is_oom_host_and_not_tried_again(
        slurm: Rehearsal, tmp_path: Path) -> None:
    stage = spec("hoard")
    with reign(toys(tmp_path, {"a": stage}), slurm, memory_mb=200) as run:
        run.drive()
        assert [(e["class"], e["action"]) for e in run.events("failed", "interrupted")] == [("oom_host", "give up")]
        assert run.attempts(stage) == 1
        assert "more memory" in run.reconciler.board.reasons[stage.fingerprint]


def test_a_bare_kill_is_unknown_and_tried_as_often_as_the_policy_says(slurm: Rehearsal, tmp_path: Path) -> None:
    stage = spec("kill")
    with reign(toys(tmp_path, {"a": stage}, unknown=2), slurm) as run:
        run.drive()
        assert [(e["class"], e["action"]) for e in run.events("failed", "interrupted")] == [
            ("unknown", "resume"), ("unknown", "give up")]
        assert run.attempts(stage) == 2


def test_an_exception_is_code_and_not_tried_again(slurm: Rehearsal, tmp_path: Path) -> None:
    stage = spec("fail")
    with reign(toys(tmp_path, {"a": stage}), slurm) as run:
        run.drive()
        event, = run.events("failed", "interrupted")
        assert (event["class"], event["action"]) == ("code", "give up") and "ValueError: no such thing" in event["text"]
        assert event["node"] in slurm.nodes
        assert run.attempts(stage) == 1


def test_a_wrong_partition_is_code_and_ends_the_sweep_until_the_profile_is_right(
        slurm: Rehearsal, tmp_path: Path) -> None:
    stage = spec()
    plan = toys(tmp_path, {"a": stage})
    with reign(plan, slurm, partition="nowhere") as run:
        with pytest.raises(EnvironmentError_, match="(?is)refused it.*invalid partition.*the same command goes on"):
            run.drive()
        assert run.attempts(stage) == 0 and not run.events("failed", "interrupted")
        assert [e["detail"] for e in run.events("ended")] == ["not submitted"]
        event, = run.events("refused")
        assert (event["class"], event["action"], event["stages"]) == ("code", "pause", [stage.fingerprint])
        assert "invalid partition" in event["evidence"][0].lower()
    with reign(plan, slurm) as run:
        run.drive()
        assert run.reconciler.board.status[stage.fingerprint] is Status.DONE and run.attempts(stage) == 1


def test_what_a_person_cancels_stays_cancelled_until_retry_and_is_told_with_when_and_by_whom(
        slurm: Rehearsal, tmp_path: Path) -> None:
    stage, other = spec("wait"), spec("succeed", salt=1)
    plan = toys(tmp_path, {"a": stage, "b": other})
    with reign(plan, slurm) as run:
        run.drive(lambda: began(tmp_path, stage))
        job = next(j for j in run.reconciler._jobs if stage.fingerprint in j.stages)
        client(slurm, "scancel", job.handle.job_id)
        run.drive()
        assert run.reconciler.board.status == {stage.fingerprint: Status.CANCELLED, other.fingerprint: Status.DONE}
        event, = run.events("cancelled")
        assert event["trials"] == ["a"] and event["detail"].startswith(f"CANCELLED by {os.getuid()}")
        said = next(n.text for n in run.notices if n.kind == "cancelled")
        assert "cancelled on the cluster by root, seen 20" in said or os.getuid() != 0
    with reign(plan, slurm) as run:
        assert run.reconciler.finished, "not submitted again by running the command again"
        requests.ask(plan.layout.sweep("s"), requests.Wish.RETRY, ["a"])
        run.reconciler.step()
        run.drive()
        assert run.reconciler.board.status[stage.fingerprint] is Status.DONE, "it goes on from its checkpoint"


def test_cancel_ends_the_jobs_of_a_sweep_whose_controller_has_left(slurm: Rehearsal, tmp_path: Path) -> None:
    stages = {f"t{i}": spec("wait", salt=i) for i in range(9)}
    plan, folder = toys(tmp_path, stages), Layout(tmp_path).sweep("s")
    profile = tmp_path / "left.yaml"
    profile.write_text(f"executor: slurm\nrehearsal: {slurm.name}\n")
    (tmp_path / "jobs").symlink_to("notes")  # where the executor of a sweep keeps them
    with reign(plan, slurm, slots=100) as run:
        run.drive(lambda: sum(began(tmp_path, s) for s in stages.values()) == 8)
        run.reconciler.ledger.append("cluster", profile=str(profile))
    files.replace(folder.plan, plan.file.model_dump_json())
    assert main(["cancel", "--all", "s", "--root", str(tmp_path)]) == 0
    deadline = time.monotonic() + 30
    while client(slurm, "squeue", "-h", "-r"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert len(list(tmp_path.glob("stages/toy/*/attempts/1/stopped.json"))) == 8, "they checkpointed; one had not begun"
    with reign(plan, slurm) as run:
        run.drive()
        assert set(run.reconciler.board.status.values()) == {Status.CANCELLED}
        assert not run.events("failed", "interrupted") and len(run.events("intent")) == 1


def test_a_job_cancelled_while_it_waited_stays_cancelled_too(slurm: Rehearsal, tmp_path: Path) -> None:
    stages = {f"t{i}": spec("wait", salt=i) for i in range(10)}
    with reign(toys(tmp_path, stages), slurm, slots=100) as run:
        run.drive(lambda: sum(began(tmp_path, s) for s in stages.values()) == 8)
        waiting = [s for s in stages.values() if not began(tmp_path, s)]
        job = next(j for j in run.reconciler._jobs if waiting[0].fingerprint in j.stages)
        client(slurm, "scancel", job.handle.job_id)
        run.drive(lambda: bool(run.events("cancelled")))
        assert run.reconciler.board.status[waiting[0].fingerprint] is Status.CANCELLED
        assert len(run.events("cancelled")) == 1


def test_at_the_time_limit_a_stage_that_advanced_goes_on_and_one_that_did_not_is_given_up(
        slurm: Rehearsal, tmp_path: Path) -> None:
    saves, stays = spec("wait"), spec("ignore")
    with reign(toys(tmp_path, {"a": saves, "b": stays}), slurm, time_limit_min=1, lead_s=10) as run:
        run.drive()
        ends = {e["fingerprint"]: (e["class"], e["action"]) for e in run.events("failed", "interrupted")}
        assert ends == {saves.fingerprint: ("timeout", "resume"), stays.fingerprint: ("timeout", "give up")}
        assert run.reconciler.board.status[saves.fingerprint] is Status.DONE
        assert "shorter than a checkpoint interval" in run.reconciler.board.reasons[stays.fingerprint]


def test_a_job_that_had_to_make_room_goes_on_from_its_checkpoint(slurm: Rehearsal, tmp_path: Path) -> None:
    stage = spec("wait")
    with reign(toys(tmp_path, {"a": stage}), slurm) as run:
        run.drive(lambda: began(tmp_path, stage))
        breaks(slurm, "preempt", run.reconciler._jobs[0].handle.job_id)
        run.drive()
        assert [(e["class"], e["action"]) for e in run.events("failed", "interrupted")] == [("preempted", "resume")]
        assert run.reconciler.board.status[stage.fingerprint] is Status.DONE


def test_a_restart_by_slurm_itself_is_recorded_with_its_cause_and_costs_no_try(
        slurm: Rehearsal, tmp_path: Path) -> None:
    stage = spec("wait")
    with reign(toys(tmp_path, {"a": stage}), slurm) as run:
        run.drive(lambda: began(tmp_path, stage))
        client(slurm, "scontrol", "requeue", run.reconciler._jobs[0].handle.job_id)
        run.drive()
        event, = run.events("restarted")
        assert (event["restarts"], event["stages"]) == (1, [stage.fingerprint])
        assert event["detail"] in ("REQUEUED", "CANCELLED"), "scontrol requeue, as the accounts call it"
        assert run.reconciler.board.status[stage.fingerprint] is Status.DONE and run.attempts(stage) == 2
        assert not run.events("failed", "interrupted")


def test_a_full_disk_pauses_all_submission_and_room_lets_it_go_on(slurm: Rehearsal, tmp_path: Path) -> None:
    if not mounted(slurm):
        pytest.skip("this machine does not allow mounting a small disk")
    root = slurm.scratch / tmp_path.name
    root.mkdir()
    full, other = spec("write"), spec(salt=1)
    plan = toys(root, {"a": full, "b": other})
    breaks(slurm, "fill-scratch", "10")
    try:
        with reign(plan, slurm, slots=1) as run, pytest.raises(StorageError, match="(?i)no space"):
            run.drive()
        assert len(run.events("intent")) == 1 and not run.events("failed", "interrupted")
        assert run.attempts(other) == 0
        breaks(slurm, "free-scratch")
        with reign(plan, slurm, slots=1) as run:
            run.drive()
            assert set(run.reconciler.board.status.values()) == {Status.DONE}
            assert run.attempts(full) == 2 and not run.events("failed"), "no space is no failure of a stage"
    finally:
        breaks(slurm, "free-scratch")
        shutil.rmtree(root)


def test_a_stage_that_two_sweeps_share_goes_on_when_one_of_them_is_cancelled(slurm: Rehearsal, tmp_path: Path) -> None:
    shared, alone = spec("hold"), spec("hold", salt=1)
    mine, yours = toys(tmp_path, {"a": shared, "b": alone}), toys(tmp_path, {"c": shared}, name="other")
    with reign(mine, slurm) as one, reign(yours, slurm) as two:
        one.drive(lambda: began(tmp_path, shared) and began(tmp_path, alone))
        two.reconciler.step()
        assert [n.kind for n in two.notices] == ["follow"]
        requests.ask(mine.layout.sweep("s"), requests.Wish.CANCEL, ["a", "b"])
        one.drive(lambda: one.reconciler.board.status[alone.fingerprint] is Status.CANCELLED
                  and not any(alone.fingerprint in j.stages for j in one.reconciler._jobs))
        job, = one.reconciler._jobs
        assert job.stages == [shared.fingerprint] and not job.asked, "the other sweep still wants it"
        (stage_folder(tmp_path, shared).path / "go").touch()
        two.drive()
        assert two.reconciler.board.status[shared.fingerprint] is Status.DONE
        assert one.attempts(shared) == 1 and not two.events("intent"), "it ran once, in the job that was there"
        one.drive()


def test_an_excluded_node_gets_no_job(slurm: Rehearsal, tmp_path: Path) -> None:
    stage = spec()
    bad, good = slurm.nodes[:2]
    with reign(toys(tmp_path, {"a": stage}), slurm) as run:
        run.reconciler.endings.nodes.failed[bad] = {"x", "y"}
        run.drive()
        assert run.reconciler.board.status[stage.fingerprint] is Status.DONE
        note, = tmp_path.glob("sweeps/s/submissions/*/0.0.json")
        assert read_json(note)["node"] == good
