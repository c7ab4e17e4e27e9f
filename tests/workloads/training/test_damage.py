"""Checkpoints that are damaged, half-written or did not fit: set aside, an earlier one used, never from scratch."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.errors import RecordError, StorageError
from sweeps.language.stage import Execution
from sweeps.store import claims, files, integrity, records
from sweeps.store.layout import Layout
from tests.sweeps.disk import fill, limited, small_disk
from tests.workloads.training.fakes import UPDATE, FakeContext, corpus_stage, finished, science
from tests.workloads.training.ranks import in_ranks
from tests.workloads.training.test_runs import same, values, weights
from workloads.contract import Stopped
from workloads.training import checkpoints, runs, snapshots

NAMES = (f"d{n}" for n in itertools.count())
OFTEN = Execution(checkpoint_seconds=0.0, checkpoint_share=1.0, checkpoint_async=False)


def context(store: Layout, fields: dict[str, Any], *, name: str = "", **more: Any) -> FakeContext:
    given = {"corpus": [corpus_stage(store)], **more.pop("given", {})}
    return FakeContext("pretrain", name or next(NAMES), fields, store, given=given, **more)


def stopped(store: Layout, end: int, name: str, after: int, **more: Any) -> FakeContext:
    """An attempt that was asked to leave after so many updates."""
    one = context(store, science(end), name=name, stop_after=after, **more)
    with pytest.raises(Stopped):
        runs.pretrain(one)
    one.attempt.close()
    return one


def largest(folder: Path) -> Path:
    return max(folder.rglob("*.pt"), key=lambda p: p.stat().st_size)


def flipped(folder: Path) -> None:
    content = bytearray(largest(folder).read_bytes())
    content[len(content) // 2] ^= 1
    largest(folder).write_bytes(content)


def truncated(folder: Path) -> None:
    content = largest(folder).read_bytes()
    largest(folder).write_bytes(content[: len(content) // 2])


def shard_missing(folder: Path) -> None:
    largest(folder).unlink()


def generators_missing(folder: Path) -> None:
    (folder / "rank_0.pt").unlink()


def manifest_torn(folder: Path) -> None:
    path = folder / integrity.MANIFEST
    path.write_text(path.read_text()[:100])


def manifest_edited(folder: Path) -> None:
    path = folder / integrity.MANIFEST
    path.write_text(path.read_text().replace('"tokens":', '"tokens":1'))


def manifest_empty(folder: Path) -> None:
    (folder / integrity.MANIFEST).write_text(files.seal({"tokens": int(folder.name), "files": {}}))


DAMAGES = (flipped, truncated, shard_missing, generators_missing, manifest_torn, manifest_edited, manifest_empty)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_continued(
    store: Layout, damage: Callable[[Path], None]
) -> None:
    whole = context(store, science(12))
    runs.pretrain(whole)
    first = stopped(store, 12, "x", 9, execution=OFTEN)
    newest, before = (c.folder for c in records.checkpoints(first.folder))
    damage(newest)
    again = stopped(store, 12, "x", 1)  # one update from 8 on: saves at 9, where the damaged one was
    parent = records.read_parent(again.attempt.folder)
    assert parent is not None and parent.tokens == 8 * UPDATE == int(before.name)
    aside = newest.with_name(newest.name + ".damaged-1")
    assert records.quarantined(first.folder) == [aside]
    assert (aside / integrity.REASON).read_text().strip()
    found = records.checkpoints(first.folder)[0]
    assert (found.tokens, found.owner.attempt, records.damage(found)) == (9 * UPDATE, 2, "")
    last = context(store, science(12), name="x")
    runs.pretrain(last)
    assert same(weights(whole), weights(last)) and values(whole) == values(last)


def test_a_checkpoint_without_a_manifest_is_not_there(store: Layout) -> None:
    first = stopped(store, 12, "x", 5, execution=OFTEN)
    newest = records.checkpoints(first.folder)[0].folder
    (newest / integrity.MANIFEST).unlink()
    second = context(store, science(12), name="x")
    runs.pretrain(second)
    parent = records.read_parent(second.attempt.folder)
    assert parent is not None and parent.tokens == 4 * UPDATE
    assert not records.quarantined(first.folder), "it is not damaged, only never committed"
    assert not newest.exists(), "its attempt is over, and the next save gives the space back"


def test_where_nothing_sound_is_left_a_person_decides_about_beginning_again(store: Layout) -> None:
    first = stopped(store, 12, "x", 5, execution=OFTEN)
    for checkpoint in records.checkpoints(first.folder):
        flipped(checkpoint.folder)
    for _ in range(2):  # the second time the damaged ones are already set aside
        with pytest.raises(RecordError, match=r"every checkpoint of pretrain/x is damaged .*remove the folder"):
            runs.pretrain(context(store, science(12), name="x"))
    assert len(records.quarantined(first.folder)) == 2
    shutil.rmtree(first.folder.path)
    whole, anew = context(store, science(12)), context(store, science(12), name="x")
    for one in (whole, anew):
        runs.pretrain(one)
    assert same(weights(whole), weights(anew))


def test_an_earlier_point_of_the_run_stands_in_for_damaged_checkpoints(store: Layout) -> None:
    point = context(store, science(6))
    earlier = finished(point, runs.pretrain(point))
    first = stopped(store, 12, "x", 2, earlier=[earlier])
    flipped(records.checkpoints(first.folder)[0].folder)
    second = context(store, science(12), name="x", earlier=[earlier])
    runs.pretrain(second)
    parent = records.read_parent(second.attempt.folder)
    assert parent is not None and (parent.fingerprint, parent.tokens) == (earlier.fingerprint, 6 * UPDATE)
    assert len(records.quarantined(first.folder)) == 1


def test_a_checkpoint_that_its_owner_deletes_meanwhile_is_no_damage(
    store: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stopped(store, 12, "x", 5, execution=OFTEN)
    newest = records.checkpoints(first.folder)[0].folder
    real = records.damage

    def pruned(checkpoint: records.Checkpoint) -> str:
        if checkpoint.folder == newest:
            shutil.rmtree(newest)
        return real(checkpoint)

    monkeypatch.setattr(records, "damage", pruned)
    second = context(store, science(12), name="x")
    runs.pretrain(second)
    assert not records.quarantined(first.folder)
    parent = records.read_parent(second.attempt.folder)
    assert parent is not None and parent.tokens == 4 * UPDATE


def test_a_full_disk_in_the_middle_of_a_save_keeps_the_old_checkpoint(
    store: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look at the free space cannot see everything (others write too): here torch and DeepSpeed meet the end."""
    monkeypatch.setattr(checkpoints, "SPARE_BYTES", 0)
    monkeypatch.setattr(checkpoints, "PARAMETER_BYTES", 0)
    with small_disk(tmp_path / "disk", 8) as disk:
        small = Layout(disk)
        first = stopped(small, 9, "x", 4)
        sound = records.checkpoints(first.folder)[0]
        size = sum(p.stat().st_size for p in sound.folder.rglob("*"))
        ballast = fill(disk, leave_bytes=size // 2)
        second = context(small, science(9), name="x", stop_after=2)
        with pytest.raises(StorageError, match=rf"no space is left on {disk} \(small, tmpfs"):
            runs.pretrain(second)
        second.attempt.close()
        assert not list(second.attempt.folder.checkpoints.iterdir()), "its space is free again"
        assert not records.damage(sound)
        ballast.unlink()
        third = context(small, science(9), name="x")
        runs.pretrain(third)
        whole = context(store, science(9))
        runs.pretrain(whole)
        assert same(weights(whole), weights(third)) and values(whole) == values(third)
        third.attempt.close()


def test_a_file_size_limit_in_the_middle_of_a_save_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    store = Layout(tmp_path)
    first = stopped(store, 9, "x", 4)
    sound = records.checkpoints(first.folder)[0]
    code = """
import sys
from pathlib import Path
from sweeps.errors import StorageError
from sweeps.store.layout import Layout
from tests.workloads.training import test_damage as t
from tests.workloads.training.fakes import FakeCorpus
from workloads.training import runs
runs.open_reader = lambda folder, context: FakeCorpus(folder, seed=0, sequence_length=16)
one = t.context(Layout(Path(sys.argv[1])), t.science(9), name="x", stop_after=2)
try:
    runs.pretrain(one)
except StorageError as full:
    print(full)
"""
    done = limited(code, [tmp_path], largest(sound.folder).stat().st_size // 2)
    assert "would grow beyond the file-size limit" in done.stdout, done.stderr
    assert not list(first.folder.attempt(2).checkpoints.iterdir())
    third = context(store, science(9), name="x")
    runs.pretrain(third)
    parent = records.read_parent(third.attempt.folder)
    assert parent is not None and parent.tokens == 4 * UPDATE


def test_an_opaque_error_of_a_save_that_is_not_for_space_stays_what_it_is(
    store: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(snapshots.torch, "save", broken)
    with pytest.raises(RuntimeError, match="iostream"):
        runs.pretrain(context(store, science(3)))


@pytest.mark.parametrize("ended", ["superseded", "finished elsewhere"])
def test_a_training_job_that_has_nothing_left_to_do_leaves_without_writing(
    store: Layout, monkeypatch: pytest.MonkeyPatch, ended: str
) -> None:
    monkeypatch.setattr(records, "CLAIM_SECONDS", 0.0)
    one = context(store, science(40), name="x")
    claims.take(one.folder, sweep="s", term=1, submission="b", after=0)
    one.attempt.claim = 1
    calls = itertools.count(1)

    def should_stop() -> bool:
        if next(calls) == 10 and ended == "superseded":
            claims.take(one.folder, sweep="t", term=1, submission="c", after=1)
        elif ended != "superseded" and not one.folder.result.exists():
            other = records.open_attempt(one.folder, {})
            other.commit({})
            other.close()
        return False

    monkeypatch.setattr(one, "should_stop", should_stop)
    with pytest.raises(Stopped, match="superseded after"):
        runs.pretrain(one)
    assert next(calls) <= 12
    assert not one.attempt.folder.checkpoints.exists() and not one.attempt.folder.artifacts.exists()


def test_a_damaged_spec_of_an_earlier_point_is_named(store: Layout) -> None:
    point = context(store, science(3))
    earlier = finished(point, runs.pretrain(point))
    files.replace(earlier.spec, "{}")
    with pytest.raises(RecordError, match=r"spec\.json is damaged"):
        runs.pretrain(context(store, science(6), earlier=[earlier]))


RANKS = """
import os, sys
from pathlib import Path
from sweeps.errors import StorageError
from sweeps.store.layout import Layout
from tests.workloads.training import ranks
from tests.workloads.training.fakes import FakeCorpus
from workloads.training import checkpoints, runs
from workloads.training.process import join, leave
checkpoints.SPARE_BYTES = checkpoints.PARAMETER_BYTES = 0
runs.open_reader = lambda folder, context: FakeCorpus(folder, seed=0, sequence_length=16)
join(1)
full = None
try:
    print(ranks.one(Layout(Path(sys.argv[1])), "x", ranks.Case("fp32", 1, 2), stop_after=int(sys.argv[2])))
except StorageError as error:
    full = error
    print("StorageError", full)
leave()
sys.exit(full.exit_code if full else 0)
"""


def two_processes(disk: Path, stop_after: int) -> list[tuple[int, str]]:
    """Exit code and output of both ranks of a run on this disk."""
    return in_ranks(2, "-c", RANKS, str(disk), str(stop_after))


@pytest.mark.slow
def test_two_ranks_that_meet_a_full_disk_both_pause(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        assert [code for code, _ in two_processes(disk, 4)] == [0, 0]
        sound = records.checkpoints(Layout(disk).stage("pretrain", "x"))[0]
        ballast = fill(disk, leave_bytes=sum(p.stat().st_size for p in sound.folder.rglob("*")) // 3)
        leader, follower = two_processes(disk, 2)
        assert leader[0] == 6 and "no space is left" in leader[1], leader
        assert follower[0] != 0, "it cannot have gone on alone"
        assert not records.damage(sound)
        ballast.unlink()
        assert [code for code, _ in two_processes(disk, 2)] == [0, 0]
        newest = records.checkpoints(Layout(disk).stage("pretrain", "x"))[0]
        assert newest.tokens == 6 * UPDATE and not records.damage(newest)
