"""Checkpoints that are written while training goes on: what they hold, when they count, and what becomes of them."""

from __future__ import annotations

import errno
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeps.errors import RecordError, StorageError
from sweeps.language.science import EngineScience
from sweeps.language.stage import Execution
from sweeps.store import claims, records
from sweeps.store.layout import Layout
from tests.workloads.training.fakes import UPDATE, FakeContext, science
from tests.workloads.training.held import Killed, held_back
from tests.workloads.training.ranks import in_ranks
from tests.workloads.training.test_runs import context, same, values, weights
from workloads.contract import Diverged, Stopped
from workloads.training import runs, saving
from workloads.training.engine import Engine
from workloads.training.saving import Saver
from workloads.training.snapshots import copied

pytestmark = pytest.mark.filterwarnings("ignore:`torch.distributed:FutureWarning")  # DeepSpeed's ZeRO 3 calls

POINT = 17
"""The update whose state is written while three more follow it, one of which reports the losses since the last row."""
KINDS = [("fp32", 0), ("fp32", 1), ("bf16", 2), ("bf16", 3)]


def killed_and_resumed(store: Layout, precision: Any, zero: int) -> tuple[FakeContext, FakeContext]:
    """An undisturbed run, and one that goes on from a checkpoint that was written while it was trained further."""
    fields = science(30) | {"engine": EngineScience(precision=precision)}
    layout = Execution(checkpoint_seconds=1e9, zero_stage=zero)
    whole = context(store, fields, execution=layout)
    runs.pretrain(whole)
    held = layout.model_copy(update={"keep_at_tokens": (POINT * UPDATE,)})
    first = context(store, fields, name="x", execution=held)
    with held_back(4), pytest.raises(Killed):
        runs.pretrain(first)
    assert [r.tokens // UPDATE for r in first.rows if r.kind == "train"] == [20], "it was trained beyond"
    assert [c.tokens for c in records.checkpoints(first.folder)] == [POINT * UPDATE]
    again = context(store, fields, name="x", execution=layout)
    runs.pretrain(again)
    parent = records.read_parent(again.attempt.folder)
    assert parent is not None and parent.tokens == POINT * UPDATE
    return whole, again


@pytest.mark.parametrize(("precision", "zero"), KINDS)
def test_a_checkpoint_holds_the_update_it_was_taken_at_however_late_it_is_written(
    store: Layout, precision: str, zero: int
) -> None:
    whole, again = killed_and_resumed(store, precision, zero)
    assert same(weights(whole), weights(again)) and values(whole) == values(again)


@pytest.mark.parametrize("zero", [0, 1])
def test_the_one_before_would_fail_without_the_copy(
    store: Layout, monkeypatch: pytest.MonkeyPatch, zero: int
) -> None:
    monkeypatch.setattr(saving, "copied", lambda state: state)
    with pytest.raises(RecordError, match="Adam counts 21 steps, the record 17"):
        killed_and_resumed(store, "fp32", zero)


@pytest.mark.parametrize(("precision", "zero"), KINDS)
def test_a_checkpoint_from_a_copy_has_the_files_of_one_that_training_waits_for(
    store: Layout, precision: str, zero: int
) -> None:
    folders = []
    for behind in (True, False):
        one = context(store, science(6) | {"engine": EngineScience(precision=precision)}, execution=Execution(
            checkpoint_seconds=1e9, zero_stage=zero, keep_at_tokens=(3 * UPDATE,), checkpoint_async=behind))
        runs.pretrain(one)
        folders.append(records.checkpoints(one.folder)[1].folder)
    files = [{str(p.relative_to(f)): p for p in f.rglob("*.pt")} for f in folders]
    assert files[0].keys() == files[1].keys() and files[0]
    for name, path in files[0].items():
        assert path.stat().st_size == pytest.approx(files[1][name].stat().st_size, abs=1000), "no storage twice"
        assert_equal(*(torch.load(found[name], weights_only=False) for found in files))


def assert_equal(one: Any, other: Any) -> None:
    """The same types, keys and bits."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert (one.dtype, one.stride()) == (other.dtype, other.stride()) and torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_equal(*pair)
    elif type(one).__eq__ is not object.__eq__:
        assert one == other


def test_tensors_that_share_memory_share_their_copy_and_nothing_else_does() -> None:
    whole = torch.arange(10.0)
    state = {"whole": whole, "views": [whole[2:4], (whole[::2], 7)], "other": whole.clone(), "counts": {"n": [1]}}
    taken = copied(state)
    whole.zero_()
    state["counts"]["n"].append(2)  # type: ignore[index]
    assert taken["whole"].tolist() == list(range(10)) == taken["other"].tolist() and taken["counts"] == {"n": [1]}
    view, (strided, seven) = taken["views"]
    assert view.tolist() == [2.0, 3.0] and strided.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0] and seven == 7
    view.fill_(5.0)
    assert taken["whole"][2:4].tolist() == [5.0, 5.0] and taken["other"][2] == 2


def slow_writes(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Hold every write back: an event that tells that one has begun, and one that lets them go on."""
    begun, go = threading.Event(), threading.Event()
    plain = Saver._write

    def write(self: Saver, *given: Any) -> None:
        begun.set()
        go.wait(60)
        plain(self, *given)

    monkeypatch.setattr(Saver, "_write", write)
    return begun, go


def test_one_that_is_due_while_another_is_written_waits_for_its_turn(
    store: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, go = slow_writes(monkeypatch)
    taken: list[int] = []
    plain_save, plain_update = Saver.save, Engine.update

    def save(self: Saver, tokens: int, *given: Any, **more: Any) -> None:
        taken.append(tokens // UPDATE)
        plain_save(self, tokens, *given, **more)

    made: list[Engine] = []

    def update(self: Engine, *given: Any, **more: Any) -> Any:
        if len(made) == 9:
            go.set()
        made.append(self)
        return plain_update(self, *given, **more)

    monkeypatch.setattr(Saver, "save", save)
    monkeypatch.setattr(Engine, "update", update)
    one = context(store, science(200), execution=Execution(checkpoint_seconds=0.0, checkpoint_share=1.0))
    runs.pretrain(one)
    assert taken[0] == 1 and taken[1] > 9, "one underway, and none queued behind it"
    assert taken[-1] == 200 and [c.tokens // UPDATE for c in records.checkpoints(one.folder)] == taken[:-3:-1]
    assert not any(records.damage(c) for c in records.checkpoints(one.folder))


def test_a_leave_ends_committed_and_what_was_underway_before_it_too(
    store: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = slow_writes(monkeypatch)
    one = context(store, science(30), stop_after=6, execution=Execution(
        checkpoint_seconds=1e9, keep_at_tokens=(3 * UPDATE,)))

    class Patient(type(one.pulse)):  # type: ignore[misc]
        def slow(self) -> None:
            super().slow()
            if begun.is_set():  # the second save: training stands still from here
                go.set()

    one.pulse = Patient()
    with pytest.raises(Stopped, match=str(6 * UPDATE)):
        runs.pretrain(one)
    assert [c.tokens // UPDATE for c in records.checkpoints(one.folder)] == [6, 3]
    assert_no_thread()


def assert_no_thread() -> None:
    assert not [t.name for t in threading.enumerate() if t.name.startswith("checkpoint")]


@pytest.mark.parametrize("ended", ["an error", "superseded"])
def test_a_training_that_ends_meanwhile_leaves_no_half_of_a_checkpoint_and_no_thread(
    store: Layout, monkeypatch: pytest.MonkeyPatch, ended: str
) -> None:
    monkeypatch.setattr(records, "CLAIM_SECONDS", 0.0)
    begun, go = slow_writes(monkeypatch)
    one = context(store, science(30), name="x", execution=Execution(
        checkpoint_seconds=1e9, keep_at_tokens=(2 * UPDATE, 5 * UPDATE)))
    claims.take(one.folder, sweep="s", term=1, submission="b", after=0)
    one.attempt.claim = 1
    plain, made = Engine.update, []

    def update(self: Engine, *given: Any, **more: Any) -> Any:
        made.append(1)
        if len(made) == 3:
            go.set()  # the first is committed, as the second point waits for it
        if len(made) == 6:
            begun.wait(60)
            if ended == "an error":
                threading.Timer(0.2, go.set).start()
                raise ValueError("broken")
            claims.take(one.folder, sweep="t", term=1, submission="c", after=1)
            threading.Timer(0.2, go.set).start()
        if len(made) == 5:
            begun.clear()
            go.clear()
        return plain(self, *given, **more)

    monkeypatch.setattr(Engine, "update", update)
    with pytest.raises(ValueError if ended == "an error" else Stopped, match="broken|superseded"):
        runs.pretrain(one)
    assert [p.name for p in one.attempt.folder.checkpoints.iterdir()] == [f"{2 * UPDATE:015d}"]
    assert_no_thread()


def test_a_disk_that_fills_up_meanwhile_ends_the_training_and_keeps_the_checkpoint_before(
    store: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = saving.write

    def full(state: Any, path: Path, going: Any) -> None:
        if f"{4 * UPDATE:015d}" in str(path) and path.name.startswith("mp_rank"):
            plain(state, path, going)
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        plain(state, path, going)

    monkeypatch.setattr(saving, "write", full)
    one = context(store, science(2000), execution=Execution(
        checkpoint_seconds=1e9, keep_at_tokens=(2 * UPDATE, 4 * UPDATE)))
    with pytest.raises(StorageError, match=r"mp_rank.* cannot be written: no space is left on .* run the same"):
        runs.pretrain(one)
    assert [p.name for p in one.attempt.folder.checkpoints.iterdir()] == [f"{2 * UPDATE:015d}"]
    assert_no_thread()


def test_a_disk_without_room_for_the_folders_of_a_checkpoint_is_told_as_one(
    store: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(self: Engine, folder: Path, write: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "engine"))

    monkeypatch.setattr(Engine, "save", save)
    one = context(store, science(3))
    with pytest.raises(StorageError, match="cannot be written: no space is left on .* run the same"):
        runs.pretrain(one)
    assert not list(one.attempt.folder.checkpoints.iterdir())
    assert_no_thread()


def test_an_error_after_the_commit_leaves_the_checkpoint(store: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(saving, "prune", refused)
    one = context(store, science(2000), execution=Execution(checkpoint_seconds=1e9, keep_at_tokens=(2 * UPDATE,)))
    with pytest.raises(PermissionError):
        runs.pretrain(one)
    [left] = records.checkpoints(one.folder)
    assert left.tokens == 2 * UPDATE and not records.damage(left)
    assert_no_thread()


def test_what_was_taken_before_a_divergence_is_kept(store: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Engine.update
    made: list[int] = []

    def update(self: Engine, *given: Any, **more: Any) -> Any:
        made.append(1)
        loss, norm = plain(self, *given, **more)
        return (loss * float("nan") if len(made) > 18 else loss), norm

    begun, go = slow_writes(monkeypatch)
    monkeypatch.setattr(Engine, "update", update)
    threading.Thread(target=lambda: (begun.wait(60), go.wait(1.0), go.set())).start()
    one = context(store, science(30), execution=Execution(checkpoint_seconds=1e9, keep_at_tokens=(18 * UPDATE,)))
    with pytest.raises(Diverged, match="update 19"):
        runs.pretrain(one)
    assert [c.tokens // UPDATE for c in records.checkpoints(one.folder)] == [18]
    assert_no_thread()


def test_a_write_that_training_waits_for_shows_that_it_lives(
    store: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hang watchdog hears of each time in which something was written, and of none in which nothing was."""
    monkeypatch.setattr(saving, "BEAT_SECONDS", 0.05)
    plain, slow, beats = Saver._going, [4], []

    def going(self: Saver, count: int) -> None:
        plain(self, count)
        if slow[0]:
            slow[0] -= 1
            threading.Event().wait(0.5)  # ten looks

    monkeypatch.setattr(Saver, "_going", going)
    one = context(store, science(2))
    monkeypatch.setattr(one.pulse, "beat", lambda: beats.append(1))
    runs.pretrain(one)
    assert 4 <= len(beats) <= 20


def test_training_waits_for_a_thread_that_hangs_so_that_the_watchdog_sees_it(
    store: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, go = slow_writes(monkeypatch)
    monkeypatch.setattr(saving, "BEAT_SECONDS", 0.05)
    signs: list[str] = []
    one = context(store, science(10**6), stop_after=10**6, execution=Execution(
        checkpoint_seconds=1e9, keep_at_tokens=(2 * UPDATE,), hang_floor_seconds=0.5))

    class Told(type(one.pulse)):  # type: ignore[misc]
        def _sign(self, now: float) -> None:
            super()._sign(now)
            signs.append("")

    one.pulse = Told()
    seen: list[int] = []

    def look() -> None:
        until = time.monotonic() + 60
        while (not seen or seen[-1] != len(signs)) and time.monotonic() < until:
            seen.append(len(signs))
            threading.Event().wait(1.0)
        one.stop_after = 3
        go.set()

    looking = threading.Thread(target=look)
    looking.start()
    with pytest.raises(Stopped):
        runs.pretrain(one)
    looking.join()
    assert seen[-1] > 2, "it trained on until the thread had been silent for the floor"
    assert records.checkpoints(one.folder)[-1].tokens == 2 * UPDATE and len(signs) > seen[-1]


RANKS = """
import errno, os, sys
from pathlib import Path
from sweeps.errors import StorageError
from sweeps.store.layout import Layout
from tests.workloads.training import ranks
from tests.workloads.training.fakes import UPDATE, FakeCorpus
from workloads.training import runs, saving
from workloads.training.process import join
runs.open_reader = lambda folder, context: FakeCorpus(folder, seed=0, sequence_length=16)
rank, plain, made = join(1).rank, saving.write, []
def write(state, path, going):
    plain(state, path, going)
    if rank == 1 and f"{5 * UPDATE:015d}" in str(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path)) if sys.argv[2] == "full" else KeyError("odd")
saving.write = write
try:
    ranks.one(Layout(Path(sys.argv[1])), "x", ranks.Case("fp32", 1, 2), keep_at=(3 * UPDATE, 5 * UPDATE))
except (StorageError, RuntimeError, KeyError) as error:
    print(type(error).__name__, error)
    sys.stdout.flush()
    os._exit(6)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("met", "told"), [
    ("full", [r"StorageError .*/5/.*no space is left on", "StorageError .*no space is left on"]),
    ("odd", [r"RuntimeError rank 1 could not write a checkpoint: KeyError", "KeyError 'odd'"])])
def test_what_one_ranks_thread_meets_every_rank_raises(tmp_path: Path, met: str, told: list[str]) -> None:
    ended = in_ranks(2, "-c", RANKS, str(tmp_path), met)
    assert [code for code, _ in ended] == [6, 6], ended
    for (_, said), wanted in zip(ended, told, strict=True):
        assert re.search(wanted.replace("/5/", f"/{5 * UPDATE:015d}/"), said), said
    [left] = Layout(tmp_path).stage("pretrain", "x").attempt(1).checkpoints.iterdir()
    assert left.name == f"{3 * UPDATE:015d}" and not records.damage(
        records.checkpoints(Layout(tmp_path).stage("pretrain", "x"))[0])
