"""The upstream gate: who is called learned, who is not, and who is neither."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.language.gate import Verdict, verdict_of
from workloads.contract import Ints, SequenceBatch
from workloads.tasks import upstream_gate
from workloads.tasks._upstream_gate import MIN_SEQUENCES, margin, measure, verdict
from workloads.training.evaluation import Measured

V, PERIOD, LENGTH = 12, 4, 32
Forward = Callable[[torch.Tensor], torch.Tensor]


class Shifting:
    """Frames of four tokens; each frame is the one before plus a step of the sequence's own: copying fails."""

    vocabulary, period, sequence_length = V, PERIOD, LENGTH

    def __init__(self, stream: str, *, steps: tuple[int, int] = (1, V)) -> None:
        self.salt, self.steps = int(stream == "held_out"), steps

    def sequences(self, index_B: Ints) -> SequenceBatch:
        rows = []
        for i in index_B.tolist():
            draw = np.random.default_rng([self.salt, i])
            frame, step = draw.integers(0, V, PERIOD), draw.integers(*self.steps)
            rows.append(np.concatenate([(frame + step * k) % V for k in range(LENGTH // PERIOD)]))
        tokens_BT = np.stack(rows).astype(np.int32)
        return SequenceBatch(tokens_BT=tokens_BT, target_BT=np.tile(np.arange(LENGTH) >= PERIOD, (len(rows), 1)))

    def oracle(self, index_B: Ints) -> np.ndarray:
        return np.zeros((len(index_B), LENGTH))


class Model(torch.nn.Module):
    """A function from tokens (B, T) to the token (B, T) that it expects next, with a probability of about 1 - 1e-4."""

    def __init__(self, expects: Forward | None) -> None:
        super().__init__()
        self.expects = expects

    def forward(self, input_ids: torch.Tensor) -> Any:
        logits = torch.zeros(*input_ids.shape, V)
        if self.expects is not None:
            logits.scatter_(2, self.expects(input_ids)[..., None] % V, 12.0)
        return type("Out", (), {"logits": logits})


def back(tokens: torch.Tensor, by: int) -> torch.Tensor:
    return torch.nn.functional.pad(tokens[:, : tokens.shape[1] - by], (by, 0))


def copies(tokens: torch.Tensor) -> torch.Tensor:
    """The next token is the one a frame before it."""
    return back(tokens, PERIOD - 1)


def knows(tokens: torch.Tensor) -> torch.Tensor:
    """The next token is the one a frame before it and the sequence's step, which the second frame shows."""
    second = tokens - back(tokens, PERIOD)
    return copies(tokens) + second


def gate(expects: Forward | None, *, sequences: int = 40, against: Sequence[str] | None = None, **steps: Any
         ) -> Mapping[str, float]:
    source, held_out = (Shifting(stream, **steps) for stream in ("train", "held_out"))
    given = {} if against is None else {"against": against}
    return measure(upstream_gate.PLUGIN.science(**given), Measured(
        model=Model(expects), device=torch.device("cpu"), vocabulary=V, sequence_length=LENGTH, seed=0,
        tokens=sequences * LENGTH, source=source, held_out=held_out))


def found(scores: Mapping[str, float]) -> Verdict | None:
    return verdict_of({f"upstream_gate.{name}": value for name, value in scores.items()})


def test_who_knows_the_rule_has_learned_it() -> None:
    scores = gate(knows)
    assert found(scores) is Verdict.LEARNED
    assert scores["oracle_loss"] == 0 and scores["loss"] < 2.5 < scores["uniform_loss"] + 0.1
    assert scores["frame.2.loss"] < 0.01 < scores["frame.1.loss"], "the step shows in the second frame"


def test_who_copies_has_not_learned_a_rule_that_moves() -> None:
    assert found(gate(copies)) is Verdict.NOT_LEARNED


def test_who_copies_has_learned_no_more_than_copying_where_nothing_moves() -> None:
    scores = gate(copies, steps=(0, 1))
    assert scores["copy_loss"] < 0.05 and found(scores) is Verdict.NOT_LEARNED


def test_an_untrained_model_has_not_learned() -> None:
    scores = gate(None)
    assert scores["loss"] == pytest.approx(math.log(V)) == scores["uniform_loss"]
    assert found(scores) is Verdict.NOT_LEARNED


def test_only_the_guesses_that_count_decide() -> None:
    scores = gate(None, against=["unigram"])
    assert scores["margin"] == pytest.approx(min(scores["uniform_loss"], scores["unigram_loss"]) - scores["loss"])
    full = gate(None)
    counted = ("uniform_loss", "unigram_loss", "copy_loss", "ngram_loss")
    assert full["margin"] == pytest.approx(min(full[name] for name in counted) - full["loss"])
    assert full["context_loss"] < full["loss"], "measured, and not counted unless it is asked for"
    asked = gate(None, against=["context"])
    assert asked["margin"] == pytest.approx(asked["context_loss"] - asked["loss"])


def test_a_handful_of_sequences_decides_nothing() -> None:
    assert found(gate(knows, sequences=MIN_SEQUENCES - 1)) is Verdict.INCONCLUSIVE
    assert found(gate(knows, sequences=1)) is Verdict.INCONCLUSIVE


def test_frames_and_positions_double_and_add_up() -> None:
    scores = gate(knows)
    axes = {name: {int(k.split(".")[1]) for k in scores if k.startswith(f"{name}.")} for name in ("frame", "position")}
    assert axes == {"frame": {1, 2, 4}, "position": {4, 8, 16}}
    for name in ("loss", "copy_loss", "ngram_loss", "context_loss", "oracle_loss"):
        parts = [scores[f"frame.{first}.{name}"] * count for first, count in ((1, 1), (2, 2), (4, 4))]
        assert sum(parts) / 7 == pytest.approx(scores[name])


def test_every_score_has_a_unit() -> None:
    units = upstream_gate.PLUGIN.units
    assert all(name in units or f"{name.partition('.')[0]}." in units for name in gate(knows))


def test_the_margin_by_hand() -> None:
    gain_BT = np.array([[1.0, 3.0, 9.0], [0.0, 2.0, 2.0]])
    target_BT = np.array([[True, True, False], [False, True, True]])
    mean, error = margin(gain_BT, target_BT)
    assert mean == 2.0 and error == 0.0, "both sequences have a sum of 4 over two targets"
    mean, error = margin(gain_BT, np.ones((2, 3), bool))
    assert mean == pytest.approx(17 / 6) and error == pytest.approx(math.sqrt(2 * 2 * 4.5**2) / 6)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_repeating_a_token_s_gain_inside_its_sequence_tells_nothing_new(seed: int, times: int) -> None:
    gain_BT = np.random.default_rng(seed).normal(size=(12, 5))
    once = margin(gain_BT, np.ones((12, 5), bool))
    many = margin(np.repeat(gain_BT, times, axis=1), np.ones((12, 5 * times), bool))
    assert many == pytest.approx(once)


@settings(max_examples=100)
@given(st.floats(-3, 3), st.floats(0, 1), st.floats(0, 1))
def test_verdicts_are_apart_from_the_margin_by_two_errors(mean: float, error: float, least: float) -> None:
    said = verdict(mean, error, MIN_SEQUENCES, least=least)
    assert (said is Verdict.LEARNED) == (mean - 2 * error > least)
    assert (said is Verdict.NOT_LEARNED) == (mean + 2 * error <= least)
    assert verdict(mean, error, MIN_SEQUENCES - 1, least=least) is Verdict.INCONCLUSIVE
