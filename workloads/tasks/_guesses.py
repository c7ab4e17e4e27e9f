"""Guesses that need no learning of an upstream's rules: what each token costs under them, in nats.

An n-gram model interpolates the orders with Witten and Bell's weights ("The zero-frequency problem", IEEE Transactions
on Information Theory 37(4), 1991, method C; as Chen and Goodman write it, Computer Speech and Language 13, 1999): after
a context h that was followed c(h) times by N(h) different tokens,

    p(w | h) = (c(h w) + N(h) p(w | h')) / (c(h) + N(h))

where h' is h without its oldest token, and the law below the empty context is uniform. A context never seen leaves
p(w | h'). Every p(. | h) sums to 1.

Shape suffixes: B sequences, T tokens, V vocabulary, X events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from workloads.contract import SequenceBatch

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
WEIGHTS = np.linspace(0.0, 0.995, 200)
"""Candidate weights of copying."""


class Counts(NamedTuple):
    """What was seen of one order of n-grams when each token came; all (B, T)."""

    total_BT: Ints
    """c(h)."""
    kinds_BT: Ints
    """N(h)."""
    hits_BT: Ints
    """c(h w)."""


def unigram_law(batch: SequenceBatch, vocabulary: int, smoothing: float) -> Floats:
    """Return the smoothed probabilities (V,) of the target tokens."""
    counts_V = np.bincount(batch.tokens_BT[batch.target_BT], minlength=vocabulary) + smoothing
    law_V: Floats = counts_V / counts_V.sum()
    return law_V


def copy_nats(batch: SequenceBatch, law_V: Floats, period: int, weight: float) -> Floats:
    """Return the loss of w [token == the token one period earlier] + (1 - w) unigram; without such a token, unigram."""
    tokens_BT = batch.tokens_BT
    same_BT = np.zeros(tokens_BT.shape, dtype=np.bool_)
    same_BT[:, period:] = tokens_BT[:, period:] == tokens_BT[:, :-period]
    weight_BT = np.where(np.arange(tokens_BT.shape[1]) >= period, weight, 0.0)[None, :]
    return np.asarray(-np.log(weight_BT * same_BT + (1.0 - weight_BT) * law_V[tokens_BT]))


def fit_copy(batch: SequenceBatch, law_V: Floats, period: int) -> float:
    """Return the weight of copying with the lowest loss over the targets."""
    losses = [copy_nats(batch, law_V, period, float(w))[batch.target_BT].mean() for w in WEIGHTS]
    return float(WEIGHTS[int(np.argmin(losses))])


def ngram_nats(train: SequenceBatch, test: SequenceBatch, order: int, vocabulary: int) -> Floats:
    """Return the loss (B, T) on `test` of the n-gram model of the targets of `train`."""
    return _witten_bell(_trained(train, test, order, vocabulary), vocabulary, test.tokens_BT.shape)


def context_nats(batch: SequenceBatch, order: int, vocabulary: int) -> Floats:
    """Return the loss (B, T) of the n-gram model that each sequence's own past makes, targets or not.

    Where every sequence has a rule of its own, this is what can be had without knowing any rule.
    """
    return _witten_bell(_own(batch.tokens_BT, order, vocabulary), vocabulary, batch.tokens_BT.shape)


def _witten_bell(orders: Iterable[Counts], vocabulary: int, shape: tuple[int, ...]) -> Floats:
    """Return the loss, mixing from the shortest context to the longest."""
    chance_BT = np.full(shape, 1.0 / vocabulary)
    for total, kinds, hits in orders:
        mixed = (hits + kinds * chance_BT) / np.maximum(total + kinds, 1)
        chance_BT = np.where(total > 0, mixed, chance_BT)
    return np.asarray(-np.log(chance_BT))


def _trained(train: SequenceBatch, test: SequenceBatch, order: int, vocabulary: int) -> Iterator[Counts]:
    """Yield the counts of the training targets, looked up where the test tokens are."""
    ids = _gram_ids(np.concatenate([train.tokens_BT, test.tokens_BT]), order, vocabulary)
    rows = len(train.tokens_BT)
    for length in range(min(order, ids[0].shape[1])):
        context, gram = _before(ids[length]), ids[length + 1]
        counted = train.target_BT & (np.arange(gram.shape[1]) >= length)
        context_X, gram_X = context[:rows][counted], gram[:rows][counted]
        _, first = np.unique(gram_X, return_index=True)
        size = int(max(context.max(), gram.max())) + 1
        tables = (np.bincount(context_X, minlength=size), np.bincount(context_X[first], minlength=size))
        found = [table[context[rows:]] for table in tables] + [np.bincount(gram_X, minlength=size)[gram[rows:]]]
        for array in found:
            array[:, :length] = 0  # no whole context there
        yield Counts(*found)


def _own(tokens_BT: npt.NDArray[np.integer], order: int, vocabulary: int) -> Iterator[Counts]:
    """Yield the counts of what came earlier in the same sequence."""
    ids = _gram_ids(tokens_BT, order, vocabulary)
    row_B1 = np.arange(len(tokens_BT))[:, None]
    for length in range(min(order, tokens_BT.shape[1])):
        context, gram = (part[:, length:] + row_B1 * (int(part.max()) + 1) for part in (
            _before(ids[length]), ids[length + 1]))
        hits = _earlier(gram, np.ones_like(gram))
        found = (_earlier(context, np.ones_like(context)), _earlier(context, (hits == 0).astype(np.int64)), hits)
        yield Counts(*(np.pad(array, ((0, 0), (length, 0))) for array in found))


def _gram_ids(tokens_BT: npt.NDArray[np.integer], order: int, vocabulary: int) -> list[Ints]:
    """Return, for lengths 0 to `order`, numbers (B, T) that are equal where that many last tokens are.

    Before position `length` - 1 there are not so many, and the numbers mean nothing.
    """
    ids = [np.zeros(tokens_BT.shape, dtype=np.int64)]
    for _ in range(order):
        keys = _before(ids[-1]) * vocabulary + tokens_BT
        ids.append(np.unique(keys, return_inverse=True)[1].reshape(keys.shape).astype(np.int64))
    return ids


def _before(values_BT: Ints) -> Ints:
    """Return the values one position earlier, 0 at the first."""
    return np.pad(values_BT[:, :-1], ((0, 0), (1, 0)))


def _earlier(keys_BT: Ints, values_BT: Ints) -> Ints:
    """Return, at every position, the sum of `values_BT` over the earlier positions with the same key."""
    keys, values = keys_BT.reshape(-1), values_BT.reshape(-1)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    sums = np.cumsum(values[order]) - values[order]
    found = np.empty_like(sums)
    found[order] = sums - sums[np.searchsorted(ordered, ordered)]
    return found.reshape(keys_BT.shape)
