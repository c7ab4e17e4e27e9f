"""Two processes over gloo: every ZeRO stage trains as one rank does, and resumes exactly."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sweeps.store.layout import Layout
from tests.workloads.training.fakes import UPDATE, FakeContext, corpus_stage, science
from workloads.training import runs

ROOT = Path(__file__).parents[3]


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    store, port = tmp_path_factory.mktemp("ranks"), str(free_port())
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.workloads.training.two_ranks", str(store)], cwd=ROOT, text=True,
            stdout=subprocess.PIPE,
            env={**os.environ, "RANK": str(r), "LOCAL_RANK": str(r), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                 "MASTER_PORT": port},
        ) for r in range(2)
    ]
    try:
        out = [p.communicate(timeout=110)[0] for p in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [p.returncode for p in started] == [0, 0]
    result: dict[str, Any] = json.loads(out[0].splitlines()[-1])
    return result


@pytest.mark.slow
def test_what_rank_0_refuses_every_rank_refuses(measured: dict[str, Any]) -> None:
    assert "one trunk stage, 0 were given" in measured["refused"]


@pytest.mark.slow
@pytest.mark.parametrize("layout", [
    "fp32-0", "fp32-1", "fp32-2", "fp32-3", "bf16-1", "bf16-2", "bf16-3", "autocast-0"
])
def test_two_ranks(layout: str, measured: dict[str, Any], store: Layout) -> None:
    alone = FakeContext("pretrain", "alone", science(25), store, given={"corpus": [corpus_stage(store)]})
    scores = runs.pretrain(alone)
    found, near = measured[layout], 1e-5 if layout.startswith("fp32") else 0.03
    assert found["exact"]
    assert found["parent_tokens"] == 9 * UPDATE
    assert found["adam_steps"] == 25
    assert found["loss"] == pytest.approx(scores["loss"], abs=near)
    assert found["validation"] == pytest.approx(
        [r.values["loss"] for r in alone.rows if r.kind == "validation"], abs=near)
    assert found["grad_norm"] == pytest.approx(
        [r.values["grad_norm"] for r in alone.rows if r.kind == "train"], rel=1e-3 if near < 1e-4 else 0.1)
