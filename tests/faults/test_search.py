"""A search with real training, killed with its jobs in its middle: run again, it chooses the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.faults.live import Live, kill, wait_for
from tests.faults.points import stages

SEARCH = Path(__file__).parent / "search.yaml"


def choices(live: Live) -> dict[str, bytes]:
    """Return the choice of each cell, by the fingerprint of its stage."""
    return {path.parents[3].name: path.read_bytes()
            for path in live.root.glob("stages/select/*/attempts/*/artifacts/choice.json")}


@pytest.mark.proof
@pytest.mark.timeout(900)
def test_a_search_killed_in_its_middle_chooses_the_same(tmp_path: Path) -> None:
    whole, killed = Live(root=tmp_path / "whole", file=SEARCH), Live(root=tmp_path / "killed", file=SEARCH)
    whole.finish("--quiet")
    controller = killed.start("--quiet")
    wait_for(lambda: sum("pretrain" in key and result != b"" for key, (_, result) in stages(killed.root).items()) >= 6)
    kill(controller)
    for job in killed.jobs():
        os.killpg(job, signal.SIGKILL)
    assert not choices(killed), "it was in its middle"
    killed.finish("--quiet")
    assert len(choices(whole)) == 2 and choices(killed) == choices(whole)
    again = stages(killed.root)
    killed.finish("--quiet")
    assert stages(killed.root) == again, "a search that is over runs nothing"
