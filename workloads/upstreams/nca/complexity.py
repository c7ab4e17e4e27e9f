"""The complexity score: how far gzip compresses a rule's frames, raw or over its value for noise.

Shapes: B rollouts, F frames, P patches of a frame.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from sweeps.errors import EnvironmentError_
from workloads.upstreams.nca.philox import Words, derive_key, multiply_high, split
from workloads.upstreams.nca.reference import words
from workloads.upstreams.nca.science import NcaBankScience, parse_band
from workloads.upstreams.nca.tokens import patch_tokens

GZIP_OVER_ZLIB = 12
"""Bytes that a gzip file (10 of header, 8 of trailer) has more than a zlib stream (2 and 4) of the same data."""
CEILING_DRAWS = 64
KNOWN_LENGTHS = (17, 279, 781)
"""Bytes that zlib 1.2.13 makes of three test buffers; another compressor (zlib-ng) would accept other rules."""


def gzip_lengths(tokens_BFP: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Return the bytes (B,) that gzip level 9, header included, makes of the little-endian int32 tokens."""
    rows = np.ascontiguousarray(tokens_BFP, dtype="<i4").reshape(len(tokens_BFP), -1)
    return np.array([len(zlib.compress(row.tobytes(), 9)) + GZIP_OVER_ZLIB for row in rows], dtype=np.int64)


def raw_bytes(bank: NcaBankScience) -> int:
    """Return the size of what is compressed."""
    return 4 * bank.complexity.frames * bank.patches


def ceiling(bank: NcaBankScience) -> float:
    """Return the mean raw score of uniform noise of this alphabet, patch, grid and frame count."""
    return _ceiling(bank.states, bank.patch, bank.grid.height, bank.grid.width, bank.complexity.frames)


@cache
def _ceiling(states: int, patch: int, height: int, width: int, frames: int) -> float:
    word: Words = words(derive_key("nca", "ceiling"), split(np.arange(CEILING_DRAWS)), frames * height * width)
    noise = multiply_high(word, np.full_like(word, states)).astype(np.uint8)
    tokens = patch_tokens(noise.reshape(CEILING_DRAWS, frames, height, width), states, patch)
    return float(gzip_lengths(tokens).sum() / (CEILING_DRAWS * tokens[0].nbytes))


@dataclass(frozen=True, kw_only=True)
class Band:
    """A band and the unit its scores are in."""

    low: float
    """Fraction."""
    high: float
    """Fraction."""
    unit: float
    """What a raw score is divided by: 1, or the noise ceiling."""

    @classmethod
    def of(cls, bank: NcaBankScience) -> Band:
        """Return the band of `bank`."""
        low, high = parse_band(bank.complexity.band)
        return cls(
            low=low / 100, high=high / 100, unit=ceiling(bank) if bank.complexity.scale == "normalized" else 1.0
        )

    def accepts(self, raw_BK: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return which rules (B,) lie strictly inside, by the mean over their trials (B, K) of the raw score."""
        score = raw_BK.mean(axis=1) / self.unit
        inside: npt.NDArray[np.bool_] = (self.low < score) & (score < self.high)
        return inside

    def holds_a_score(self, steps: int) -> bool:
        """Return whether a multiple of 1 / steps lies strictly inside, `steps` being the bytes of all trials."""
        return math.floor(self.low * self.unit * steps) + 1 < self.high * self.unit * steps


def wilson(accepted: int, candidates: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share."""
    share, square = accepted / candidates, z * z / candidates
    middle = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / candidates + square / (4 * candidates)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def require_known_zlib() -> None:
    """Refuse a compressor that would accept other rules from the same candidates.

    Raises:
        EnvironmentError_: this interpreter's zlib compresses test data to other lengths than zlib does.
    """
    lengths = zlib_lengths()
    if lengths != KNOWN_LENGTHS:
        raise EnvironmentError_(
            f"this Python's zlib ({zlib.ZLIB_RUNTIME_VERSION}) compresses test data to {lengths} bytes, not "
            f"{KNOWN_LENGTHS}; complexity bands would accept other rules. Use a Python built with zlib, not zlib-ng"
        )


def zlib_lengths() -> tuple[int, ...]:
    """Return the lengths of three compressed test buffers: constant, periodic, noise."""
    word = words(derive_key("nca", "zlib"), split(np.arange(1)), 1000)[0]
    noise = (word >> np.uint64(58)).astype(np.uint8).tobytes()
    buffers = (b"\0" * 1000, bytes((i * i) % 251 for i in range(1000)), noise)
    return tuple(len(zlib.compress(buffer, 9)) for buffer in buffers)
