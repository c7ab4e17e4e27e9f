"""Whatever is deleted of old checkpoints, what resuming or a dependant stage needs is there."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.store import records
from sweeps.store.layout import Layout
from workloads.training.checkpoints import prune


@settings(max_examples=30)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 3),
       st.sets(st.integers(1, 20).map(lambda save: 64 * save)))
def test_old_checkpoints_go_and_what_is_needed_stays(saves: list[int], keep: int, points: set[int]) -> None:
    """Attempts of a stage, interrupted after so many saves each; the last one completes it."""
    with TemporaryDirectory() as folder:
        stage = Layout(Path(folder)).stage("pretrain", "trunk")
        tokens = 0
        for number, count in enumerate(saves):
            attempt = records.open_attempt(stage, {})
            for _ in range(count):
                tokens += 64
                (attempt.checkpoint_folder(tokens) / "state").write_text("x")
                attempt.commit_checkpoint(tokens)
                prune(attempt.folder, keep, points)
                assert records.checkpoints(stage)[0].tokens == tokens, "an interruption now would go on from here"
            if number == len(saves) - 1:
                attempt.commit({})
            attempt.close()
            left = [c for c in records.checkpoints(stage) if c.owner.attempt == attempt.folder.number]
            newest = set(range(tokens, tokens - 64 * min(count, keep), -64))
            assert {c.tokens for c in left} == newest | {p for p in points if tokens - 64 * count < p <= tokens}
            assert not any(map(records.damage, left))
        assert records.final_checkpoint(stage).tokens == tokens, "a decay branch leaves the trunk here"
