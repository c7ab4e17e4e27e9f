"""The NumPy path of the generator: slow, plain, and what the bits of the other paths are compared with.

Shapes as in `rollout.py`; S cells of the flat grid, L linear channels, I input channels of the first convolution.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from workloads.upstreams.nca.philox import (
    LOW32,
    NO_WEIGHT,
    NORMAL_RANGE,
    WEIGHT_BITS,
    Floats,
    Words,
    draw_weighted,
    multiply_high,
    normals,
    philox,
    scaled_exp,
)
from workloads.upstreams.nca.rollout import LOGIT_UNIT, LOGITS_STEP, UNIT, Rules, neighbours
from workloads.upstreams.nca.science import TRUNCATION, NcaBankScience
from workloads.upstreams.nca.tokens import patch_tokens as patch_tokens

Ints = npt.NDArray[np.int64]


def kernels(bank: NcaBankScience, key: Words, number_B2: Words) -> tuple[Floats, Floats, Floats]:
    """Return the kernels (B, K, I, L), (B, L, C), (B, C, N) of the candidates, LeCun normal as flax draws it.

    That is a normal cut at 2 sd and rescaled, so that its sd is 1/sqrt(fan_in).
    """
    net, states = bank.network, bank.states
    window, inputs = net.neighbourhood**2, states + 2 if bank.pad_channels else states
    linear, hidden = net.linear_channels, net.relu_channels
    shapes = ((window, inputs, linear), (linear, hidden), (hidden, states))
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    prefix = np.concatenate([number_B2, np.zeros_like(number_B2[:, :1])], axis=1)
    flat = normals(key, prefix, int(ends[-1]), 2.0)
    parts = np.split(flat, ends[:-1], axis=1)
    fans = (window * inputs, linear, hidden)
    first, second, third = (
        part.reshape(-1, *shape) * (TRUNCATION * 0.5 / math.sqrt(fan))
        for part, shape, fan in zip(parts, shapes, fans, strict=True)
    )
    return first, second, third


def merge(bank: NcaBankScience, first_BKIL: Floats, second_BLC: Floats) -> Floats:
    """Return the table (B, K, N, C) that the two linear maps are, summed over L in order."""
    merged = first_BKIL[..., :1] * second_BLC[:, None, None, 0, :]
    for channel in range(1, second_BLC.shape[1]):
        merged = merged + first_BKIL[..., channel : channel + 1] * second_BLC[:, None, None, channel, :]
    if not bank.pad_channels:
        return np.asarray(merged)
    table = merged[:, :, 1:-1].copy()  # the channel axis reads states n-1, 0, 1, ..., n-1, 0
    table[:, :, -1] += merged[:, :, 0]
    table[:, :, 0] += merged[:, :, -1]
    return np.asarray(table)


def draw_rules(bank: NcaBankScience, key: Words, number_B2: Words) -> Rules:
    """Return the candidates numbered (k, j)."""
    first, second, third = kernels(bank, key, number_B2)
    table = merge(bank, first, second)
    return Rules(
        tables_BKNC=np.rint(table * UNIT).astype(np.int32), outputs_BCN=np.rint(third * UNIT).astype(np.int32)
    )


def logits(rules: Rules, grid_BS: Ints, window_SK: npt.NDArray[np.int32]) -> Floats:
    """Return the logits (B, S, N) in units of 2^-40, exact."""
    rows = np.arange(len(grid_BS))[:, None]
    hidden = np.zeros((*grid_BS.shape, rules.tables_BKNC.shape[3]), dtype=np.int32)
    for offset in range(window_SK.shape[1]):
        hidden += rules.tables_BKNC[rows, offset, grid_BS[:, window_SK[:, offset]]]
    return np.asarray(np.maximum(hidden, 0).astype(np.float64) @ rules.outputs_BCN.astype(np.float64))


def weights(logits_XN: Floats, temperature: float) -> Ints:
    """Return the integer weights of the states; 2^48 for the largest logit."""
    with np.errstate(over="ignore"):
        x = (logits_XN.max(axis=1, keepdims=True) - logits_XN) * LOGIT_UNIT / temperature
    return np.where(x < NO_WEIGHT, scaled_exp(np.minimum(x, NO_WEIGHT), WEIGHT_BITS), 0)


def sample(logits_BSN: Floats, temperature: float, key: Words, number_B2: Words, step: int) -> Ints:
    """Return the next grid (B, S): a draw from Categorical(logits / temperature), argmax at 0.

    Only cells where a second state has weight need a random word: the others are argmax with certainty.
    """
    grid = np.asarray(np.argmax(logits_BSN, axis=2), dtype=np.int64)
    if temperature == 0:
        return grid
    top = np.partition(logits_BSN, -2, axis=2)[..., -2:]
    rollout, cell = np.nonzero((top[..., 1] - top[..., 0]) * LOGIT_UNIT < (NO_WEIGHT + 1) * temperature)
    counter = (number_B2[rollout, 0], number_B2[rollout, 1], np.uint64(step), cell.astype(np.uint64))
    word, _ = philox(key, counter)  # type: ignore[arg-type]  # a scalar broadcasts as an array does
    grid[rollout, cell] = draw_weighted(weights(logits_BSN[rollout, cell], temperature), word)
    return grid


def initial_grid(bank: NcaBankScience, key: Words, number_B2: Words) -> Ints:
    """Return the first grids (B, S)."""
    cells, states = bank.grid.height * bank.grid.width, bank.states
    word = words(key, number_B2, cells)
    if bank.initial_grid == "uniform":
        return multiply_high(word, np.full_like(word, states)).astype(np.int64)
    prefix = np.concatenate([number_B2, np.full_like(number_B2[:, :1], LOGITS_STEP)], axis=1)
    weight_BN = weights(normals(key, prefix, states, NORMAL_RANGE) / LOGIT_UNIT, 1.0)
    weight_XN = np.repeat(weight_BN, cells, axis=0)
    return draw_weighted(weight_XN, word.reshape(-1)).reshape(-1, cells)


def words(key: Words, number_B2: Words, count: int) -> Words:
    """Return (B, count) 64-bit words: the first ones of blocks (a, b, 0, position)."""
    a, b = (number_B2[:, column, None] & np.uint64(LOW32) for column in (0, 1))
    position = np.arange(count, dtype=np.uint64)[None]
    return philox(key, (a, b, np.zeros_like(position), position))[0]


def rollout(
    bank: NcaBankScience, rules: Rules, key: Words, number_B2: Words, frames: int
) -> npt.NDArray[np.uint8]:
    """Return the first `frames` kept frames (B, F, H, W); rollout b runs rule b under the number (a, b)."""
    window = neighbours(bank)
    grid = initial_grid(bank, key, number_B2)
    kept = np.empty((frames, *grid.shape), dtype=np.uint8)
    last = bank.burn_in + (frames - 1) * bank.frame_stride
    for step in range(last + 1):
        if step:
            grid = sample(logits(rules, grid, window), bank.temperature, key, number_B2, step)
        frame, rest = divmod(step - bank.burn_in, bank.frame_stride)
        if frame >= 0 and rest == 0:
            kept[frame] = grid
    return kept.transpose(1, 0, 2).reshape(len(grid), frames, bank.grid.height, bank.grid.width)
