"""The compiled path of the generator: `native.c` through ctypes, with the bits of `reference.py`.

The library is built when the package is installed, where a C compiler is found (setup.py), and lies beside this
file. It needs no headers of Python and is called without its lock, so threads run it side by side. A library that
cannot be loaded here, that was built from another `native.c`, or that computes other bits is not used.
"""

from __future__ import annotations

import ctypes
import math
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np
import numpy.typing as npt

from workloads.upstreams.nca import reference
from workloads.upstreams.nca.philox import EXP_TERMS, NO_WEIGHT, NORMAL_RANGE, Words, derive_key
from workloads.upstreams.nca.rollout import Rules
from workloads.upstreams.nca.science import TRUNCATION, NcaBankScience

ABI = 1
"""As in native.c; raised whenever the arguments of a function change."""
NAME = "_native"
I64, F64, POINTER = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


class Plan(ctypes.Structure):
    """`struct plan` of native.c: what every rollout of a call has in common."""

    _fields_ = [
        *[(name, I64) for name in ("height", "width", "side", "states", "channels", "frames", "burn_in", "stride")],
        *[(name, I64) for name in ("uniform", "inputs", "linear")],
        *[(name, F64) for name in ("temperature", "no_weight", "normal_range")],
        ("key", ctypes.c_uint64 * 2),
        ("exp_terms", F64 * 16),
    ]


SIGNATURES = {
    "nca_rollout": ([POINTER] * 5 + [I64], I64),
    "nca_draw_rules": ([POINTER] * 5 + [I64], I64),
    "nca_error_bound": ([POINTER] * 3, F64),
    "nca_words": ([POINTER] * 3 + [I64] * 2, None),
    "nca_patch_tokens": ([POINTER, POINTER, I64, POINTER], None),
}


def load(folder: Path) -> ctypes.CDLL | None:
    """Return the library in `folder`; None where there is none for this interpreter, machine and version."""
    for suffix in EXTENSION_SUFFIXES:
        path = folder / f"{NAME}{suffix}"
        if not path.exists():
            continue
        try:
            made = ctypes.CDLL(str(path))
            made.nca_abi.restype = I64
            if made.nca_abi() != ABI:
                continue
            for name, (arguments, result) in SIGNATURES.items():
                function = getattr(made, name)
                function.argtypes, function.restype = arguments, result
        except (OSError, AttributeError):  # another processor or C library; another version
            continue
        return made
    return None


@cache
def library() -> ctypes.CDLL | None:
    """Return the library beside this file; None where it is missing or cannot be loaded."""
    return load(Path(__file__).parent)


@cache
def usable() -> bool:
    """Return whether the library is there and gives the bits of `reference.py` on a small case."""
    if library() is None:
        return False
    bank = NcaBankScience.model_validate({"states": 5, "grid": {"height": 6, "width": 4}, "temperature": 0.02})
    key, number = derive_key("nca", "self-test"), np.arange(6, dtype=np.uint64).reshape(3, 2)
    rules, expected = draw_rules(bank, key, number), reference.draw_rules(bank, key, number)
    return (
        np.array_equal(rules.tables_BKNC, expected.tables_BKNC)
        and np.array_equal(rules.outputs_BCN, expected.outputs_BCN)
        and np.array_equal(rollout(bank, rules, key, number, 3), reference.rollout(bank, rules, key, number, 3))
    )


def draw_rules(bank: NcaBankScience, key: Words, number_B2: Words) -> Rules:
    """Return the candidates numbered (k, j)."""
    net, states, batch = bank.network, bank.states, len(number_B2)
    window = net.neighbourhood**2
    tables = np.empty((batch, window, states, net.relu_channels), np.int32)
    outputs = np.empty((batch, net.relu_channels, states), np.int32)
    plan = _plan(bank, key, 0)
    fans = (window * plan.inputs, net.linear_channels, net.relu_channels)
    scales = np.array([TRUNCATION * 0.5 / math.sqrt(fan) for fan in fans])
    numbers = _words(number_B2)
    _called("nca_draw_rules", tables.ctypes.data, outputs.ctypes.data, numbers.ctypes.data, ctypes.addressof(plan),
            scales.ctypes.data, batch)
    return Rules(tables_BKNC=tables, outputs_BCN=outputs)


