"""Checks this generator against trajectories recorded from the released code. NumPy only.

The file (`.npz`) holds, for R rules of one alphabet: `conv{0,1,2}_{kernel,bias}`, `initial_grid`, `frames` (argmax),
`min_top2_gap` (smallest gap of each step), `first_logits`, `tokens` of the frames after burn-in, `gzip_score`.
Alphabet, grid and channels come from the shapes; a first kernel with n + 2 input channels is one with `pad_channels`.

Shapes: R rules, F frames, H x W grid, N states, C ReLU channels, P patches, T tokens.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sweeps.errors import UsageError
from workloads.upstreams.nca.complexity import gzip_lengths
from workloads.upstreams.nca.tokens import delimit, patch_tokens

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[np.generic]
MIN_GAP = 1e-4
"""The release computes in float32: below this gap its argmax and an exact one may differ."""
LOGIT_TOLERANCE = 1e-5
BURN_IN, SCORE_FRAMES = 10, 10
AXES = {
    "conv0_kernel": 5, "conv0_bias": 2, "conv1_kernel": 5, "conv1_bias": 2, "conv2_kernel": 5, "conv2_bias": 2,
    "initial_grid": 3, "frames": 4, "min_top2_gap": 2, "first_logits": 4, "tokens": 2, "gzip_score": 1,
}
UNREADABLE = (
    OSError, ValueError, EOFError, KeyError, AttributeError, RuntimeError, MemoryError, SyntaxError, struct.error,
    zipfile.BadZipFile, zlib.error,
)
"""What zipfile and numpy raise on damaged files; found by flipping bytes."""
FLOATS = {"min_top2_gap", "first_logits", "gzip_score"}


@dataclass(frozen=True, kw_only=True)
class ConformanceResult:
    """What agreed."""

    rules: int
    """Rules in the file."""
    frames_checked: int
    """Steps whose smallest gap exceeds 1e-4."""
    frames_identical: int
    """Of those, steps whose next frame is identical."""
    tokens_identical: bool
    """The tokens of all rules are."""
    scores_identical: bool
    """The gzip scores of all rules are."""
    max_logit_error: float
    """Of the first step."""
    ok: bool
    """All of the above, the recorded gaps are right, and in steps with a smaller gap every clear cell agrees."""


def conformance(path: Path) -> ConformanceResult:
    """Check the file at `path`.

    Raises:
        UsageError: it is no such file: not an npz, an array missing, of a wrong kind or shape, or out of range.
    """
    data = _read(Path(path))
    size = _consistent(data)
    gaps_RS, agree_RS, clear_agree = _steps(data)
    recorded_RS = data["min_top2_gap"].astype(np.float64)
    checked = recorded_RS > MIN_GAP
    # A damaged gap must not switch a check off.
    gaps_right = bool(np.all(np.abs(gaps_RS - recorded_RS) <= 2 * LOGIT_TOLERANCE))
    same_start = np.array_equal(data["initial_grid"], data["frames"][:, 0])
    logit_error = _logit_error(data)
    patches = _patches(data, size)
    tokens = _tokens_identical(data, patches, size)
    score_tokens = patches[:, :SCORE_FRAMES]
    scores = gzip_lengths(score_tokens) / (4 * score_tokens[0].size)
    scores_identical = np.array_equal(scores, data["gzip_score"])
    identical = int((agree_RS & checked).sum())
    total = int(checked.sum())
    right = identical == total > 0 and clear_agree and gaps_right and same_start
    return ConformanceResult(
        rules=len(data["frames"]), frames_checked=total, frames_identical=identical, tokens_identical=tokens,
        scores_identical=scores_identical, max_logit_error=logit_error,
        ok=right and tokens and scores_identical and logit_error <= LOGIT_TOLERANCE,
    )


def _read(path: Path) -> dict[str, Array]:
    try:
        with path.open("rb") as file:  # np.load leaves a file open that it cannot read
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise UsageError(f"{path} holds one array; a golden file is an npz with {', '.join(AXES)}")
            missing = sorted(set(AXES) - set(archive.files))
            if missing:
                raise UsageError(f"{path} lacks {', '.join(missing)}; a golden file holds {', '.join(AXES)}")
            data = {name: archive[name] for name in AXES}
    except UNREADABLE as error:
        raise UsageError(f"{path} is not a readable npz file; a golden file holds {', '.join(AXES)}") from error
    for name, array in data.items():
        kinds = "f" if name in FLOATS or name.startswith("conv") else "iu"
        if not isinstance(array, np.ndarray) or array.ndim != AXES[name] or array.dtype.kind not in kinds:
            what = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "no array"
            raise UsageError(f"{path}: {name} is {what}; expected {AXES[name]} axes of kind {kinds}")
    return data


@dataclass(frozen=True, kw_only=True)
class _Size:
    states: int
    patch: int
    frames: int
    """Frames that the tokens hold, the last perhaps cut."""


def _consistent(data: Mapping[str, Array]) -> _Size:
    """Check every shape against the frames and the last kernel; return what the shapes say."""
    rules, frames, height, width = data["frames"].shape
    side, inputs, linear = data["conv0_kernel"].shape[2:3] + data["conv0_kernel"].shape[3:]
    hidden, states = data["conv2_kernel"].shape[3:]
    expected: dict[str, tuple[int, ...]] = {
        "conv0_kernel": (rules, side, side, inputs, linear), "conv0_bias": (rules, linear),
        "conv1_kernel": (rules, 1, 1, linear, hidden), "conv1_bias": (rules, hidden),
        "conv2_kernel": (rules, 1, 1, hidden, states), "conv2_bias": (rules, states),
        "initial_grid": (rules, height, width), "min_top2_gap": (rules, frames - 1),
        "first_logits": (rules, height, width, states), "tokens": (rules, data["tokens"].shape[1]),
        "gzip_score": (rules,),
    }
    for name, shape in expected.items():
        if data[name].shape != shape:
            raise UsageError(f"{name} has shape {data[name].shape}; with the other arrays it must be {shape}")
    if inputs not in (states, states + 2) or side % 2 == 0 or states < 2:
        raise UsageError(
            f"conv0_kernel reads {inputs} channels in a {side}x{side} window; with n = {states} it must be "
            f"{states} or {states + 2} (pad_channels) channels in an odd window"
        )
    if data["frames"].size == 0 or data["tokens"].size == 0:
        raise UsageError("the golden file holds no rule, frame or token")
    for name in ("frames", "initial_grid"):
        if int(data[name].min()) < 0 or int(data[name].max()) >= states:
            raise UsageError(f"{name} holds states outside 0 to {states - 1}")
    return _sized(data, states)


def _sized(data: Mapping[str, Array], states: int) -> _Size:
    """Return the patch side (the file's first token is the delimiter n^(patch^2)) and the number of frames."""
    _, frames, height, width = data["frames"].shape
    sides = [p for p in range(1, 9) if height % p == width % p == 0 and states ** (p * p) < 2**31 - 1]
    first = int(data["tokens"][0, 0])
    patch = next((p for p in sides if states ** (p * p) == first), 2 if 2 in sides else 1)
    period = height * width // patch**2 + 2
    kept = math.ceil(data["tokens"].shape[1] / period)
    if max(kept, SCORE_FRAMES) > frames - BURN_IN:
        raise UsageError(
            f"frames holds {frames} frames; tokens need {kept} and the score {SCORE_FRAMES} after the burn-in of "
            f"{BURN_IN}"
        )
    return _Size(states=states, patch=patch, frames=kept)


def rule_logits(data: Mapping[str, Array], rule: int, grids_FHW: npt.NDArray[np.int64]) -> Floats:
    """Return the logits (F, H, W, N) that rule `rule` gives these grids, in float64 from the file's float32 kernels."""
    first, second, third = (data[f"conv{i}_kernel"][rule].astype(np.float64) for i in range(3))
    bias0, bias1, bias2 = (data[f"conv{i}_bias"][rule].astype(np.float64) for i in range(3))
    states, radius = third.shape[-1], first.shape[0] // 2
    if first.shape[2] == states + 2:  # the channel axis reads states n-1, 0, 1, ..., n-1, 0
        wrapped = first[:, :, 1:-1].copy()
        wrapped[:, :, -1] += first[:, :, 0]
        wrapped[:, :, 0] += first[:, :, -1]
        first = wrapped
    table_yxNC = first @ second[0, 0]
    hidden = np.zeros((*grids_FHW.shape, table_yxNC.shape[-1])) + bias0 @ second[0, 0] + bias1
    for y in range(first.shape[0]):
        for x in range(first.shape[1]):
            hidden += table_yxNC[y, x][np.roll(grids_FHW, (radius - y, radius - x), axis=(1, 2))]
    return np.asarray(np.maximum(hidden, 0) @ third[0, 0] + bias2)


def _steps(data: Mapping[str, Array]) -> tuple[Floats, npt.NDArray[np.bool_], bool]:
    """Return, per rule and step, the smallest gap, whether all cells agree, and whether all clear cells do."""
    frames = data["frames"].astype(np.int64)
    gaps = np.empty((len(frames), frames.shape[1] - 1))
    agree = np.empty(gaps.shape, dtype=np.bool_)
    clear = True
    for rule in range(len(frames)):
        logits = rule_logits(data, rule, frames[rule, :-1])
        top = np.partition(logits, -2, axis=-1)
        gap = top[..., -1] - top[..., -2]
        same = np.argmax(logits, axis=-1) == frames[rule, 1:]
        gaps[rule], agree[rule] = gap.min(axis=(1, 2)), same.all(axis=(1, 2))
        clear = clear and bool((same | (gap <= MIN_GAP)).all()) and bool(np.isfinite(logits).all())
    return gaps, agree, clear


def _logit_error(data: Mapping[str, Array]) -> float:
    grids = data["initial_grid"].astype(np.int64)
    logits = np.concatenate([rule_logits(data, rule, grids[rule : rule + 1]) for rule in range(len(grids))])
    return float(np.abs(logits - data["first_logits"].astype(np.float64)).max())


def _patches(data: Mapping[str, Array], size: _Size) -> npt.NDArray[np.int32]:
    kept = data["frames"][:, BURN_IN : BURN_IN + max(size.frames, SCORE_FRAMES)].astype(np.int64)
    return patch_tokens(kept, size.states, size.patch)


def _tokens_identical(data: Mapping[str, Array], patches_RFP: npt.NDArray[np.int32], size: _Size) -> bool:
    tokens = delimit(patches_RFP[:, : size.frames], size.states ** (size.patch**2))
    return np.array_equal(tokens[:, : data["tokens"].shape[1]], data["tokens"])
