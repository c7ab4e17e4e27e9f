"""Held-out loss and bits per byte on each domain; only bits per byte can be compared across domains.

Beside the model's bits per byte stands what the guesses of the ladder get on the same targets: every token alike, and
the domain's unigram model.

Shape suffix: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from workloads.contract import SequenceBatch, Subject
from workloads.downstream.rungs import Floats, uniform, unigram
from workloads.training.evaluation import logits_of
from workloads.training.feeds import labels_of
from workloads.training.losses import held_out, summed_loss


def measure(science: Any, subject: Subject) -> Mapping[str, float]:
    """Return `<domain>.loss` and `<domain>.bits_per_byte` for every corpus, and `<domain>.bits_per_byte.<guess>`.

    Raises:
        Diverged: the model's logits are not finite.
    """
    del science
    scores: dict[str, float] = {}
    for domain, reader in subject.corpora.items():
        found = held_out(partial(summed_loss, logits_of(subject)), reader, subject.tokens)
        scores |= {f"{domain}.loss": found.loss, f"{domain}.bits_per_byte": found.bits_per_byte}
        for name, law_V in (("chance", uniform(reader.vocabulary)), ("unigram", unigram(reader))):
            guess = held_out(partial(_guessed, np.log(law_V)), reader, subject.tokens)
            scores[f"{domain}.bits_per_byte.{name}"] = guess.bits_per_byte
    return scores


def _guessed(log_V: Floats, batch: SequenceBatch) -> tuple[float, int]:
    """Return the summed cross-entropy in nats of a batch under a law of single tokens, and its number of targets."""
    labels_BT = labels_of(batch)
    targets = labels_BT[labels_BT >= 0]
    return -float(log_V[targets].sum()), len(targets)
