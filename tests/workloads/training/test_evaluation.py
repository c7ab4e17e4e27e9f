"""The stage `evaluate` and the three tasks."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sweeps.errors import RecordError
from sweeps.language.plugins import Plugin, Science, Task
from sweeps.language.science import MeasureScience
from sweeps.store.layout import Layout
from tests.workloads.training.fakes import (
    MODEL,
    UPSTREAM_VOCABULARY,
    FakeContext,
    FakeCorpus,
    FakeSource,
    corpus_stage,
    finished,
    science,
)
from workloads.contract import Diverged, Ints
from workloads.tasks import _copying, _upstream_gate, copying, domain_loss, upstream_gate
from workloads.training import runs
from workloads.training.evaluation import Measured, evaluate, logits_of
from workloads.training.model import build_model

TASKS: dict[str, Task] = {
    "domain_loss": domain_loss.PLUGIN, "copying": copying.PLUGIN, "upstream_gate": upstream_gate.PLUGIN
}


class Evaluation(FakeContext):
    """A context whose task sections find the real tasks."""

    def plugin(self, section: str) -> Plugin:
        return TASKS[section.removeprefix("task.")] if section.startswith("task.") else super().plugin(section)


def fields(subject: Any, *tasks: str) -> dict[str, Any]:
    kept = {k: v for k, v in science(1).items() if k in ("model", "engine", "seed", "transfer")}
    sections: dict[str, Science] = {f"task.{t}": TASKS[t].science() for t in tasks}
    return {**kept, "measure": MeasureScience(subject=subject, tokens=320), **sections}


def test_a_trained_model_beats_its_untrained_twin(store: Layout) -> None:
    trained = FakeContext("pretrain", "p", science(60), store, given={"corpus": [corpus_stage(store)]})
    end = finished(trained, runs.pretrain(trained))
    corpora = {"corpus:web": [corpus_stage(store)], "corpus:code": [corpus_stage(store)]}
    sections = fields("pretrained", "domain_loss", "copying")
    scores = evaluate(Evaluation("evaluate", "e", sections, store, given={"model": [end], **corpora}))
    twin = evaluate(Evaluation("evaluate", "t", fields("untrained", "domain_loss"), store, given=corpora))
    assert scores["domain_loss.web.loss"] < 3.0 < twin["domain_loss.web.loss"]
    assert scores["domain_loss.code.bits_per_byte"] == pytest.approx(
        scores["domain_loss.code.loss"] / math.log(2) / 2)
    assert {k for k in scores if k.startswith("copying.")} == {
        f"copying.{k}" for k in ("difference", "first_loss", "second_loss", "accuracy", "chance")}
    last = [r for r in trained.rows if r.kind == "validation"][-1]
    assert last.tokens == 60 * 64


class Lawful(torch.nn.Module):
    """Says the same law of tokens everywhere."""

    def __init__(self, law_V: np.ndarray) -> None:
        super().__init__()
        self.law_V = law_V

    def forward(self, input_ids: torch.Tensor) -> Any:
        return SimpleNamespace(logits=torch.from_numpy(np.log(self.law_V)).expand(*input_ids.shape, -1))


class Long(FakeCorpus):
    """More training text than anyone wants to count for a guess, and some tokens that are likelier than others."""

    train_sequences = 10**9

    def _rows(self, salt: int, index_B: Ints) -> np.ndarray:
        return np.minimum(super()._rows(salt, index_B), 5 + salt % 2)


@pytest.mark.parametrize("tokens", [160, 320])
def test_held_out_text_stands_beside_what_chance_and_a_unigram_model_get(tmp_path: Any, tokens: int) -> None:
    corpus = Long(tmp_path, seed=2, sequence_length=16)
    counts_V = np.bincount(Long(tmp_path, seed=2, sequence_length=16).train(np.arange(1_024)).ravel(), minlength=40)
    law_V = (counts_V + 1.0) / (counts_V + 1.0).sum()
    asked = [corpus.validation(np.array([i]))[0, 1:] for i in range(tokens // 16)]  # a first token has no prediction
    bits = -sum(math.log2(law_V[t]) for row in asked for t in row)

    one = replace(subject(Lawful(law_V), 40), corpora={"web": corpus}, tokens=tokens)
    found = domain_loss.PLUGIN.load()(domain_loss.PLUGIN.science(), one)
    assert found["web.bits_per_byte.unigram"] == pytest.approx(bits / 2 / sum(map(len, asked)))
    assert found["web.bits_per_byte"] == pytest.approx(found["web.bits_per_byte.unigram"]), "on the same targets"
    assert found["web.bits_per_byte.chance"] == pytest.approx(math.log2(40) / 2)
    assert found["web.bits_per_byte.unigram"] < found["web.bits_per_byte.chance"]
    assert corpus.asked == list(range(1_024)), "a law of tokens needs no more, however long the text"


def test_the_gate_of_an_upstream(store: Layout) -> None:
    trained = FakeContext("prepretrain", "p", science(300, weight_decay=0.0), store)
    body = finished(trained, runs.prepretrain(trained))
    sections = {**fields("prepretrained", "upstream_gate"), "upstream": science(1)["upstream"]}
    scores = evaluate(Evaluation("evaluate", "e", sections, store, given={"model": [body]}))
    got = {k.removeprefix("upstream_gate."): v for k, v in scores.items()}
    assert got["unigram_loss"] == pytest.approx(math.log(UPSTREAM_VOCABULARY), abs=0.3)
    assert got["copy_weight"] > 0.9 and got["copy_loss"] < 0.1
    assert got["margin"] == pytest.approx(got["copy_loss"] - got["loss"])
    assert "oracle_loss" not in got, "this source does not know its rule"
    assert got["learned"] == 0.0, "copying the last frame is perfect here: no model can be better by the margin"
    assert {k for k in got if k.endswith(".loss")} >= {"frame.1.loss", "frame.2.loss", "position.8.loss"}
    assert (got["frame.1.loss"] + 2 * got["frame.2.loss"]) / 3 == pytest.approx(got["loss"], rel=1e-5)


def test_an_upstream_without_frames_has_no_copy_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSource, "period", None)
    scores = _upstream_gate.measure(upstream_gate.PLUGIN.science(), subject())
    assert "copy_loss" not in scores
    guesses = [scores[f"{k}_loss"] for k in ("uniform", "unigram", "ngram")]
    assert scores["margin"] == pytest.approx(min(guesses) - scores["loss"])


def subject(model: Any = None, vocabulary: int = UPSTREAM_VOCABULARY) -> Measured:
    made = build_model(MODEL, vocabulary, seed=0, purpose="prepretrain", embedding_std=1.0).eval()
    streams = [FakeSource(seed=0, stream=s, sequence_length=16) for s in ("train", "held_out")]
    return Measured(
        model=model or made, device=torch.device("cpu"), vocabulary=vocabulary, sequence_length=16, seed=0, tokens=320,
        source=streams[0], held_out=streams[1],
    )


def test_the_law_is_fitted_on_the_training_stream_alone() -> None:
    one = subject()
    _upstream_gate.measure(upstream_gate.PLUGIN.science(), one)
    assert isinstance(one.source, FakeSource) and isinstance(one.held_out, FakeSource)
    assert one.source.asked == one.held_out.asked == list(range(20))


class Copier(torch.nn.Module):
    """Knows the string's length and copies with certainty, or gives every token the same logit."""

    def __init__(self, length: int, vocabulary: int, *, copies: bool) -> None:
        super().__init__()
        self.length, self.vocabulary, self.copies = length, vocabulary, copies

    def forward(self, input_ids: torch.Tensor) -> Any:
        logits = torch.zeros(*input_ids.shape, self.vocabulary)
        if self.copies:
            for t in range(self.length, input_ids.shape[1]):
                logits[range(len(logits)), t, input_ids[:, t - self.length + 1]] = 50.0
        return type("Out", (), {"logits": logits})


