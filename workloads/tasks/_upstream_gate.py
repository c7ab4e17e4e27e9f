"""Held-out upstream loss against what needs no learning of the rules.

The rule, fixed before looking: the upstream counts as learned if and only if the model's held-out loss is below the
better of two baselines by more than `margin` nats per token. The baselines are fitted on as many sequences of the
training stream as are held out, and tested on the held-out ones:

    unigram   the smoothed law of the target tokens
    copy      w [token == the token one period (frame) earlier] + (1 - w) unigram, with the w that is best in training

Shape suffixes: B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from sweeps.errors import RecordError
from workloads.contract import SequenceBatch, SequenceSource, Subject
from workloads.training.evaluation import logits_of
from workloads.training.feeds import IGNORED, labels_of
from workloads.training.losses import Logits, batches

Floats = npt.NDArray[np.float64]
WEIGHTS = np.linspace(0.0, 0.995, 200)
"""Candidate weights of copying."""


def measure(science: Any, subject: Subject) -> Mapping[str, float]:
    """Return `loss`, the baselines' losses, `margin` (better baseline minus loss), `learned`, and `frame.<k>`.

    Raises:
        Diverged: the model's logits are not finite.
        RecordError: the subject has no upstream.
    """
    if subject.source is None or subject.held_out is None:
        raise RecordError("upstream_gate needs a pre-pre-trained model with its upstream's two streams")
    count = max(1, subject.tokens // subject.sequence_length)
    train, test = _load(subject.source, count), _load(subject.held_out, count)
    law_V = unigram_law(train, subject.vocabulary, science.smoothing)
    loss_BT = _losses(logits_of(subject), test)
    target_BT = test.target_BT
    scores = {
        "loss": float(loss_BT[target_BT].mean(dtype=np.float64)),
        "unigram_loss": float(-np.log(law_V[test.tokens_BT[target_BT]]).mean()),
    }
    best, period = scores["unigram_loss"], subject.held_out.period
    if period is not None:
        weight = fit_copy(train, law_V, period)
        scores["copy_weight"] = weight
        scores["copy_loss"] = copy_loss(test, law_V, period, weight)
        best = min(best, scores["copy_loss"])
        scores |= _by_frame(loss_BT, target_BT, period)
    scores["margin"] = best - scores["loss"]
    scores["learned"] = float(scores["margin"] > science.margin)
    return scores


def unigram_law(batch: SequenceBatch, vocabulary: int, smoothing: float) -> Floats:
    """Return the smoothed probabilities of the target tokens."""
    counts_V = np.bincount(batch.tokens_BT[batch.target_BT], minlength=vocabulary) + smoothing
    law_V: Floats = counts_V / counts_V.sum()
    return law_V


def copy_loss(batch: SequenceBatch, law_V: Floats, period: int, weight: float) -> float:
    """Return the loss of the mixture in nats per target; targets without a frame before them get the unigram law."""
    same_BT = np.zeros(batch.tokens_BT.shape, dtype=np.bool_)
    same_BT[:, period:] = batch.tokens_BT[:, period:] == batch.tokens_BT[:, :-period]
    weight_BT = np.where(np.arange(batch.tokens_BT.shape[1]) >= period, weight, 0.0)[None, :]
    chance_BT = weight_BT * same_BT + (1.0 - weight_BT) * law_V[batch.tokens_BT]
    return float(-np.log(chance_BT[batch.target_BT]).mean())


def fit_copy(batch: SequenceBatch, law_V: Floats, period: int) -> float:
    """Return the weight of copying with the lowest loss."""
    losses = [copy_loss(batch, law_V, period, float(w)) for w in WEIGHTS]
    return float(WEIGHTS[int(np.argmin(losses))])


def _load(source: SequenceSource, count: int) -> SequenceBatch:
    return source.sequences(np.arange(count, dtype=np.int64))


def _losses(logits: Logits, batch: SequenceBatch) -> npt.NDArray[np.float32]:
    """Return (B, T) losses of each token given those before it; 0 where it is no target."""
    found_BT = np.zeros(batch.tokens_BT.shape, dtype=np.float32)
    for index in batches(len(batch.tokens_BT)):
        part = SequenceBatch(tokens_BT=batch.tokens_BT[index], target_BT=batch.target_BT[index])
        out = logits(part.tokens_BT).float()
        labels = torch.from_numpy(labels_of(part)).to(out.device)
        loss = F.cross_entropy(out.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none")
        found_BT[index, 1:] = loss.view(labels.shape)[:, :-1].cpu().numpy()
    return found_BT


def _by_frame(loss_BT: npt.NDArray[np.float32], target_BT: npt.NDArray[np.bool_], period: int) -> dict[str, float]:
    """Return the mean loss of each frame that has targets."""
    frame_T = np.arange(loss_BT.shape[1]) // period
    found = {}
    for frame in range(int(frame_T[-1]) + 1):
        inside_BT = target_BT & (frame_T == frame)[None, :]
        if inside_BT.any():
            found[f"frame.{frame}"] = float(loss_BT[inside_BT].mean(dtype=np.float64))
    return found
