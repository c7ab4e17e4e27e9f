"""Whole stages: exact resume, trunks and branches, paired seeds, what is refused."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sweeps.errors import RecordError, StorageError, UsageError
from sweeps.language.plugins import Plugin
from sweeps.language.stage import Execution
from sweeps.store import records
from sweeps.store.layout import Layout, StageFolder
from tests.workloads.training.fakes import (
    LENGTH,
    UPDATE,
    VOCABULARY,
    FakeContext,
    FakeCorpus,
    corpus_stage,
    finished,
    science,
)
from workloads.contract import Diverged, SequenceBatch, Stopped
from workloads.registry import load_registries
from workloads.training import loop, runs
from workloads.training.engine import Engine
from workloads.training.feeds import CorpusFeed
from workloads.training.model import EMBEDDINGS, INPUT, empty_model
from workloads.training.saving import Saver
from workloads.training.transfer import load_weights, read_weights

Weights = dict[str, torch.Tensor]
NAMES = (f"s{n}" for n in itertools.count())
OFTEN = Execution(checkpoint_seconds=0.0, checkpoint_share=1.0, checkpoint_async=False)


def context(
    store: Layout, fields: dict[str, Any], *, name: str = "", kind: str = "pretrain", **more: Any
) -> FakeContext:
    given = {"corpus": [corpus_stage(store)], **more.pop("given", {})}
    return FakeContext(kind, name or next(NAMES), fields, store, given=given, **more)


def weights(context: FakeContext) -> Weights:
    return read_weights(context.attempt.artifacts)


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def values(context: FakeContext) -> list[Any]:
    """Rows without what is measured."""
    return [(r.tokens, r.kind, {k: v for k, v in r.values.items() if k not in records.MEASURED}) for r in context.rows]


def trained(context: FakeContext, run: Callable[[Any], Any] = runs.pretrain) -> StageFolder:
    return finished(context, run(context))


@pytest.mark.parametrize(("run", "kind"), [(runs.pretrain, "pretrain"), (runs.prepretrain, "prepretrain")])
@pytest.mark.parametrize("stop", [1, 23])
def test_an_interrupted_run_equals_an_uninterrupted_one(
    store: Layout, run: Callable[[Any], Any], kind: str, stop: int
) -> None:
    whole = context(store, science(45), kind=kind)
    scores = run(whole)
    first = context(store, science(45), name="x", kind=kind, stop_after=stop)
    with pytest.raises(Stopped, match=str(stop * UPDATE)):
        run(first)
    torch.manual_seed(99)
    again = context(store, science(45), name="x", kind=kind)
    resumed = run(again)
    assert records.read_parent(again.attempt.folder) == records.Parent(
        kind=kind, fingerprint="x", attempt=1, tokens=stop * UPDATE)
    assert same(weights(whole), weights(again))
    assert values(whole) == values(again)
    for name in ("loss", "updates", "adam_steps", "tokens", "flops"):
        assert scores[name] == resumed[name]
    assert scores["adam_steps"] == scores["updates"] == 45
    if kind == "pretrain":
        assert scores["epochs"] == resumed["epochs"] == 45 * 4 / 64, "batches of 4 of 64 sequences"
    else:
        assert "epochs" not in scores, "generated data does not repeat"


@pytest.mark.parametrize(("run", "kind"), [(runs.pretrain, "pretrain"), (runs.prepretrain, "prepretrain")])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_trunk_and_branch_equal_an_uninterrupted_run(
    store: Layout, monkeypatch: pytest.MonkeyPatch, run: Callable[[Any], Any], kind: str, dropout: float
) -> None:
    model = {"model": science(1)["model"].model_copy(update={"dropout": dropout})}
    trunk = trained(context(store, science(30) | model, kind=kind), run)
    branch = context(store, science(40, decay_from=30) | model, kind=kind, given={"trunk": [trunk]})
    run(branch)
    ends = [(40, "train"), (40, "end")] if kind == "pretrain" else [(20, "train"), (40, "train")]
    assert [(r.tokens // UPDATE, r.kind) for r in branch.rows][-2:] == ends
    assert next(r for r in branch.rows if r.tokens == 40 * UPDATE).values["lr"] == pytest.approx(1e-2 * 0.05)
    monkeypatch.setattr(runs, "find_start", lambda *_: None)
    whole = context(store, science(40, decay_from=30) | model, kind=kind)
    run(whole)
    assert same(weights(branch), weights(whole))
    assert values(branch)[-2:] == values(whole)[-2:]


def test_dropout_meets_the_same_numbers_after_an_interruption_and_evaluations_draw_none(store: Layout) -> None:
    fields = science(25)
    fields["model"] = fields["model"].model_copy(update={"dropout": 0.2})
    often = {**fields, "validation": fields["validation"].model_copy(update={"every_tokens": 5 * UPDATE})}
    whole, plain = context(store, fields), context(store, science(25))
    runs.pretrain(whole)
    with pytest.raises(Stopped):
        runs.pretrain(context(store, often, name="x", stop_after=13))
    torch.manual_seed(99)
    again = context(store, often, name="x")
    runs.pretrain(again)
    assert same(weights(whole), weights(again))
    runs.pretrain(plain)
    assert not same(weights(plain), weights(whole))


def test_a_trunk_goes_on_from_its_earlier_points(store: Layout) -> None:
    whole = context(store, science(50))
    runs.pretrain(whole)
    one = trained(context(store, science(15)))
    two = trained(context(store, science(35), earlier=[one]))
    three = context(store, science(50), earlier=[one, two])
    runs.pretrain(three)
    parent = records.read_parent(three.attempt.folder)
    assert parent is not None and (parent.fingerprint, parent.tokens) == (two.fingerprint, 35 * UPDATE)
    assert same(weights(whole), weights(three))
    assert values(whole) == values(three)


def test_another_schedule_is_no_earlier_point(store: Layout) -> None:
    other = science(15)
    other["segment"] = other["segment"].model_copy(update={"warmup_tokens": 5 * UPDATE})
    one = trained(context(store, other))
    two = context(store, science(20), earlier=[one])
    runs.pretrain(two)
    assert records.read_parent(two.attempt.folder) is None


def test_the_furthest_sound_checkpoint_is_continued(store: Layout) -> None:
    whole = context(store, science(30))
    runs.pretrain(whole)
    for stop in (10, 7):
        with pytest.raises(Stopped):
            runs.pretrain(context(store, science(30), name="x", stop_after=stop))
    furthest = records.checkpoints(store.stage("pretrain", "x"))[0]
    assert furthest.tokens == 17 * UPDATE
    damage(furthest)
    third = context(store, science(30), name="x")
    runs.pretrain(third)
    parent = records.read_parent(third.attempt.folder)
    assert parent is not None and parent.tokens == 10 * UPDATE
    assert same(weights(whole), weights(third))


def damage(checkpoint: records.Checkpoint) -> None:
    path = next(p for p in checkpoint.folder.rglob("*.pt") if p.stat().st_size > 10_000)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_branch_never_begins_from_scratch(store: Layout) -> None:
    trunk = trained(context(store, science(20)))
    branch = science(24, decay_from=20)
    damage(records.checkpoints(trunk)[0])
    with pytest.raises(RecordError, match="is damaged"):
        runs.pretrain(context(store, branch, given={"trunk": [trunk]}))
    shutil.rmtree(trunk.attempt(1).checkpoints)
    with pytest.raises(RecordError, match="no committed checkpoint"):
        runs.pretrain(context(store, branch, given={"trunk": [trunk]}))
    with pytest.raises(RecordError, match="one trunk stage, 0 were given"):
        runs.pretrain(context(store, branch))
    with pytest.raises(RecordError, match="leaves the trunk at"):
        runs.pretrain(context(store, branch, given={"trunk": [trained(context(store, science(19)))]}))


def test_a_crash_after_the_last_checkpoint_repeats_no_row(store: Layout) -> None:
    trunk = trained(context(store, science(20)))
    fields = science(25, decay_from=20)
    first = context(store, fields, name="x", given={"trunk": [trunk]})
    scores = runs.pretrain(first)
    second = context(store, fields, name="x", given={"trunk": [trunk]})
    again = runs.pretrain(second)
    assert values(first) == values(second)
    assert again["loss"] == scores["loss"]
    assert records.final_checkpoint(finished(second, again)).owner.attempt == 2


def test_arms_of_a_seed_share_text_order_and_fresh_embeddings(store: Layout, corpora: list[FakeCorpus]) -> None:
    body = trained(context(store, science(12), kind="prepretrain"), runs.prepretrain)
    untrained = science(1)
    untrained["optim"] = untrained["optim"].model_copy(update={"lr": 1e-12})
    scratch, arm = context(store, untrained), context(store, untrained, given={"body": [body]})
    for one in (scratch, arm):
        runs.pretrain(one)
    assert corpora[0].asked == corpora[1].asked == [0, 1, 2, 3]
    carried = read_weights(records.artifacts_of(body))
    for name, tensor in weights(arm).items():
        expected = weights(scratch)[name] if name in EMBEDDINGS else carried[name]
        assert torch.allclose(tensor, expected, atol=1e-8), name
    assert not torch.allclose(weights(scratch)["model.layers.0.mlp.up_proj.weight"],
                              carried["model.layers.0.mlp.up_proj.weight"], atol=1e-4)


def first_state(store: Layout, embeddings: str, **given: list[StageFolder]) -> Weights:
    """Weights after one update with a rate of almost nothing: those that pre-training begins with."""
    fields = science(1)
    fields["optim"] = fields["optim"].model_copy(update={"lr": 1e-12})
    fields["transfer"] = fields["transfer"].model_copy(update={"embeddings": embeddings})
    one = context(store, fields, given=given)
    runs.pretrain(one)
    return weights(one)


def test_embeddings_are_kept_or_drawn_anew(store: Layout) -> None:
    body = trained(context(store, science(12)))  # of the text's own vocabulary
    carried, scratch = read_weights(records.artifacts_of(body)), first_state(store, "reinit")
    for embeddings, kept in (("reinit", scratch), ("keep", carried)):
        begun = first_state(store, embeddings, body=[body])
        for name, tensor in begun.items():
            expected = kept[name] if name in EMBEDDINGS else carried[name]
            assert torch.allclose(tensor, expected, atol=1e-8), (embeddings, name)
    assert not torch.allclose(scratch[INPUT], carried[INPUT], atol=1e-3)
    other = trained(context(store, science(12), kind="prepretrain"), runs.prepretrain)
    with pytest.raises(RecordError, match="shape"):
        first_state(store, "keep", body=[other])


def test_of_a_run_that_gives_norms_nothing_else_is_taken(store: Layout) -> None:
    run = trained(context(store, science(12), kind="prepretrain"), runs.prepretrain)
    given, scratch = read_weights(records.artifacts_of(run)), first_state(store, "reinit")
    for name, tensor in first_state(store, "reinit", norms=[run]).items():
        if name in EMBEDDINGS or tensor.ndim == 1:
            assert torch.allclose(tensor, scratch[name], atol=1e-8), name
        else:
            scale = given[name].norm() / scratch[name].norm()
            assert torch.allclose(tensor, scratch[name] * scale, atol=1e-6) and abs(scale - 1) > 1e-4, name
    with pytest.raises(RecordError, match="one body"):
        first_state(store, "reinit", norms=[run], body=[run])


class Mixed(FakeContext):
    """A context of a mixture of shuffle-Dyck and, later, of NCA."""

    def plugin(self, section: str) -> Plugin:
        plugins = load_registries().upstreams
        return plugins[{"upstream": "mixture", "part.now": "shuffle_dyck", "part.later": "nca"}[section]]


def test_a_mixture_has_the_vocabulary_of_a_part_whose_rules_it_does_not_read_yet(store: Layout) -> None:
    upstreams = load_registries().upstreams
    dyck, nca = upstreams["shuffle_dyck"].science(k=3), upstreams["nca"].science(states=4)
    mixture = upstreams["mixture"].science(
        parts={"now": {"upstream": "shuffle_dyck"}, "later": {"upstream": "nca"}},
        weights={"0": {"now": 1}, str(5 * UPDATE): {"later": 1}})
    fields = {**science(5), "upstream": mixture, "part.now": dyck, "part.later": nca}
    one = Mixed("prepretrain", "m", fields, store)
    assert runs.prepretrain(one)["updates"] == 5
    assert len(weights(one)[INPUT]) == 258 + 6
    late = Mixed("prepretrain", "late", {**fields, "segment": science(6)["segment"]}, store)
    with pytest.raises(RecordError, match="is of the part later"):
        runs.prepretrain(late)


@pytest.mark.parametrize("tied", [False, True])
def test_what_a_stage_leaves_loads_in_transformers_with_equal_logits(store: Layout, tied: bool) -> None:
    """The artifact folder is the export: no conversion, and no code of this project."""
    from transformers import AutoModelForCausalLM

    fields = science(12)
    fields["model"] = fields["model"].model_copy(update={"tied": tied, "rope_base": 500.0})
    whole = context(store, fields)
    trained(whole)
    own = empty_model(fields["model"], VOCABULARY)
    load_weights(own, weights(whole))
    other, about = AutoModelForCausalLM.from_pretrained(whole.attempt.artifacts, output_loading_info=True)
    assert not any(about[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokens = torch.arange(3 * LENGTH).reshape(3, LENGTH) % VOCABULARY
    with torch.inference_mode():
        assert torch.equal(other.eval()(tokens).logits, own.eval()(tokens).logits)
    same_tensor = other.get_output_embeddings().weight.data_ptr() == other.get_input_embeddings().weight.data_ptr()
    assert same_tensor is tied


def test_rows_of_a_trunk_and_of_a_cosine(store: Layout) -> None:
    trunk = context(store, science(45))
    runs.pretrain(trunk)
    kinds = [(r.tokens // UPDATE, r.kind) for r in trunk.rows]
    assert kinds == [(10, "validation"), (20, "train"), (20, "validation"), (30, "validation"), (40, "train"),
                     (40, "validation")]
    fields = science(30, schedule="cosine")
    fields["segment"] = fields["segment"].model_copy(update={"horizon_tokens": 30 * UPDATE})
    cosine = context(store, fields)
    scores = runs.pretrain(cosine)
    assert [(r.tokens // UPDATE, r.kind) for r in cosine.rows][-2:] == [(20, "validation"), (30, "end")]
    assert scores["loss"] == cosine.rows[-1].values["loss"]
    end = cosine.rows[-1].values
    assert end["bits_per_byte"] == pytest.approx(end["loss"] / np.log(2) / 2)


def test_held_out_text_is_read_in_one_shape_and_no_more_than_there_is(store: Layout, corpora: list[FakeCorpus]) -> None:
    fields = science(10)
    fields["validation"] = fields["validation"].model_copy(update={"trunk_tokens": 10**9})
    shapes: list[int] = []
    original = FakeCorpus.validation
    one = context(store, fields)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeCorpus, "validation", lambda self, i: shapes.append(len(i)) or original(self, i))
        runs.pretrain(one)
    assert shapes == [16, 4]


def test_checkpoints_come_by_time_and_old_ones_go(store: Layout) -> None:
    for keep, left in ((1, [6]), (2, [6, 5]), (3, [6, 5, 4])):
        one = context(store, science(6), execution=OFTEN.model_copy(update={"keep_checkpoints": keep}))
        runs.pretrain(one)
        assert [c.tokens // UPDATE for c in records.checkpoints(one.folder)] == left
        assert not any(records.damage(c) for c in records.checkpoints(one.folder))


def test_named_points_are_saved_at_the_update_that_reaches_them_and_kept(store: Layout) -> None:
    points = (UPDATE + 1, 5 * UPDATE, 99 * UPDATE)
    one = context(store, science(9), execution=Execution(checkpoint_seconds=1e9, keep_at_tokens=points))
    runs.pretrain(one)
    assert [c.tokens // UPDATE for c in records.checkpoints(one.folder)] == [9, 5, 2]
    two = context(store, science(9), execution=OFTEN.model_copy(update={"keep_at_tokens": points}))
    runs.pretrain(two)
    assert [c.tokens // UPDATE for c in records.checkpoints(two.folder)] == [9, 8, 5, 2]


@pytest.mark.parametrize(("share", "updates"), [(0.05, 19), (0.2, 4), (1.0, 1)])
def test_slow_checkpoints_come_less_often_so_that_they_take_their_share_at_most(
    store: Layout, monkeypatch: pytest.MonkeyPatch, share: float, updates: int
) -> None:
    """By a clock that an update moves by a second, and a checkpoint by one more."""
    made: list[int] = []
    clock = type("Clock", (), {"now": 0.0, "monotonic": lambda self: self.now})()
    plain_update, plain_save = Engine.update, Saver.save

    def update(self: Engine, *given: Any, **more: Any) -> Any:
        clock.now += 1.0
        return plain_update(self, *given, **more)

    def save(self: Saver, tokens: int, *given: Any, **more: Any) -> None:
        clock.now += 1.0
        made.append(tokens // UPDATE)
        plain_save(self, tokens, *given, **more)

    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(Engine, "update", update)
    monkeypatch.setattr(Saver, "save", save)
    runs.pretrain(context(store, science(78), execution=Execution(
        checkpoint_seconds=0.5, checkpoint_share=share, checkpoint_async=False)))
    assert made == [*range(1, 78, updates), 78]


def test_a_full_disk_is_noticed_before_anything_is_written(store: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10_000_000}))
    one = context(store, science(3))
    with pytest.raises(StorageError, match="10 MB are free, a checkpoint needs 16 MB"):
        runs.pretrain(one)
    assert not one.attempt.folder.checkpoints.exists()


def test_a_training_that_is_not_finite_is_a_result(store: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = science(30, clip=0.0)
    fields["optim"] = fields["optim"].model_copy(update={"lr": 1e30})
    one = context(store, fields)
    with pytest.raises(Diverged, match="(loss|gradient) (nan|inf) at update"):
        runs.pretrain(one)
    assert not np.isfinite(one.rows[-1].values["loss"])
    assert not records.checkpoints(one.folder)


def test_a_checkpoint_of_another_layout_is_refused(store: Layout) -> None:
    with pytest.raises(Stopped):
        runs.pretrain(context(store, science(9), name="x", stop_after=3))
    with pytest.raises(UsageError, match="same ZeRO stage and off-loading"):
        runs.pretrain(context(store, science(9), name="x", execution=Execution(zero_stage=1)))


def test_half_an_update_is_refused(store: Layout) -> None:
    fields = science(9)
    fields["segment"] = fields["segment"].model_copy(update={"end_tokens": 9 * UPDATE + LENGTH})
    with pytest.raises(UsageError, match="not a whole number of updates"):
        runs.pretrain(context(store, fields))


def test_two_bodies_or_no_corpus_are_refused(store: Layout) -> None:
    body = trained(context(store, science(2), kind="prepretrain"), runs.prepretrain)
    with pytest.raises(RecordError, match="one body"):
        runs.pretrain(context(store, science(2), given={"body": [body, body]}))
    with pytest.raises(RecordError, match="one input 'corpus', got 0"):
        runs.pretrain(context(store, science(2), given={"corpus": []}))


def test_generators_are_restored(store: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set that draws from the global generators meets the same numbers after a resume."""
    plain = CorpusFeed.load

    def noisy(self: Any, index: Any) -> SequenceBatch:
        batch = plain(self, index)
        noise = np.random.random(), torch.rand(()).item()
        batch.tokens_BT[:, 3] = int(sum(noise) * 10)
        return batch

    monkeypatch.setattr(CorpusFeed, "load", noisy)
    monkeypatch.setattr("workloads.training.feeds.WINDOW_SEQUENCES", 4)
    whole = context(store, science(12))
    runs.pretrain(whole)
    with pytest.raises(Stopped):
        runs.pretrain(context(store, science(12), name="x", stop_after=5))
    again = context(store, science(12), name="x")
    runs.pretrain(again)
    assert same(weights(whole), weights(again))


def test_a_stop_during_the_imports_is_heard_before_the_first_update(store: Layout) -> None:
    asked = context(store, science(9), name="x", stop_after=0)
    with pytest.raises(Stopped, match="before the first update"):
        runs.pretrain(asked)
    assert not asked.attempt.folder.checkpoints.exists()
