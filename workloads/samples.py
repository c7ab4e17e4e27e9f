"""A few sequences of an upstream, made in memory: what a person looks at before a sweep, without a store.

Shapes: B sequences, T tokens, F frames of H x W cells.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeps.errors import UsageError
from sweeps.language.plugins import Registries, Upstream


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The first sequences of a stream."""

    tokens_BT: npt.NDArray[np.int32]
    scores_B: tuple[float, ...]
    """Raw complexity of each sequence's rule, mean over its trials; empty where the upstream has no bank."""
    bank: Mapping[str, float]
    """Scores of the bank that was made for them; empty where there is none."""
    frames_BFHW: npt.NDArray[np.int64] | None
    """Cells, where the upstream can say them."""


def sample(
    registries: Registries, upstream: Upstream, science: Any, *, seed: int, sequence_length: int, count: int,
) -> Sample:
    """Return sequences 0 to `count` - 1 that a sweep with this seed trains on.

    Raises:
        UsageError: no rules can be found for `science`; the message has the pilot's reasons.
    """
    if reasons := upstream.pilot(science) if upstream.pilot else []:
        raise UsageError("; ".join(reasons))
    index_B = np.arange(count)
    with tempfile.TemporaryDirectory(prefix="orchestrator-show-") as made:
        banks, found = [], {}
        if upstream.bank is not None and upstream.rules_needed is not None:
            banks = [Path(made)]
            found = registries.upstreams.find(upstream.bank_owner).load_bank()(
                upstream.bank(science), seed=seed, stream="train", first=0,
                count=upstream.rules_needed(science, count), folder=banks[0], progress=lambda done: False,
            )
        source = upstream.load()(
            science, seed=seed, stream="train", sequence_length=sequence_length, banks=banks
        )
        tokens_BT = source.sequences(index_B).tokens_BT
        rule_scores = np.load(banks[0] / "scores.npy").mean(axis=1) if banks else np.empty(0)
    return Sample(
        tokens_BT=tokens_BT, bank=dict(found),
        scores_B=tuple(float(rule_scores[i % len(rule_scores)]) for i in index_B) if banks else (),
        frames_BFHW=upstream.load_frames()(science, tokens_BT) if upstream.frames_implementation else None,
    )
