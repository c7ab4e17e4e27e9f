"""Seeds needed, from a pilot."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.load import load
from analysis.power import pilot, power_at, requirements, seeds_needed
from analysis.simultaneous import family
from analysis.statistics import detectable_over_sd
from analysis.study import Study
from orchestrator.__main__ import main
from tests.analysis.conftest import RELAXED, SweepBuilder


@pytest.mark.parametrize("n", [3, 5, 10, 20])
def test_seeds_needed_is_the_inverse_of_the_detectable_effect(n: int) -> None:
    """The detectable effect counts both sides of the test, the claim's power its own; at 0.8 they are the same."""
    assert seeds_needed(detectable_over_sd(n) * 1.0001, 1.0) == n
    assert seeds_needed(detectable_over_sd(n) * 0.999, 1.0) == n + 1


@RELAXED
@given(st.floats(0.05, 5), st.floats(0.01, 3), st.integers(1, 6))
def test_more_noise_or_more_bands_or_less_effect_never_need_fewer_seeds(effect: float, sd: float, bands: int) -> None:
    def needed(*given: float) -> float:
        return seeds_needed(given[0], given[1], int(given[2])) or math.inf

    plain = needed(effect, sd, bands)
    assert plain >= 3 and plain <= needed(effect, sd * 1.2, bands) and plain <= needed(effect / 1.2, sd, bands)


def test_no_number_of_seeds_finds_nothing() -> None:
    assert seeds_needed(1e-6, 1.0) is None and seeds_needed(1.0, 0.0) == 3


@pytest.mark.parametrize(("bands", "n"), [(1, 4), (4, 3), (4, 6)])
def test_the_power_is_what_a_simulation_sees(bands: int, n: int) -> None:
    rng, effect, found = np.random.default_rng(5), 2.5, 0
    for _ in range(1500):
        reference, arms = rng.normal(0, math.sqrt(0.5), n), rng.normal(0, math.sqrt(0.5), (bands, n))
        arms[0] -= effect
        made = family(reference, arms)
        assert made is not None
        found += made.intervals[0].low > 0
    assert found / 1500 == pytest.approx(power_at(effect, n, bands), abs=0.035)


def test_the_pilots_noise_is_that_of_the_records(tmp_path: Path) -> None:
    """A loss has a noise of 0.004 nats: a paired difference of it has sqrt 2 times as much."""
    found = pilot(Study(load(SweepBuilder(tmp_path, domains=("web",), seeds=8).build(), "demo")), "web")
    assert (found.arms, found.seeds, found.df) == (5, 8, 28)
    assert found.sd == pytest.approx(0.004 * math.sqrt(2), rel=0.35) and found.sd < found.sd_high < 1.3 * found.sd


def test_two_seeds_are_a_pilot_and_one_is_none(tmp_path: Path) -> None:
    for seeds, known in ((2, True), (1, False)):
        study = Study(load(SweepBuilder(tmp_path / str(seeds), domains=("web",), seeds=seeds).build(), "demo"))
        need, = requirements(study)
        assert (need.seeds[-1] is not None) is known and bool(need.note) is not known
        assert need.bands == (2 if known else 0)


def test_power_of_a_sweep_in_the_terminal_and_as_json(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power", "demo", "--root", str(demo), "--effect", "0.02", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    claim, = answer["claims"]
    assert claim["claim"] == "nca_helps_web" and claim["bands"] == 2
    assert 3 <= claim["seeds"][0] <= claim["seeds_high"][0]
    assert main(["power", "demo", "--root", str(demo)]) == 0
    text = capsys.readouterr().out
    assert "best_band over baseline in web > 0 (best of 2 bands)" in text and "0.005 nats" in text


def test_power_of_curves_asks_about_every_arm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    lines = ["panel,upstream,tokens,val_loss,seed", *(
        f"p,{u},100,{3 + rng.normal(0, 0.01):.4f},{s}" for u in ("scratch", "nca", "dyck") for s in range(3))]
    (tmp_path / "c.csv").write_text("\n".join(lines))
    assert main(["power", str(tmp_path / "c.csv"), "--json"]) == 0
    assert [c["claim"] for c in json.loads(capsys.readouterr().out)["claims"]] == ["nca", "dyck"]


@pytest.mark.parametrize("argv", [["--effect", "0"], ["--effect", "x"], ["--power", "1"], ["--power", "nan"]])
def test_bad_numbers_are_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["power", "demo", *argv])
    assert stop.value.code == 2 and "is no" in capsys.readouterr().err
