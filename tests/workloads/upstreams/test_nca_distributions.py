"""The data's distributions: cells against their softmax, grids, rules and scores against docs/protocol.md, section 2.

All draws are fixed by their keys, so a test passes always or never; thresholds are those of a fair test. The large
forms (`proof`) print their p-values.

Shapes: D draws, S cells, N states.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.workloads.upstreams.conftest import SEED, small
from workloads.upstreams.nca import kernels, philox, reference
from workloads.upstreams.nca.bank import Search
from workloads.upstreams.nca.complexity import Band
from workloads.upstreams.nca.rollout import LOGIT_UNIT, neighbours
from workloads.upstreams.nca.science import NcaBankScience
from workloads.upstreams.nca.source import NcaSource, make_source

KEY = philox.derive_key("distributions")
TEMPERATURES = (1e-4, 1e-3, 0.1, 1.0)
CELLS = 40
LOWEST_P = 1e-4
"""Of a test that passes; there are about twenty, so a fair generator fails one in five hundred such files."""
SHARES = (0.140, 0.057, 0.064, 0.093, 0.178, 0.341, 0.127)
"""Raw scores of random rules per ten-point bin from 0 to 70 %: 10,000 rules of the release."""
MANY = 1_000_000
"""Sequences of the large form."""
BANDS = {"20-30": 0.064, "30-40": 0.093, "40-50": 0.177, "50-100": 0.466}
Tell = Callable[[str], None]


def numbers(count: int, first: int = 0) -> philox.Words:
    return philox.split(np.arange(first, first + count, dtype=np.int64))


def undecided_logits(temperature: float, states: int = 10) -> np.ndarray:
    """Return (S, N) logits of cells of random rules after burn-in in which a second state is likely at all."""
    bank = NcaBankScience(temperature=temperature, states=states)
    found = np.empty((0, states))
    for start in range(0, 4096, 64):
        rules = kernels.draw_rules(bank, KEY, numbers(64, start))
        grid = kernels.rollout(bank, rules, KEY, numbers(64, start), 1).reshape(64, -1).astype(np.int64)
        logits = reference.logits(rules, grid, neighbours(bank)).reshape(-1, states)
        top = np.sort(logits, axis=1)
        likely = (top[:, -1] - top[:, -2]) * LOGIT_UNIT < 3 * temperature
        found = np.concatenate([found, logits[likely][: max(1, CELLS // 8)]])
        if len(found) >= CELLS:
            return found[:CELLS]
    raise AssertionError("no undecided cells")


def cell_p_values(temperature: float, draws: int) -> np.ndarray:
    """Return, for each cell, the p-value of a chi-square test of `draws` draws against the softmax of its logits."""
    logits_SN = undecided_logits(temperature)
    exact = np.exp((logits_SN - logits_SN.max(axis=1, keepdims=True)) * LOGIT_UNIT / temperature)
    exact /= exact.sum(axis=1, keepdims=True)
    states = np.arange(logits_SN.shape[1])
    counts = np.zeros(logits_SN.shape)
    for first in range(0, draws, 2000):
        some = min(2000, draws - first)
        drawn_DS = reference.sample(np.broadcast_to(logits_SN, (some, *logits_SN.shape)), temperature, KEY,
                                    numbers(some, first), step=1)
        counts += (drawn_DS[..., None] == states).sum(axis=0)
    return np.array([_chi_square(c, e * draws) for c, e in zip(counts, exact, strict=True)])


def _chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    """Return the p-value; states expected fewer than five times are counted together."""
    rare = expected < 5
    observed, wanted = counts[~rare], expected[~rare]
    if expected[rare].sum() >= 1:
        observed, wanted = np.append(observed, counts[rare].sum()), np.append(wanted, expected[rare].sum())
    else:
        assert counts[rare].sum() < 20
        wanted = wanted * observed.sum() / wanted.sum()
    return float(stats.chisquare(observed, wanted).pvalue) if len(wanted) > 1 else 1.0


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_each_cell_is_drawn_from_the_softmax_of_its_logits(temperature: float) -> None:
    p_S = cell_p_values(temperature, 2000)
    assert p_S.min() > LOWEST_P / CELLS
    assert stats.kstest(p_S, "uniform").pvalue > LOWEST_P, "p-values of a true law are uniform"


@pytest.mark.proof
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_each_cell_is_drawn_from_the_softmax_of_its_logits_in_100_000_draws(temperature: float, tell: Tell) -> None:
    p_S = cell_p_values(temperature, 100_000)
    uniform = stats.kstest(p_S, "uniform").pvalue
    tell(f"temperature {temperature:g}: {CELLS} cells, 100,000 draws each: smallest p {p_S.min():.3g}, "
          f"p of their uniformity {uniform:.3g}")
    assert p_S.min() > LOWEST_P / CELLS and uniform > LOWEST_P


def compiled_pits(temperature: float, rollouts: int) -> np.ndarray:
    """Return u = P(state < x) + v P(state = x) of every undecided cell of a compiled step, v an own uniform number.

    Where x is drawn from the softmax, u is uniform, whatever the cell's logits are.
    """
    bank = NcaBankScience(temperature=temperature, burn_in=10)
    found = []
    for first in range(0, rollouts, 64):
        rules = kernels.draw_rules(bank, KEY, numbers(64, first))
        frames = kernels.rollout(bank, rules, KEY, numbers(64, first), 2).reshape(64, 2, -1).astype(np.int64)
        logits = reference.logits(rules, frames[:, 0], neighbours(bank)).reshape(-1, bank.states)
        share = np.exp((logits - logits.max(axis=1, keepdims=True)) * LOGIT_UNIT / temperature)
        share /= share.sum(axis=1, keepdims=True)
        open_ = share.max(axis=1) < 0.99
        below, drawn = np.cumsum(share, axis=1) - share, frames[:, 1].reshape(-1, 1)
        low, mass = (np.take_along_axis(a, drawn, axis=1)[open_, 0] for a in (below, share))
        found.append(low + mass * np.random.default_rng(first).random(len(low)))
    return np.concatenate(found)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_compiled_step_draws_from_the_softmax_of_the_frame_before(temperature: float) -> None:
    u = compiled_pits(temperature, 512)
    assert len(u) > 200
    assert stats.chisquare(np.histogram(u, bins=20, range=(0, 1))[0]).pvalue > LOWEST_P


@pytest.mark.proof
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_compiled_step_draws_from_the_softmax_in_ten_thousand_rollouts(temperature: float, tell: Tell) -> None:
    u = compiled_pits(temperature, 10_048)
    p = stats.chisquare(np.histogram(u, bins=100, range=(0, 1))[0]).pvalue
    tell(f"temperature {temperature:g}: {len(u):,} undecided cells of compiled steps, p = {p:.3g}")
    assert p > LOWEST_P


@pytest.mark.parametrize("path", [reference, kernels], ids=["numpy", "compiled"])
def test_temperature_zero_takes_the_lowest_of_the_largest_logits(path: object) -> None:
    """Rules whose outputs have few values tie often: there the documented state, the lowest, is taken."""
    bank = NcaBankScience(temperature=0, states=4, burn_in=0, initial_grid="uniform")
    rules = kernels.draw_rules(bank, KEY, numbers(32))
    coarse = type(rules)(tables_BKNC=(rules.tables_BKNC >> 19) << 19, outputs_BCN=(rules.outputs_BCN >> 18) << 18)
    frames = path.rollout(bank, coarse, KEY, numbers(32), 2).reshape(32, 2, -1).astype(np.int64)  # type: ignore[attr-defined]
    logits = reference.logits(coarse, frames[:, 0], neighbours(bank))
    ties = (logits == logits.max(axis=2, keepdims=True)).sum(axis=2) > 1
    assert ties.sum() > 50
    np.testing.assert_array_equal(frames[:, 1], np.argmax(logits, axis=2))


def test_two_cells_of_a_first_grid_agree_as_often_as_the_law_says() -> None:
    """Uniform: 1 in 10. Categorical: E[sum of squares of a softmax of N(0,1)^10], from ten million other draws."""
    rng = np.random.default_rng(1)
    softmax = np.exp(rng.standard_normal((200_000, 10)))
    softmax /= softmax.sum(axis=1, keepdims=True)
    for kind, expected in (("uniform", 0.1), ("categorical", float((softmax**2).sum(axis=1).mean()))):
        grids = reference.initial_grid(NcaBankScience(initial_grid=kind), KEY, numbers(4000))
        pairs = grids[:, ::2] == grids[:, 1::2]
        share = pairs.mean(axis=1)
        assert abs(share.mean() - expected) < 4 * share.std() / np.sqrt(len(share))
        assert abs((grids == 3).mean(axis=1).mean() - 0.1) < 4 * (grids == 3).mean(axis=1).std() / np.sqrt(len(grids))


def shares_of(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the raw scores of `count` random rules at the defaults, and their counts in ten-point bins to 70 %."""
    search = Search(bank=NcaBankScience(), seed=SEED, stream="train")
    raw = np.concatenate([search.score(np.full(500, 1), np.arange(k, k + 500))[1] for k in range(0, count, 500)])
    return raw, np.histogram(raw[:, 0], bins=7, range=(0, 0.7))[0]


