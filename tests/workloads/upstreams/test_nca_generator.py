"""The data: one definition, two paths with the same bits, distributions as the source says."""

from __future__ import annotations

import decimal
import hashlib
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from tests.workloads.upstreams.conftest import SEED, small
from workloads.upstreams.nca import backend, kernels, philox, reference
from workloads.upstreams.nca.rollout import LOGIT_UNIT, Backend, Rules
from workloads.upstreams.nca.science import NcaBankScience
from workloads.upstreams.nca.source import NcaSource, make_source

KEY = philox.derive_key("test")
PATHS = [backend.fastest(), kernels, reference]
"""The C path where it was built; `test_nca_native.py` builds it."""


def numbers(count: int) -> philox.Words:
    return philox.split(np.arange(count, dtype=np.int64) * (2**33 + 7))


def source(banks: list[Path], stream: str = "train", length: int = 256, **changes: object) -> NcaSource:
    return make_source(small(**changes), seed=SEED, stream=stream, sequence_length=length, banks=banks)


@pytest.mark.parametrize("counter, key, words", [
    ((0, 0, 0, 0), (0, 0), ("e169c58d6627e8d5", "9b00dbd8bc57ac4c")),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, ("41c83b0e408f276d", "6d5451fda20bc7c6")),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     ("94fdccebd16cfe09", "24126ea15001e420")),
])
def test_philox_gives_the_published_vectors(
    counter: tuple[int, ...], key: tuple[int, ...], words: tuple[str, str]
) -> None:
    c = [np.array([word], np.uint64) for word in counter]
    first, second = philox.philox(np.array(key, np.uint64), (c[0], c[1], c[2], c[3]))
    assert (f"{int(first[0]):016x}", f"{int(second[0]):016x}") == words


def test_the_fixed_order_exponential_is_an_exponential() -> None:
    x = np.linspace(0, 33.9, 10_001)
    assert np.abs(philox.scaled_exp(x, 48) - np.exp(-x) * 2.0**48).max() < 2


@pytest.mark.parametrize("fields", [
    {},
    {"temperature": 0, "initial_grid": "uniform"},
    {"temperature": 0.1, "pad_channels": False},
    {"temperature": 1.0, "states": 15},
    {"states": 4, "grid": {"height": 8, "width": 10}, "frame_stride": 3, "burn_in": 2, "temperature": 0.01},
    {"states": 3, "network": {"neighbourhood": 5, "linear_channels": 2, "relu_channels": 7}, "patch": 3},
])
def test_numpy_and_numba_give_the_same_bits(fields: dict[str, object]) -> None:
    bank, number = NcaBankScience.model_validate(fields), numbers(6)
    slow, fast = reference.draw_rules(bank, KEY, number), kernels.draw_rules(bank, KEY, number)
    np.testing.assert_array_equal(slow.tables_BKNC, fast.tables_BKNC)
    np.testing.assert_array_equal(slow.outputs_BCN, fast.outputs_BCN)
    np.testing.assert_array_equal(
        reference.rollout(bank, slow, KEY, number, 4), kernels.rollout(bank, fast, KEY, number, 4)
    )
    np.testing.assert_array_equal(reference.words(KEY, number, 5), kernels.words(KEY, number, 5))


def test_without_a_library_numba_is_taken_and_without_both_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend.native, "usable", lambda: False)
    assert backend.fastest.__wrapped__() is kernels
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None)
    assert backend.fastest.__wrapped__() is reference


def test_the_bits_are_those_of_the_first_version(small_banks: list[Path]) -> None:
    tokens = source(small_banks).sequences(np.arange(8)).tokens_BT
    digest = hashlib.sha256(tokens.astype("<i4").tobytes()).hexdigest()
    assert digest[:16] == "cc22f27c8b1172b8"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("fields, recorded", [
    ({}, "25807c8194fd63a4"),
    ({"temperature": 1.0, "initial_grid": "uniform"}, "b74e3822242f3851"),
    ({"temperature": 0, "pad_channels": False}, "710164c5d252afb8"),
])
def test_rollouts_at_the_default_size_are_those_of_the_first_version(
    fields: dict[str, object], recorded: str, path: Backend
) -> None:
    bank = NcaBankScience.model_validate(fields)
    rules = path.draw_rules(bank, KEY, numbers(8))
    frames = path.rollout(bank, rules, KEY, numbers(8), 27)
    assert hashlib.sha256(frames.tobytes()).hexdigest()[:16] == recorded


def test_a_sequence_does_not_depend_on_its_batch_order_or_threads(small_banks: list[Path]) -> None:
    whole = source(small_banks).sequences(np.arange(40)).tokens_BT
    order = np.random.default_rng(0).permutation(40)
    threaded = source(small_banks)
    threaded.threads = 2
    np.testing.assert_array_equal(threaded.sequences(order).tokens_BT, whole[order])
    for index in (0, 24, 25, 39):
        one = source(small_banks).sequences(np.array([index])).tokens_BT
        np.testing.assert_array_equal(one[0], whole[index])
    slow = NcaSource(small(), source(small_banks).rules, seed=SEED, stream="train", sequence_length=256,
                     backend=reference)  # type: ignore[arg-type]  # a module keeps the protocol
    np.testing.assert_array_equal(slow.sequences(order[:9]).tokens_BT, whole[order[:9]])


def test_a_longer_sequence_begins_with_the_shorter_one(small_banks: list[Path]) -> None:
    short, long = (source(small_banks, length=n).sequences(np.arange(3)).tokens_BT for n in (100, 256))
    np.testing.assert_array_equal(short, long[:, :100])


