"""In-context copying (the induction-head test of Olsson et al. 2022): a random string, then the same string again.

Shape suffixes: B strings, N tokens of a string, T = 2 N, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from workloads.contract import Subject
from workloads.training.evaluation import logits_of
from workloads.training.losses import batches


def measure(science: Any, subject: Subject) -> Mapping[str, float]:
    """Return how much better the repeated string is predicted than its first occurrence.

    `difference` = `second_loss` - `first_loss` in nats per token: below 0 the context helps. The first token of the
    repetition is left out, as nothing announces it. `accuracy` counts the right token at the top in the repetition,
    ties shared; `chance` is 1 / V.

    Raises:
        Diverged: the model's logits are not finite.
    """
    length = min(science.length, subject.sequence_length // 2, subject.vocabulary)
    tokens_BT = strings(subject.seed, science.sequences, length, subject.vocabulary)
    logits = logits_of(subject)
    first, second, right = 0.0, 0.0, 0.0
    for index in batches(science.sequences):
        logits_BTV = logits(tokens_BT[index])[:, :-1].float()
        target_BT = torch.from_numpy(tokens_BT[index][:, 1:].astype(np.int64)).to(logits_BTV.device)
        loss_BT = F.cross_entropy(logits_BTV.flatten(0, 1), target_BT.flatten(), reduction="none").view_as(target_BT)
        first += float(loss_BT[:, : length - 1].sum())
        second += float(loss_BT[:, length:].sum())
        right += float(_top_share(logits_BTV[:, length:], target_BT[:, length:]).sum())
    count = science.sequences * (length - 1)
    return {
        "difference": (second - first) / count, "first_loss": first / count, "second_loss": second / count,
        "accuracy": right / count, "chance": 1.0 / subject.vocabulary,
    }


def strings(seed: int, count: int, length: int, vocabulary: int) -> npt.NDArray[np.int32]:
    """Return (B, 2 N) tokens: strings of distinct tokens, each twice; the same for every arm of a seed."""
    key = np.frombuffer(hashlib.sha256(f"{seed}/copying".encode()).digest()[:16], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key))
    once_BN = np.stack([generator.permutation(vocabulary)[:length] for _ in range(count)]).astype(np.int32)
    return np.concatenate([once_BN, once_BN], axis=1)


def _top_share(logits_BTV: torch.Tensor, target_BT: torch.Tensor) -> torch.Tensor:
    """Return 1 / k where the target is among the k tokens that share the largest logit, else 0."""
    top_BTV = logits_BTV == logits_BTV.amax(dim=-1, keepdim=True)
    hit_BT = top_BTV.gather(-1, target_BT[..., None])[..., 0]
    return hit_BT / top_BTV.sum(dim=-1)
