"""The learning rate as a pure function of tokens.

    wsd      warm-up to the peak, constant, then (decay branches only) linear down to `final_lr_ratio` at the end
    cosine   warm-up to the peak, then half a cosine down to `final_lr_ratio` at the horizon

An update takes the rate at the middle of its own tokens, so the first update is not lost to a rate of zero nor the last
to the rate's end point, and the rate of an update depends on its absolute index alone.
"""

from __future__ import annotations

import math

from sweeps.errors import UsageError
from sweeps.language.science import OptimScience, SegmentScience


def learning_rate(optim: OptimScience, segment: SegmentScience, tokens: float) -> float:
    """Return the learning rate at a point of the run.

    Args:
        optim: peak rate, kind of schedule, final ratio.
        segment: warm-up, decay branch and horizon in tokens.
        tokens: tokens consumed since the beginning of the run; may be fractional.

    Raises:
        UsageError: a cosine without a horizon.
    """
    if tokens < segment.warmup_tokens:
        return optim.lr * tokens / segment.warmup_tokens
    if optim.schedule == "cosine":
        return optim.lr * _blend(_cosine(segment, tokens), optim.final_lr_ratio)
    if segment.decay_from is None or tokens <= segment.decay_from:
        return optim.lr
    share = (tokens - segment.decay_from) / (segment.end_tokens - segment.decay_from)
    return optim.lr * _blend(1.0 - min(1.0, share), optim.final_lr_ratio)


def update_rate(optim: OptimScience, segment: SegmentScience, update: int, update_tokens: int) -> float:
    """Return the learning rate of update `update` (from 0), each of `update_tokens` tokens."""
    return learning_rate(optim, segment, (update + 0.5) * update_tokens)


def _blend(share: float, final: float) -> float:
    """From 1 at `share` = 1 to `final` at `share` = 0."""
    return final + (1.0 - final) * share


def _cosine(segment: SegmentScience, tokens: float) -> float:
    if segment.horizon_tokens is None:
        raise UsageError("schedule cosine needs segment.horizon_tokens, the length of the whole run in tokens")
    length = max(1, segment.horizon_tokens - segment.warmup_tokens)
    share = min(1.0, (tokens - segment.warmup_tokens) / length)
    return 0.5 * (1.0 + math.cos(math.pi * share))
