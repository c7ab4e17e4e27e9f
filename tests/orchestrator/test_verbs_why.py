"""`why`: every state of a stage is named with its reason, and a new stage is compared with the nearest one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestrator.plan import Planned, make_plan
from orchestrator.session import record
from sweeps.language.spec import Overrides
from sweeps.language.stage import StageSpec
from sweeps.store import claims, files
from sweeps.store.ledger import begin_term
from sweeps.store.requests import Wish, ask
from tests.orchestrator.plans import planned
from tests.orchestrator.verb_stores import SHIPPED, answer, called, folder_of, node, run

SMOKE = SHIPPED / "smoke.yaml"


def bad_upstream(spec: StageSpec, attempt: int) -> str:
    changed = spec.sections["upstream"].changed if spec.kind == "prepretrain" else {}
    return "ValueError" if changed.get("complexity") == {"band": "30-45"} else ""


def test_a_complete_stage_names_attempt_time_sweep_and_who_reuses_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(planned(tmp_path, name="one"))
    plan = planned(tmp_path, name="two")
    run(plan)
    key = node(plan, "tokenizer").spec.fingerprint
    told = answer(capsys, "why", key[:10], "--root", tmp_path)["stage"]
    assert told["state"] == "complete" and told["fingerprint"] == key
    assert told["facts"]["sweep"] == "one" and told["facts"]["reused_by"] == ["two"]
    assert told["facts"]["attempt"] == 1 and "UTC" in told["facts"]["when"]
    _, text, _ = called(capsys, "why", key[:10], "--root", tmp_path)
    assert "attempt 1 of sweep one" in text and "reused by two" in text


def test_a_label_and_a_trial_are_understood_and_the_trial_lists_each_of_its_stages(
    finished_plan: Planned, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, tmp_path = finished_plan, finished_plan.layout.root
    assert answer(capsys, "why", node(plan, "tokenizer").label, "--root", tmp_path)["stage"]["kind"] == "tokenizer"
    told = answer(capsys, "why", "scratch-web-s0", "--root", tmp_path)
    assert told["trial"] == "scratch-web-s0" and told["sweep"] == "t"
    path = dict.fromkeys(s.fingerprint for s in plan.graph.paths["scratch-web-s0"])
    assert [s["fingerprint"] for s in told["stages"]] == list(path)
    code, text, _ = called(capsys, "why", "scratch-web-s0", "--root", tmp_path)
    table = text.split("\n\n")[0].splitlines()
    assert code == 0 and len(table) == len(path) + 1 and all(len(line) <= 80 for line in table)


def test_an_ambiguous_beginning_lists_the_candidates_and_an_unknown_name_the_nearest(
    finished_plan: Planned, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, tmp_path = finished_plan, finished_plan.layout.root
    folder = folder_of(plan, node(plan, "tokenizer"))
    twin = folder.fingerprint[:6] + "0" * 26
    shutil.copytree(folder.path, folder.path.with_name(twin))
    code, _, err = called(capsys, "why", folder.fingerprint[:6], "--root", tmp_path)
    assert code == 2 and twin[:12] in err and folder.fingerprint[:12] in err
    code, _, err = called(capsys, "why", "scratch-web-s8", "--root", tmp_path)
    assert code == 2 and "Did you mean 'scratch-web-s" in err
    code, _, err = called(capsys, "why", "abc", "--root", tmp_path)
    assert code == 2 and "at least 4 digits" in err


def test_a_failed_stage_shows_its_traceback_and_its_readers_what_they_wait_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned(tmp_path)
    run(plan, bad_upstream)
    failed = folder_of(plan, node(plan, "prepretrain", "30-45", "s0"))
    attempt = failed.attempt(1)
    attempt.failure.unlink()
    files.create(attempt.failure, files.to_json({
        "schema_version": 1, "class": "ValueError", "message": "no such rule",
        "traceback": [f"line {n}" for n in range(20)]}))
    told = answer(capsys, "why", "nca_30-45-web-s0", "--root", tmp_path)
    assert told["state"] == "failed" and told["decisive"]["fingerprint"] == failed.fingerprint
    facts = told["decisive"]["facts"]
    assert facts["message"] == "no such rule" and facts["traceback"][-1] == "line 19"
    _, text, _ = called(capsys, "why", failed.fingerprint[:8], "--root", tmp_path)
    assert "line 19" in text and "line 3" not in text.split("details:")[0].split()
    assert str(attempt.failure) in text and "orchestrator retry --failed --sweep t" in text
    reader = node(plan, "evaluate", "30-45", "s0")
    told = answer(capsys, "why", reader.spec.fingerprint, "--root", tmp_path)["stage"]
    assert told["state"] == "waiting" and told["facts"]["waits_for"]


def test_the_log_of_a_failed_stage_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(tmp_path)
    run(plan, bad_upstream)
    failed = folder_of(plan, node(plan, "prepretrain", "30-45", "s0"))
    execution = failed.attempt(1).execution
    raw = files.read_json(execution) | {"sweep": "t"}
    execution.write_text(files.to_json(raw), encoding="utf-8")
    for log in plan.layout.sweep("t").submissions.glob(f"{raw['submission']}/*.ticket.json"):
        (log.parent / log.name.replace("ticket.json", "err")).write_text("boom\n", encoding="utf-8")
    told = answer(capsys, "why", failed.fingerprint, "--root", tmp_path)["stage"]
    assert told["facts"]["logs"][0].startswith(str(plan.layout.sweep("t").submissions))
    assert answer(capsys, "logs", failed.fingerprint, "--root", tmp_path)["logs"][0]["text"] == "boom\n"


def test_the_log_of_a_slurm_job_that_died_before_it_began_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned(tmp_path)
    folder = plan.layout.sweep("t")
    stage = folder_of(plan, node(plan, "text"))
    claims.take(stage, sweep="t", term=1, submission="t-t1-0001", after=0)
    ledger, _ = begin_term(folder)
    record(plan, folder)
    ledger.append("intent", name="t-t1-0001", tickets=[["other"], [stage.fingerprint]])
    ledger.append("failed", fingerprint=stage.fingerprint, attempt=0, text="its job ended before it began",
                  action="give up", **{"class": "code"})
    ledger.append("ended", name="t-t1-0001", index=1, detail="FAILED, exit 1")
    ledger.close()
    for index, text in enumerate(("not this", "module: command not found")):
        files.replace(folder.submissions / "t-t1-0001" / f"17_{index}_0_log.err", text)
    told = answer(capsys, "why", stage.fingerprint, "--root", tmp_path)["stage"]
    assert told["state"] == "failed" and [Path(p).name for p in told["facts"]["logs"]] == ["17_1_0_log.err"]
    assert answer(capsys, "logs", stage.fingerprint, "--root", tmp_path)["logs"][0]["text"].endswith("not found")


def test_files_changed_or_deleted_after_completion_are_told_apart(
    finished_plan: Planned, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, tmp_path = finished_plan, finished_plan.layout.root
    edited, gone = folder_of(plan, node(plan, "tokenizer")), folder_of(plan, node(plan, "text"))
    with edited.attempt(1).metrics.open("a", encoding="utf-8") as handle:
        handle.write("x")
    shutil.rmtree(gone.path)
    told = answer(capsys, "why", edited.fingerprint, "--root", tmp_path)["stage"]
    assert told["state"] == "damaged" and "metrics.jsonl" in told["reason"]
    told = answer(capsys, "why", gone.fingerprint, "--root", tmp_path)["stage"]
    assert told["state"] == "deleted" and told["facts"]["sweep"] == "t"
    edited.result.write_text("{", encoding="utf-8")
    assert answer(capsys, "why", edited.fingerprint, "--root", tmp_path)["stage"]["state"] == "damaged"
    assert answer(capsys, "status", "--root", tmp_path)["sweeps"][0]["stages"]["damaged"] == 1


def test_live_waiting_and_orphaned_jobs_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path)
    run(plan, steps=1, release=False)  # this process is the controller, alive, with its first jobs submitted
    states = {k: answer(capsys, "why", k, "--root", tmp_path)["stage"] for k in plan.graph.nodes}
    live = [k for k, s in states.items() if s["state"] == "live"]
    assert live and {s["state"] for s in states.values()} <= {"live", "complete", "new", "waiting"}
    waiting = next(s for s in states.values() if s["state"] in ("new", "waiting"))
    assert any("as soon as a slot is free" in d for d in waiting["details"])
    monkeypatch.setattr("sweeps.store.owner.process_start", lambda pid: None)  # as if it had died
    told = answer(capsys, "why", live[0], "--root", tmp_path)["stage"]
    assert told["state"] == "interrupted" and "adopts" in told["reason"]


def test_cancelled_and_asked_for_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(tmp_path)
    run(plan, steps=0)
    ask(plan.layout.sweep("t"), Wish.CANCEL, plan.graph.paths)
    key = node(plan, "tokenizer").spec.fingerprint
    told = answer(capsys, "why", key, "--root", tmp_path)["stage"]
    assert told["state"] == "cancelled" and not told["facts"]["applied"] and "not yet applied" in told["reason"]
    assert "not yet applied" in answer(capsys, "why", "scratch-web-s0", "--root", tmp_path)["note"]
    ledger, _ = begin_term(plan.layout.sweep("t"))
    ledger.append("cancelled", trials=list(plan.graph.paths))
    ledger.close()
    (plan.layout.sweep("t").requests / "1.json").unlink()
    assert answer(capsys, "why", key, "--root", tmp_path)["stage"]["facts"]["applied"]
    assert answer(capsys, "why", "scratch-web-s0", "--root", tmp_path)["state"] == "cancelled"
    assert answer(capsys, "status", "--root", tmp_path)["sweeps"][0]["trials"] == {"cancelled": 6}


def test_a_diverged_stage_says_why_its_readers_never_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(tmp_path)
    run(plan, lambda spec, attempt: "diverged" if spec.kind == "prepretrain" else "")
    told = answer(capsys, "why", "nca_30-45-web-s0", "--root", tmp_path)
    assert told["state"] == "diverged"
    reader = node(plan, "evaluate", "gate", "30-45", "s0").spec.fingerprint
    assert "never run" in answer(capsys, "why", reader, "--root", tmp_path)["stage"]["reason"]


def test_a_killed_attempt_says_where_the_next_one_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(tmp_path)
    run(plan, lambda spec, attempt: "killed" if spec.kind == "tokenizer" else "", steps=3)
    told = answer(capsys, "why", node(plan, "tokenizer").spec.fingerprint, "--root", tmp_path)["stage"]
    assert told["state"] in ("failed", "interrupted") and told["facts"]["attempt"] >= 1


def test_a_new_trial_of_a_file_shows_field_by_field_what_makes_its_stages_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(make_plan(SMOKE, Overrides(cluster="memory", seeds="1"), tmp_path))
    told = answer(capsys, "why", "scratch-code-s0", "--sweep", SMOKE, "--set", "documents.max_bytes=900000",
                  "--root", tmp_path)
    difference = told["decisive"]["facts"]["nearest"]
    assert told["decisive"]["kind"] == "text"
    assert difference["fields"] == [{"field": "text.max_bytes", "nearest": 1_000_000, "this": 900_000}]
    corpus = next(s for s in told["stages"] if s["kind"] == "corpus")
    told = answer(capsys, "why", corpus["fingerprint"], "--sweep", SMOKE, "--set", "documents.max_bytes=900000",
                  "--root", tmp_path)["stage"]
    because = {i["role"]: i["because"] for i in told["facts"]["nearest"]["inputs"]}
    assert because["text"]["fields"][0]["field"] == "text.max_bytes"
    assert because["tokenizer"]["inputs"][0]["because"]["fields"][0]["field"] == "text.max_bytes"
    _, text, _ = called(capsys, "why", corpus["fingerprint"], "--sweep", SMOKE, "--set",
                        "documents.max_bytes=900000", "--root", tmp_path)
    assert "text.max_bytes: 1000000 -> 900000" in text and "because" in text


def test_the_nearest_stage_is_the_one_with_the_fewest_differing_fields(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(SMOKE, Overrides(cluster="memory", seeds="1"), tmp_path)
    run(plan)
    new = make_plan(SMOKE, Overrides(seeds="2"), tmp_path)
    twin = next(s.fingerprint for s in new.graph.paths["scratch-code-s1"] if s.role == "twin")
    told = answer(capsys, "why", twin, "--sweep", SMOKE, "--root", tmp_path)["stage"]
    assert told["state"] == "new"
    difference = told["facts"]["nearest"]
    assert difference["nearest"] == next(s.fingerprint for s in plan.graph.paths["scratch-code-s0"] if s.role == "twin")
    assert difference["fields"] == [{"field": "seed.seed", "nearest": 0, "this": 1}] and not difference["inputs"]


def test_overrides_without_a_file_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = called(capsys, "why", "scratch-web-s0", "--seeds", "3", "--root", tmp_path)
    assert code == 2 and "--sweep FILE" in err
