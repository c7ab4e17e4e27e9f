"""The guesses of the upstream gate: laws that sum to 1, and counts as a hand makes them."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.contract import SequenceBatch
from workloads.tasks._guesses import context_nats, copy_nats, ngram_nats, unigram_law

V = 4
RELAXED = settings(max_examples=40)
rows = st.lists(st.lists(st.integers(0, V - 1), min_size=7, max_size=7), min_size=1, max_size=4)


def batch(tokens: list[list[int]], first_target: int = 1) -> SequenceBatch:
    tokens_BT = np.array(tokens, np.int32)
    return SequenceBatch(tokens_BT=tokens_BT,
                         target_BT=np.tile(np.arange(tokens_BT.shape[1]) >= first_target, (len(tokens_BT), 1)))


Events = list[tuple[tuple[int, ...], int]]
"""(All tokens before it in its sequence, token)."""


def plain_witten_bell(events: Events, past: tuple[int, ...], token: int, order: int) -> float:
    """The formula, token by token."""
    chance = 1 / V
    for length in range(min(order, len(past) + 1)):
        context = past[len(past) - length:]
        after = Counter(w for h, w in events if len(h) >= length and h[len(h) - length:] == context)
        if after:
            chance = (after[token] + len(after) * chance) / (after.total() + len(after))
    return chance


def test_a_bigram_by_hand() -> None:
    train, test = batch([[0, 1, 0, 1, 0, 2]]), batch([[0, 1, 3, 0, 0, 0]])
    # Targets 1 0 1 0 2: p(w) = (c + 3/4) / 8. After 0 came 1 1 2, after 1 came 0 0, after 3 nothing.
    p0, p1, p3 = 2.75 / 8, 2.75 / 8, 0.75 / 8
    right = [(2 + 2 * p1) / 5, (0 + 1 * p3) / 3, p0, (0 + 2 * p0) / 5, (0 + 2 * p0) / 5]
    assert ngram_nats(train, test, 2, V)[0, 1:] == pytest.approx(-np.log(right))


def test_the_own_past_by_hand() -> None:
    # Nothing; then {0}: N = 1, c = 1; then {0, 1}; then {0, 1, 0} and, after 0, {1}.
    found = context_nats(batch([[0, 1, 0, 1]]), 2, V)[0]
    unigrams = [1 / 4, (0 + 1 / 4) / 2, (1 + 2 / 4) / 4, (1 + 2 / 4) / 5]
    assert found == pytest.approx(-np.log([*unigrams[:3], (1 + unigrams[3]) / 2]))


@RELAXED
@given(rows, rows, st.integers(1, 4), st.integers(1, 4))
def test_the_trained_model_is_the_formula(seen: list[list[int]], held: list[list[int]], order: int, first: int) -> None:
    train, test = batch(seen, first), batch(held)
    events = [(tuple(row[:t]), row[t]) for row in seen for t in range(first, 7)]
    right = [[plain_witten_bell(events, tuple(row[:t]), row[t], order) for t in range(7)] for row in held]
    assert np.exp(-ngram_nats(train, test, order, V)) == pytest.approx(np.array(right))


@RELAXED
@given(rows, st.integers(1, 4))
def test_the_own_past_is_the_formula_on_what_came_before(held: list[list[int]], order: int) -> None:
    right = [[plain_witten_bell([(tuple(row[:s]), row[s]) for s in range(t)], tuple(row[:t]), row[t], order)
              for t in range(7)] for row in held]
    assert np.exp(-context_nats(batch(held), order, V)) == pytest.approx(np.array(right))


@RELAXED
@given(rows, st.lists(st.integers(0, V - 1), max_size=6), st.integers(1, 4))
def test_every_law_sums_to_one(seen: list[list[int]], past: list[int], order: int) -> None:
    every = batch([[*past, w] for w in range(V)])
    train = SequenceBatch(tokens_BT=batch(seen).tokens_BT[:, : len(past) + 1],
                          target_BT=batch(seen).target_BT[:, : len(past) + 1])
    for nats in (ngram_nats(train, every, order, V), context_nats(every, order, V)):
        assert np.exp(-nats[:, -1]).sum() == pytest.approx(1)


def test_large_vocabularies_do_not_overflow() -> None:
    size = 65_536
    tokens = np.random.default_rng(0).integers(0, size, (3, 40)).tolist()
    train = batch(tokens)
    assert ngram_nats(train, train, 5, size).max() < math.log(size) + 1
    assert np.isfinite(context_nats(train, 5, size)).all()


def test_unigram_and_copy_by_hand() -> None:
    one = batch([[0, 1, 0, 1, 0, 0]], first_target=2)
    law = unigram_law(one, 3, 1.0)
    assert law.tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    right = [0.5 + 0.5 * 4 / 7, 0.5 + 0.5 * 2 / 7, 0.5 + 0.5 * 4 / 7, 0.5 * 4 / 7]
    assert copy_nats(one, law, 2, 0.5)[0, 2:] == pytest.approx(-np.log(right))
