"""Seeds and items needed, from a pilot's records of items."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.power_items import DESIGNS, Spread, fewest, spread_of
from analysis.two_way import two_way_t
from orchestrator.__main__ import main
from tests.analysis.conftest import RELAXED
from tests.analysis.test_downstream import NCA, SCRATCH, _asked, drawn, itemised, scored, table  # noqa: F401
from tests.analysis.test_two_way import World


def spread(items: float = 0.5, seeds: float = 0.2, rest: float = 1.0, *, count: int = 100, of: int = 3) -> Spread:
    """Standard deviations, and a pilot's number of items and seeds."""
    return Spread(domain="web", task="t", arms=2, items=count, seeds=of, of_items=items**2, of_seeds=seeds**2,
                  of_rest=rest**2)


@pytest.mark.parametrize(("world", "count", "seeds", "effect"), [
    (World(items=0.5, seeds=0.2), 100, 5, 0.45), (World(items=1.0), 60, 4, 0.4), (World(seeds=0.3), 100, 6, 0.4)])
def test_the_power_is_what_a_simulation_sees(world: World, count: int, seeds: int, effect: float) -> None:
    rng = np.random.default_rng(3)
    world = World(items=world.items, seeds=world.seeds, count=count)
    found = [two_way_t(world.draw(seeds, rng)[0] + effect).low > 0 for _ in range(600)]
    planned = spread(world.items, world.seeds, count=count, of=seeds).power(effect, count, seeds)
    assert 0.2 < planned < 0.98
    assert planned == pytest.approx(np.mean(found), abs=0.1)


def test_the_variances_are_those_of_the_world() -> None:
    rng = np.random.default_rng(4)
    tables = [World(items=0.6, seeds=0.4, count=200).draw(40, rng)[0] for _ in range(4)]
    found = spread_of("web", "t", tables)
    assert found is not None and (found.items, found.seeds, found.arms) == (200, 40, 4)
    assert [math.sqrt(v) for v in (found.of_items, found.of_seeds, found.of_rest)] == pytest.approx(
        [0.6, 0.4, 1.0], rel=0.12)
    high = found.high()
    assert all(a < b < 1.5 * a for a, b in ((found.of_items, high.of_items), (found.of_seeds, high.of_seeds)))
    assert found.detectable() == pytest.approx(np.mean([two_way_t(t).detectable for t in tables]), rel=0.1)


@RELAXED
@given(st.floats(0.0, 1.0), st.floats(0.0, 0.5), st.floats(0.1, 1.0), st.floats(0.02, 0.5), st.integers(3, 30),
       st.integers(10, 2000))
def test_a_larger_effect_is_never_found_less_often_and_more_noise_never_more_often(
        items: float, seeds: float, rest: float, effect: float, n: int, count: int) -> None:
    of = spread(items, seeds, rest)
    power = of.power(effect, count, n)
    assert power <= of.power(1.3 * effect, count, n) + 1e-6
    assert power >= of.high().power(effect, count, n) - 0.02


def test_more_items_do_not_make_up_for_seeds_that_differ() -> None:
    of = spread(items=0.1, seeds=0.5, rest=0.5)
    assert of.power(0.3, 10**6, 3) < 0.3 < of.power(0.3, 100, 40)


@given(st.integers(3, 500), st.integers(3, 500))
def test_the_fewest_that_are_enough(limit: int, most: int) -> None:
    assert fewest(lambda n: n >= limit, 3, most) == (limit if limit <= most else None)


def test_a_pilot_of_one_seed_or_two_items_is_none() -> None:
    assert spread_of("web", "t", [np.zeros((50, 1)), np.zeros((2, 5))]) is None
    assert spread_of("web", "t", []) is None


def pilot(root: Path) -> None:
    itemised(root, {SCRATCH: [drawn(0.0, s) for s in range(3)], NCA: [drawn(0.05, s + 10) for s in range(3)]})


def test_power_of_items_in_the_terminal_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pilot(tmp_path)
    ask = ["power", "demo", "--root", str(tmp_path), "--rung", "cloze", "--effect", "0.01", "--effect", "0.05"]
    assert main([*ask, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    found, = answer["tasks"]
    assert (answer["unit"], found["items"], found["seeds"], found["arms"]) == ("share", 40, 3, 1)
    assert found["items_needed"].keys() == {str(n) for n in DESIGNS} and 0 < found["detectable"] < 0.2
    (seeds, seeds_high), (fewer, _) = found["seeds_needed"]
    assert 3 <= fewer <= seeds <= seeds_high
    small, large = (found["items_needed"][str(n)][0][0] or math.inf for n in (20, 5))
    assert small <= large
    assert main(ask) == 0
    text = capsys.readouterr().out
    assert "t, web: 40 items, 3 seeds, 1 arm; they find 0." in text and "items, with 10 seeds" in text


@pytest.mark.parametrize(("rung", "reason"), [("clze", "Did you mean 'cloze'"), ("margin", "no task has records")])
def test_what_has_no_answer_says_so(rung: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pilot(tmp_path)
    assert main(["power", "demo", "--root", str(tmp_path), "--rung", rung]) == 2
    assert reason in capsys.readouterr().err


def test_a_level_is_at_the_floor_at_the_ceiling_or_between(tmp_path: Path) -> None:
    def levels(between: float) -> dict[str, float]:
        values = {"1": 0.97, "2": between, "3": 0.25}
        return scored(0.5, **{f"{level}.cloze{of}": 0.25 if of else v for level, v in values.items()
                              for of in ("", ".chance")})

    from analysis.load import load
    from analysis.study import Study
    from analysis.tables import registry

    table(tmp_path, {SCRATCH: [levels(v) for v in (0.5, 0.51, 0.49)], NCA: [levels(v) for v in (0.6, 0.61, 0.62)]})
    frame = registry()["difficulty"].build(Study(load(tmp_path, "demo"))).set_index("level")
    assert frame["mark"].to_dict() == {"all": "between", "1": "ceiling", "2": "between", "3": "floor"}
    assert frame.loc["2", "lowest"] == pytest.approx(0.5) and frame.loc["2", "highest"] == pytest.approx(0.61)
    assert frame.loc["2", "above_chance"] == frame.loc["2", "arms"] == 2 and set(frame["chance"]) == {0.25}
    few = tmp_path / "few"
    table(few, {SCRATCH: [levels(0.5)] * 2}, seeds=2)
    assert registry()["difficulty"].build(Study(load(few, "demo"))).set_index("level")["mark"]["3"] == ""
