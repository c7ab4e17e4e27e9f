"""Verdicts on claims in words, on names that mean several bands, and on the order of best bands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.claims import Verdict, judge
from analysis.load import load
from analysis.study import Study
from sweeps.language.claim import Claim
from tests.analysis.conftest import SCRATCH, Arm, SweepBuilder

BANDS = ("30-45", "45-60", "60-75")


def bands(root: Path, best: dict[str, str], seeds: int = 4, gain: float = 0.08) -> Study:
    """A sweep in which each domain has one band that is `gain` better than the others."""
    study = None
    for domain, band in best.items():
        arms = (SCRATCH, *(Arm(name=f"nca {b}", upstream="nca", complexity=b, gain=0.02 + gain * (b == band))
                           for b in BANDS))
        made = Study(load(SweepBuilder(root / domain, arms=arms, domains=(domain,), seeds=seeds).build(), "demo"))
        study = made if study is None else joined(study, made)
    assert study is not None
    return study


def joined(one: Study, other: Study) -> Study:
    """Both studies' records as one sweep's."""
    import pandas as pd

    a, b = one.records, other.records
    frames = {n: pd.concat([getattr(a, n), getattr(b, n)], ignore_index=True)
              for n in ("trials", "curves", "scores", "steps")}
    return Study(replace(a, plan=a.plan.model_copy(update={"trials": a.plan.trials + b.plan.trials}), **frames))


def said(study: Study, claim: Any) -> Verdict:
    """The verdict on one claim."""
    fields = Claim.model_validate(claim).model_dump()
    records = replace(study.records, plan=study.records.plan.model_copy(update={"claims": {"it": fields}}))
    verdict, = judge(Study(records))
    return verdict


@pytest.mark.parametrize(("words", "verdict", "chosen"), [
    ("nca 30-45 beats scratch on web by more than 0.01 nats", "supported", "nca 30-45"),
    ("NCA 30-45 beats Scratch on web.", "supported", "nca 30-45"),
    ("nca beats scratch on web", "supported", "nca 30-45"),
    ("best band beats baseline on web by more than 0.2 nats", "contradicted", "nca 30-45"),
    ("nca at 300k beats shuffle_dyck at 1x on web by more than -0.2 nats", "supported", "nca 30-45"),
    ("nca at 164M beats scratch on web", "not tested", ""),
    ("nca beats gpt on web", "not tested", ""),
    ("nca 30-45 beats scratch on law", "not tested", ""),
])
def test_words_are_judged_as_the_contrast_they_mean(
    demo_study: Study, words: str, verdict: str, chosen: str
) -> None:
    found = said(demo_study, words)
    assert (found.verdict, found.chosen, found.text) == (verdict, chosen, words.rstrip(".")), found.rule


def test_a_name_that_means_several_bands_pays_for_choosing_one(demo_study: Study) -> None:
    by_name, best = (said(demo_study, f"{name} beats scratch on web") for name in ("nca", "best band"))
    assert by_name.interval == best.interval and "simultaneous" in by_name.rule
    alone = said(demo_study, f"{best.chosen} beats scratch on web")
    assert alone.interval.mean == pytest.approx(best.interval.mean) and "paired-t" in alone.rule
    bands = next(iter(demo_study.bands("web").items()))
    family, _, _ = demo_study.family("web", bands[1], bands[0])
    assert family is not None and best.detectable == by_name.detectable == family.detectable > 0
    assert alone.detectable == alone.interval.detectable > 0


@pytest.mark.parametrize(("code", "web", "verdict"), [
    ("30-45", "60-75", "supported"), ("60-75", "30-45", "contradicted"), ("45-60", "45-60", "contradicted"),
])
def test_the_best_band_of_a_domain_is_lower_than_of_another(
    tmp_path: Path, code: str, web: str, verdict: str
) -> None:
    study = bands(tmp_path, {"code": code, "web": web})
    found = said(study, "best band on code is lower than on web")
    assert found.verdict == verdict and f"{code} on code, {web} on web" in found.rule
    assert said(study, {"domain": "web", "band": "higher", "than": "code"}).verdict == (
        verdict if code != web else "contradicted")


def test_bands_that_are_not_told_apart_leave_their_order_open(tmp_path: Path) -> None:
    study = bands(tmp_path, {"code": "30-45", "web": "60-75"}, gain=0.0)
    found = said(study, "best band on code is lower than on web")
    assert found.verdict == "inconclusive" and found.interval.n == 4


def test_the_order_of_bands_is_not_tested_on_two_seeds_or_without_bands(tmp_path: Path) -> None:
    study = bands(tmp_path, {"code": "30-45", "web": "60-75"}, seeds=2)
    found = said(study, "best band on code is lower than on web")
    assert found.verdict == "not tested" and "fewer than 3 seeds" in found.rule
    assert "no arm has a complexity band" in said(study, "best band on law is lower than on web").rule