def test_reused_rules_start_from_new_grids(small_banks: list[Path]) -> None:
    reused = source(small_banks, rules={"unique": 5})
    tokens = reused.sequences(np.array([2, 7, 1_000_000_002])).tokens_BT
    assert not (tokens[0] == tokens[1]).all() and not (tokens[0] == tokens[2]).all()
    np.testing.assert_array_equal(tokens[0], source(small_banks).sequences(np.array([2])).tokens_BT[0])


def ties(logits_N: list[float], cells: int) -> tuple[NcaBankScience, Rules]:
    """One rule that gives every cell these logits: its hidden layer is constant."""
    bank = NcaBankScience.model_validate({"states": len(logits_N), "burn_in": 1, "initial_grid": "uniform",
                                          "grid": {"height": cells, "width": cells}})
    tables = np.zeros((1, 9, len(logits_N), 16), np.int32)
    tables[:, 4, :, 0] = 2**20
    outputs = np.zeros((1, 16, len(logits_N)), np.int32)
    outputs[0, 0] = np.rint(np.array(logits_N) * 2**20)
    return bank, Rules(tables_BKNC=tables, outputs_BCN=outputs)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("temperature", [1e-4, 1e-3, 0.1, 1.0])
def test_cells_are_drawn_from_the_softmax_at_a_temperature(temperature: float, path: Backend) -> None:
    shape = np.array([0.0, -0.5, -1.0, -3.0, 0.25])
    bank, rules = ties((shape * temperature).tolist(), 200)
    exact = rules.outputs_BCN[0, 0] * 2.0**20 * LOGIT_UNIT
    p = np.exp((exact - exact.max()) / temperature)
    p /= p.sum()
    drawn = path.rollout(bank.model_copy(update={"temperature": temperature}), rules, KEY, numbers(1), 4)
    counts = np.bincount(drawn.ravel(), minlength=5)
    chi_square = ((counts - p * counts.sum()) ** 2 / (p * counts.sum())).sum()
    assert chi_square < 18.5  # 99.9 % of chi-square with 4 degrees of freedom; the draw is fixed


@pytest.mark.parametrize("states", [2, 10, 256])
@pytest.mark.parametrize("temperature", [1e-4, 1.0])
def test_the_total_variation_from_the_softmax_is_below_the_calculated_bound(states: int, temperature: float) -> None:
    gaps = np.random.default_rng(states).uniform(0, 40 * temperature, states)
    logits = np.rint(gaps / LOGIT_UNIT)
    weights = reference.weights(logits[None], temperature)[0]
    with decimal.localcontext(prec=60):
        unit, heat = Decimal(2) ** -40, Decimal(temperature)
        exact = [((Decimal(int(value)) - Decimal(int(logits.max()))) * unit / heat).exp() for value in logits]
        total = sum(Decimal(int(weight)) for weight in weights)
        shares = zip(weights, exact, strict=True)
        distance = sum(abs(Decimal(int(w)) / total - p / sum(exact)) for w, p in shares) / 2
    # A word of 64 bits adds at most 2^-64 a state.
    assert float(distance) + states * 2.0**-64 < 2 * states * 2.0**-48 + 2.0**-46 < 2e-12


def test_temperature_zero_is_argmax_and_ties_go_to_the_lowest_state() -> None:
    bank, rules = ties([0.25, 0.5, 0.5, -1.0], 6)
    for path in (reference, kernels):
        frames = path.rollout(bank.model_copy(update={"temperature": 0.0}), rules, KEY, numbers(1), 1)
        assert (frames == 1).all()


def test_a_tie_at_a_low_temperature_is_a_fair_coin() -> None:
    bank, rules = ties([0.5, 0.5], 100)
    frames = kernels.rollout(bank.model_copy(update={"temperature": 1e-9}), rules, KEY, numbers(1), 1)
    assert abs(frames.mean() - 0.5) < 4 * 0.5 / 100


def test_the_initial_grid_is_categorical_or_uniform() -> None:
    shares = {}
    for kind in ("uniform", "categorical"):
        bank = NcaBankScience.model_validate({"states": 2, "initial_grid": kind})
        grids = reference.initial_grid(bank, KEY, numbers(2000))
        shares[kind] = grids.mean(axis=1)
        assert abs(grids.mean() - 0.5) < 0.02
    # The share of state 1 is 1/(1 + e^d) with d ~ N(0, 2): sd 0.259 and 0.0018 of binomial variance on top.
    assert abs(shares["uniform"].std() - 0.5 / 12) < 0.003
    assert abs(shares["categorical"].std() - 0.262) < 0.015


@pytest.mark.parametrize("pad", [True, False])
def test_kernels_are_lecun_normal(pad: bool) -> None:
    bank = NcaBankScience(pad_channels=pad)
    inputs = 12 if pad else 10
    fans = (9 * inputs, 4, 16)
    parts = reference.kernels(bank, KEY, numbers(400))
    for part, fan in zip(parts, fans, strict=True):
        scaled = part * np.sqrt(fan)
        spread = 4 / np.sqrt(part.size)
        assert abs(scaled.mean()) < spread and abs(scaled.std() - 1) < spread
        assert 2.2 < np.abs(scaled).max() <= 2.2737


def test_padding_the_channels_counts_the_first_and_last_state_twice() -> None:
    bank = NcaBankScience(states=3)
    first = np.zeros((1, 9, 5, 4))
    first[0, 0, :, 0] = [1, 2, 4, 8, 16]  # reads states 2, 0, 1, 2, 0
    table = reference.merge(bank, first, np.ones((1, 4, 16)))
    assert table[0, 0, :, 0].tolist() == [2 + 16, 4, 8 + 1]