@pytest.mark.parametrize(("copies", "accuracy", "difference"), [
    (True, 1.0, -math.log(30)), (False, 1 / 30, 0.0),
])
def test_copying_at_its_two_ends(copies: bool, accuracy: float, difference: float) -> None:
    scores = _copying.measure(copying.PLUGIN.science(), subject(Copier(8, 30, copies=copies), 30))
    assert scores["accuracy"] == pytest.approx(accuracy)
    assert scores["difference"] == pytest.approx(difference, abs=1e-5)
    assert scores["first_loss"] == pytest.approx(math.log(30), abs=1e-5)
    assert scores["chance"] == 1 / 30


def test_strings_are_distinct_tokens_twice() -> None:
    found = _copying.strings(3, 5, 8, 30)
    assert (found[:, :8] == found[:, 8:]).all()
    assert all(len(set(row[:8])) == 8 for row in found.tolist())
    assert (found == _copying.strings(3, 5, 8, 30)).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [(0, 0, 0), (1, 7, 5), (2, 15, 8)])
def test_one_logit_that_is_not_finite_is_seen_wherever_it_is(bad: float, place: tuple[int, int, int]) -> None:
    logits_BTV = torch.zeros(3, 16, 9)
    whole = SimpleNamespace(device=torch.device("cpu"), model=lambda input_ids: SimpleNamespace(logits=logits_BTV))
    assert logits_of(whole)(np.zeros((3, 16), np.int32)) is logits_BTV
    logits_BTV[place] = bad
    with pytest.raises(Diverged, match="not finite"):
        logits_of(whole)(np.zeros((3, 16), np.int32))


@pytest.mark.parametrize("task", ["copying", "upstream_gate", "domain_loss"])
def test_logits_that_are_not_finite_are_not_evaluable(task: str, tmp_path: Any) -> None:
    one = subject()
    one.model.lm_head.weight.data[3] = float("nan")
    one = replace(one, corpora={"web": FakeCorpus(tmp_path, seed=0, sequence_length=16)}, model=Fits(one.model))
    with pytest.raises(Diverged, match="cannot be evaluated"):
        TASKS[task].load()(TASKS[task].science(), one)


class Fits(torch.nn.Module):
    """Keeps tokens inside the vocabulary."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> Any:
        return self.model(input_ids=input_ids % UPSTREAM_VOCABULARY)


def test_what_is_missing_is_named(store: Layout) -> None:
    with pytest.raises(RecordError, match="one input 'model', got 0"):
        evaluate(Evaluation("evaluate", "a", fields("pretrained", "copying"), store))
    with pytest.raises(RecordError, match="without tasks"):
        evaluate(Evaluation("evaluate", "b", fields("untrained"), store, given={"corpus:web": [corpus_stage(store)]}))
    with pytest.raises(RecordError, match="needs a corpus"):
        evaluate(Evaluation("evaluate", "c", fields("untrained", "copying"), store))
    with pytest.raises(RecordError, match="two streams"):
        _upstream_gate.measure(upstream_gate.PLUGIN.science(), replace(subject(), source=None))
