"""Losses that are not finite, and losses that jump: the very update, what it read, also after an interruption."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.language.science import EngineScience
from sweeps.language.stage import Execution
from sweeps.store import files, records
from sweeps.store.integrity import MANIFEST, manifest_of
from sweeps.store.layout import Layout
from tests.workloads.training.fakes import UPDATE, FakeContext, corpus_stage, science
from workloads.contract import Diverged, LossSpike, Stopped
from workloads.training import engine, runs
from workloads.training.engine import Engine
from workloads.training.incidents import SPIKE_LEAST, SPIKE_NATS, Divergence, first_not_finite, spike_in

RELAXED = settings(max_examples=60)
PLAIN = Execution(checkpoint_seconds=1e9)


def context(store: Layout, name: str, updates: int, *, execution: Execution = PLAIN, stop_after: int | None = None,
            precision: Any = "fp32") -> FakeContext:
    fields = science(updates) | {"engine": EngineScience(precision=precision)}
    return FakeContext("pretrain", name, fields, store, execution=execution, stop_after=stop_after,
                       given={"corpus": [corpus_stage(store)]})


def values(context: FakeContext) -> list[Any]:
    """Rows without what is measured."""
    return [(r.tokens, r.kind, {k: v for k, v in r.values.items() if k not in records.MEASURED}) for r in context.rows]


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, float]], None]:
    """Add to the losses that updates of these numbers report, counted from 1 by Adam."""
    plain = Engine.update

    def patch(added: dict[int, float]) -> None:
        def update(self: Engine, batch: Any, **more: Any) -> tuple[torch.Tensor, torch.Tensor]:
            loss, norm = plain(self, batch, **more)
            return loss + added.get(self.adam_steps(), 0.0), norm
        monkeypatch.setattr(Engine, "update", update)

    return patch


@pytest.mark.parametrize("stop", [None, 10, 25, 30])
def test_the_first_update_that_is_not_finite_is_named_with_what_it_read(
    store: Layout, change: Callable[[dict[int, float]], None], stop: int | None
) -> None:
    """The loss is read 13 updates later, or when a checkpoint is due, or by the attempt that goes on."""
    change({27: math.nan, 31: math.inf})
    if stop is not None:
        with pytest.raises(Diverged if stop > 27 else Stopped):
            runs.pretrain(context(store, "x", 45, stop_after=stop))
    if stop != 30:
        with pytest.raises(Diverged, match=r"loss nan at update 27, sequences 104 to 107; the update before, 26, may"):
            runs.pretrain(context(store, "x", 45))
    attempt = FakeContext.made[-1].attempt.folder
    kept = json.loads(attempt.divergence.read_text())
    assert (kept["what"], kept["update"], kept["value"], kept["ranks"]) == ("loss", 27, "nan", [0])
    assert kept["sequences"] == {"0": [104, 105, 106, 107]} and kept["sequences_before"] == {"0": [100, 101, 102, 103]}
    assert list(records.own_rows(attempt))[-1].kind == "train"


@pytest.mark.filterwarnings("ignore:`torch.distributed:FutureWarning")  # DeepSpeed's ZeRO 3 calls
@pytest.mark.parametrize(("precision", "zero_stage"), [
    ("fp32", 0), ("fp32", 1), ("fp32", 3), ("bf16", 1), ("bf16", 2), ("bf16", 3)])
@pytest.mark.parametrize(("at", "stop"), [(7, None), (20, None), (7, 9), (7, 7)])
def test_a_gradient_that_is_not_finite_is_named_and_nothing_that_came_of_it_is_kept(
    store: Layout, monkeypatch: pytest.MonkeyPatch, precision: Any, zero_stage: int, at: int, stop: int | None
) -> None:
    """The loss of the poisoned update itself is finite: its gradient is that of a square root at 0. It is looked for
    before a row, and before a checkpoint is written, even right after that update."""
    plain, calls = engine.summed_loss, [0]

    def poisoned(*given: Any) -> torch.Tensor:
        total = plain(*given)
        calls[0] += torch.is_grad_enabled()
        return total + (total - total.detach()).sqrt() if calls[0] == at and torch.is_grad_enabled() else total

    monkeypatch.setattr(engine, "summed_loss", poisoned)
    one = context(store, "g", 30, stop_after=stop, precision=precision,
                  execution=Execution(checkpoint_seconds=1e9, zero_stage=zero_stage))
    read = rf"sequences {4 * at - 4} to {4 * at - 1}$"
    with pytest.raises(Diverged, match=rf"gradient (inf|nan) at update {at}, {read}"):
        runs.pretrain(one)
    assert one.attempt.folder.divergence.exists() and not records.checkpoints(one.folder)


@pytest.mark.parametrize(("updates", "at"), [(30, 20), (15, 15)])
def test_a_held_out_loss_that_is_not_finite_names_the_update_before_it(
    store: Layout, monkeypatch: pytest.MonkeyPatch, updates: int, at: int
) -> None:
    """Right after a row, and at an annealed end between two rows: training's own losses are finite."""
    plain = Engine.held_out_loss

    def measured(self: Engine, batch: Any) -> tuple[float, int]:
        total, count = plain(self, batch)
        return (math.nan if self.adam_steps() >= at else total), count

    monkeypatch.setattr(Engine, "held_out_loss", measured)
    one = context(store, "h", updates)
    if updates == at:
        one.science["segment"] = one.science["segment"].model_copy(update={"decay_from": 0})
    with pytest.raises(Diverged, match=rf"^held-out loss nan at update {at}, sequences {4 * at - 4} to {4 * at - 1}$"):
        runs.pretrain(one)
    kept = json.loads(one.attempt.folder.divergence.read_text())
    assert (kept["what"], kept["update"], kept["value"]) == ("held-out loss", at, "nan")
    assert kept["sequences_before"] == {"0": list(range(4 * at - 8, 4 * at - 4))}


