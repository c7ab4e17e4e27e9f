"""The upstream `mixture`: whose each sequence is, and that it is exactly that part's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import RecordError
from sweeps.language.mixture import MixtureScience
from tests.workloads.upstreams.conftest import SEED, small
from workloads.contract import Ints, MixturePart, SequenceBatch, SequenceSource
from workloads.upstreams._mixture import MixtureSource
from workloads.upstreams.mixture import PLUGIN, describe
from workloads.upstreams.nca.source import make_source
from workloads.upstreams.shuffle_dyck import PLUGIN as DYCK
from workloads.upstreams.shuffle_dyck import ShuffleDyckScience

LENGTH = 64


def brackets(k: int) -> SequenceSource:
    science = ShuffleDyckScience(k=k)
    made: SequenceSource = DYCK.load()(science, seed=1, stream="train", sequence_length=LENGTH, banks=[])
    return made


def part(source: SequenceSource | None, vocabulary: int, family: str = "shuffle_dyck") -> MixturePart:
    return MixturePart(source=source, family=family, vocabulary=vocabulary)


def mixture(weights: dict[Any, Any], parts: dict[str, MixturePart] | None = None, **more: Any) -> MixtureSource:
    """A mixture of three sizes of shuffle-Dyck."""
    parts = parts or {name: part(brackets(k), 2 * k) for name, k in (("a", 2), ("b", 3), ("c", 5))}
    science = MixtureScience.model_validate({"parts": {k: {"upstream": "x"} for k in parts}, "weights": weights})
    made = PLUGIN.load()(science, parts=parts, **{"seed": 1, "stream": "train", "sequence_length": LENGTH, **more})
    assert isinstance(made, MixtureSource)
    return made


def test_the_law_of_the_parts_is_that_of_the_weights() -> None:
    count = 200_000
    for weights in ({"a": 1, "b": 1, "c": 1}, {"a": 97, "b": 2, "c": 1}, {"a": 1, "c": 2}):
        drawn = np.bincount(mixture(weights).part_of(np.arange(count)), minlength=3)
        share = np.array([weights.get(name, 0) for name in "abc"]) / sum(weights.values())
        error = np.sqrt(share * (1 - share) / count)
        assert (np.abs(drawn / count - share) <= 4 * error).all(), (weights, drawn)


def test_the_schedule_changes_at_the_sequence_whose_first_token_is_there() -> None:
    made = mixture({"0": {"a": 1}, str(10 * LENGTH): {"b": 1}, str(20 * LENGTH + 1): {"c": 1}})
    parts = "".join(made.names[p] for p in made.part_of(np.arange(40)))
    assert parts == "a" * 10 + "b" * 11 + "c" * 19


@settings(max_examples=30)
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=20), st.integers(1, 9), st.integers(1, 9))
def test_a_sequence_is_its_parts_sequence_of_that_number_whatever_the_batch(index: list[int], a: int, b: int) -> None:
    made = mixture({"a": a, "b": b, "c": 3})
    batch = made.sequences(np.array(index))
    assert made.vocabulary == 4 + 6 + 10 and batch.tokens_BT.max() < made.vocabulary
    for row, number in enumerate(index):
        one = np.array([number])
        name = made.names[made.part_of(one)[0]]
        source = made.parts[name].source
        assert source is not None
        tokens = batch.tokens_BT[row]
        np.testing.assert_array_equal(tokens, source.sequences(one).tokens_BT[0] + made.first_id[name])
        np.testing.assert_array_equal(tokens, made.sequences(one).tokens_BT[0])
        np.testing.assert_array_equal(batch.target_BT[row], source.sequences(one).target_BT[0])


def test_seeds_and_streams_draw_other_parts() -> None:
    weights, index = {"a": 1, "b": 1, "c": 1}, np.arange(64)
    drawn = [mixture(weights, **more).part_of(index).tobytes()
             for more in ({}, {"seed": 2}, {"stream": "held_out"}, {"seed": 1})]
    assert len(set(drawn)) == 3 and drawn[0] == drawn[3]


def test_the_draw_is_that_of_the_first_version() -> None:
    made = mixture({"a": 1, "b": 2, "c": 3})
    assert "".join(made.names[p] for p in made.part_of(np.arange(24))) == "ccccabcbccbbcbcccccccbca"


def test_parts_of_one_alphabet_share_ids_and_the_frame(small_banks: list[Path]) -> None:
    nca = make_source(small(), seed=SEED, stream="train", sequence_length=LENGTH, banks=small_banks)
    both = mixture({"a": 1, "b": 1}, {"a": part(nca, 258, "nca"), "b": part(nca, 258, "nca")})
    assert (both.vocabulary, both.period) == (258, 18)
    index = np.arange(20)
    np.testing.assert_array_equal(both.sequences(index).tokens_BT, nca.sequences(index).tokens_BT)
    mixed = mixture({"a": 1, "b": 1}, {"a": part(nca, 258, "nca"), "b": part(brackets(4), 8)})
    assert (mixed.vocabulary, mixed.period) == (266, None)


def test_a_part_without_its_rules_is_no_obstacle_until_it_is_drawn() -> None:
    parts = {"a": part(brackets(2), 4), "b": part(None, 258, "nca")}
    made = mixture({"0": {"a": 1}, str(8 * LENGTH): {"b": 1}}, parts)
    assert made.vocabulary == 262 and made.sequences(np.arange(8)).tokens_BT.shape == (8, LENGTH)
    with pytest.raises(RecordError, match="sequence 8 is of the part b"):
        made.sequences(np.arange(9))


class Known:
    """A source of which the exact loss of token t of sequence i is i + t / 100."""

    period: int | None = None
    vocabulary, sequence_length = 4, LENGTH

    def sequences(self, index_B: Ints) -> SequenceBatch:
        raise NotImplementedError

    def oracle(self, index_B: Ints) -> np.ndarray:
        return index_B[:, None] + np.arange(LENGTH) / 100


class Unknown(Known):
    """A source that has no exact loss for its science."""

    def oracle(self, index_B: Ints) -> None:  # type: ignore[override]
        return None


def test_the_exact_loss_is_that_of_the_parts_where_all_have_one() -> None:
    index = np.array([9, 2, 30, 4])
    found = mixture({"a": 1, "b": 1}, {"a": part(Known(), 4), "b": part(Known(), 5)}).oracle(index)
    assert found is not None
    np.testing.assert_array_equal(found, index[:, None] + np.arange(LENGTH) / 100)
    assert mixture({"a": 1, "b": 1}, {"a": part(Known(), 4), "b": part(Unknown(), 6)}).oracle(index) is None


def test_a_note_for_tables() -> None:
    assert describe(mixture({"a": 6, "b": 2}).science) == "a 3 + b 1"
    assert describe(mixture({"0": {"a": 1}, "150k": {"b": 1, "c": 2}}).science) == "a; from 150k b 1 + c 2"
