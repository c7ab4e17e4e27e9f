"""Sentences and the terminal's table: computed, honest, 80 columns, ASCII."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.load import load
from analysis.study import Study
from analysis.summary import verdict_sentences
from analysis.terminal import terminal_text, text_of
from analysis.wording import parameters, plain, short
from sweeps.language.gate import Verdict
from sweeps.language.manifest import PlanChoice
from tests.analysis.conftest import ARMS, SCRATCH, Arm, SweepBuilder


def said(root: Path, **about: object) -> str:
    """Return the sentences of a sweep as one text."""
    return "\n".join(verdict_sentences(Study(load(root, "demo"))))


def test_finished_sweep(demo_study: Study) -> None:
    text = "\n".join(verdict_sentences(demo_study))
    assert "web: better than scratch: nca 30-45 +0.0" in text
    assert "the control nca_shuffled 60-75 alone gains" in text
    assert "Not resolved from the control, so no gain from structure is shown: nca 60-75" in text
    assert "nca 30-45 (not the control's band, so not order alone)" in text
    assert "largest mean gain of 2 bands: nca 30-45" in text and "simultaneous over the bands, 3 seeds" in text
    assert "Claim nca_helps_web (best_band over baseline in web, gain > 0): SUPPORTED" in text
    assert "No signal: on copying.accuracy no final model" in text
    assert "Not searched per arm yet: pretrain.lr" in text
    assert "0.13M parameters, 12,253 times smaller than the published 1.6B" in text
    assert "Not in the numbers" not in text
    assert "Claim" not in "\n".join(verdict_sentences(demo_study, claims=False))


def test_a_choice_on_the_edge_of_its_grid_is_said(tmp_path: Path) -> None:
    choices = tuple(PlanChoice(cell=cell, values={"pretrain.lr": 8e-3}, boundary=edge, sweep="lr_search", select="ab")
                    for cell, edge in (("scratch | web", ()), ("nca 45-60 | web", ("pretrain.lr",))))
    root = SweepBuilder(tmp_path, domains=("web",), plan={"departures": (), "searched": choices}).build()
    text = said(root)
    assert "On the edge of the grid that lr_search searched: pretrain.lr of nca 45-60 | web." in text
    assert "Not searched" not in text and "lr_search chose on" not in text
    for seeds, told in ((1000,), True), ((1000, 1001, 1002), False):
        few = tuple(choice.model_copy(update={"seeds": seeds}) for choice in choices)
        root = SweepBuilder(tmp_path / str(told), domains=("web",), plan={"departures": (), "searched": few}).build()
        assert ("lr_search chose on 1 seed: a value may be one arm's luck" in said(root)) is told


@pytest.mark.parametrize(("lead", "told"), [((0.05, 0.06, 0.055), False), ((0.05, -0.02, 0.03), True), ((), False)])
def test_a_baseline_that_may_be_better_at_other_values_is_told_of(
    tmp_path: Path, lead: tuple[float, ...], told: bool
) -> None:
    choice = PlanChoice(cell="scratch | web", values={"pretrain.lr": 8e-3}, sweep="lr_search", select="ab", lead=lead,
                        seeds=(1000, 1001, 1002), runner_up={"pretrain.lr": 1.6e-2})
    other = choice.model_copy(update={"cell": "nca 45-60 | web", "lead": (0.0, 0.1, -0.1)})  # no baseline
    plan = {"departures": (), "searched": (choice, other)}
    text = said(SweepBuilder(tmp_path, domains=("web",), plan=plan).build())
    assert ("lr_search did not resolve a baseline's values from the next candidate's. They lead on web by "
            "+0.020 [-0.070, +0.110] over lr=0.016 (scratch). Where" in text) is told
    assert ("over values of scratch that its search did not resolve from the next (+0.020 [-0.070, +0.110])"
            in text) is told
    assert text.count("did not resolve") == (2 if told else 0)


def test_two_seeds_claim_nothing(partial: Path) -> None:
    text = said(partial)
    assert "no interval (fewer than 3 seeds)" in text and "NOT TESTED" in text
    for word in ("better than scratch", "SUPPORTED", "is resolved.", "More than the control"):
        assert word not in text
    assert "3 seeds would find gains" in text
    assert "1 of 30 trials diverged (nca_30-45-web-s0)" in text
    assert "1 of 30 trials not finished (scratch-math-s1)" in text
    assert "without a gain: baseline missing" in text


def test_an_upstream_that_was_not_learned(tmp_path: Path) -> None:
    arms = (SCRATCH, Arm(name="nca 45-60", upstream="nca", complexity="45-60", verdict=Verdict.NOT_LEARNED),
            Arm(name="dyck", upstream="dyck", verdict=Verdict.INCONCLUSIVE), Arm(name="good", upstream="text"))
    root = SweepBuilder(tmp_path, arms=arms, domains=("web",)).build()
    text, table = said(root), terminal_text(root, "demo").splitlines()
    assert ("Upstreams not learned: nca 45-60 (3 of 3 seeds); inconclusive: dyck (3 of 3 seeds). A missing gain there "
            "says nothing") in text
    assert "nca 45-60 (upstream learned in 0/3) " in text and "good (upstream" not in text
    assert "control" not in text
    marks = {row.split()[0]: " ? " in row for row in table if row.startswith(("nca", "dyck", "good"))}
    assert marks == {"nca": True, "dyck": True, "good": False}


def test_worse_than_scratch(tmp_path: Path) -> None:
    arms = (SCRATCH, Arm(name="bad", upstream="dyck", gain=-0.2))
    assert "worse than scratch: bad -0." in said(SweepBuilder(tmp_path, arms=arms, domains=("web",)).build())


def test_nothing_yet(tmp_path: Path) -> None:
    root = SweepBuilder(tmp_path, fate=lambda *_: "absent", domains=("web",)).build()
    assert "No arm has been scored together with its baseline yet." in said(root)
    assert "0 of 15 trials scored" in terminal_text(root, "demo")


@pytest.mark.parametrize("width", [20, 60, 80, 120])
@pytest.mark.parametrize("state", ["demo", "partial"])
def test_width_and_ascii(request: pytest.FixtureRequest, state: str, width: int) -> None:
    text = terminal_text(request.getfixturevalue(state), "demo", width)
    assert text.isascii() and max(map(len, text.splitlines())) <= max(width, 48)
    assert all(line == line.rstrip() for line in text.splitlines())


def test_the_table_of_a_finished_sweep(demo_study: Study) -> None:
    text = text_of(demo_study)
    row = next(line for line in text.splitlines() if line.startswith("nca 60-75"))
    effect = demo_study.effect("web", "nca 60-75")
    assert f"{effect.mean:+.3f} +-{effect.half:.3f}*" in row and " 3/3 " in row
    for line in ("scratch loss", "bits per byte", "detectable", "seeds"):
        assert f"\n{line}" in text


def test_the_table_of_a_partial_sweep(partial: Path) -> None:
    text = terminal_text(partial, "demo")
    row = next(line for line in text.splitlines() if line.startswith("nca 30-45"))
    assert "n=1!" in row and "+-" not in row and "*" not in row


def test_hostile_names_cannot_steer_a_terminal(tmp_path: Path) -> None:
    arms = (ARMS[0], Arm(name="red\x1b[31m\r\nnew " + "long " * 20, upstream="dyck"))
    text = terminal_text(SweepBuilder(tmp_path, arms=arms, domains=("w" * 40, "x\ty")).build(), "demo")
    assert "\x1b" not in text and "\r" not in text and max(map(len, text.splitlines())) <= 80


def test_words() -> None:
    assert [parameters(n) for n in (131_456, 9_830_000, 1_610_713_088, 12)] == ["0.13M", "9.83M", "1.6B", "12"]
    assert plain("a\n b\x00") == "a b\\x00" and len(short("x" * 99)) == 24
