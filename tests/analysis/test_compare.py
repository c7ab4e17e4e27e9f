"""Two sides beside each other: what agrees, what differs, and why."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.bundle import export
from analysis.compare import AGREE, DIFFER, IDENTICAL, UNKNOWN, welch
from orchestrator.__main__ import main
from sweeps.language.gate import Verdict
from sweeps.store import files
from sweeps.store.layout import Layout
from tests.analysis.conftest import ARMS, RELAXED, SCRATCH, Arm, SweepBuilder
from tests.analysis.test_downstream import NCA, _asked, scored, table  # noqa: F401

WEB = ("web",)
NAME = "nca 30-45"
Compared = Callable[..., dict[str, Any]]
samples = st.lists(st.integers(-500, 500).map(lambda v: v / 100), min_size=3, max_size=8)


@pytest.fixture
def compared(capsys: pytest.CaptureFixture[str]) -> Compared:
    """Call the verb and return its JSON."""
    def call(*argv: object) -> dict[str, Any]:
        assert main(["compare", *map(str, argv), "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return call


def verdicts(found: dict[str, Any]) -> dict[str, str]:
    return {n["arm"]: n["verdict"] for n in found["numbers"]}


@RELAXED
@given(samples, samples)
def test_welch_is_scipys_and_knows_no_order(a: list[float], b: list[float]) -> None:
    ours, mirrored = welch(a, b), welch(b, a)
    assert (ours.low, ours.high) == pytest.approx((-mirrored.high, -mirrored.low), abs=1e-9)
    if len({*a}) > 1 and len({*b}) > 1:
        theirs = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("a", "b"), [([], [1.0] * 3), ([1.0] * 2, [1.0] * 9)])
def test_too_few_seeds_give_no_interval(a: Sequence[float], b: Sequence[float]) -> None:
    assert welch(a, b).note and not welch(a, b).resolved


def test_the_same_records_are_identical_wherever_they_lie(tmp_path: Path, compared: Compared) -> None:
    one, two = (SweepBuilder(tmp_path / n, domains=WEB).build() for n in "ab")
    export(two, "demo", tmp_path / "b.tar.zst")
    for other in (two, two / "sweeps" / "demo", tmp_path / "b.tar.zst"):
        found = compared(one, other)
        assert not found["differs"] and set(verdicts(found).values()) == {IDENTICAL}
        assert found["common"] == found["same"] == 15 and found["settings"] == []


def test_downstream_scores_are_compared_though_the_losses_are_the_same(
    tmp_path: Path, compared: Compared, capsys: pytest.CaptureFixture[str]
) -> None:
    def store(name: str, shift: float, **more: float) -> Path:
        own = {SCRATCH.name: [scored(v) for v in (0.4, 0.41, 0.42)],
               NCA: [scored(v + shift, **more) for v in (0.5, 0.52, 0.51)]}
        table(tmp_path / name, own)
        return tmp_path / name

    one, two = store("a", 0.0), store("b", 0.2, **{"1.cloze": 0.5})
    found = compared(one, two)
    numbers = {(n["arm"], n["what"]): n for n in found["numbers"]}
    assert {key: n["verdict"] for key, n in numbers.items()} == {
        (SCRATCH.name, "loss"): IDENTICAL, (SCRATCH.name, "t.all.cloze"): IDENTICAL, (NCA, "gain"): IDENTICAL,
        (NCA, "t.all.cloze"): DIFFER}
    number = numbers[NCA, "t.all.cloze"]
    assert (number["a"]["mean"], number["b"]["mean"], number["difference"]["mean"]) == pytest.approx((0.51, 0.71, 0.2))
    assert found["differs"] and not compared(one, one)["differs"]
    assert main(["compare", str(one), str(two)]) == 0
    assert "t.all.cloze a 0.5100 (n=3), b 0.7100 (n=3); b - a +0.200" in " ".join(capsys.readouterr().out.split())


def test_downstream_tasks_of_one_side_are_named(tmp_path: Path, compared: Compared) -> None:
    table(tmp_path / "a", {SCRATCH.name: [scored(0.4)] * 3})
    SweepBuilder(tmp_path / "b", domains=WEB, arms=(SCRATCH,)).build()
    found = compared(tmp_path / "a", tmp_path / "b")
    assert found["only_a"]["downstream tasks"] == ["t"] and found["only_b"]["downstream tasks"] == []


def test_a_gain_beyond_the_intervals_differs_and_noise_does_not(tmp_path: Path, compared: Compared) -> None:
    better = tuple(Arm(name=a.name, upstream=a.upstream, complexity=a.complexity, gain=a.gain + 0.1 * (a is ARMS[2]),
                       tokens=a.tokens) for a in ARMS)
    one = SweepBuilder(tmp_path / "a", domains=WEB, noise=0.004).build()
    two = SweepBuilder(tmp_path / "b", domains=WEB, noise=0.005, arms=better).build()
    found = compared(one, two)
    assert verdicts(found) == {a.name: DIFFER if a is ARMS[2] else AGREE for a in ARMS} and found["differs"]
    number = next(n for n in found["numbers"] if n["verdict"] == DIFFER)
    assert number["what"] == "gain" and 0.08 < number["difference"]["low"] < number["difference"]["high"] < 0.12


def test_an_upstream_that_was_not_learned_is_marked_on_its_side(
    tmp_path: Path, compared: Compared, capsys: pytest.CaptureFixture[str]
) -> None:
    doubted = (SCRATCH, Arm(name=NAME, upstream="nca", complexity="30-45", gain=0.3, verdict=Verdict.NOT_LEARNED))
    sure = (SCRATCH, Arm(name=NAME, upstream="nca", complexity="30-45"))
    one = SweepBuilder(tmp_path / "a", domains=WEB, noise=0.004, arms=doubted).build()
    two = SweepBuilder(tmp_path / "b", domains=WEB, noise=0.005, arms=sure).build()
    marks = {n["arm"]: (n["doubtful_a"], n["doubtful_b"]) for n in compared(one, two)["numbers"]}
    assert marks == {"scratch": (False, False), NAME: (True, False)}
    assert main(["compare", str(one), str(two)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert re.search(r"gain a \S+ \[\S+ \S+\] \?, b [^?]+; b - a", text), text
    assert main(["compare", str(one), str(one)]) == 0
    assert re.search(r"identical:.*gain \S+ \[\S+ \S+\] \?", capsys.readouterr().out, re.DOTALL)


def test_why_they_differ_is_said(tmp_path: Path, compared: Compared, capsys: pytest.CaptureFixture[str]) -> None:
    one = SweepBuilder(tmp_path / "a", domains=("web", "code"), seeds=3).build()
    two = SweepBuilder(tmp_path / "b", domains=WEB, seeds=2, arms=ARMS[:3], cosine=True,
                       plan={"versions": {"torch": "2.14.0"}, "departures": ()}).build()
    found = compared(one, two)
    settings = {s["name"]: (s["a"], s["b"], s["pairs"]) for s in found["settings"]}
    assert settings["pretrain optim.schedule"] == ("wsd", "cosine", 3), "in each of three cells"
    assert settings["departure pretrain.lr"][1] == "(absent)"
    assert ("torch", "2.13.0", "2.14.0") in [(v["name"], v["a"], v["b"]) for v in found["versions"]]
    assert found["only_a"] == {"domains": ["code"], "arms": [a.name for a in ARMS[3:]], "seeds": ["2"],
                               "downstream tasks": []}
    assert found["same"] == 0 < found["common"] and set(verdicts(found).values()) <= {UNKNOWN, IDENTICAL}
    assert main(["compare", str(one), str(two)]) == 0
    text = capsys.readouterr().out
    assert "pretrain optim.schedule: wsd -> cosine (3 cells)" in text and "domains of a alone: code" in text
    assert max(map(len, text.splitlines())) <= 80


def test_protocols_are_compared_only_where_somebody_asks_for_it(
    tmp_path: Path, compared: Compared, capsys: pytest.CaptureFixture[str]
) -> None:
    one = SweepBuilder(tmp_path / "a", domains=WEB, arms=(SCRATCH,)).build()
    two = SweepBuilder(tmp_path / "b", domains=WEB, arms=(SCRATCH,), plan={"protocol": "paper"}).build()
    assert main(["compare", str(one), str(two)]) == 2
    assert "do not measure the same; --mixed-protocols" in capsys.readouterr().err
    found = compared(one, two, "--mixed-protocols")
    assert ("protocol", "fair", "paper") in {(s["name"], s["a"], s["b"]) for s in found["settings"]}


def test_curves_are_compared_with_curves(tmp_path: Path, compared: Compared) -> None:
    for name, gain in (("a", 0.1), ("b", 0.3)):
        rows = [f"web,{arm},{seed},{t},{4 - t / 100 - (arm == 'nca') * (gain + seed**2 / 1000)}"
                for arm in ("scratch", "nca") for seed in range(3) for t in (50, 100)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["panel,upstream,seed,tokens,val_loss", *rows]) + "\n")
    found = compared(tmp_path / "a.csv", tmp_path / "b.csv", "--baseline", "scratch")
    assert verdicts(found) == {"scratch": IDENTICAL, "nca": DIFFER} and found["settings"] == []
    assert found["numbers"][1]["difference"]["mean"] == pytest.approx(0.2)


def test_names_are_those_of_the_stores_that_are_named(
    tmp_path: Path, compared: Compared, capsys: pytest.CaptureFixture[str]
) -> None:
    root = SweepBuilder(tmp_path / "store", domains=WEB, seeds=1).build()
    plan = Layout(root).sweep("demo").plan.read_text()
    files.replace(Layout(root).sweep("again").plan, plan.replace('"name":"demo"', '"name":"again"'))
    assert not compared("demo", "again", "--root", root)["differs"]
    assert main(["compare", str(root), "demo", "--root", str(root)]) == 2
    assert "several sweeps: name one; known: again, demo" in capsys.readouterr().err
    assert main(["compare", "demo", "dem", "--root", str(root)]) == 2
    assert "no such sweep" in capsys.readouterr().err
