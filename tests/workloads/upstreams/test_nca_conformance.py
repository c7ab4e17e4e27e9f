"""Conformance with trajectories recorded from the released code, and with damaged copies of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import naive_nca
from sweeps.errors import UsageError
from workloads.upstreams.nca import kernels, philox, reference
from workloads.upstreams.nca.complexity import gzip_lengths
from workloads.upstreams.nca.conformance import conformance
from workloads.upstreams.nca.rollout import UNIT, Rules
from workloads.upstreams.nca.science import NcaBankScience
from workloads.upstreams.nca.tokens import delimit, patch_tokens

GOLDEN = Path(__file__).parents[2] / "data" / "nca_golden.npz"
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def golden() -> Arrays:
    with np.load(GOLDEN) as archive:
        return {name: archive[name] for name in archive.files}


def written(folder: Path, arrays: Arrays) -> Path:
    np.savez(folder / "copy.npz", **arrays)  # type: ignore[arg-type]
    return folder / "copy.npz"


def test_all_24_rules_of_the_release_conform() -> None:
    result = conformance(GOLDEN)
    assert result.ok and result.rules == 24
    assert result.frames_identical == result.frames_checked == 796
    assert result.tokens_identical and result.scores_identical and result.max_logit_error < 1e-5


def changed(array: np.ndarray, index: tuple[int, ...], by: float) -> np.ndarray:
    """Return a copy with one number changed; states stay states."""
    array = array.copy()
    array[index] = (array[index] + by) % 10 if array.dtype == np.uint8 else array[index] + by
    return array


@pytest.mark.parametrize("name, index, by", [
    ("frames", (3, 20, 5, 5), 1), ("frames", (0, 37, 0, 0), 1), ("frames", (0, 8, 1, 1), 1),
    ("initial_grid", (2, 0, 0), 1), ("tokens", (5, 500), 1), ("tokens", (0, 0), 1), ("gzip_score", (7,), 1 / 1440),
    ("first_logits", (1, 2, 3, 4), 1e-3), ("min_top2_gap", (4, 4), -1e-3), ("conv0_kernel", (6, 1, 1, 5, 2), 0.1),
    ("conv1_kernel", (6, 0, 0, 0, 0), np.nan), ("conv2_kernel", (6, 0, 0, 0, 0), 1e30),
])
def test_one_changed_number_is_found(
    golden: Arrays, tmp_path: Path, name: str, index: tuple[int, ...], by: float
) -> None:
    assert not conformance(written(tmp_path, golden | {name: changed(golden[name], index, by)})).ok


def test_it_is_this_generator_that_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that forgot the channels that the padding reads twice would give other frames, gaps and logits."""
    merge = reference.merge

    def without_padding(bank: NcaBankScience, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return merge(bank.model_copy(update={"pad_channels": False}), first[:, :, 1:-1], second)

    monkeypatch.setattr(reference, "merge", without_padding)
    result = conformance(GOLDEN)
    assert not result.ok and result.frames_identical < result.frames_checked and result.tokens_identical


def test_the_plain_code_of_the_benchmark_makes_the_frames_of_the_release(golden: Arrays) -> None:
    """What the generator's speed is compared with does the same work: every step whose gaps float32 can tell."""
    bank = NcaBankScience(temperature=0)
    for rule in range(4):
        network = [golden[f"conv{i}_kernel"][rule] for i in range(3)]
        for step in np.flatnonzero(golden["min_top2_gap"][rule] > 1e-4):
            before, after = golden["frames"][rule, step : step + 2].astype(np.int64)
            np.testing.assert_array_equal(naive_nca.step(bank, network, before, np.random.default_rng(0)), after)
        tokens = [t for frame in golden["frames"][rule, 10:37] for t in naive_nca.frame_tokens(bank, frame)]
        assert tokens == golden["tokens"][rule].tolist()


def test_rules_that_this_generator_does_not_have_are_refused(golden: Arrays, tmp_path: Path) -> None:
    biased = changed(golden["conv2_bias"], (6, 3), 0.2)
    with pytest.raises(UsageError, match="conv2_bias is not zero"):
        conformance(written(tmp_path, golden | {"conv2_bias": biased}))
    with pytest.raises(UsageError, match="is no file that is there"):
        conformance(tmp_path / "none.npz")


def test_gaps_that_switch_every_check_off_do_not_pass(golden: Arrays, tmp_path: Path) -> None:
    arrays = golden | {"min_top2_gap": np.zeros_like(golden["min_top2_gap"])}
    assert not conformance(written(tmp_path, arrays)).ok


@pytest.mark.parametrize("name, shape", [
    ("frames", (24, 38, 12, 11)), ("tokens", (23, 1026)), ("conv1_kernel", (24, 1, 1, 5, 16)),
    ("conv0_kernel", (24, 3, 3, 11, 4)), ("gzip_score", (24, 1)), ("first_logits", (24, 12, 12, 9)),
    ("min_top2_gap", (24, 38)), ("frames", (24, 15, 12, 12)), ("frames", (0, 38, 12, 12)), ("tokens", (24, 0)),
])
def test_a_wrong_shape_is_refused(golden: Arrays, tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    arrays = golden | {name: np.resize(golden[name], shape)}
    with pytest.raises(UsageError):
        conformance(written(tmp_path, arrays))


@pytest.mark.parametrize("name", ["frames", "conv0_bias", "gzip_score"])
def test_a_missing_array_is_named(golden: Arrays, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=name):
        conformance(written(tmp_path, {k: v for k, v in golden.items() if k != name}))


def test_what_is_not_a_golden_file_is_refused(golden: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    with pytest.raises(UsageError):
        conformance(path)
    content = GOLDEN.read_bytes()
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 0xFF
    for text in (b"", b"hello", content[:1000], content[:-200], bytes(damaged)):
        path.write_bytes(text)
        with pytest.raises(UsageError):
            conformance(path)
    damaged = bytearray(content)
    damaged[content.rindex(b"PK\x01\x02") + 10] = 99  # an unknown compression method
    path.write_bytes(damaged)
    with pytest.raises(UsageError, match="not a readable npz"):
        conformance(path)
    np.save(tmp_path / "one.npy", golden["frames"])
    with pytest.raises(UsageError, match="one array"):
        conformance(tmp_path / "one.npy")
    for bad in (golden["frames"] + 200, golden["frames"].astype(object), golden["frames"].astype(str)):
        with pytest.raises(UsageError):
            conformance(written(tmp_path, golden | {"frames": bad}))


@pytest.mark.parametrize("fields, frames", [
    ({"states": 4, "grid": {"height": 8, "width": 10}, "pad_channels": False}, 3),
    ({"states": 3, "network": {"relu_channels": 8, "linear_channels": 2}, "patch": 3}, 12),
])
def test_other_alphabets_grids_and_channels_are_read_from_the_shapes(
    tmp_path: Path, fields: dict[str, object], frames: int
) -> None:
    bank = NcaBankScience.model_validate({"temperature": 0, "burn_in": 0, **fields})
    assert conformance(written(tmp_path, recorded(bank, frames))).ok


def recorded(bank: NcaBankScience, kept: int) -> Arrays:
    """Make a golden file of three rules whose kernels give exactly the tables of the generator."""
    key, number = philox.derive_key("golden"), philox.split(np.arange(3))
    net, inputs = bank.network, bank.states + 2 if bank.pad_channels else bank.states
    side = net.neighbourhood
    first, second, third = (k.astype(np.float32) for k in reference.kernels(bank, key, number))
    table = reference.merge(bank, first.astype(np.float64), second.astype(np.float64))
    rules = Rules(tables_BKNC=np.rint(table * UNIT).astype(np.int32),
                  outputs_BCN=np.rint(third.astype(np.float64) * UNIT).astype(np.int32))
    frames = kernels.rollout(bank, rules, key, number, 24)
    window = reference.neighbours(bank)
    # Exact logits of the unrounded kernels, so that gaps are those that the check computes.
    flat = frames.reshape(3, 24, -1).astype(np.int64)
    gaps, logits = np.empty((3, 23)), np.empty(0)
    for step in range(23):
        hidden = sum(table[np.arange(3)[:, None], o, flat[:, step][:, window[:, o]]] for o in range(side * side))
        found = np.maximum(hidden, 0) @ third.astype(np.float64)
        top = np.sort(found, axis=-1)
        gaps[:, step] = (top[..., -1] - top[..., -2]).min(axis=1)
        logits = found if step == 0 else logits
    patches = patch_tokens(frames[:, 10:], bank.states, bank.patch)
    tokens = delimit(patches[:, :kept], bank.vocabulary - 2)
    score = gzip_lengths(patches[:, :10]) / patches[0, :10].nbytes
    zeros = {f"conv{i}_bias": np.zeros((3, c), np.float32)
             for i, c in enumerate((net.linear_channels, net.relu_channels, bank.states))}
    return zeros | {
        "conv0_kernel": first.reshape(3, side, side, inputs, -1), "conv1_kernel": second[:, None, None],
        "conv2_kernel": third[:, None, None], "initial_grid": frames[:, 0], "frames": frames, "min_top2_gap": gaps,
        "first_logits": logits.reshape(3, *frames.shape[2:], -1).astype(np.float32), "tokens": tokens,
        "gzip_score": score,
    }
