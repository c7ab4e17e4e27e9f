"""The numba path of the generator, where no C compiler was: the bits of `reference.py`, over 1M tokens/s on one core.

The first call on a machine compiles for about 8 s of CPU time; later processes load the code in half a second.

All compiled functions live in this file, because numba's cache on disk looks at one file's date only. Nothing is
compiled with fastmath: logits are exact in any order, and the exponential needs its one order. The functions release
the GIL, so threads run them side by side.

Shapes as in `rollout.py`; S cells of the flat grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt

from workloads.upstreams.nca import philox as ph
from workloads.upstreams.nca.philox import Words
from workloads.upstreams.nca.rollout import LOGIT_UNIT, LOGITS_STEP, UNIT, Rules, neighbours
from workloads.upstreams.nca.science import TRUNCATION, NcaBankScience
from workloads.upstreams.nca.tokens import patch_tokens as patch_tokens

F = TypeVar("F", bound=Callable[..., Any])
U0, U1, U2, U3, U4, U5, U6, U7 = (np.uint64(value) for value in range(8))
U11, U32 = np.uint64(11), np.uint64(32)
LOW = np.uint64(ph.LOW32)
M0, M1 = np.uint64(ph.MULTIPLIERS[0]), np.uint64(ph.MULTIPLIERS[1])
STEP0, STEP1 = np.uint64(ph.KEY_STEPS[0]), np.uint64(ph.KEY_STEPS[1])
ROUNDS, LOG2E, EXP_TERMS = ph.ROUNDS, ph.LOG2E, tuple(ph.EXP_TERMS.tolist())
NO_WEIGHT, WEIGHT_ONE, U_STEP = ph.NO_WEIGHT, 2.0**ph.WEIGHT_BITS, 2.0**-52
NORMAL_RANGE, V_ONE = ph.NORMAL_RANGE, 2.0**53
LOW_LANE = np.int64(ph.LOW32)
LOGITS_WORD = np.uint64(LOGITS_STEP)
TILE = 144
"""Cells that are computed together: their hidden layer and logits stay in the first-level cache."""


def compiled(function: F) -> F:
    """Compile at the first call, keep the machine code on disk where a folder can be written, release the GIL."""
    try:
        made: F = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba found no folder for its cache: compile in every process
        made = numba.njit(nogil=True)(function)
    return made


@compiled
def block(key: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Return the two 64-bit words of Philox4x32-10 at the counter (a, b, c, d)."""
    k0, k1 = key[0], key[1]
    for _ in range(ROUNDS):
        p0, p1 = a * M0, c * M1
        a, b, c, d = (p1 >> U32) ^ b ^ k0, p1 & LOW, (p0 >> U32) ^ d ^ k1, p0 & LOW
        k0, k1 = (k0 + STEP0) & LOW, (k1 + STEP1) & LOW
    return a | (b << U32), c | (d << U32)


@compiled
def scaled_exp(x: float, scale: float) -> Any:
    """Return floor(scale exp(-x)), in the order of `philox.scaled_exp`; `scale` is a power of two."""
    y = x * LOG2E
    whole = math.floor(y)
    part = y - whole
    value = EXP_TERMS[15]
    for term in range(14, -1, -1):
        value = value * part + EXP_TERMS[term]
    return np.int64(value * scale) >> np.int64(whole)


@compiled
def multiply_high(p: Any, q: Any) -> Any:
    """Return the upper 64 bits of the product of two 64-bit words."""
    p0, p1, q0, q1 = p & LOW, p >> U32, q & LOW, q >> U32
    middle = p1 * q0 + ((p0 * q0) >> U32)
    other = p0 * q1 + (middle & LOW)
    return p1 * q1 + (middle >> U32) + (other >> U32)


@compiled
def fill_normals(out: Any, key: Any, number: Any, step: Any, limit: float) -> None:
    """Fill `out` with normals inside +-limit from the blocks (a, b, step, attempt)."""
    filled, attempt = 0, U0
    while filled < out.size:
        first, second = block(key, number[0], number[1], step, attempt)
        attempt += U1
        u = (np.float64(first >> U11) * U_STEP - 1.0) * limit
        if np.int64(second >> U11) < scaled_exp(u * u * 0.5, V_ONE):
            out[filled] = u
            filled += 1


