"""Whatever is deleted of old checkpoints, what resuming or a dependant stage needs is there."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.language.stage import Execution
from sweeps.store import records
from sweeps.store.layout import Layout, StageFolder
from sweeps.store.records import Attempt
from tests.workloads.training.fakes import UPDATE, FakeContext, corpus_stage, finished, science
from workloads.contract import Stopped
from workloads.training import runs
from workloads.training.checkpoints import GONE, prune
from workloads.training.transfer import read_weights

OFTEN = Execution(checkpoint_seconds=0.0, checkpoint_share=1.0, checkpoint_async=False)


def save(attempt: Attempt, tokens: int, keep: int = 2, points: frozenset[int] = frozenset()) -> None:
    (attempt.checkpoint_folder(tokens) / "state").write_text("x")
    attempt.commit_checkpoint(tokens)
    prune(attempt, keep, points)


def kept(stage: StageFolder) -> list[tuple[int, int]]:
    """Tokens and attempt of what counts, furthest first; all of it is sound, and nothing else lies beside it."""
    found = records.checkpoints(stage)
    assert not any(map(records.damage, found))
    assert {c.folder for c in found} == set(stage.attempts.glob("*/checkpoints/*"))
    return [(c.tokens, c.owner.attempt) for c in found]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=6), st.integers(1, 3),
       st.frozensets(st.integers(1, 20).map(lambda save: 64 * save)))
def test_a_stage_keeps_its_newest_and_its_points_however_often_it_is_interrupted(
    tries: list[tuple[int, bool]], keep: int, points: frozenset[int]
) -> None:
    """Attempts of a stage, each interrupted after so many saves, some in the middle of one more."""
    with TemporaryDirectory() as folder:
        stage = Layout(Path(folder)).stage("pretrain", "trunk")
        tokens = 0
        for number, (count, torn) in enumerate([*tries, (1, False)]):
            attempt = records.open_attempt(stage, {})
            for _ in range(count):
                tokens += 64
                save(attempt, tokens, keep, points)
                expected = {t for t in range(64, tokens + 1, 64) if t > tokens - 64 * keep or t in points}
                assert {t for t, _ in kept(stage)} == expected, "an interruption now would go on from the furthest"
            if torn:
                (attempt.checkpoint_folder(tokens + 640) / "state").write_text("half")
            if number == len(tries):
                assert attempt.commit({})
            attempt.close()
        assert records.final_checkpoint(stage).tokens == tokens, "a decay branch leaves the trunk here"


def test_a_removal_that_is_cut_off_leaves_nothing_that_counts_and_is_finished_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Layout(tmp_path).stage("pretrain", "s")
    first = records.open_attempt(stage, {})
    save(first, 64)
    save(first, 128)
    second = records.open_attempt(stage, {})

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", cut)
        save(second, 192)
    assert [c.tokens for c in records.checkpoints(stage)] == [192, 128]
    assert (first.folder.checkpoints / f"{64:015d}{GONE}" / "state").exists(), "half removed"
    third = records.open_attempt(stage, {})
    save(third, 256)
    assert kept(stage) == [(256, 3), (192, 2)]
    for attempt in (first, second, third):
        attempt.close()


def test_nothing_goes_where_somebody_else_may_be_reading(tmp_path: Path) -> None:
    """A process that outlives its job beside a later attempt, and beside the stage's result."""
    stage = Layout(tmp_path).stage("pretrain", "s")
    old = records.open_attempt(stage, {})
    save(old, 64)
    save(old, 128)
    new = records.open_attempt(stage, {})
    save(old, 192)
    save(old, 256)
    before = [(256, 1), (192, 1), (128, 1), (64, 1)]
    assert kept(stage) == before, "the later attempt may be loading any of them"
    save(new, 192, keep=1)
    assert kept(stage) == [(256, 1), (192, 2)], "the furthest of all, and its own newest"
    save(new, 320)
    assert new.commit({})
    save(new, 384)
    assert (320, 2) in kept(stage) and records.final_checkpoint(stage).tokens == 320
    old.close()
    new.close()


def test_a_run_interrupted_often_leaves_what_plan_counts_and_trains_the_same(store: Layout) -> None:
    """The real engine: four interruptions, then the end; a named point is passed in the second attempt."""
    execution = OFTEN.model_copy(update={"keep_at_tokens": (6 * UPDATE,)})

    def attempt(name: str, stop_after: int | None) -> FakeContext:
        return FakeContext("pretrain", name, science(24), store, given={"corpus": [corpus_stage(store)]},
                           execution=execution, stop_after=stop_after)

    for _ in range(4):
        with pytest.raises(Stopped):
            runs.pretrain(attempt("cut", 4))
    last, whole = attempt("cut", None), attempt("whole", None)
    stage = finished(last, runs.pretrain(last))
    runs.pretrain(whole)
    assert [(tokens // UPDATE, number) for tokens, number in kept(stage)] == [(24, 5), (23, 5), (6, 2)]
    ours, theirs = (read_weights(c.attempt.artifacts) for c in (last, whole))
    assert all((ours[name] == theirs[name]).all() for name in theirs)