def rollout(
    bank: NcaBankScience, rules: Rules, key: Words, number_B2: Words, frames: int
) -> npt.NDArray[np.uint8]:
    """Return the first `frames` kept frames (B, F, H, W); rollout b runs rule b under the number (a, b)."""
    batch, grid = len(number_B2), bank.grid
    kept = np.empty((batch, frames, grid.height, grid.width), np.uint8)
    plan, numbers = _plan(bank, key, frames), _words(number_B2)
    tables, outputs = (np.ascontiguousarray(part, np.int32) for part in (rules.tables_BKNC, rules.outputs_BCN))
    _called("nca_rollout", kept.ctypes.data, tables.ctypes.data, outputs.ctypes.data, numbers.ctypes.data,
            ctypes.addressof(plan), batch)
    return kept


def words(key: Words, number_B2: Words, count: int) -> Words:
    """Return (B, count) 64-bit words: the first ones of blocks (a, b, 0, position)."""
    out, numbers, keys = np.empty((len(number_B2), count), np.uint64), _words(number_B2), _words(key)
    _called("nca_words", out.ctypes.data, numbers.ctypes.data, keys.ctypes.data, count, len(numbers))
    return out


def patch_tokens(frames_BFHW: npt.NDArray[np.uint8], states: int, patch: int) -> npt.NDArray[np.int32]:
    """Return (B, F, P): row-major patches, as `tokens.patch_tokens` makes them."""
    batch, frames, height, width = frames_BFHW.shape
    cells = np.ascontiguousarray(frames_BFHW, np.uint8)
    out = np.empty((batch, frames, (height // patch) * (width // patch)), np.int32)
    shape = np.array([height, width, patch, states], np.int64)
    _called("nca_patch_tokens", out.ctypes.data, cells.ctypes.data, batch * frames, shape.ctypes.data)
    return out


def error_bound(bank: NcaBankScience, rules: Rules) -> float:
    """Return how far a float32 logit of the first of `rules` may be from the exact one, in units of 2^-40."""
    plan = _plan(bank, np.zeros(2, np.uint64), 0)
    tables, outputs = (np.ascontiguousarray(part[0], np.int32) for part in (rules.tables_BKNC, rules.outputs_BCN))
    return _called("nca_error_bound", tables.ctypes.data, outputs.ctypes.data, ctypes.addressof(plan))


def _plan(bank: NcaBankScience, key: Words, frames: int) -> Plan:
    net, states = bank.network, bank.states
    return Plan(
        height=bank.grid.height, width=bank.grid.width, side=net.neighbourhood, states=states,
        channels=net.relu_channels, frames=frames, burn_in=bank.burn_in, stride=bank.frame_stride,
        uniform=bank.initial_grid == "uniform", inputs=states + 2 if bank.pad_channels else states,
        linear=net.linear_channels, temperature=bank.temperature, no_weight=NO_WEIGHT, normal_range=NORMAL_RANGE,
        key=(ctypes.c_uint64 * 2)(*map(int, key)), exp_terms=(F64 * 16)(*EXP_TERMS.tolist()),
    )


def _words(array: Words) -> Words:
    return np.ascontiguousarray(array, np.uint64)


def _called(name: str, *arguments: int) -> float:
    made = library()
    if made is None:
        raise RuntimeError("the compiled generator is not built; ask `backend.fastest` for a path that is there")
    answer = getattr(made, name)(*arguments)
    if answer == -1:
        raise MemoryError(f"{name}: no memory")
    return 0.0 if answer is None else float(answer)