@compiled
def fill_weights(weights: Any, logits: Any, temperature: float) -> None:
    """Turn logits (units of 2^-40) into cumulative integer weights."""
    top = logits[0]
    for state in range(1, logits.size):
        top = max(top, logits[state])
    total = np.int64(0)
    for state in range(logits.size):
        x = (top - logits[state]) * LOGIT_UNIT / temperature
        if x < NO_WEIGHT:
            total += scaled_exp(x, WEIGHT_ONE)
        weights[state] = total


@compiled
def draw(weights: Any, word: Any) -> Any:
    """Return the state that `word` picks under cumulative weights."""
    point = np.int64(multiply_high(word, np.uint64(weights[-1])))
    for state in range(weights.size):
        if weights[state] > point:
            return state
    return weights.size - 1


@compiled
def fill_initial(grid: Any, key: Any, number: Any, uniform: bool, states: int) -> None:
    """Fill the first grid."""
    cumulative = np.empty(states, np.int64)
    if uniform:
        for state in range(states):
            cumulative[state] = state + 1
    else:
        logits = np.empty(states, np.float64)
        fill_normals(logits, key, number, LOGITS_WORD, NORMAL_RANGE)
        for state in range(states):
            logits[state] /= LOGIT_UNIT
        fill_weights(cumulative, logits, 1.0)
    for cell in range(grid.size):
        word, _ = block(key, number[0], number[1], U0, np.uint64(cell))
        grid[cell] = draw(cumulative, word)


@compiled
def pack(table_KNC: Any, output_CN: Any) -> Any:
    """Return a rule as `advance` wants it: two channels in each int64 of the table, padded to 16s.

    A sum of packed entries is low + 2^32 high as long as both sums fit int32, which the limits of the fields ensure.
    """
    window, states, channels = table_KNC.shape
    padded = (channels + 15) // 16 * 16
    lanes = padded // 2
    table = np.zeros(window * states * lanes, np.int64)
    output = np.zeros((padded, states), np.float64)
    for channel in range(channels):
        shift = np.int64(32 * (channel % 2))
        for offset in range(window):
            for state in range(states):
                place = (offset * states + state) * lanes + channel // 2
                table[place] += np.int64(table_KNC[offset, state, channel]) << shift
        for state in range(states):
            output[channel, state] = output_CN[channel, state]
    return table, output


@compiled
def fill_packed(packed: Any, table: Any, grid: Any, window_SK: Any, span: Any) -> None:
    """Sum the window's table rows of the cells in `span`, eight packed lanes in registers at a time.

    Indices are unsigned: for signed ones numba adds a test of the sign to every access.
    """
    start, cells, states = span
    lanes = np.uint64(packed.shape[0])
    step = np.uint64(states) * lanes
    for cell in range(cells):
        for lane in range(0, packed.shape[0], 8):
            q = np.uint64(lane)
            s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = np.int64(0)
            base = q
            for offset in range(window_SK.shape[1]):
                i = base + np.uint64(grid[np.uint64(window_SK[start + cell, offset])]) * lanes
                s0 += table[i]
                s1 += table[i + U1]
                s2 += table[i + U2]
                s3 += table[i + U3]
                s4 += table[i + U4]
                s5 += table[i + U5]
                s6 += table[i + U6]
                s7 += table[i + U7]
                base += step
            packed[q, cell], packed[q + U1, cell], packed[q + U2, cell], packed[q + U3, cell] = s0, s1, s2, s3
            packed[q + U4, cell], packed[q + U5, cell], packed[q + U6, cell], packed[q + U7, cell] = s4, s5, s6, s7


@compiled
def fill_hidden(hidden: Any, packed: Any, cells: int) -> None:
    """Rectify the two channels of each packed sum."""
    for lane in range(packed.shape[0]):
        for cell in range(cells):
            total = packed[lane, cell]
            low = np.int32(total & LOW_LANE)
            high = np.int32((total - low) >> np.int64(32))
            hidden[2 * lane, cell] = np.float64(low if low > 0 else np.int32(0))
            hidden[2 * lane + 1, cell] = np.float64(high if high > 0 else np.int32(0))


