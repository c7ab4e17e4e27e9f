"""Two ranks over gloo: one that computes longer is told from the other, and one whose loss is not a number too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.health import notices, rows_of, straggler
from sweeps.store.layout import Layout
from tests.workloads.training.ranks import PATIENCE_S, ROOT, shared_environment


@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE_S)
def test_a_slow_rank_and_a_broken_one_are_named(tmp_path: Path) -> None:
    shared = shared_environment(2)
    started = [
        subprocess.Popen([sys.executable, "-m", "tests.workloads.training.slow_rank", str(tmp_path)], cwd=ROOT,
                         text=True, stdout=subprocess.PIPE,
                         env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=PATIENCE_S)[0] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [process.returncode for process in started] == [0, 0]
    slow, broken = (Layout(tmp_path).stage("pretrain", name).attempt(1) for name in ("slow", "broken"))
    rows = rows_of(slow)
    found = straggler([row["values"] for row in rows if row["kind"] == "train"])
    assert found is not None and found[0] == 1 and found[1] > 1.2
    assert any(line.startswith("straggler: rank 1") for line in notices(slow, rows))
    assert "".join(said).splitlines() == ["loss nan at update 7 on rank 1, sequences 26, 27"] * 2
    kept = json.loads(broken.divergence.read_text())
    assert kept["ranks"] == [1] and kept["sequences"] == {"0": [24, 25], "1": [26, 27]}
