"""Checks this generator against trajectories recorded from the released code. NumPy only.

The file (`.npz`) holds, for R rules of one alphabet: `conv{0,1,2}_{kernel,bias}`, `initial_grid`, `frames` (argmax),
`min_top2_gap` (smallest gap of each step), `first_logits`, `tokens` of the frames after burn-in, `gzip_score`.
Alphabet, grid and channels come from the shapes; a first kernel with n + 2 input channels is one with `pad_channels`.

The recorded kernels become rules as drawn ones do (one table, weights in units of 2^-20), and `reference.py`, whose
bits the compiled paths have, makes each step from the frame recorded before it.

Shapes: R rules, F frames, H x W grid, S cells of the flat grid, N states, P patches, T tokens.
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
from pydantic import ValidationError

from sweeps.errors import UsageError
from workloads.upstreams.nca import reference
from workloads.upstreams.nca.complexity import gzip_lengths
from workloads.upstreams.nca.rollout import LOGIT_UNIT, UNIT, Int32s, Rules, neighbours
from workloads.upstreams.nca.science import NcaBankScience
from workloads.upstreams.nca.tokens import delimit, patch_tokens

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[np.generic]
MIN_GAP = 1e-4
"""The release computes in float32: below this gap its argmax and an exact one may differ."""
LOGIT_TOLERANCE = 2e-5
"""For float32 (2e-7 at the defaults) and for weights that are multiples of 2^-20 (3e-6)."""
LARGEST_WEIGHT = 2.0**30
"""Of a damaged kernel more is cut off, so that it is an integer at all; drawn weights are far below."""
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
    bank, rules = _generator(data, size)
    gaps_RS, agree_RS, clear_agree = _steps(data, bank, rules)
    recorded_RS = data["min_top2_gap"].astype(np.float64)
    checked = recorded_RS > MIN_GAP
    # A damaged gap must not switch a check off.
    gaps_right = bool(np.all(np.abs(gaps_RS - recorded_RS) <= 2 * LOGIT_TOLERANCE))
    same_start = np.array_equal(data["initial_grid"], data["frames"][:, 0])
    logit_error = _logit_error(data, bank, rules)
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
    if not path.is_file():
        raise UsageError(f"{path} is no file that is there")
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


def _generator(data: Mapping[str, Array], size: _Size) -> tuple[NcaBankScience, Rules]:
    """Return the fields and the rules of this generator that the recorded kernels are.

    Raises:
        UsageError: it has no such rules: a bias is not zero, or the shapes are beyond its limits.
    """
    if biased := [name for name in AXES if name.endswith("_bias") and np.any(data[name] != 0)]:
        raise UsageError(f"{', '.join(biased)} is not zero; this generator's rules have no biases")
    rules, side, _, inputs, linear = data["conv0_kernel"].shape
    _, _, height, width = data["frames"].shape
    try:
        bank = NcaBankScience.model_validate({
            "states": size.states, "grid": {"height": height, "width": width}, "patch": size.patch, "temperature": 0,
            "pad_channels": inputs == size.states + 2, "network": {
                "neighbourhood": side, "linear_channels": linear, "relu_channels": data["conv1_kernel"].shape[4]}})
    except ValidationError as error:
        raise UsageError(f"this generator has no such rules: {error.errors()[0]['msg']}") from error
    first, second, third = (data[f"conv{i}_kernel"].astype(np.float64) for i in range(3))
    table = reference.merge(bank, first.reshape(rules, side * side, inputs, linear), second[:, 0, 0])
    return bank, Rules(tables_BKNC=_fixed(table), outputs_BCN=_fixed(third[:, 0, 0]))


def _fixed(weights: Floats) -> Int32s:
    """Return weights in units of 2^-20."""
    return np.rint(np.clip(np.nan_to_num(weights * UNIT), -LARGEST_WEIGHT, LARGEST_WEIGHT)).astype(np.int32)


def _steps(
    data: Mapping[str, Array], bank: NcaBankScience, rules: Rules
) -> tuple[Floats, npt.NDArray[np.bool_], bool]:
    """Return, per rule and step, the smallest gap, whether all cells agree, and whether all clear cells do."""
    frames_RFS = data["frames"].astype(np.int64).reshape(*data["frames"].shape[:2], -1)
    gaps = np.empty((len(frames_RFS), frames_RFS.shape[1] - 1))
    agree = np.empty(gaps.shape, dtype=np.bool_)
    clear = True
    for rule, frames_FS in enumerate(frames_RFS):
        logits_FSN = reference.logits(rules.take(np.full(len(frames_FS) - 1, rule)), frames_FS[:-1], neighbours(bank))
        top = np.partition(logits_FSN * LOGIT_UNIT, -2, axis=-1)
        gap = top[..., -1] - top[..., -2]
        same = np.argmax(logits_FSN, axis=-1) == frames_FS[1:]
        gaps[rule], agree[rule] = gap.min(axis=1), same.all(axis=1)
        clear = clear and bool((same | (gap <= MIN_GAP)).all())
    return gaps, agree, clear


def _logit_error(data: Mapping[str, Array], bank: NcaBankScience, rules: Rules) -> float:
    grids_RS = data["initial_grid"].astype(np.int64).reshape(len(data["initial_grid"]), -1)
    logits_RSN = reference.logits(rules, grids_RS, neighbours(bank)) * LOGIT_UNIT
    return float(np.abs(logits_RSN - data["first_logits"].astype(np.float64).reshape(logits_RSN.shape)).max())


def _patches(data: Mapping[str, Array], size: _Size) -> npt.NDArray[np.int32]:
    kept = data["frames"][:, BURN_IN : BURN_IN + max(size.frames, SCORE_FRAMES)].astype(np.int64)
    return patch_tokens(kept, size.states, size.patch)


def _tokens_identical(data: Mapping[str, Array], patches_RFP: npt.NDArray[np.int32], size: _Size) -> bool:
    tokens = delimit(patches_RFP[:, : size.frames], size.states ** (size.patch**2))
    return np.array_equal(tokens[:, : data["tokens"].shape[1]], data["tokens"])