def test_the_histogram_of_scores_is_the_published_one() -> None:
    _, counts = shares_of(2000)
    for count, share in zip(counts, SHARES, strict=True):
        error = np.sqrt(share * (1 - share) * (1 / 2000 + 1 / 10_000))
        assert abs(count / 2000 - share) < 4 * error


@pytest.mark.proof
def test_scores_and_acceptance_of_twenty_thousand_rules_are_the_published_ones(tell: Tell) -> None:
    """The published shares are rounded to 0.1 %: that much is allowed on top of four standard errors."""
    raw, counts = shares_of(20_000)
    published = np.array(SHARES) / sum(SHARES) * 10_000
    p = stats.chi2_contingency([counts, published]).pvalue
    tell(f"20,000 rules: shares {np.round(100 * counts / 20_000, 2)}, against the published p = {p:.3g}")
    assert p > LOWEST_P
    for band, share in BANDS.items():
        bank = NcaBankScience.model_validate({"complexity": {"band": band, "scale": "raw"}})
        accepted = Band.of(bank).accepts(raw).mean()
        z = (accepted - share) / np.sqrt(share * (1 - share) * (1 / 20_000 + 1 / 10_000))
        tell(f"band {band}: accepted {100 * accepted:.2f} %, published {100 * share:.1f} %, {z:+.2f} errors")
        assert abs(accepted - share) < 4 * np.sqrt(share * (1 - share) * (1 / 20_000 + 1 / 10_000)) + 0.0005


