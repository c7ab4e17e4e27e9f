"""Odd lines, odd versions, and stages that were edited after completion: nothing crashes, nothing counts twice."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import NewerRecordError, RecordError
from sweeps.store import claims, files, integrity, records
from sweeps.store.layout import AttemptFolder, Layout, StageFolder
from sweeps.store.rows import row_of

RELAXED = settings(max_examples=200)
LOSSES = st.floats(allow_nan=True, allow_infinity=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=8,
)


def attempt_with(folder: Path, content: bytes) -> AttemptFolder:
    """An attempt whose metrics hold these bytes."""
    attempt = Layout(folder).stage("toy", "f").attempt(1)
    attempt.path.mkdir(parents=True, exist_ok=True)
    attempt.metrics.write_bytes(content)
    return attempt


def line(number: int, loss: float = 1.0) -> bytes:
    """A row as jobs write it."""
    return files.encode_line(number, {"tokens": number, "kind": "train", "values": {"loss": loss}}).encode()


def finished(root: Path, spec: str = '{"kind":"toy"}') -> StageFolder:
    """A finished stage with an artifact and two checkpoints."""
    stage = Layout(root).stage("toy", "f")
    files.create(stage.spec, spec)
    attempt = records.open_attempt(stage, {})
    for tokens in (5, 7):
        attempt.row(tokens=tokens, kind="train", values={"loss": 2.0})
        (attempt.checkpoint_folder(tokens) / "weights").write_bytes(bytes(100))
        attempt.commit_checkpoint(tokens)
    (attempt.artifacts / "text").write_text("hello")
    assert attempt.commit({"loss": 2.0}, seconds=3.0)
    attempt.close()
    return stage


@given(st.lists(LOSSES, min_size=1, max_size=12), st.data())
@RELAXED
def test_torn_merged_and_repeated_lines_never_count_twice_and_never_crash(losses: list[float], data: Any) -> None:
    lines = [line(n, loss) for n, loss in enumerate(losses)]
    content = b""
    for number in data.draw(st.lists(st.integers(0, len(lines) - 1), max_size=20)):
        whole = lines[number]
        fate = data.draw(st.sampled_from(["whole", "torn", "merged", "flipped", "garbage"]))
        if fate == "flipped":
            at = data.draw(st.integers(0, len(whole) - 2))
            whole = whole[:at] + bytes([whole[at] ^ 1 << data.draw(st.integers(0, 7))]) + whole[at + 1 :]
        cut = data.draw(st.integers(0, len(whole)))
        content += {"whole": whole, "torn": whole[:cut] + b"\n", "merged": whole[:cut], "flipped": whole,
                    "garbage": data.draw(st.binary(max_size=9)) + b"\n"}[fate]
    with tempfile.TemporaryDirectory() as folder:
        rows = list(records.own_rows(attempt_with(Path(folder), content)))
    assert len({row.tokens for row in rows}) == len(rows)
    for row in rows:
        expected = losses[row.tokens]
        assert row.values["loss"] == expected or (math.isnan(expected) and math.isnan(row.values["loss"]))


@given(st.lists(st.integers(0, 9), max_size=30))
@RELAXED
def test_every_sound_line_counts_once_in_the_order_of_its_first_appearance(numbers: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        attempt = attempt_with(Path(folder), b"".join(map(line, numbers)))
        assert [row.tokens for row in records.own_rows(attempt)] == list(dict.fromkeys(numbers))


@given(st.dictionaries(st.sampled_from(["tokens", "kind", "values", "n", "loss"]), JSON))
@RELAXED
def test_a_sound_line_of_another_shape_is_passed_over(fields: dict[str, Any]) -> None:
    sealed = (files.seal({"x": 0, **fields}) + "\n").encode("utf-8", "surrogatepass")
    with tempfile.TemporaryDirectory() as folder:
        rows = list(records.own_rows(attempt_with(Path(folder), line(3) + sealed + line(4))))
    assert [row.tokens for row in rows if row.kind == "train"][:1] == [3]
    assert all(type(r.tokens) is int and isinstance(r.kind, str) for r in rows)
    assert all(isinstance(v, float) for r in rows for v in r.values.values())


def test_a_line_of_a_newer_release_is_refused_and_an_older_one_read(tmp_path: Path) -> None:
    plain = {"tokens": 1, "kind": "end", "values": {"loss": "nan"}}
    for version in (0, 1):
        row = row_of({**plain, "schema_version": version}, tmp_path)
        assert row is not None and math.isnan(row.values["loss"])
    content = files.encode_line(0, {**plain, "schema_version": 2}).encode()
    with pytest.raises(NewerRecordError, match="written by a newer release"):
        list(records.own_rows(attempt_with(tmp_path, content)))


@pytest.mark.parametrize("older", [{}, {"schema_version": 0}, {"schema_version": 1, "files": {}, "status": "diverged"}])
def test_an_older_result_is_read_with_what_it_lacks_filled_in(tmp_path: Path, older: dict[str, Any]) -> None:
    stage = Layout(tmp_path).stage("toy", "f")
    files.create(stage.result, files.to_json({"attempt": 2, "scores": {"loss": "inf"}, **older}))
    result = records.read_result(stage)
    assert result is not None
    assert (result.attempt, result.scores["loss"], result.seconds) == (2, math.inf, 0.0)
    assert result.status == older.get("status", "done")
    assert not records.damage_of_result(stage), "nothing to verify, nothing wrong"


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", "{}", '{"attempt":"1","scores":{}}', '{"attempt":1,"scores":[]}', '{"attempt":true}',
    '{"attempt":1,"scores":{"loss":"much"}}', '{"attempt":1,"scores":{"loss":null}}',
    '{"attempt":1,"scores":{},"files":3}', '{"attempt":1,"scores":{},"seconds":"long"}', "\udcff",
])
def test_a_damaged_result_says_what_to_do(tmp_path: Path, text: str) -> None:
    stage = Layout(tmp_path).stage("toy", "f")
    stage.path.mkdir(parents=True)
    stage.result.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RecordError, match="is damaged .*remove the folder"):
        records.read_result(stage)
    assert "is damaged" in records.damage_of_result(stage)


def test_a_result_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    stage = Layout(tmp_path).stage("toy", "f")
    files.create(stage.result, files.seal({"schema_version": 2, "attempt": {"host": 1}}))
    with pytest.raises(NewerRecordError, match="schema version 2, this one reads up to 1"):
        records.read_result(stage)


@given(st.sampled_from(["kind", "fingerprint", "attempt", "tokens"]), JSON)
@RELAXED
def test_a_parent_of_any_shape_is_read_or_refused(key: str, value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        attempt = attempt_with(Path(folder), line(1))
        raw = {"kind": "toy", "fingerprint": "g", "attempt": 1, "tokens": 1, key: value}
        attempt.parent.write_text(json.dumps(raw), encoding="utf-8")
        try:
            parent = records.read_parent(attempt)
        except RecordError as error:
            assert str(attempt.parent) in str(error)
        else:
            assert parent is not None and type(parent.tokens) is int


def test_attempts_that_are_their_own_ancestors_end(tmp_path: Path) -> None:
    stage = Layout(tmp_path).stage("toy", "f")
    for number, parent in ((1, 2), (2, 1)):
        attempt = records.open_attempt(stage, {})
        assert attempt.folder.number == number
        attempt.set_parent(records.Parent(kind="toy", fingerprint="f", attempt=parent, tokens=5))
        attempt.close()
    with pytest.raises(RecordError, match="its own ancestor"):
        records.stage_rows(Layout(tmp_path), stage)


def test_rows_of_grandparents_count_up_to_the_lowest_branching_point(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    stage = layout.stage("toy", "f")
    for number, parent_tokens in ((1, None), (2, 7), (3, 4)):
        attempt = records.open_attempt(stage, {})
        if parent_tokens:
            attempt.set_parent(records.Parent(kind="toy", fingerprint="f", attempt=number - 1, tokens=parent_tokens))
        for tokens in range(parent_tokens + 1 if parent_tokens else 1, 11):
            attempt.row(tokens=tokens, kind="train", values={"from": float(number)})
        attempt.close()
    found = [(r.tokens, r.values["from"]) for r in records.stage_rows(layout, stage)]
    assert [tokens for tokens, _ in found] == list(range(1, 11))
    assert [source for _, source in found] == [1.0] * 4 + [3.0] * 6


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", [
    "result.json", "spec.json", "attempts/1/metrics.jsonl", "attempts/1/artifacts/text",
    "attempts/1/checkpoints/000000000000007/weights", "attempts/1/checkpoints/000000000000007/MANIFEST.json",
])
def test_whatever_is_edited_or_deleted_after_completion_is_named(tmp_path: Path, name: str) -> None:
    stage = finished(tmp_path)
    assert not records.damage_of_result(stage) and not records.damage_of_result(stage, thorough=False)
    path = stage.path / name
    whole = path.read_bytes()
    _flip(path)
    assert Path(name).name in records.damage_of_result(stage)
    path.write_bytes(whole[:-1])
    assert Path(name).name in records.damage_of_result(stage, thorough=False)
    path.unlink()
    assert Path(name).name in records.damage_of_result(stage, thorough=False) or name == "result.json"
    path.write_bytes(whole)
    assert not records.damage_of_result(stage)


def test_a_copy_of_another_stage_is_not_this_one(tmp_path: Path) -> None:
    """Each of its files is as its result says; only spec.json tells whose they are."""
    stage, other = finished(tmp_path), Layout(tmp_path).stage("toy", "g")
    shutil.copytree(stage.path, other.path)
    assert not records.damage_of_result(other), "a spec that does not say whose it is"
    shutil.rmtree(stage.path)
    stage = finished(tmp_path, '{"fingerprint":"f","kind":"toy"}')
    assert not records.damage_of_result(stage)
    shutil.rmtree(other.path)
    shutil.copytree(stage.path, other.path)
    assert "is that of f: the folder is a copy of another stage's" in records.damage_of_result(other, thorough=False)
    with pytest.raises(RecordError, match=r"toy/g was damaged after completion: .*spec\.json is that of f"):
        records.artifacts_of(other)


def test_a_damaged_artifact_is_never_read(tmp_path: Path) -> None:
    stage = finished(tmp_path)
    _flip(stage.attempt(1).artifacts / "text")
    with pytest.raises(RecordError, match=r"toy/f was damaged after completion: .*artifacts/text"):
        records.artifacts_of(stage)


def test_a_final_checkpoint_replaced_whole_is_noticed(tmp_path: Path) -> None:
    """Its own manifest fits it; the result names another one."""
    stage = finished(tmp_path)
    folder = stage.attempt(1).checkpoint(7)
    (folder / "weights").write_bytes(b"other")
    (folder / integrity.MANIFEST).unlink()
    files.create(folder / integrity.MANIFEST, files.seal(
        {"schema_version": 1, "tokens": 7, "files": integrity.manifest_of(folder)}))
    with pytest.raises(RecordError, match=r"toy/f is damaged: .*MANIFEST\.json was altered after completion"):
        records.final_checkpoint(stage)


@pytest.mark.parametrize("manifest", [
    "", "{", "[]", "{}", '{"tokens":7}', '{"tokens":7,"files":{}}', '{"tokens":7,"files":["weights"]}',
    '{"tokens":7,"files":{"weights":3}}', '{"tokens":7,"files":{"weights":{"size":100}}}',
    '{"tokens":8,"files":{"weights":{"size":100,"sha256":"x"}}}',
])
def test_a_damaged_manifest_is_damage_and_never_a_crash(tmp_path: Path, manifest: str) -> None:
    folder = finished(tmp_path).attempt(1).checkpoint(7)
    (folder / integrity.MANIFEST).write_text(manifest)
    assert records.damage(records.checkpoints(Layout(tmp_path).stage("toy", "f"))[0])


def test_a_quarantined_checkpoint_keeps_its_reason_and_gives_its_name_free(tmp_path: Path) -> None:
    stage = finished(tmp_path)
    folder = stage.attempt(1).checkpoint(7)
    aside = integrity.quarantine(folder, "weights: flipped")
    assert aside is not None and aside.name == "000000000000007.damaged-1"
    assert (aside / integrity.REASON).read_text() == "weights: flipped\n"
    assert [c.tokens for c in records.checkpoints(stage)] == [5]
    assert records.quarantined(stage) == [aside]
    assert "was set aside as 000000000000007.damaged-1 (weights: flipped)" in records.damage_of_result(stage)
    folder.mkdir()
    again = integrity.quarantine(folder, "half")
    assert again is not None and again.name.endswith(".damaged-2")


def test_of_two_that_quarantine_at_once_one_does_it_and_none_fails(tmp_path: Path) -> None:
    for round_ in range(20):
        folder = Layout(tmp_path / str(round_)).stage("toy", "f").attempt(1).checkpoint(7)
        folder.mkdir(parents=True)
        (folder / "weights").write_text("x")
        barrier, made = threading.Barrier(2), []

        def act(folder: Path = folder, barrier: threading.Barrier = barrier, made: list[Any] = made) -> None:
            barrier.wait()
            made.append(integrity.quarantine(folder, "flipped"))

        threads = [threading.Thread(target=act) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 2 and sum(m is not None for m in made) == 1
        assert len(list(folder.parent.iterdir())) == 1


def test_half_a_checkpoint_does_not_count_and_does_not_block_the_next_save(tmp_path: Path) -> None:
    stage = Layout(tmp_path).stage("toy", "f")
    attempt = records.open_attempt(stage, {})
    (attempt.checkpoint_folder(7) / "weights").write_text("half")
    assert not records.checkpoints(stage)
    (attempt.checkpoint_folder(7) / "weights").write_text("whole")
    attempt.commit_checkpoint(7)
    attempt.close()
    assert [(c.tokens, records.damage(c)) for c in records.checkpoints(stage)] == [(7, "")]


def test_an_attempt_learns_that_it_was_superseded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Layout(tmp_path).stage("toy", "f")
    claims.take(stage, sweep="s", term=1, submission="b", after=0)
    other, attempt = (records.open_attempt(stage, {}, claim=1) for _ in range(2))
    assert not attempt.superseded(now=True)
    claims.take(stage, sweep="t", term=1, submission="c", after=1)
    assert not attempt.superseded(), "it looks every ten seconds"
    monkeypatch.setattr(records, "CLAIM_SECONDS", 0.0)
    assert attempt.superseded() == "claim 2 has superseded its claim 1"
    newest = records.open_attempt(stage, {}, claim=2)
    assert not newest.superseded()
    other.commit({})
    assert newest.superseded() == "another attempt has finished the stage"
    assert not records.open_attempt(stage, {}).superseded(now=True)
    for one in (attempt, other, newest):
        one.close()


def test_what_is_left_of_a_job_that_was_started_again_learns_it(tmp_path: Path) -> None:
    stage = Layout(tmp_path).stage("toy", "f")
    claims.take(stage, sweep="s", term=1, submission="b", after=0)
    left, again = (records.open_attempt(stage, {}, claim=1) for _ in range(2))
    assert left.restarted() and left.superseded(now=True) == "its job was started again elsewhere"
    assert not again.restarted() and not again.superseded(now=True)
    claims.take(stage, sweep="t", term=1, submission="c", after=1)
    later = records.open_attempt(stage, {}, claim=2)
    assert not again.restarted() and again.superseded(now=True) == "claim 2 has superseded its claim 1"
    for one in (left, again, later):
        one.close()


def test_a_second_commit_is_refused_and_the_first_stays(tmp_path: Path) -> None:
    stage = Layout(tmp_path).stage("pretrain", "a" * 32)
    first, second = (records.open_attempt(stage, {"submission": name}) for name in ("one", "two"))
    for attempt, loss in ((first, 1.0), (second, 2.0)):
        attempt.row(tokens=1, kind="end", values={"loss": loss})
    assert second.commit({"loss": 2.0})
    assert not first.commit({"loss": 1.0})
    found = records.read_result(stage)
    assert found is not None and found.attempt == 2 and found.scores == {"loss": 2.0}