@compiled
def fill_logits(logits: Any, hidden: Any, output: Any, cells: int) -> None:
    """Apply the last layer to all cells of a tile; eight channels a pass, cells innermost for vector units."""
    for state in range(output.shape[1]):
        for cell in range(cells):
            logits[state, cell] = 0.0
        for c in range(0, output.shape[0], 8):
            w0, w1, w2, w3 = output[c, state], output[c + 1, state], output[c + 2, state], output[c + 3, state]
            w4, w5, w6, w7 = output[c + 4, state], output[c + 5, state], output[c + 6, state], output[c + 7, state]
            for cell in range(cells):
                first = w0 * hidden[c, cell] + w1 * hidden[c + 1, cell]
                second = w2 * hidden[c + 2, cell] + w3 * hidden[c + 3, cell]
                third = w4 * hidden[c + 4, cell] + w5 * hidden[c + 5, cell]
                fourth = w6 * hidden[c + 6, cell] + w7 * hidden[c + 7, cell]
                logits[state, cell] += (first + second) + (third + fourth)


@compiled
def fill_top(top: Any, logits: Any, cells: int) -> None:
    """Fill `top` with the largest logit, the second largest and the lowest state that has the largest."""
    for cell in range(cells):
        top[0, cell], top[1, cell], top[2, cell] = logits[0, cell], -np.inf, 0.0
    for state in range(1, logits.shape[0]):
        name = np.float64(state)
        for cell in range(cells):
            value, best, second = logits[state, cell], top[0, cell], top[1, cell]
            lower = value if value < best else best
            top[1, cell] = lower if lower > second else second
            top[2, cell] = name if value > best else top[2, cell]
            top[0, cell] = value if value > best else best


