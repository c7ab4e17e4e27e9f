"""Quantiles against scipy's own, and what a report imports."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.quantiles import above, chi_density, chi_squared, root, student, studentised_range
from analysis.simultaneous import critical_max_t
from analysis.statistics import detectable_shift, exact_interval, t_critical

NINE = {"rel": 1e-9, "abs": 1e-12}


@pytest.mark.parametrize("df", [1, 2, 3.5, 8, 100, 100_000])
@pytest.mark.parametrize("p", [0.2, 0.9, 0.975, 0.9999])
def test_quantiles_are_scipys(p: float, df: float) -> None:
    assert student(p, df) == pytest.approx(stats.t.ppf(p, df), **NINE)
    assert chi_squared(p, df) == pytest.approx(stats.chi2.ppf(p, df), **NINE)
    x = np.linspace(0.01, 3, 7) * math.sqrt(df)
    assert chi_density(x, df) == pytest.approx(stats.chi.pdf(x, df), rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("df", [2, 4, 9.5, 60, 2000])
@pytest.mark.parametrize("shift", [0.0, 0.125, 2.0, 5.0, 9.0])
def test_tails_of_the_noncentral_t_are_scipys(df: float, shift: float) -> None:
    critical = t_critical(df)
    assert above(critical, df, shift) == pytest.approx(stats.nct.sf(critical, df, shift), **NINE)
    theirs = stats.nct.cdf(-critical, df, shift)  # NaN far out
    assert math.isnan(theirs) or above(critical, df, -shift) == pytest.approx(theirs, **NINE)


def test_a_certain_effect_is_certain() -> None:
    assert above(4.3, 2, math.inf) == above(4.3, 2, 1e6) == pytest.approx(1.0)


@pytest.mark.parametrize(("count", "df"), [(2, 4), (2, 200), (4, 8), (9, 20), (20, 40), (60, 120), (3, 60_000)])
def test_studentised_ranges_are_scipys(count: int, df: int) -> None:
    assert studentised_range(0.95, count, df) == pytest.approx(stats.studentized_range.ppf(0.95, count, df), **NINE)


@pytest.mark.parametrize(("count", "df"), [(2, 4), (4, 8), (9, 20), (60, 120), (2, 1_000_000)])
def test_simultaneous_values_hold_their_share(count: int, df: int) -> None:
    """The definition by another rule: Gauss-Hermite in z, the s of a million draws."""
    z, wz = np.polynomial.hermite_e.hermegauss(64)
    s = np.sqrt(stats.chi2.ppf((np.arange(20_000) + 0.5) / 20_000, df) / df)
    reach = math.sqrt(2) * critical_max_t(count, df) * s[:, None]
    inside = stats.norm.cdf(z + reach) - stats.norm.cdf(z - reach)
    assert (inside**count @ (wz / wz.sum())).mean() == pytest.approx(0.95, abs=1e-5)


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (1, 164), (81, 263), (5, 5)])
def test_exact_bounds_are_clopper_and_pearsons(hits: int, n: int) -> None:
    level = 0.9 if hits in (0, n) else 0.95  # one-sided there
    theirs = stats.binomtest(hits, n).proportion_ci(level, method="exact")
    assert exact_interval(hits, n) == pytest.approx(tuple(theirs), **NINE)


def test_detectable_shifts_have_their_power() -> None:
    for df in (2, 3, 8, 500):
        found = detectable_shift(t_critical(df), df)
        assert stats.nct.sf(t_critical(df), df, found) + stats.nct.cdf(-t_critical(df), df, found) == pytest.approx(0.8)


@pytest.mark.parametrize(("power", "guess"), [(1, 0.1), (3, 1.0), (5, 40.0), (9, 2.0)])
def test_roots(power: int, guess: float) -> None:
    assert root(lambda x: x**power - 2.0, guess) == pytest.approx(2 ** (1 / power), rel=1e-12)
    assert root(lambda x: math.tanh(50 * (x - 1.5)) + 0.999, guess) == pytest.approx(
        1.5 + math.atanh(-0.999) / 50, rel=1e-12)


def test_a_report_imports_neither_scipy_stats_nor_optimize(demo: Path, tmp_path: Path) -> None:
    """Half a second and more, in every process that shows a number."""
    code = ("import sys, pathlib; from sweeps.store.layout import Layout; "
            "from orchestrator.reporting import write_report;"
            "write_report([Layout(pathlib.Path(sys.argv[1]))], 'demo', pathlib.Path(sys.argv[2]));"
            "print([m for m in ('scipy.stats', 'scipy.optimize', 'scipy.linalg') if m in sys.modules])")
    said = subprocess.run([sys.executable, "-c", code, str(demo), str(tmp_path)], check=True, capture_output=True,
                          text=True).stdout
    assert said == "[]\n"
