"""What an interruption loses: the tokens after the last checkpoint, by the rows."""

from __future__ import annotations

from pathlib import Path

from sweeps.store.layout import StageFolder
from sweeps.store.records import Attempt, open_attempt
from sweeps.store.rows import Parent
from sweeps.store.stretch import Stretch, stretch


def saved(attempt: Attempt, tokens: int) -> None:
    (attempt.checkpoint_folder(tokens) / "state").write_text("x")
    attempt.commit_checkpoint(tokens)


def test_what_came_after_the_last_checkpoint_is_lost(tmp_path: Path) -> None:
    attempt = open_attempt(StageFolder(tmp_path / "stages" / "pretrain" / "ab12"), {})
    assert stretch(attempt.folder) == Stretch(began=0, saved=0, reached=0)
    attempt.set_parent(Parent(kind="pretrain", fingerprint="cd34", attempt=1, tokens=100))
    assert stretch(attempt.folder) == Stretch(began=100, saved=100, reached=100), "its beginning is somebody's state"
    attempt.row(tokens=150, kind="train", values={"loss": 1.0})
    assert stretch(attempt.folder).lost == 50
    saved(attempt, 160)
    assert stretch(attempt.folder) == Stretch(began=100, saved=160, reached=160), "further than its last row"
    attempt.row(tokens=200, kind="train", values={"loss": 1.0})
    assert stretch(attempt.folder) == Stretch(began=100, saved=160, reached=200)
    assert stretch(attempt.folder).lost == 40
    attempt.close()
