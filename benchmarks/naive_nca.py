"""The NCA pipeline as one would first write it in NumPy: what `generator.py` compares with. Not used by the product.

One sequence at a time: one-hot grid, wrap padding (of the channels too), three convolutions in float32, Gumbel-max
noise for every cell, patches, delimiters. Same network, sizes and work as the product; other random numbers.

Shapes: H x W grid, N states.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from workloads.upstreams.nca.science import NcaBankScience

Floats = npt.NDArray[np.float32]


def kernels(bank: NcaBankScience, rng: np.random.Generator) -> list[Floats]:
    """Draw the three kernels, LeCun normal cut at 2 sd."""
    net = bank.network
    inputs = bank.states + 2 if bank.pad_channels else bank.states
    side = net.neighbourhood
    shapes = [(side, side, inputs, net.linear_channels), (1, 1, net.linear_channels, net.relu_channels),
              (1, 1, net.relu_channels, bank.states)]
    found = []
    for shape in shapes:
        values = rng.standard_normal(shape)
        while (far := np.abs(values) > 2).any():
            values[far] = rng.standard_normal(int(far.sum()))
        found.append((values / 0.87962566103423978 / math.sqrt(math.prod(shape[:3]))).astype(np.float32))
    return found


def convolve(grid: Floats, kernel: Floats) -> Floats:
    """Convolve (H, W, channels) with a kernel, `valid`."""
    side = kernel.shape[0]
    height, width = grid.shape[0] - side + 1, grid.shape[1] - side + 1
    total = np.zeros((height, width, kernel.shape[3]), np.float32)
    for y in range(side):
        for x in range(side):
            total += grid[y : y + height, x : x + width] @ kernel[y, x]
    return total


def step(
    bank: NcaBankScience, network: list[Floats], cells: npt.NDArray[np.int64], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return the next grid."""
    one_hot = np.eye(bank.states, dtype=np.float32)[cells]
    pad = bank.network.neighbourhood // 2
    padded = np.pad(one_hot, ((pad, pad), (pad, pad), (1, 1) if bank.pad_channels else (0, 0)), mode="wrap")
    hidden = np.maximum(convolve(convolve(padded, network[0]), network[1]), 0)
    logits = convolve(hidden, network[2])
    if bank.temperature > 0:
        noise = rng.gumbel(size=logits.shape).astype(np.float32)
        logits = logits / np.float32(bank.temperature) + noise
    return np.asarray(logits.argmax(axis=-1))


def sequence(bank: NcaBankScience, length: int, seed: int) -> npt.NDArray[np.int32]:
    """Return one sequence of a fresh random rule."""
    rng = np.random.default_rng(seed)
    network = kernels(bank, rng)
    p = np.exp(rng.standard_normal(bank.states))
    cells = rng.choice(bank.states, size=(bank.grid.height, bank.grid.width), p=p / p.sum())
    period = bank.patches + 2
    tokens: list[int] = []
    kept, now = 0, 0
    while kept < math.ceil(length / period):
        if now >= bank.burn_in and (now - bank.burn_in) % bank.frame_stride == 0:
            tokens += frame_tokens(bank, cells)
            kept += 1
        cells = step(bank, network, cells, rng)
        now += 1
    return np.array(tokens[:length], np.int32)


def frame_tokens(bank: NcaBankScience, cells: npt.NDArray[np.int64]) -> list[int]:
    """Return the delimited tokens of a frame."""
    found = [bank.vocabulary - 2]
    for y in range(0, bank.grid.height, bank.patch):
        for x in range(0, bank.grid.width, bank.patch):
            patch = cells[y : y + bank.patch, x : x + bank.patch].ravel().tolist()
            found.append(sum(cell * bank.states**p for p, cell in enumerate(patch)))
    return [*found, bank.vocabulary - 1]
