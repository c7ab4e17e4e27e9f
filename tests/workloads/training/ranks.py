"""Training as the ranks of a job do it, in this process or in several: `python -m ... STORE PRECISION ZERO COMPILED
RECOMPUTED STEP...`

A step is `whole` (a run of `UPDATES` updates), `held` (of another run: killed once a checkpoint of update `HELD` is
committed, which was written while more updates were made), `cut` (that run is asked to leave after `CUT` more updates)
or `resume` (it goes on to its end).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from sweeps.language.science import EngineScience
from sweeps.language.stage import Execution
from sweeps.store.layout import Layout
from tests.workloads.training.fakes import MODEL, UPDATE, FakeContext, FakeCorpus, corpus_stage, finished, science
from tests.workloads.training.held import Killed, held_back
from workloads.contract import Stopped
from workloads.training import engine, loop, runs
from workloads.training.process import join, leave

ROOT = Path(__file__).parents[3]
PATIENCE_S = 600.0
"""Seconds that ranks may take: one that hangs is killed in the end, a loaded machine is not. At a load above 10 two
ranks have taken more than 110 s."""
UPDATES, CUT, ROW = 12, 5, 4
"""Updates of a run; before it is asked to leave; between two rows."""
HELD = 6
"""Update whose checkpoint is written later; a row reports its loss meanwhile."""


@dataclass(frozen=True)
class Case:
    """A precision and a layout."""

    precision: Any
    zero: int
    ranks: int
    compiled: bool = False
    recomputed: bool = False
    """Layers and logits are computed again in the backward pass, under dropout."""

    def __str__(self) -> str:
        return (f"{self.precision}-zero{self.zero}-ranks{self.ranks}{'-compiled' * self.compiled}"
                f"{'-recomputed' * self.recomputed}")


_zero = engine._zero


def parted(execution: Execution, bucket: int) -> dict[str, Any]:
    """ZeRO's configuration under which stage 3 parts small parameters too: all of a small model's are small."""
    small = {"stage3_param_persistence_threshold": 0} if execution.zero_stage == 3 else {}
    return _zero(execution, bucket) | small


class RankContext(FakeContext):
    """Rank 0 makes the attempt, the other ranks get its folder."""

    def __post_init__(self) -> None:
        place = join(1)
        if place.first:
            super().__post_init__()
        place.barrier()
        if not place.first:
            self.attempt = type("Paths", (), {
                "folder": self.folder.attempt(max(int(p.name) for p in self.folder.attempts.iterdir())),
                "stage": self.folder,
            })()
        place.barrier()


def one(store: Layout, name: str, case: Case, stop_after: int | None = None, keep_at: tuple[int, ...] = ()) -> Any:
    """Train one stage; commit and return its scores, None where it was stopped or killed.

    Weight decay is strong, so that a group of parameters with the wrong one is seen. Under ZeRO 3 parameters are
    parted, and layers computed again.
    """
    engine_science = EngineScience(precision=case.precision, compile=case.compiled,
                                   loss_chunk=8 if case.recomputed else None)
    model = MODEL.model_copy(update={"dropout": 0.1 if case.recomputed else 0.0})
    fields = science(UPDATES, weight_decay=0.5) | {"engine": engine_science, "model": model}
    fields["validation"] = fields["validation"].model_copy(update={"every_tokens": ROW * UPDATE})
    context = RankContext(
        "pretrain", name, fields, store, given={"corpus": [corpus_stage(store)]}, stop_after=stop_after,
        execution=Execution(checkpoint_seconds=1e9, ranks=case.ranks, zero_stage=case.zero, micro_batch=1,
                            activation_checkpointing=case.zero == 3 or case.recomputed, keep_at_tokens=keep_at),
    )
    scores = None
    try:
        with patch.object(loop, "ROW_UPDATES", ROW), patch.object(engine, "_zero", parted):
            scores = dict(runs.pretrain(context))
    except (Stopped, Killed):
        pass
    place = join(1)
    if place.first and scores is not None:
        finished(context, scores)
    place.barrier()
    return scores


def steps(store: Layout, case: Case, *names: str) -> None:
    """Make steps of a case in this process."""
    place = join(1)
    for name in names:
        asked = name == "cut" and place.rank == place.world - 1  # one rank is asked, and all leave
        with held_back(2) if name == "held" else nullcontext():
            scores = one(store, "whole" if name == "whole" else "cut", case, stop_after=CUT if asked else None,
                         keep_at=(HELD * UPDATE,) if name == "held" else ())
        assert (scores is None) == (name in ("held", "cut")), name


def made(store: Layout, case: Case, *names: str, beside: int = 1) -> None:
    """Make steps of a case in as many processes as it has ranks; one rank is this process.

    Where there are too few cards for `beside` ranks, with which this case is compared, one rank has none either.
    """
    if case.ranks == 1 and not without_cards(beside):
        steps(store, case, *names)
        return
    ended = in_ranks(case.ranks, "-m", __name__, str(store.root), case.precision, str(case.zero),
                     str(int(case.compiled)), str(int(case.recomputed)), *names, beside=beside)
    assert [code for code, _ in ended] == [0] * case.ranks, "\n".join(said for _, said in ended)[-5_000:]


def in_ranks(count: int, *arguments: str, beside: int = 1) -> list[tuple[int, str]]:
    """Run `count` interpreters that find each other as ranks; return the exit code and output of each."""
    shared = shared_environment(count, beside=beside)
    started = [
        subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        ) for rank in range(count)
    ]
    until = time.monotonic() + PATIENCE_S
    try:
        said = [process.communicate(timeout=max(0.0, until - time.monotonic()))[0] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    return list(zip([process.returncode for process in started], said, strict=True))


def without_cards(ranks: int) -> dict[str, str]:
    """Return the variable that hides a machine's cards where it has some, but fewer than ranks; they meet over gloo."""
    return {"CUDA_VISIBLE_DEVICES": ""} if 0 < torch.cuda.device_count() < ranks else {}


def shared_environment(ranks: int, *, beside: int = 1) -> dict[str, str]:
    """Return the variables of all processes of a job with so many ranks; each adds its RANK and LOCAL_RANK."""
    return {**os.environ, "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
            **without_cards(max(ranks, beside))}


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def main() -> None:
    """Make the steps that the command line names."""
    store, precision, zero, compiled, recomputed, *names = sys.argv[1:]
    runs.open_reader = lambda folder, context: FakeCorpus(folder, seed=0, sequence_length=16)  # type: ignore
    case = Case(precision, int(zero), int(os.environ["WORLD_SIZE"]), compiled == "1", recomputed == "1")
    steps(Layout(Path(store)), case, *names)
    leave()


if __name__ == "__main__":
    main()
