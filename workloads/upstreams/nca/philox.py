"""Counter-based random numbers in NumPy: what every bit of the data is drawn from, and the fixed-order exponential.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) turns a key and a counter into
128 bits, so any draw can be made alone and in any order. Only IEEE operations in a fixed order are used (no libm), so
the bits are the same on every machine. `kernels.py` and `native.c` repeat these functions; tests compare them.

A 32-bit word is held in a uint64, so that products do not overflow.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
LOW32 = 0xFFFFFFFF
LOG2E = 1.4426950408889634
LN2 = 0.6931471805599453
EXP_TERMS = np.cumprod([1.0] + [-LN2 / m for m in range(1, 16)])
"""Taylor terms of 2^-f; on [0, 1) the rest is below 2^-53."""
WEIGHT_BITS = 48
"""The most likely state has the integer weight 2^48: rounding moves probabilities by less than n 2^-48."""
NO_WEIGHT = 34.0
"""exp(-34) 2^48 < 1: from there on a weight is 0."""
NORMAL_RANGE = 8.0
"""N(0,1) is drawn inside +-8; 1e-15 of it lies outside."""


def derive_key(*parts: str | int) -> Words:
    """Return the two key words of a named stream, for instance `derive_key("nca", "rules", "train", seed)`."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return np.frombuffer(digest[:8], dtype="<u4").astype(np.uint64)


def philox(key: Words, counter: tuple[Words, Words, Words, Words]) -> tuple[Words, Words]:
    """Return the two 64-bit words at each counter (four broadcastable arrays of 32-bit words)."""
    low, half = np.uint64(LOW32), np.uint64(32)
    first, second = (np.uint64(m) for m in MULTIPLIERS)
    c0, c1, c2, c3 = np.broadcast_arrays(*counter)
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(ROUNDS):
        p0, p1 = c0 * first, c2 * second
        c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ np.uint64(k0), p1 & low, (p0 >> half) ^ c3 ^ np.uint64(k1), p0 & low
        k0, k1 = (k0 + KEY_STEPS[0]) & LOW32, (k1 + KEY_STEPS[1]) & LOW32
    return c0 | (c1 << half), c2 | (c3 << half)


def split(index_B: npt.NDArray[np.int64]) -> Words:
    """Return the (low, high) 32-bit words of sequence numbers as an array (B, 2)."""
    wide = index_B.astype(np.uint64)
    return np.ascontiguousarray(np.stack([wide & np.uint64(LOW32), wide >> np.uint64(32)], axis=1))


def scaled_exp(x: Floats, bits: int) -> npt.NDArray[np.int64]:
    """Return floor(2^bits exp(-x)) for 0 <= x < 60, computed in one fixed order."""
    y = x * LOG2E
    whole = np.floor(y)
    part = y - whole
    value = np.full_like(part, EXP_TERMS[-1])
    for term in EXP_TERMS[-2::-1]:
        value = value * part + term
    return (value * 2.0**bits).astype(np.int64) >> whole.astype(np.int64)


def multiply_high(a: Words, b: Words) -> Words:
    """Return the upper 64 bits of the product."""
    low, half = np.uint64(LOW32), np.uint64(32)
    a0, a1, b0, b1 = a & low, a >> half, b & low, b >> half
    middle = a1 * b0 + ((a0 * b0) >> half)
    other = a0 * b1 + (middle & low)
    return np.asarray(a1 * b1 + (middle >> half) + (other >> half))


def normals(key: Words, prefix_R3: Words, count: int, limit: float) -> Floats:
    """Return (R, count) normal draws inside +-limit.

    Row r reads the blocks (prefix_R3[r], attempt 0, 1, ...): an attempt gives a point u in +-limit and a height v, and
    the attempts with v < exp(-u^2/2) count, in order.
    """
    attempts = int(count * limit / 1.2 + 8 * limit * math.sqrt(count)) + 8
    while True:
        tries = np.arange(attempts, dtype=np.uint64)
        first, second = philox(key, (prefix_R3[:, :1], prefix_R3[:, 1:2], prefix_R3[:, 2:], tries[None]))
        u = ((first >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0) * limit
        taken = (second >> np.uint64(11)).astype(np.int64) < scaled_exp(u * u * 0.5, 53)
        if taken.sum(axis=1).min(initial=count) >= count:
            order = np.argsort(~taken, axis=1, kind="stable")[:, :count]
            return np.take_along_axis(u, order, axis=1)
        attempts *= 2


def draw_weighted(weights_CN: npt.NDArray[np.int64], word_C: Words) -> npt.NDArray[np.int64]:
    """Return, per row, the state that the 64-bit word picks under these integer weights."""
    cumulative = np.cumsum(weights_CN, axis=1)
    point = multiply_high(word_C, cumulative[:, -1].astype(np.uint64)).astype(np.int64)
    return np.asarray(np.argmax(cumulative > point[:, None], axis=1), dtype=np.int64)
