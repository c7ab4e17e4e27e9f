"""Two ranks over gloo, one of them stopped: both leave their stacks, and neither lives on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweeps.store.files import read_json
from sweeps.store.layout import Layout
from sweeps.store.records import own_rows
from tests.workloads.training.ranks import ROOT, shared_environment


@pytest.mark.slow
def test_a_stopped_rank_ends_both_with_their_stacks(tmp_path: Path) -> None:
    attempt = Layout(tmp_path / "store").stage("pretrain", "hung").attempt(1)
    logs = [tmp_path / f"{rank}.err" for rank in range(2)]
    shared = shared_environment(2)
    started = []
    for rank, log in enumerate(logs):
        with log.open("wb") as err:
            started.append(subprocess.Popen(
                [sys.executable, "-m", "tests.workloads.training.hung_rank", str(tmp_path / "store")], cwd=ROOT,
                stderr=err, start_new_session=True, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            ))
    try:
        while not (attempt.metrics.is_file() and len(list(own_rows(attempt))) > 2):
            assert [p.poll() for p in started] == [None, None], logs[0].read_text() + logs[1].read_text()
            time.sleep(0.1)
        started[1].send_signal(signal.SIGSTOP)
        assert [p.wait(60) for p in started] == [-signal.SIGKILL, -signal.SIGKILL]
    finally:
        for process in started:
            process.kill()
            process.wait()
    for log in logs:
        assert "workloads/training/loop.py" in log.read_text()
    said = [read_json(path) for path in sorted(attempt.path.glob("failure*.json"))]
    assert {one["class"] for one in said} == {"HangError"}
    assert sorted(one["message"][:len("rank 0 of 2")] for one in said) == ["rank 0 of 2", "rank 1 of 2"]
    assert next(one for one in said if "rank 1 " in one["message"])["message"].endswith("its process was stopped")
