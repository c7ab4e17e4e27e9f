"""The machine's limit for a cell of the NCA generator: operations and bytes, counted, over what one core can do.

A cell reads a row of C int32 for each of its K neighbours and adds them, reads the K offsets of those rows, and sums C
products for each of N logits in float32. What is left out (turning rows into columns, the comparison of logits, random
numbers) makes the limit one that cannot be reached.
"""

from __future__ import annotations

import ctypes
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workloads.upstreams.nca.science import NcaBankScience

ROUNDS = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one cell's step."""

    float_operations: int
    table_bytes: int

    @classmethod
    def of(cls, bank: NcaBankScience) -> Cost:
        """Count."""
        window, channels = bank.network.neighbourhood**2, bank.network.relu_channels
        return cls(float_operations=2 * channels * bank.states, table_bytes=4 * window * (channels + 1))


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Of one core, measured."""

    float_operations_per_second: float
    table_bytes_per_second: float

    def seconds(self, cost: Cost) -> float:
        """Return the least time of a cell: the units for floats and for reading work side by side."""
        return max(cost.float_operations / self.float_operations_per_second,
                   cost.table_bytes / self.table_bytes_per_second)


def peak(repeats: int) -> Peak | None:
    """Measure this core; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "peak.so"
        subprocess.run([compiler, "-O3", "-march=native", "-ffp-contract=off", "-shared", "-fPIC", "-o", target,
                        Path(__file__).parent / "peak.c"], check=True)
        made = ctypes.CDLL(str(target))
    made.multiply_add.argtypes = [ctypes.c_int64, ctypes.c_float, ctypes.c_float]
    made.read_add.argtypes = [ctypes.c_int64, ctypes.c_void_p]
    room = np.zeros(2048 + 16, np.int32)
    aligned = room.ctypes.data + -room.ctypes.data % 64
    floats = _rounds_per_second(lambda: made.multiply_add(ROUNDS, 0.5, 1.0), repeats)
    reads = _rounds_per_second(lambda: made.read_add(ROUNDS, aligned), repeats)
    return Peak(float_operations_per_second=2 * 12 * 8 * floats, table_bytes_per_second=8 * 32 * reads)


def _rounds_per_second(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return ROUNDS / statistics.median(times)
