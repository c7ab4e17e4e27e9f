"""Every allowed precision, ZeRO stage and number of ranks (gloo, on the CPU): exact after an interruption, near each
other, and able to go on with another number of ranks.

Every combination is a proof; the slow set has one of each kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeps.store import records
from sweeps.store.layout import Layout
from tests.workloads.training.fakes import UPDATE
from tests.workloads.training.ranks import (
    CUT,
    HELD,
    PATIENCE_S,
    UPDATES,
    Case,
    in_ranks,
    made,
    shared_environment,
    without_cards,
)
from tests.workloads.training.test_runs import same
from workloads.training.transfer import read_weights

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.distributed:FutureWarning"),  # DeepSpeed's ZeRO 3 calls
    pytest.mark.timeout(2 * PATIENCE_S),  # a test starts its ranks twice at most
]

NEAR = {"fp32": 1e-5, "bf16": 3e-4, "autocast": 3e-4}
"""Nats by which losses may differ between layouts within these runs."""
ALLOWED = [(p, z) for p in NEAR for z in range(4) if (p, z) != ("bf16", 0)]
CASES = [Case(*kind, ranks) for kind in ALLOWED for ranks in (1, 2)]
COMPILED = [Case(precision, zero, ranks, compiled=True)
            for precision, zero in (("fp32", 0), ("bf16", 1), ("autocast", 2)) for ranks in (1, 2)]
COMPILED += [Case("bf16", 1, 1, compiled=True, recomputed=True)]
SHOWN = {Case("fp32", 2, 2), Case("bf16", 3, 1), Case("fp32", 0, 1, compiled=True)}
"""These run in the slow set."""
Row = tuple[int, str, dict[str, float]]


def marked(cases: Iterable[Case], shown: set[Case]) -> list[Any]:
    return [pytest.param(c, id=str(c), marks=pytest.mark.slow if c in shown else pytest.mark.proof) for c in cases]


def result(store: Layout, name: str) -> records.Result:
    found = records.read_result(store.stage("pretrain", name))
    assert found is not None
    return found


def rows(store: Layout, name: str) -> list[Row]:
    """Rows without what is measured."""
    attempt = store.stage("pretrain", name).attempt(result(store, name).attempt)
    return [(r.tokens, r.kind, {k: v for k, v in r.values.items() if k not in records.MEASURED})
            for r in records.lineage_rows(store, attempt)]


def losses(rows: Iterable[Row]) -> list[float]:
    return [values["loss"] for _, _, values in rows if "loss" in values]


def weights(store: Layout, name: str) -> Any:
    return read_weights(records.artifacts_of(store.stage("pretrain", name)))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], list[float]]:
    """Losses of a case's precision on one rank, in the lowest ZeRO stage that it has, on the case's kind of device."""
    found: dict[tuple[str, bool], list[float]] = {}

    def measured(case: Case) -> list[float]:
        key = case.precision, bool(without_cards(case.ranks))
        if key not in found:
            store = Layout(tmp_path_factory.mktemp(case.precision))
            made(store, Case(case.precision, int(case.precision == "bf16"), 1), "whole", beside=case.ranks)
            found[key] = losses(rows(store, "whole"))
        return found[key]

    return measured


@pytest.mark.parametrize("case", marked([*CASES, *COMPILED], SHOWN))
def test_an_interruption_changes_no_bit_and_a_layout_next_to_nothing(
    case: Case, store: Layout, alone: Callable[[Case], list[float]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first interruption is a kill after a checkpoint that was written while training went on.

    Whether kernels are compiled anew, as after a restart on another node, or found where they were, says nothing.
    """
    for number, names in enumerate((["whole", "held", "cut"], ["resume"])):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / f"node{number}"))
        made(store, case, *names)
    assert rows(store, "cut") == rows(store, "whole") and len(losses(rows(store, "whole"))) == 6
    assert same(weights(store, "cut"), weights(store, "whole"))
    for attempt, updates in ((2, HELD), (3, HELD + CUT)):
        parent = records.read_parent(store.stage("pretrain", "cut").attempt(attempt))
        assert parent is not None and parent.tokens == updates * UPDATE
    scores = result(store, "cut").scores
    assert scores["adam_steps"] == scores["updates"] == UPDATES and "relayouts" not in scores
    if not case.recomputed:  # dropout draws other masks in compiled kernels
        assert losses(rows(store, "whole")) == pytest.approx(alone(case), abs=NEAR[case.precision])


@pytest.mark.parametrize("after", marked(CASES, {Case("bf16", 3, 2)}))
def test_a_run_goes_on_with_another_number_of_ranks_and_says_so(after: Case, store: Layout) -> None:
    before = Case(after.precision, after.zero, 3 - after.ranks)
    made(store, before, "whole", "held", beside=after.ranks)
    made(store, after, "cut", "resume", beside=before.ranks)  # and is interrupted once more
    found, undisturbed = rows(store, "cut"), rows(store, "whole")
    told = [row for row in found if row[1] == "relayout"]
    assert told == [(HELD * UPDATE, "relayout", {"ranks_before": before.ranks, "ranks": after.ranks})]
    assert [row[:2] for row in found if row not in told] == [row[:2] for row in undisturbed]
    assert [row for row in found if row[0] < HELD * UPDATE] == [row for row in undisturbed if row[0] < HELD * UPDATE]
    assert losses(found) == pytest.approx(losses(undisturbed), abs=NEAR[after.precision])
    scores = result(store, "cut").scores
    assert scores["adam_steps"] == scores["updates"] == UPDATES and scores["relayouts"] == 1
    for attempt in store.stage("pretrain", "cut").attempts.iterdir():
        assert not (attempt / "universal").exists()


@pytest.mark.parametrize(("cards", "hidden"), [(0, False), (1, True), (2, False)])
def test_ranks_that_have_not_a_card_each_have_none(cards: int, hidden: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for ranks, beside in ((2, 1), (1, 2)):
        assert (shared_environment(ranks, beside=beside).get("CUDA_VISIBLE_DEVICES") == "") == hidden
    assert "CUDA_VISIBLE_DEVICES" not in shared_environment(1)


@pytest.mark.slow
def test_what_rank_0_refuses_every_rank_refuses(store: Layout) -> None:
    ended = in_ranks(2, "-c", REFUSED, str(store.root))
    assert [code for code, _ in ended] == [3, 3], ended


REFUSED = """
import sys
from pathlib import Path
from sweeps.errors import RecordError
from sweeps.language.stage import Execution
from sweeps.store.layout import Layout
from tests.workloads.training.fakes import corpus_stage, science
from tests.workloads.training.ranks import RankContext
from workloads.training import runs
from workloads.training.process import leave
store = Layout(Path(sys.argv[1]))
runs.open_reader = lambda folder, context: type("Corpus", (), {"vocabulary": 40})()
try:
    runs.pretrain(RankContext("pretrain", "lost", science(24, decay_from=20), store, execution=Execution(ranks=2),
                              given={"corpus": [corpus_stage(store)]}))
except RecordError as error:  # rank 1 has looked at nothing: it hears of it
    leave()
    sys.exit(3 if "one trunk stage, 0 were given" in str(error) else 4)
"""
