"""Plans say what each band accepts and costs, warn with figures, and refuse what cannot be made before a job exists."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import session
from orchestrator.pilots import Search, searches, unsandboxed, warnings
from orchestrator.plan import Planned, make_plan
from sweeps.language.plugins import Survey
from sweeps.language.spec import Overrides, Run
from tests.orchestrator.verb_stores import SHIPPED, answer, called, run
from workloads.sandbox import ladder

Captured = pytest.CaptureFixture[str]
SMOKE = SHIPPED / "smoke.yaml"
SURVEY = Survey(band="30-45 % normalized", low=30, high=45, unit=0.49, ceiling=100.0, accepted=20,
                percents=(10.0,) * 180 + (40.0,) * 20, interval=(0.066, 0.149), seconds_per_candidate=1e-3)


def test_a_plan_shows_what_each_band_accepts_and_what_its_rules_cost(tmp_path: Path, capsys: Captured) -> None:
    bands = ("--set", "complexity=[30-45,60-75]")
    plan = answer(capsys, "plan", SMOKE, "--root", tmp_path / "new", *bands)
    assert [r["band"] for r in plan["rules"]] == ["30-45 % normalized", "60-75 % normalized"]
    for rules in plan["rules"]:
        assert rules["candidates"] == 256 and rules["accepted"] > 0 and rules["warning"] == ""
        assert rules["ceiling_percent"] == pytest.approx(100)
        assert rules["interval"][0] < rules["acceptance"] < rules["interval"][1]
        blocks = [s for s in plan["stages"] if s["kind"] == "rules"]
        assert 0 < rules["rules"] < 600 * len(blocks) + 1 and rules["seconds"] > 0
    code, text, _ = called(capsys, "plan", SMOKE, "--root", tmp_path / "new", *bands)
    assert code == 0 and "rules     30-45 % normalized: accepts " in text
    assert all(len(line) <= 80 for line in text.splitlines() if "accepts" in line)
    assert answer(capsys, "plan", SMOKE, "--root", tmp_path / "new", "--no-pilot")["rules"] == []


def test_rules_that_are_in_the_store_cost_nothing_more(tmp_path: Path) -> None:
    planned = make_plan(SMOKE, Overrides(cluster="memory"), tmp_path)
    before = searches(planned)
    run(planned)
    after = searches(planned)
    assert len(before) == 2 and all(search.rules > 0 and search.seconds > 0 for search in before)
    assert [(search.rules, search.seconds, search.warning) for search in after] == [(0, 0, "")] * 2


def test_a_common_band_of_few_rules_gives_no_warning() -> None:
    search = Search(survey=SURVEY, rules=600, stages={"a": 6.0})
    assert search.warning == "" and not list(warnings([search]))
    assert search.line == "30-45 % normalized: accepts 10 % (6.6 to 15); 600 rules, 6 s"


@pytest.mark.parametrize(("survey", "rules", "seconds", "said"), [
    (SURVEY, 160_000, 1600.0, "accepts about 10 % of random rules, so 160,000 rules take about 27 min of one core"),
    (replace(SURVEY, percents=(1.0,) * 200, accepted=3, interval=(0.005, 0.043)), 600, 40.0,
     "accepts about 1.5 % of random rules, so 600 rules take about 40 s of one core"),
    (replace(SURVEY, accepted=0, interval=(0.0, 0.019)), 600, 31.6,
     "none of 200 random rules was accepted, so at most 1.9 % are, and 600 rules take about 32 s of one core or more"),
])
def test_a_rare_or_slow_band_is_warned_of_with_figures(survey: Survey, rules: int, seconds: float, said: str) -> None:
    [text] = warnings([Search(survey=survey, rules=rules, stages={"a": seconds})])
    assert said in text


def test_a_narrow_band_is_planned_with_a_warning_that_plan_prints(tmp_path: Path, capsys: Captured) -> None:
    argv = ("plan", SMOKE, "--root", tmp_path / "new", "--set", "nca.complexity.scale=raw", "--set",
            "complexity=[20-20.4]")
    code, text, error = called(capsys, *argv)
    assert code == 0, error
    assert "WARNING   band 20-20.4 % raw: " in text and "of one core" in text


BAD = {
    "impossible_band": (["complexity=[99-100]"], ["99-100", "ceiling", "choose"]),
    "impossible_band_of_the_alphabet": (["nca.states=2", "nca.complexity.scale=raw", "complexity=[50-60]"],
                                        ["n = 2", "ceiling"]),
    "inverted_band": (["complexity=[60-30]"], ["60-30", "LOW < HIGH"]),
    "touching_limits": (["complexity=[45-45]"], ["45-45", "LOW < HIGH"]),
    "a_band_beyond_everything": (["complexity=[50-101]"], ["50-101", "<= 100"]),
    "one_state": (["nca.states=1"], ["nca.states = 1", "greater than or equal to 2"]),
    "patch_that_does_not_divide": (["nca.patch=3"], ["patch 3", "8x8", "multiples"]),
    "tokens_beyond_their_type": (["nca.states=100"], ["100000002 token ids", "65536", "lower states or patch"]),
    "negative_temperature": (["nca.temperature=-1e-4"], ["-0.0001", "greater than or equal to 0"]),
    "temperature_no_number": (["nca.temperature=.nan"], ["finite"]),
    "fewer_than_two_frames": (["model.sequence_length=35"],
                              ["sequence_length = 35", "two frames of 18", "at least 36"]),
    "no_upstream_tokens": (["token_budget=[0]"], ["token_budget", "0"]),
    "no_target_tokens": (["pretrain.tokens=0"], ["pretrain.tokens", "0"]),
    "no_gate_tokens": (["evaluate.gate_tokens=0"], ["gate_tokens", "0"]),
    "unknown_protocol": (["protocol=releese"], ["Did you mean 'release'"]),
    "unknown_scale": (["scale=tinny"], ["Did you mean 'tiny'"]),
    "unknown_control": (["upstream=[none, nca_shufled]"], ["Did you mean 'nca_shuffled'"]),
    "unknown_quirk": (["nca.pad_chanels=true"], ["Did you mean 'pad_channels'"]),
    "no_frames_to_score": (["nca.complexity.frames=0"], ["greater than or equal to 1"]),
    "even_neighbourhood": (["nca.network.neighbourhood=2"], ["odd"]),
}


@pytest.mark.parametrize("verb", ["plan", "sweep"])
@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_made_is_refused_before_any_job_exists(
    name: str, verb: str, tmp_path: Path, capsys: Captured
) -> None:
    sets, words = BAD[name]
    argv = [part for text in sets for part in ("--set", text)]
    code, text, error = called(capsys, verb, SMOKE, "--root", tmp_path / "new", *argv)
    assert (code, text) == (2, ""), error
    for word in words:
        assert word in error, error
    assert not list(tmp_path.rglob("*.json*")), "something was written"


@pytest.mark.parametrize("length", [36, 256])
def test_two_frames_are_enough(length: int, tmp_path: Path) -> None:
    assert make_plan(SMOKE, Overrides(sets=(f"model.sequence_length={length}",)), tmp_path).trials


PROGRAMS = ("downstream.tasks=[python_functions]", "python_functions.generation.samples=10")


def test_a_person_is_told_beforehand_where_no_sandbox_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def none() -> None:
        tried.append(1)
        raise ladder.NoSandbox("none holds here")

    monkeypatch.setattr(ladder, "open_box", none)
    planned = make_plan(SMOKE, Overrides(sets=PROGRAMS), tmp_path)
    [said] = unsandboxed(planned)
    assert "stages will not evaluate the programs that models write: none holds here" in said and tried == [1]
    for other in (replace(planned, unsafe_exec=True), make_plan(SMOKE, Overrides(sets=PROGRAMS[:1]), tmp_path)):
        assert list(unsandboxed(other)) == [] and tried == [1], "nothing is tried that is not needed"
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}", encoding="utf-8")
    read = ("downstream.tasks=[gsm8k]", f"gsm8k.paths=[{rows}]", "gsm8k.generation.samples=10",
            "gsm8k.generation.max_new_tokens=128")
    assert list(unsandboxed(make_plan(SMOKE, Overrides(sets=read), tmp_path))) == [], "solutions are read, not run"


def test_only_a_typed_flag_lets_programs_run_outside_a_sandbox(
        tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Planned] = []

    def run_sweep(planned: Planned, **_: object) -> tuple[None, bool]:
        seen.append(planned)
        return None, True

    monkeypatch.setattr(session, "run_sweep", run_sweep)
    for flags in ((), ("--unsafe-exec",)):
        called(capsys, "sweep", SMOKE, "--root", tmp_path, "--quiet", *flags)
    assert [planned.execution("downstream").unsafe_exec for planned in seen] == [False, True]
    assert "unsafe_exec" not in Run.model_fields, "a file that somebody else wrote cannot ask for it"
