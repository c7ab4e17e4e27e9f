"""Held-out upstream loss against guesses that need no learning of the rules, and against who knows the rule.

The guesses, fitted on as many sequences of the training stream as are held out, and tested on the held-out ones:

    uniform   every token alike
    unigram   the smoothed law of the target tokens
    copy      the token one period (frame) earlier, mixed with unigram; only where the upstream has frames
    ngram     an interpolated Witten-Bell model of the training stream (`_guesses`)
    context   the same model fitted on the sequence's own past: sequences of one rule each have nothing else in common

The oracle is no guess and decides nothing: it is the exact expected loss of who knows the rule behind each sequence,
where the source can tell (`workloads.contract.Oracle`). How far below the best guess it lies is what was to be learned.

The rule. Let m be the mean over held-out targets of (loss of the best guess - loss of the model),
the best guess being the one (of `against`) with the lowest mean on these very targets, and s the standard error of m
clustered by sequence (tokens of one sequence are not independent):

    learned        m - 2 s > margin
    not learned    m + 2 s <= margin
    inconclusive   anything else, and anything from fewer than 10 sequences

Losses are also given by frame and by position, in groups that double: `frame.4.loss` is the mean over frames 4 to 7.

Shape suffixes: B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from sweeps.errors import RecordError
from sweeps.language.gate import MIN_SEQUENCES, Verdict
from workloads.contract import Oracle, SequenceBatch, Subject
from workloads.tasks._guesses import Floats, context_nats, copy_nats, fit_copy, ngram_nats, unigram_law
from workloads.training.evaluation import logits_of
from workloads.training.feeds import IGNORED, labels_of
from workloads.training.losses import Logits, batches

STANDARD_ERRORS = 2.0
"""Between the margin and a verdict: about 95 % two-sided."""
PLACED = ("loss", "copy_loss", "ngram_loss", "context_loss", "oracle_loss")
"""What is also given by frame and by position."""


def measure(science: Any, subject: Subject) -> Mapping[str, float]:
    """Return every loss, `margin` (best guess minus loss) with its `margin_se`, `learned`, and losses by place.

    Raises:
        Diverged: the model's logits are not finite.
        RecordError: the subject has no upstream.
    """
    if subject.source is None or subject.held_out is None:
        raise RecordError("upstream_gate needs a pre-pre-trained model with its upstream's two streams")
    index_B = np.arange(max(1, subject.tokens // subject.sequence_length), dtype=np.int64)
    train, test = subject.source.sequences(index_B), subject.held_out.sequences(index_B)
    period = subject.held_out.period
    scores: dict[str, float] = {"sequences": float(len(index_B))}
    law_V = unigram_law(train, subject.vocabulary, science.smoothing)
    guesses = {
        "uniform_loss": np.full(test.tokens_BT.shape, math.log(subject.vocabulary)),
        "unigram_loss": np.asarray(-np.log(law_V[test.tokens_BT])),
        "ngram_loss": ngram_nats(train, test, science.order, subject.vocabulary),
        "context_loss": context_nats(test, science.order, subject.vocabulary),
    }
    if period is not None:
        scores["copy_weight"] = fit_copy(train, law_V, period)
        guesses["copy_loss"] = copy_nats(test, law_V, period, scores["copy_weight"])
    nats = {"loss": _losses(logits_of(subject), test), **guesses}
    known = subject.held_out.oracle(index_B) if isinstance(subject.held_out, Oracle) else None
    if known is not None:
        nats["oracle_loss"] = known
    scores |= {name: float(nats_BT[test.target_BT].mean()) for name, nats_BT in nats.items()}
    counted = {"uniform_loss", *(f"{guess}_loss" for guess in science.against)} & guesses.keys()
    best = min(sorted(counted), key=lambda name: scores[name])
    scores["margin"], error = margin(guesses[best] - nats["loss"], test.target_BT)
    if math.isfinite(error):
        scores["margin_se"] = error
    scores["learned"] = verdict(scores["margin"], error, len(index_B), least=science.margin).number
    placed = {name: nats[name] for name in PLACED if name in nats}
    return {**scores, **dict(_by_place(placed, test.target_BT, period))}


def margin(gain_BT: Floats, target_BT: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the mean gain over targets and its standard error, clustered by sequence; NaN for a single sequence.

    The mean is a ratio of sums over sequences, and this the linearised variance of such a ratio (Cochran, Sampling
    Techniques, 3rd ed., 1977, equation 2.46).
    """
    gain_B, count_B = np.where(target_BT, gain_BT, 0.0).sum(axis=1), target_BT.sum(axis=1)
    mean, size = float(gain_B.sum() / count_B.sum()), len(gain_B)
    if size < 2:
        return mean, math.nan
    rest_B = gain_B - mean * count_B
    return mean, math.sqrt(size / (size - 1) * float((rest_B**2).sum())) / float(count_B.sum())


def verdict(mean: float, error: float, sequences: int, *, least: float) -> Verdict:
    """Return what the rule at the head of this file says."""
    if sequences < MIN_SEQUENCES:
        return Verdict.INCONCLUSIVE
    if mean - STANDARD_ERRORS * error > least:
        return Verdict.LEARNED
    return Verdict.NOT_LEARNED if mean + STANDARD_ERRORS * error <= least else Verdict.INCONCLUSIVE


def _losses(logits: Logits, batch: SequenceBatch) -> Floats:
    """Return (B, T) losses of each token given those before it; 0 where it is no target."""
    found_BT = np.zeros(batch.tokens_BT.shape)
    for index in batches(len(batch.tokens_BT)):
        part = SequenceBatch(tokens_BT=batch.tokens_BT[index], target_BT=batch.target_BT[index])
        out = logits(part.tokens_BT).float()
        labels = torch.from_numpy(labels_of(part)).to(out.device)
        loss = F.cross_entropy(out.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none")
        found_BT[index, 1:] = loss.view(labels.shape)[:, :-1].double().cpu().numpy()
    return found_BT


def _by_place(nats: Mapping[str, Floats], target_BT: npt.NDArray[np.bool_], period: int | None
              ) -> Iterator[tuple[str, float]]:
    """Yield the mean losses of doubling groups of frames and of positions that have targets."""
    position_T = np.arange(target_BT.shape[1])
    for axis, place_T in (("position", position_T), *((("frame", position_T // period),) if period else ())):
        first_T = np.where(place_T > 0, 1 << (np.frexp(place_T)[1] - 1).clip(0), 0)
        for first in np.unique(first_T):
            inside_BT = target_BT & (first_T == first)
            if inside_BT.any():
                yield from ((f"{axis}.{first}.{name}", float(nats_BT[inside_BT].mean()))
                            for name, nats_BT in nats.items())
