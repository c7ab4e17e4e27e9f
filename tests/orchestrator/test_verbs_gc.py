"""`gc`: what it lists is not needed, what is needed it never lists, and without --yes it changes nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from cluster.executors.memory import MemoryExecutor
from orchestrator import housekeeping, leftovers, ray_folder
from orchestrator.board import Status
from orchestrator.housekeeping import Item, Reason, Survey
from orchestrator.plan import Planned
from orchestrator.reconciler import Reconciler
from sweeps.errors import UsageError
from sweeps.store import files
from sweeps.store.integrity import quarantine
from sweeps.store.layout import Layout, StageFolder
from sweeps.store.ledger import begin_term
from sweeps.store.owner import Owner
from sweeps.store.records import Attempt, Parent, damage_of_result, lineage_rows, open_attempt, read_parent, read_result
from tests.orchestrator.plans import planned
from tests.orchestrator.verb_stores import answer, called, content, folder_of, node, run

AXES = {"upstream": ["none", "nca"], "complexity": ["60-75"], "domain": ["web"], "seed": [0]}
HOURS = 7200


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep Ray's folders of other programs on this machine out of sight."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def checkpoint(attempt: Attempt, tokens: int) -> Path:
    folder = attempt.checkpoint_folder(tokens)
    (folder / "weights").write_bytes(b"w" * 1000)
    attempt.commit_checkpoint(tokens)
    return folder


def listed(root: Path, capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, set[str]]:
    """Return reason -> paths below the root."""
    found: dict[str, set[str]] = {}
    for item in answer(capsys, "gc", "--root", root, *argv)["items"]:
        found.setdefault(item["reason"], set()).add(str(Path(item["path"]).relative_to(root)))
    return found


def all_reused(plan: Planned) -> bool:
    """True where a rerun has nothing to run, and believes every stage that it reuses."""
    ledger, state = begin_term(plan.layout.sweep(plan.sweep.name))
    reconciler = Reconciler(plan, MemoryExecutor(slots=2), ledger, state, lambda notice: None)
    ledger.close()
    return set(reconciler.board.status.values()) == {Status.DONE}


def attempt_of(stage: StageFolder, number: int) -> Attempt:
    return Attempt(stage, stage.attempt(number))


def test_older_checkpoints_go_and_a_rerun_still_reuses_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "store"
    plan = planned(root, axes=AXES)
    run(plan, saves=True)
    training = [folder_of(plan, n) for n in plan.graph.nodes.values() if n.spec.kind in ("prepretrain", "pretrain")]
    saved = [sorted(s.attempt(1).checkpoints.iterdir()) for s in training]
    older = {str(p.relative_to(root)) for found in saved for p in found[:-1]}
    assert older
    before = content(root)
    assert listed(root, capsys) == {"superseded": older}
    assert content(root) == before, "changed something without --yes"
    code, text, err = called(capsys, "gc", "--root", root, "--yes")
    assert code == 0 and f"deleted {len(older)} items" in err and "nobody needs them again" in text
    assert not any((root / path).exists() for path in older)
    assert all(found[-1].is_dir() for found in saved) and not any(damage_of_result(s) for s in training)
    assert all_reused(plan) and listed(root, capsys) == {}


def test_attempts_that_completed_nothing_go_but_not_their_rows_where_another_continued_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "store"
    plan = planned(root, axes=AXES)
    stage = folder_of(plan, node(plan, "pretrain", "scratch", "annealed"))
    for _ in range(2):  # two attempts that a kill ended; the next one goes on from the newest
        attempt = open_attempt(stage, {"submission": "old"})
        attempt.row(tokens=30_000, kind="train", values={"loss": 3.0})
        checkpoint(attempt, plan.graph.nodes[stage.fingerprint].start_tokens + 1)
        attempt.close()
    run(plan, saves=True)
    result = read_result(stage)
    assert result is not None and result.attempt == 3
    parent = read_parent(stage.attempt(3))
    assert parent is not None and (parent.fingerprint, parent.attempt) == (stage.fingerprint, 2)
    rows = lineage_rows(plan.layout, stage.attempt(3))
    assert called(capsys, "gc", "--root", root, "--yes")[0] == 0
    assert not stage.attempt(1).path.exists() and stage.attempt(2).metrics.exists()
    assert not list(stage.attempt(2).checkpoints.iterdir())
    assert lineage_rows(plan.layout, stage.attempt(3)) == rows and all_reused(plan)


def test_checkpoints_set_aside_as_damaged_are_listed_even_of_unfinished_stages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "store"
    plan = planned(root, axes=AXES)
    run(plan, lambda spec, attempt: "ValueError" if spec.kind == "pretrain" else "")
    stage = folder_of(plan, node(plan, "pretrain"))
    aside = quarantine(checkpoint(attempt_of(stage, 1), 300), "a flipped bit")
    kept = checkpoint(attempt_of(stage, 1), 200)
    assert aside is not None
    found = listed(root, capsys, "--yes")
    assert found["damaged"] == {str(aside.relative_to(root))} and not aside.exists() and kept.exists()
    assert stage.attempt(1).failure.exists(), "why it failed is still to be read"


def test_nothing_goes_where_the_final_checkpoint_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "store"
    plan = planned(root, axes=AXES)
    run(plan, saves=True)
    stage = folder_of(plan, node(plan, "pretrain"))
    (max(stage.attempt(1).checkpoints.iterdir()) / "state").unlink()
    assert not any(stage.fingerprint in path for path in listed(root, capsys)["superseded"])


def test_orphans_are_weighed_and_go_while_shared_stages_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "store"
    large, small = planned(root, name="large", axes={**AXES, "seed": [0, 1]}), planned(root, name="small", axes=AXES)
    run(large)
    run(small)
    shutil.rmtree(large.layout.sweep("large").path)
    orphans = large.graph.nodes.keys() - small.graph.nodes.keys()
    assert called(capsys, "gc", "--root", root, "--yes")[0] == 0
    assert {p.name for p in (root / "stages").glob("*/*")} == set(large.graph.nodes), "only with --orphans"
    told = answer(capsys, "gc", "--root", root, "--orphans")
    assert {(Path(i["path"]).name, i["reason"]) for i in told["items"]} == {(key, "orphan") for key in orphans}
    assert told["remake_seconds"] == pytest.approx(len(orphans))  # the simulated stages say one second each
    assert told["remake_tokens"] == sum(large.graph.nodes[k].end_tokens - _start(large, k) for k in orphans)
    assert called(capsys, "gc", "--root", root, "--orphans", "--yes")[0] == 0
    assert {p.name for p in (root / "stages").glob("*/*")} == set(small.graph.nodes) and all_reused(small)


def _start(plan: Planned, key: str) -> int:
    segment = plan.graph.nodes[key].spec.sections.get("segment")
    return int(segment.values["decay_from"] or 0) if segment else 0


def test_an_orphan_whose_rows_a_planned_stage_continues_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "store"
    plan = planned(root, axes=AXES)
    run(plan)
    stage, orphan = folder_of(plan, node(plan, "pretrain")), plan.layout.stage("pretrain", "f" * 32)
    trunk = open_attempt(orphan, {"submission": "old"})
    trunk.row(tokens=1, kind="train", values={"loss": 3.0})
    trunk.commit({})
    trunk.close()
    assert listed(root, capsys, "--orphans")["orphan"] == {str(orphan.path.relative_to(root))}
    stage.attempt(1).parent.unlink(missing_ok=True)
    attempt_of(stage, 1).set_parent(Parent(kind="pretrain", fingerprint="f" * 32, attempt=1, tokens=1))
    assert listed(root, capsys, "--orphans") == {}


def test_a_half_deleted_stage_is_never_taken_for_complete(
    finished_plan: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = folder_of(finished_plan, node(finished_plan, "tokenizer"))

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        housekeeping.remove(housekeeping.item(stage.path, Reason.ORPHAN, "x"))
    assert stage.attempt(1).path.is_dir() and read_result(stage) is None


def test_nothing_of_a_running_sweep_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "store"
    plan = planned(root, axes=AXES)
    run(plan, release=False, saves=True)  # complete, but this process still controls it
    (plan.layout.stage("pretrain", "e" * 32)).attempts.mkdir(parents=True)
    told = answer(capsys, "gc", "--root", root, "--checkpoints")
    assert told["items"] == [] and told["living_controllers"] == ["t"]


def test_nothing_of_a_job_that_may_still_run_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "store"
    plan = planned(root, axes=AXES)
    ledger = run(plan, release=False, saves=True)
    key = node(plan, "pretrain").spec.fingerprint
    ledger.append("intent", name="t-t1-9999", tickets=[[key]])
    monkeypatch.setattr("sweeps.store.owner.process_start", lambda pid: None)  # the controller is dead, its job is not
    found = listed(root, capsys)["superseded"]
    assert found and not any(key in path for path in found)


def test_what_an_unfinished_trial_still_needs_is_not_offered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "store"
    plan = planned(root, axes=AXES)
    run(plan, lambda spec, attempt: "ValueError" if spec.kind == "evaluate" else "", saves=True)
    assert "final" not in listed(root, capsys, "--checkpoints")
    run(plan)
    found = listed(root, capsys, "--checkpoints")
    training = [n for n in plan.graph.nodes.values() if n.spec.kind in ("prepretrain", "pretrain")]
    assert len(found["final"]) == len(training)
    assert "final" not in listed(root, capsys), "only with --checkpoints"


def test_a_rerun_reuses_stages_whose_final_checkpoints_were_deleted_on_purpose(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "store"
    plan = planned(root, axes=AXES)
    run(plan, saves=True)
    assert called(capsys, "gc", "--root", root, "--checkpoints", "--yes")[0] == 0
    assert all_reused(plan)


def test_leftovers_go_and_what_may_be_in_use_stays(
    finished_plan: Planned, own_temporary_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = finished_plan.layout.root
    jobs, old = finished_plan.layout.jobs, time.time() - HOURS
    submission = next(p.name for p in finished_plan.layout.sweep("t").submissions.iterdir())
    for name, notes in ((submission, ["0.json"]), ("gone-t1-0001", ["0.json", "0.exit.json", "0.pid.json"]),
                        ("unknown-t1-0001", ["0.json", "0.pid.json"])):
        (jobs / name).mkdir(parents=True)
        for note in notes:
            (jobs / name / note).write_text("{}", encoding="utf-8")
    fresh, stale = root / "sweeps" / "t" / ".plan.json.abcd1234", root / "stages" / ".result.json.abcd1234"
    ray, new_ray = own_temporary_folder / "orchestrator-ray-a", own_temporary_folder / "orchestrator-ray-b"
    for folder in (ray, new_ray):
        folder.mkdir()
    for file in (fresh, stale):
        file.write_text("half", encoding="utf-8")
    for path in (stale, ray):
        os.utime(path, (old, old))
    told = answer(capsys, "gc", "--root", root, "--yes")["items"]
    assert {i["path"] for i in told} == {str(jobs / submission), str(jobs / "gone-t1-0001"), str(stale), str(ray)}
    assert fresh.exists() and new_ray.exists() and (jobs / "unknown-t1-0001").exists() and not ray.exists()
    assert all_reused(finished_plan)


def test_work_files_that_a_killed_commit_left_go(finished_plan: Planned, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the attempt that committed and of one whose rows it continues; of others the whole attempt goes."""
    stage = folder_of(finished_plan, node(finished_plan, "text"))
    number = read_result(stage).attempt  # type: ignore[union-attr]
    stage.attempt(number).work.mkdir()
    (stage.attempt(number).work / "00000.documents").write_bytes(b"d" * 1000)
    other = open_attempt(stage, {})
    other.close()
    other.folder.work.mkdir()
    told = answer(capsys, "gc", "--root", finished_plan.layout.root, "--yes")["items"]
    assert {i["path"]: i["reason"] for i in told} == {
        str(stage.attempt(number).work): "leftover", str(other.folder.path): "superseded"}
    assert all_reused(finished_plan) and not stage.attempt(number).work.exists()


