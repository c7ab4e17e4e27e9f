"""A disk that fills up under a running sweep: it pauses with exit code 6, and goes on when there is space again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sweeps.store.layout import Layout
from sweeps.store.ledger import fold, read_events
from tests.faults.conftest import Undisturbed
from tests.faults.live import Live, check_same, wait_for
from tests.faults.points import stages
from tests.sweeps.disk import fill, small_disk

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]


def test_a_full_disk_pauses_the_sweep_and_space_lets_it_go_on(tmp_path: Path, undisturbed: Undisturbed) -> None:
    with small_disk(tmp_path / "disk", 200) as disk:
        live = Live(root=disk / "store")
        first = live.start("--quiet")
        wait_for(live.training, first)
        ballast = fill(disk)
        out, said = first.communicate(timeout=120)
        assert first.returncode == 6, said
        assert "Traceback" not in said and str(disk) in said and re.search(r"tmpfs; [\d.,]+ MB", said), said
        assert "then run the same command again" in said
        done = {key for key, (_, result) in stages(live.root).items() if result}

        ballast.unlink()
        live.finish("--quiet")
        assert not fold(read_events(Layout(live.root).sweep("faults"))).failures, "no space is no failure of a stage"
        interrupted = sum(attempts - 1 for attempts, _ in stages(live.root).values())
        assert interrupted <= 2 and done <= stages(live.root).keys()
        check_same(live, undisturbed.live, interrupted=interrupted)
