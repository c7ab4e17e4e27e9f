"""The rungs of the ladder, from log-probabilities; and what guesses get on them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.language.ladder import ANSWERED, CHOSEN, LADDER, rung_of
from tests.workloads.downstream.conftest import Made
from workloads.downstream.items import Posed
from workloads.downstream.rungs import (
    at_least_once,
    chance_rungs,
    choice_rungs,
    guessed,
    means,
    pass_at_k,
    rungs,
    uniform,
    unigram,
)
from workloads.downstream.scoring import Encoding, Score

ITEM = Posed(id="a", level="1", prompt="Answer:", choices_C=(" 7", " 42", " 9"), gold=1)


def score(*nats: float, ending: float = 0.0, greedy: bool = False) -> Score:
    return Score(id="a", nats_C=nats, ending=ending, greedy=greedy, tokens_C=(1,) * len(nats), length=64,
                 truncated=False)


def test_the_rungs_of_one_item() -> None:
    found = rungs(ITEM, score(math.log(0.1), math.log(0.2), math.log(0.1), ending=math.log(0.5), greedy=True),
                  names=ANSWERED, passes=(1, 10))
    assert found == {
        "answer_bits": pytest.approx(math.log2(5) / 3), "probability": pytest.approx(0.5),
        "margin": pytest.approx(math.log(2)), "cloze": 1.0, "exact": 1.0, "pass@1": pytest.approx(0.1),
        "pass@10": pytest.approx(1 - 0.9**10)}
    assert list(rungs(ITEM, score(-1.0, -1.0, -1.0), names=CHOSEN, passes=(1,))) == list(CHOSEN)
    assert all(rung_of(name) for name in found) and set(map(rung_of, found)) == set(LADDER.values())


@given(st.lists(st.floats(-50, 0), min_size=2, max_size=6), st.data())
def test_a_tie_shares_the_point_and_all_choices_together_get_one(nats: list[float], data: st.DataObject) -> None:
    nats += data.draw(st.lists(st.sampled_from(nats), max_size=3))
    by_gold = [choice_rungs(nats, gold) for gold in range(len(nats))]
    assert sum(found["cloze"] for found in by_gold) == pytest.approx(1.0)
    assert sum(found["probability"] for found in by_gold) == pytest.approx(1.0)
    assert all((found["margin"] > 0) == (found["cloze"] == 1.0) for found in by_gold)


def test_choices_that_are_all_alike_get_chance() -> None:
    assert choice_rungs([-3.0] * 4, 2) == {"probability": 0.25, "margin": 0.0, "cloze": 0.25}


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_the_subsets_with_a_right_one(nck: tuple[int, int, int]) -> None:
    n, c, k = nck
    subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@given(st.floats(0, 1), st.integers(1, 4))
def test_known_chances_give_what_the_estimate_expects(chance: float, k: int) -> None:
    n = 6
    expected = sum(math.comb(n, c) * chance**c * (1 - chance)**(n - c) * pass_at_k(n, c, k) for c in range(n + 1))
    assert at_least_once(chance, k) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 1, 5), (0, 0, 1), (4, 5, 1), (4, -1, 1), (4, 1, 0)])
def test_fewer_samples_than_k_are_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="draw more samples"):
        pass_at_k(n, c, k)


def test_the_chance_of_guessing_among_choices() -> None:
    assert at_least_once(0.25, 1) == pytest.approx(0.25) and at_least_once(0.25, 2) == pytest.approx(1 - 0.75**2)


def test_guesses_are_laws_without_context(made: Made) -> None:
    from workloads.data.corpus import open_corpus

    tokenizer = made.load()
    encoding, vocabulary = Encoding(tokenizer, 128), tokenizer.get_vocab_size()
    e = encoding.item(ITEM)
    flat = rungs(ITEM, guessed(e, uniform(vocabulary), encoding.endings_V), names=ANSWERED, passes=(1,))
    tokens = len(e.rows[1]) - e.start
    assert flat["answer_bits"] == pytest.approx(tokens * math.log2(vocabulary) / 3)
    assert chance_rungs(ITEM, guessed(e, uniform(vocabulary), encoding.endings_V), names=ANSWERED, passes=(1,)) == {
        **flat, "probability": pytest.approx(1 / 3), "margin": 0.0, "cloze": pytest.approx(1 / 3)}
    assert flat["exact"] == 0.0 and 0 < flat["pass@1"] < vocabulary**-tokens
    law_V = unigram(open_corpus(made.corpus, seed=0, sequence_length=32))
    assert law_V.sum() == pytest.approx(1.0) and law_V.min() > 0
    counted = guessed(e, law_V, encoding.endings_V)
    assert counted.nats_C[0] == pytest.approx(np.log(law_V[e.rows[0][e.start:]]).sum())


def test_who_counts_tokens_cannot_tell_one_order_of_them_from_another(made: Made) -> None:
    """Or rounding would decide who is right, and a model could seem better than the frequencies of tokens."""
    tokenizer = made.load()
    encoding, words = Encoding(tokenizer, 128), (" 7", " has", " more", " 31", " then")
    orders = tuple("".join(order) for order in itertools.permutations(words))
    e = encoding.item(Posed(id="a", level="0", prompt="Answer:", choices_C=orders, gold=0))
    law_V = np.random.default_rng(0).dirichlet(np.ones(tokenizer.get_vocab_size()))
    assert choice_rungs(guessed(e, law_V, encoding.endings_V).nats_C, 0)["cloze"] == 1 / len(orders)


def test_a_mean_is_over_the_items_of_its_level() -> None:
    items = [Posed(id=str(n), level=level, prompt="p", choices_C=(" a",), gold=0) for n, level in enumerate("112")]
    found = means(items, [{"x": 1.0}, {"x": 2.0}, {"x": 6.0}])
    assert found == {"1.x": 1.5, "2.x": 6.0, "all.x": 3.0}
