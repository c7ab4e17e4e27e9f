"""What a block of rules is, in figures: its kernels' hash, acceptance, duplicates, and the complexity training sees.

A rule is accepted by the score of a rollout from one initial grid (`complexity.trials` of them), but training rolls it
out from another. So what a model reads of a narrow band lies in that band about half of the time only. The block's
record says how often: sequence k of the stream starts rule k from its own grid, and its first `complexity.frames`
frames are scored as the search scores them. One accepted rule in some is looked at, for at most a fortieth of the
search's work (32 rules at least).

Shapes: B rules, S looked at, K trials.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from workloads.upstreams.nca.complexity import Band, ceiling, gzip_lengths, raw_bytes, wilson
from workloads.upstreams.nca.philox import derive_key, split
from workloads.upstreams.nca.tokens import patch_tokens

if TYPE_CHECKING:
    from workloads.upstreams.nca.bank import Block, Search
    from workloads.upstreams.nca.rollout import Rules

Floats = npt.NDArray[np.float64]
BIN_PERCENT = 5
"""Width of a histogram's bin, in percent of the band's scale; 100 % and more fall into the last."""
COST = 40
"""One rollout for so many candidates of the search."""
LEAST, MOST = 32, 1000


@dataclass(frozen=True, kw_only=True)
class Account:
    """The figures of a block."""

    scores: Mapping[str, float]
    """Of the stage: shares and raw scores as fractions, counts."""
    record: Mapping[str, Any]
    """For `bank.json`: the scores, `kernels_sha256`, and histograms of the accepted and the realised scores."""
    realised_S2: Floats
    """The sequence, and its raw score."""


def account(search: Search, block: Block, first: int) -> Account:
    """Return the figures of the block that begins with rule `first`."""
    bank, band, count = search.bank, Band.of(search.bank), len(block.candidate_B)
    candidates = int(block.candidate_B.sum()) + count
    digests = kernel_digests(block.rules)
    found_S2 = realised(search, block, first, looked_at(count, candidates))
    mean_B, seen_S = block.score_BK.mean(axis=1), found_S2[:, 1]
    inside = int(band.accepts(seen_S[:, None]).sum())
    (low, high), (left, right) = wilson(count, candidates), wilson(inside, len(seen_S))
    seen = histogram(seen_S, band.unit)
    scores = {
        "accepted": float(count), "candidates": float(candidates), "acceptance": count / candidates,
        "acceptance_low": low, "acceptance_high": high, "score_mean": float(mean_B.mean()),
        "score_min": float(mean_B.min()), "score_max": float(mean_B.max()), "noise_ceiling": ceiling(bank),
        "duplicates": float(count - len(set(digests))), "realised_sequences": float(len(seen_S)),
        "realised_in_band": inside / len(seen_S), "realised_in_band_low": left, "realised_in_band_high": right,
        "realised_mean": float(seen_S.mean()),
        **{f"realised.{at}-{at + BIN_PERCENT}": count / len(seen_S)
           for at, count in zip(range(0, 100, BIN_PERCENT), seen, strict=True) if count},
    }
    record = {"kernels_sha256": hashlib.sha256(b"".join(digests)).hexdigest(), "scores": scores, "histograms": {
        "bin_percent": BIN_PERCENT, "accepted": histogram(mean_B, band.unit), "realised": seen}}
    return Account(scores=scores, record=record, realised_S2=found_S2)


def looked_at(count: int, candidates: int) -> int:
    """Return how many of `count` rules, found among so many candidates, are rolled out again."""
    return min(count, MOST, max(LEAST, candidates // COST))


def realised(search: Search, block: Block, first: int, count: int) -> Floats:
    """Return (S, 2): the sequences of `count` rules, evenly spread over the block, and their raw scores."""
    bank = search.bank
    place_S = np.arange(count) * len(block.candidate_B) // count
    key = derive_key("nca", "sequence", search.stream, search.seed)  # as in `source.NcaSource`
    frames = search.backend.rollout(
        bank, block.rules.take(place_S), key, split(first + place_S), bank.complexity.frames
    )
    raw = gzip_lengths(patch_tokens(frames, bank.states, bank.patch)) / raw_bytes(bank)
    return np.stack([first + place_S, raw], axis=1).astype(np.float64)


def histogram(raw: Floats, unit: float) -> list[int]:
    """Return the counts of raw scores in bins of `BIN_PERCENT` percent of `unit`."""
    percent = np.minimum(100 * raw / unit, 100 - BIN_PERCENT / 2)
    return [int(n) for n in np.histogram(percent, bins=100 // BIN_PERCENT, range=(0, 100))[0]]


def kernel_digests(rules: Rules) -> list[bytes]:
    """Return the SHA-256 of each rule's table and output weights; equal ones are duplicates."""
    return [hashlib.sha256(np.ascontiguousarray(table, "<i4").tobytes() + np.ascontiguousarray(output, "<i4").tobytes())
            .digest() for table, output in zip(rules.tables_BKNC, rules.outputs_BCN, strict=True)]