def test_the_last_note_of_a_text_is_no_final_checkpoint(
    finished_plan: Planned, capsys: pytest.CaptureFixture[str]
) -> None:
    """It states documents, not tokens, and names work files that went with the result."""
    finals = set()
    for kind in ("text", "pretrain"):
        stage = folder_of(finished_plan, node(finished_plan, kind))
        stage.result.unlink()
        attempt = open_attempt(stage, {})
        finals.add(str(checkpoint(attempt, 57).relative_to(finished_plan.layout.root)))
        attempt.commit({})
        attempt.close()
    found = listed(finished_plan.layout.root, capsys, "--checkpoints")["final"]
    assert found == {path for path in finals if "/pretrain/" in path}


def test_a_folder_of_ray_that_a_process_names_stays(
    own_temporary_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = own_temporary_folder / "orchestrator-ray-a"
    folder.mkdir()
    os.utime(folder, (0, 0))
    assert [i.path for i in leftovers._ray()] == [folder]
    monkeypatch.setattr(leftovers, "_commands", lambda: iter([f"raylet\0--temp-dir={folder}\0"]))
    assert not list(leftovers._ray())


def test_a_folder_of_ray_goes_as_soon_as_the_controller_named_in_it_is_dead(own_temporary_folder: Path) -> None:
    mine, dead = ray_folder.make(), own_temporary_folder / "orchestrator-ray-dead"
    dead.mkdir()
    gone = subprocess.Popen(["true"])
    gone.wait()
    owner = dataclasses.replace(Owner.me(), pid=gone.pid)
    (dead / ray_folder.OWNER).write_text(json.dumps(owner.fields()), encoding="utf-8")
    elsewhere = own_temporary_folder / "orchestrator-ray-elsewhere"
    elsewhere.mkdir()
    (elsewhere / ray_folder.OWNER).write_text(
        json.dumps(dataclasses.replace(owner, host="another").fields()), encoding="utf-8")
    assert [i.path for i in leftovers._ray()] == [dead]
    second = ray_folder.make()
    assert not dead.exists(), "the next controller removes it"
    assert mine.exists() and second.exists() and elsewhere.exists(), "and nothing of one that lives, or may live"
    assert Owner.read(json.loads((mine / ray_folder.OWNER).read_text())) == Owner.me()


def test_a_folder_of_ray_that_vanishes_meanwhile_is_no_error(
    own_temporary_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (own_temporary_folder / f"orchestrator-ray-{name}").mkdir()
        os.utime(own_temporary_folder / f"orchestrator-ray-{name}", (0, 0))
    first = own_temporary_folder / "orchestrator-ray-a"
    monkeypatch.setattr(leftovers, "_commands", lambda: first.rmdir() or iter(()))
    assert [i.path.name for i in leftovers._ray()] == ["orchestrator-ray-b"]


def test_only_what_is_old_enough_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "store"
    run(planned(root, axes=AXES))
    shutil.rmtree(root / "sweeps" / "t")
    assert listed(root, capsys, "--orphans")["orphan"]
    assert listed(root, capsys, "--orphans", "--older-than", "1h") == {}
    with pytest.raises(SystemExit) as ended:
        called(capsys, "gc", "--older-than", "soon")
    assert ended.value.code == 2 and "7d" in capsys.readouterr().err


def test_a_sweep_that_begins_meanwhile_stops_the_deletion_of_orphans(tmp_path: Path) -> None:
    root = tmp_path / "store"
    plan = planned(root, axes=AXES)
    run(plan)
    kept = plan.layout.sweep("t").path.rename(tmp_path / "t")
    survey = Survey(Layout(root))
    found: list[Item] = list(survey.items())
    kept.rename(root / "sweeps" / "t")
    with pytest.raises(UsageError, match="began while"):
        list(housekeeping.delete(Layout(root), survey, found))
    assert found and all_reused(plan)


def test_a_plan_that_cannot_be_read_stops_everything(
    finished_plan: Planned, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_plan.layout.sweep("t").plan.write_text("{", encoding="utf-8")
    before = content(finished_plan.layout.root)
    code, _, err = called(capsys, "gc", "--root", finished_plan.layout.root, "--yes")
    assert code == 1 and "plan.json is damaged" in err and content(finished_plan.layout.root) == before
    files.replace(finished_plan.layout.sweep("t").plan, finished_plan.file.model_dump_json())


def test_an_empty_root_has_nothing_to_delete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = called(capsys, "gc", "--root", tmp_path / "none", "--yes")
    assert code == 0 and "nothing to delete" in text and not (tmp_path / "none").exists()


def test_code_stays_while_a_job_may_run_it_or_a_completed_stage_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "store"
    plan = planned(root, axes=AXES)
    ledger = run(plan, release=False)
    code = plan.layout.sweep("t").code
    for name in ("named", "unused"):
        (code / name).mkdir(parents=True)
    execution = folder_of(plan, node(plan, "pretrain")).attempt(1).execution
    files.replace(execution, files.to_json({**files.read_json(execution), "versions": {"code": "named"}}))
    assert listed(root, capsys) == {}, "its controller lives"
    ledger.close()
    assert listed(root, capsys) == {"leftover": {"sweeps/t/code/unused"}}