def test_norms_of_an_attempt_that_goes_on_are_those_of_its_own_updates(
    store: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses since the last row travel in the checkpoint, norms do not: they were looked at before it was written."""
    with pytest.raises(Stopped):
        runs.pretrain(context(store, "n", 30, stop_after=5))
    plain = Engine.update

    def update(self: Engine, batch: Any, **more: Any) -> tuple[torch.Tensor, torch.Tensor]:
        loss, norm = plain(self, batch, **more)
        return loss, norm * math.nan if self.adam_steps() == 12 else norm

    monkeypatch.setattr(Engine, "update", update)
    with pytest.raises(Diverged, match="gradient nan at update 12, sequences 44 to 47$"):
        runs.pretrain(context(store, "n", 30))


def test_a_part_of_one_rank_is_that_rank_s() -> None:
    parts = [[1.0, 2.0, 3.0], [1.0, math.inf, math.nan]]
    assert first_not_finite(parts) == (1, (1,))
    assert first_not_finite([[1.0], [2.0]]) is None
    bad = Divergence(what="loss", update=9, value=math.inf, ranks=(1,), world=2, sequences_R=((32, 33), (34, 35)))
    assert str(bad) == "loss inf at update 9 on rank 1, sequences 34, 35"
    everywhere = Divergence(what="loss", update=9, value=math.nan, ranks=(0, 1), world=2,
                            sequences_R=((32, 33), (34, 35)))
    assert str(everywhere).startswith("loss nan at update 9 on every rank, sequences 32 to 35; the update before, 8,")
    assert files.to_json(everywhere.note([]))


@RELAXED
@given(st.lists(st.lists(st.sampled_from([1.0, math.nan, math.inf, -math.inf]), min_size=3, max_size=3), min_size=1,
                max_size=5))
def test_the_first_update_is_the_first_whose_sum_is_not_finite(parts: list[list[float]]) -> None:
    found = first_not_finite(parts)
    bad = [at for at, column in enumerate(zip(*parts, strict=True)) if not all(map(math.isfinite, column))]
    assert (found[0] if found else None) == (bad[0] if bad else None)
    if found:
        assert found[1] and all(not math.isfinite(parts[rank][found[0]]) for rank in found[1])


LOSSES = st.lists(st.floats(0.0, 20.0), min_size=1, max_size=180)


@RELAXED
@given(LOSSES)
def test_losses_that_only_fall_have_no_spike(losses: list[float]) -> None:
    assert spike_in([], sorted(losses, reverse=True), 1) is None


@RELAXED
@given(LOSSES, st.integers(1, 40))
def test_where_rows_end_changes_no_spike(losses: list[float], row: int) -> None:
    """Only the losses before an update count, so the same updates stand out however they are cut into rows."""
    whole, recent, cut = spike_in([], losses, 1), list[float](), list[Any]()
    for at in range(0, len(losses), row):
        cut.append(spike_in(recent, losses[at: at + row], at + 1))
        recent = [*recent, *losses[at: at + row]][-100:]
    found = [spike for spike in cut if spike is not None]
    assert (whole is None) == (not found)
    if whole is not None:
        assert whole.update == found[0].update and whole.limit == found[0].limit
        assert whole.updates == sum(s.updates for s in found) and whole.loss == max(s.loss for s in found)


@RELAXED
@given(st.lists(st.floats(3.0, 3.2), min_size=SPIKE_LEAST, max_size=120), st.floats(2.0, 1e6))
def test_a_jump_far_above_the_losses_before_it_is_a_spike(before: list[float], height: float) -> None:
    found = spike_in(before, [3.1, 3.2 + height, 3.1], 51)
    assert found is not None and (found.update, found.updates) == (52, 1) and found.loss == 3.2 + height
    assert 3.0 + SPIKE_NATS <= found.limit < found.loss
    assert spike_in(before[: SPIKE_LEAST - 2], [3.2 + height], 1) is None, "too few to compare with"


def test_a_spike_is_a_row_and_the_run_goes_on(store: Layout, change: Callable[[dict[int, float]], None]) -> None:
    change({55: 50.0, 56: 60.0})
    whole = context(store, "whole", 65)
    assert runs.pretrain(whole)["loss_spikes"] == 1
    row = next(r for r in whole.rows if r.kind == "spike")
    assert row.tokens == 60 * UPDATE and (row.values["update"], row.values["updates"]) == (55, 2)
    assert row.values["limit"] < row.values["loss"] and 60 < row.values["loss"] < 70
    for stop in (47, 58):  # losses before it, and the losses themselves, travel in the checkpoint
        with pytest.raises(Stopped):
            runs.pretrain(context(store, f"cut{stop}", 65, stop_after=stop))
        again = context(store, f"cut{stop}", 65)
        assert runs.pretrain(again)["loss_spikes"] == 1
        assert values(again) == values(whole)


def test_a_run_stops_at_a_spike_where_that_is_asked_for(
    store: Layout, change: Callable[[dict[int, float]], None]
) -> None:
    change({55: 50.0})
    stopping = Execution(checkpoint_seconds=1e9, on_spike="stop")
    with pytest.raises(LossSpike, match="at update 55, limit .*run.on_spike"):
        runs.pretrain(context(store, "x", 65, execution=stopping))
    assert runs.pretrain(context(store, "x", 65))["updates"] == 65


def test_a_checkpoint_of_an_older_release_is_continued(store: Layout) -> None:
    whole = context(store, "whole", 30)
    runs.pretrain(whole)
    with pytest.raises(Stopped):
        runs.pretrain(context(store, "x", 30, stop_after=22))
    found = records.checkpoints(store.stage("pretrain", "x"))[0]
    state = json.loads((found.folder / "state.json").read_text())
    for name in ("recent", "spikes"):
        del state[name]
    (found.folder / "state.json").write_text(json.dumps(state))
    (found.folder / MANIFEST).write_text(files.seal(
        {"schema_version": 1, "tokens": found.tokens, "files": manifest_of(found.folder)}))
    again = context(store, "x", 30)
    runs.pretrain(again)
    assert values(again) == values(whole)