@pytest.mark.proof
def test_a_million_kernels_are_lecun_normal(tell: Tell) -> None:
    """Kolmogorov and Smirnov's test against the normal law cut at two standard deviations."""
    parts = reference.kernels(NcaBankScience(), KEY, numbers(800))
    for name, part, fan in zip(("first", "second", "third"), parts, (108, 4, 16), strict=True):
        cut = stats.truncnorm(-2, 2)
        p = stats.kstest(part.ravel()[:1_000_000] * np.sqrt(fan) * cut.std(), cut.cdf).pvalue
        tell(f"{name} kernel, {part.size:,} entries: p = {p:.3g}")
        assert p > LOWEST_P


# -- sequence i is a function of (seed, bank, i) alone -----------------------------------------------------------------


def digests(source: NcaSource, index: np.ndarray) -> list[bytes]:
    tokens = source.sequences(index).tokens_BT.astype("<i4")
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in tokens]


def reused(banks: list[Path], threads: int = 1) -> NcaSource:
    """Sequences of 40 rules in turn, so that a bank of 40 gives as many as one likes."""
    source = make_source(small(rules={"unique": 40}), seed=SEED, stream="train", sequence_length=256, banks=banks)
    source.threads = threads
    return source


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (7, 2), (16, 3), (333, 2), (3000, 4)])
def test_thousands_of_sequences_hash_alike_in_any_batch_order_and_threads(
    small_banks: list[Path], batch: int, threads: int
) -> None:
    count = 3000 if batch > 1 else 300
    whole = digests(reused(small_banks), np.arange(count))
    assert len(set(whole)) > 0.95 * count, "a rule may end in one picture from most grids, but not all rules may"
    order = np.random.default_rng(batch).permutation(count)
    source = reused(small_banks, threads)
    for start in range(0, count, batch):
        some = order[start : start + batch]
        assert digests(source, some) == [whole[i] for i in some]


@pytest.mark.proof
@pytest.mark.timeout(3600)
def test_a_million_sequences_hash_alike_in_any_batch_order_and_threads(small_banks: list[Path], tell: Tell) -> None:
    count, chunk = MANY, 10_000
    first, second = reused(small_banks), reused(small_banks, threads=2)
    seen: set[bytes] = set()
    whole = hashlib.sha256()
    for start in range(0, count, chunk):
        found = digests(first, np.arange(start, start + chunk))
        seen.update(found)
        whole.update(b"".join(found))
        order = start + np.random.default_rng(start).permutation(chunk)
        cut = 1 + start // chunk * 37 % 499
        again = dict[int, bytes]()
        for at in range(0, chunk, cut):
            again |= dict(zip(order[at : at + cut].tolist(), digests(second, order[at : at + cut]), strict=True))
        assert [again[i] for i in range(start, start + chunk)] == found
    tell(f"{count:,} sequences, {len(seen):,} different, SHA-256 of all {whole.hexdigest()[:16]}")
    assert len(seen) > 0.5 * count