@compiled
def advance(new: Any, grid: Any, rule: Any, window_SK: Any, noise: Any) -> None:
    """Write the next grid into `new`, tile by tile; `noise` is (temperature, key, number, step)."""
    table, output = rule
    temperature, key, number, step = noise
    channels, states = output.shape
    hidden, logits = np.empty((channels, TILE), np.float64), np.empty((states, TILE), np.float64)
    packed = np.empty((channels // 2, TILE), np.int64)
    top = np.empty((3, TILE), np.float64)
    column, weights = np.empty(states, np.float64), np.empty(states, np.int64)
    near = (NO_WEIGHT + 1.0) * temperature
    for start in range(0, grid.size, TILE):
        cells = min(TILE, grid.size - start)
        fill_packed(packed, table, grid, window_SK, (start, cells, states))
        fill_hidden(hidden, packed, cells)
        fill_logits(logits, hidden, output, cells)
        fill_top(top, logits, cells)
        for cell in range(cells):
            best = np.int64(top[2, cell])
            if (top[0, cell] - top[1, cell]) * LOGIT_UNIT < near:
                for state in range(states):
                    column[state] = logits[state, cell]
                fill_weights(weights, column, temperature)
                word, _ = block(key, number[0], number[1], step, np.uint64(start + cell))
                best = draw(weights, word)
            new[start + cell] = best


@compiled
def run(kept_BFS: Any, rules: Any, randomness: Any, window_SK: Any, plan: Any) -> None:
    """Run every rollout and keep its frames; `plan` is (uniform, temperature, burn_in, stride, states)."""
    tables_BKNC, outputs_BCN = rules
    key, number_B2 = randomness
    uniform, temperature, burn_in, stride, states = plan
    frames, cells = kept_BFS.shape[1:]
    grid, new = np.empty(cells, np.uint8), np.empty(cells, np.uint8)
    for b in range(kept_BFS.shape[0]):
        rule = pack(tables_BKNC[b], outputs_BCN[b])
        fill_initial(grid, key, number_B2[b], uniform, states)
        for step in range(burn_in + (frames - 1) * stride + 1):
            if step > 0:
                advance(new, grid, rule, window_SK, (temperature, key, number_B2[b], np.uint64(step)))
                grid, new = new, grid
            if step >= burn_in and (step - burn_in) % stride == 0:
                for cell in range(cells):
                    kept_BFS[b, (step - burn_in) // stride, cell] = grid[cell]


@compiled
def fill_rule(table: Any, output: Any, parts: Any, row: Any) -> None:
    """Merge the two linear maps in channel order and round to fixed point; as `reference.merge`."""
    first, second, third = parts
    states, skip = table.shape[1], (row.size - table.shape[1]) // 2
    for offset in range(table.shape[0]):
        for hidden in range(table.shape[2]):
            for entry in range(row.size):
                total = first[offset, entry, 0] * second[0, hidden]
                for channel in range(1, second.shape[0]):
                    total += first[offset, entry, channel] * second[channel, hidden]
                row[entry] = total
            if skip:
                row[states] += row[0]
                row[1] += row[states + 1]
            for state in range(states):
                table[offset, state, hidden] = np.int32(np.rint(row[state + skip] * UNIT))
    for hidden in range(output.shape[0]):
        for state in range(states):
            output[hidden, state] = np.int32(np.rint(third[hidden, state] * UNIT))


@compiled
def draw_many(rules: Any, randomness: Any, flat: Any, scale: Any, parts: Any) -> None:
    """Draw the candidates: kernels into `flat`, times `scale`, of which `parts` are views, then one rule after another.

    (The caller makes views and scales in NumPy: array expressions would take seconds to compile.)
    """
    tables_BKNC, outputs_BCN = rules
    key, number_B2 = randomness
    row = np.empty(parts[0].shape[1], np.float64)
    for b in range(tables_BKNC.shape[0]):
        fill_normals(flat, key, number_B2[b], U0, 2.0)
        for index in range(flat.size):
            flat[index] *= scale[index]
        fill_rule(tables_BKNC[b], outputs_BCN[b], parts, row)


@compiled
def fill_words(out_BT: Any, key: Any, number_B2: Any) -> None:
    """Fill (B, T) with the first words of blocks (a, b, 0, position)."""
    for b in range(out_BT.shape[0]):
        for position in range(out_BT.shape[1]):
            out_BT[b, position], _ = block(key, number_B2[b, 0], number_B2[b, 1], U0, np.uint64(position))


def draw_rules(bank: NcaBankScience, key: Words, number_B2: Words) -> Rules:
    """Return the candidates numbered (k, j)."""
    net, states, batch = bank.network, bank.states, len(number_B2)
    window, linear, hidden = net.neighbourhood**2, net.linear_channels, net.relu_channels
    inputs = states + 2 if bank.pad_channels else states
    tables = np.empty((batch, window, states, hidden), np.int32)
    outputs = np.empty((batch, hidden, states), np.int32)
    shapes, fans = ((window, inputs, linear), (linear, hidden), (hidden, states)), (window * inputs, linear, hidden)
    sizes = [math.prod(shape) for shape in shapes]
    flat = np.empty(sum(sizes))
    pieces = np.split(flat, np.cumsum(sizes)[:-1])
    parts = tuple(piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True))
    scale = np.repeat([TRUNCATION * 0.5 / math.sqrt(fan) for fan in fans], sizes)
    draw_many((tables, outputs), (key, number_B2), flat, scale, parts)
    return Rules(tables_BKNC=tables, outputs_BCN=outputs)


def rollout(
    bank: NcaBankScience, rules: Rules, key: Words, number_B2: Words, frames: int
) -> npt.NDArray[np.uint8]:
    """Return the first `frames` kept frames (B, F, H, W); rollout b runs rule b under the number (a, b)."""
    kept = np.empty((len(number_B2), frames, bank.grid.height * bank.grid.width), np.uint8)
    plan = (bank.initial_grid == "uniform", bank.temperature, bank.burn_in, bank.frame_stride, bank.states)
    # Copies only where a caller hands over a read-only or strided view: each memory layout would compile again.
    tables, outputs = (
        np.require(part, np.int32, ["C", "W"]) for part in (rules.tables_BKNC, rules.outputs_BCN)
    )
    run(kept, (tables, outputs), (key, number_B2), neighbours(bank), plan)
    return kept.reshape(len(number_B2), frames, bank.grid.height, bank.grid.width)


def words(key: Words, number_B2: Words, count: int) -> Words:
    """Return (B, count) 64-bit words: the first ones of blocks (a, b, 0, position)."""
    out = np.empty((len(number_B2), count), np.uint64)
    fill_words(out, key, number_B2)
    return out
