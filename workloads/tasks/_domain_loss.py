"""Held-out loss and bits per byte on each domain; only bits per byte can be compared across domains."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from workloads.contract import Subject
from workloads.training.evaluation import logits_of
from workloads.training.losses import held_out, summed_loss


def measure(science: Any, subject: Subject) -> Mapping[str, float]:
    """Return `<domain>.loss` and `<domain>.bits_per_byte` for every corpus.

    Raises:
        Diverged: the model's logits are not finite.
    """
    del science
    scores: dict[str, float] = {}
    for domain, reader in subject.corpora.items():
        found = held_out(partial(summed_loss, logits_of(subject)), reader, subject.tokens)
        scores |= {f"{domain}.loss": found.loss, f"{domain}.bits_per_byte": found.bits_per_byte}
    return scores
