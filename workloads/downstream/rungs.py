"""From log-probabilities to the rungs of the ladder, for a model and for the guesses beside it. Pure.

A guess is a model without context: `uniform` gives every token the same chance, `unigram` the share of the training
text's tokens that it is.

Shape suffixes: V vocabulary, C choices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sweeps.language.ladder import CHOICES, EXACT, PASS
from workloads.contract import CorpusReader
from workloads.downstream.items import Posed
from workloads.downstream.scoring import Encoded, Score

UNIGRAM_SEQUENCES = 1_024
"""Training sequences at most that the unigram law is counted on."""
Floats = npt.NDArray[np.float64]


def rungs(item: Posed, score: Score, *, names: Sequence[str], passes: Sequence[int]) -> dict[str, float]:
    """Return the value of each rung of an item; those that need wrong choices are left out where it has none."""
    gold = score.nats_C[item.gold]
    size = len(item.choices_C[item.gold].encode())
    found = {"answer_bits": -gold / math.log(2.0) / size}
    if len(item.choices_C) > 1:
        found |= choice_rungs(score.nats_C, item.gold)
    found[EXACT] = float(score.greedy)
    chance = math.exp(min(gold + score.ending, 0.0))
    found |= {f"{PASS}{k}": at_least_once(chance, k) for k in passes}
    return {name: value for name, value in found.items() if (PASS if name.startswith(PASS) else name) in names}


def chance_rungs(item: Posed, uniform_score: Score, *, names: Sequence[str], passes: Sequence[int]
                 ) -> dict[str, float]:
    """Return what chance gets: every choice alike, and every token alike where the model writes.

    With every token alike a short choice would be likelier than a long one, which is no chance among choices.
    """
    found = rungs(item, uniform_score, names=names, passes=passes)
    alike = choice_rungs([0.0] * len(item.choices_C), item.gold) if len(item.choices_C) > 1 else {}
    return {name: alike.get(name, value) for name, value in found.items()}


def choice_rungs(nats_C: Sequence[float], gold: int) -> dict[str, float]:
    """Return `probability`, `margin` and `cloze` of the right choice."""
    right, top = nats_C[gold], max(nats_C)
    total = sum(math.exp(n - top) for n in nats_C)
    wrong = max(n for place, n in enumerate(nats_C) if place != gold)
    values = (math.exp(right - top) / total, right - wrong, (right == top) / sum(n == top for n in nats_C))
    return dict(zip(CHOICES, values, strict=True))


def at_least_once(chance: float, k: int) -> float:
    """Return 1 - (1 - p)^k: the expectation of pass@k where p is known, so that nothing need be drawn.

    With p = 1/m this is what guessing k times among m choices gets.
    """
    return -math.expm1(k * math.log1p(-chance)) if chance < 1.0 else 1.0


def pass_at_k(samples: int, right: int, k: int) -> float:
    """Return the unbiased estimate of pass@k from `right` right ones of `samples`, 1 - C(n-c, k) / C(n, k).

    Chen et al. 2021 (arXiv 2107.03374), for answers that must be run to be judged.

    Raises:
        ValueError: fewer samples than k, for which there is no unbiased estimate; or more right ones than samples.
    """
    if not 1 <= k <= samples or not 0 <= right <= samples:
        raise ValueError(f"pass@{k} of {right} right among {samples} samples: needs 1 <= k <= samples, and right <= "
                         "samples; draw more samples")
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def guessed(encoded: Encoded, law_V: Floats, endings_V: npt.NDArray[np.bool_]) -> Score:
    """Return the score of a guess that draws every token from `law_V`, whatever comes before.

    Sums are exact, so that the same tokens in another order are a tie.
    """
    log_V, top = np.log(law_V), law_V.max()
    answers = [row[start:] for row, start in zip(encoded.rows, encoded.starts, strict=True)]
    gold = law_V[answers[encoded.item.gold]]
    best = bool((gold == top).all() and (law_V == top).sum() == 1)
    return Score(
        id=encoded.item.id, nats_C=tuple(math.fsum(log_V[ids]) for ids in answers), length=encoded.length,
        ending=float(np.log(law_V[endings_V].sum())), tokens_C=tuple(map(len, answers)),
        greedy=best and bool(endings_V[int(law_V.argmax())]), truncated=encoded.truncated)


def uniform(vocabulary: int) -> Floats:
    """Return (V,) the law under which all tokens are alike."""
    return np.full(vocabulary, 1.0 / vocabulary)


def unigram(reader: CorpusReader) -> Floats:
    """Return (V,) the law of a corpus's training tokens, one added to every count."""
    index = np.arange(min(reader.train_sequences, UNIGRAM_SEQUENCES), dtype=np.int64)
    counts_V = np.bincount(reader.train(index).ravel(), minlength=reader.vocabulary) + 1.0
    return np.asarray(counts_V / counts_V.sum())


def means(items: Sequence[Posed], values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return `LEVEL.RUNG` -> mean over the level's items; level `all` holds every item."""
    found: dict[str, list[float]] = {}
    for item, of_item in zip(items, values, strict=True):
        for name, value in of_item.items():
            for level in (item.level, "all"):
                found.setdefault(f"{level}.{name}", []).append(value)
    return {name: math.fsum(listed) / len(listed) for name, listed in found.items()}
