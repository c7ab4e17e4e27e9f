"""What a field does to a gain: the sign at each value, and against scratch's own best value."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis import tables
from analysis.by_field import at_values
from analysis.controls import contrasts
from analysis.load import load
from analysis.study import Study
from analysis.summary import verdict_sentences
from tests.analysis.conftest import Arm, SweepBuilder, always_done, detectable_of

FIELD = "transfer.embedding_init"


def arms(**gains: dict[float, float]) -> tuple[Arm, ...]:
    """Return upstream -> value -> gain over one common curve, as arms; `none` is scratch."""
    def named(upstream: str, value: float) -> str:
        return f"{'scratch' if upstream == 'none' else upstream} embedding_init={value}"

    return tuple(
        Arm(name=named(upstream, value), upstream=upstream, gain=gain, fields={FIELD: value},
            baseline=named("none", value), tokens=0 if upstream == "none" else 300_000)
        for upstream, by_value in gains.items() for value, gain in by_value.items())


SWEPT = arms(none={0.02: 0.0, 0.2: 0.03, 1.0: 0.02}, nca={0.02: -0.35, 0.2: 0.03, 1.0: 0.07},
             nca_shuffled={0.02: -0.2, 0.2: 0.0, 1.0: 0.06})


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Study:
    root = SweepBuilder(tmp_path_factory.mktemp("swept"), arms=SWEPT, domains=("code",)).build()
    return Study(load(root, "demo"))


def test_an_arm_meets_scratch_at_its_value_and_at_scratchs_best(swept: Study) -> None:
    group = at_values(swept, "code")[FIELD, "nca"]
    assert [(v.value, v.gain.resolved) for v in group] == [("0.02", -1), ("0.2", 0), ("1.0", 1)]
    for value, own, best in zip(group, (-0.35, 0.0, 0.05), (-0.38, 0.0, 0.04), strict=True):
        assert value.best_value == "0.2"
        assert value.gain.mean == pytest.approx(own, abs=0.015)
        assert value.over_best.mean == pytest.approx(best, abs=0.015)


def test_both_gains_have_their_detectable_effect(swept: Study) -> None:
    rows = [r for r in tables.registry()["by_field"].build(swept).to_dict("records") if r["scratch_best"] != r["value"]]
    assert len(rows) == 4
    for row in rows:
        assert row["detectable_nats"] == detectable_of(row)
        assert row["over_best_detectable"] == detectable_of(row, "over_best_low", "over_best_high")


def test_a_sentence_says_what_the_field_does_to_the_sign(swept: Study) -> None:
    text = "\n".join(verdict_sentences(swept))
    assert "code: nca over scratch with the same embedding_init: better at 1.0 (+0.0" in text
    assert "worse at 0.02 (-0.3" in text and "embedding_init decides the sign." in text
    assert "Over scratch at its own best (0.2, chosen on these seeds): at most +0.0" in text


def test_a_control_is_met_at_the_same_value(swept: Study) -> None:
    met = {(c.arm, c.control) for c in contrasts(swept, "code")}
    assert met == {(f"nca embedding_init={v}", f"nca_shuffled embedding_init={v}") for v in (0.02, 0.2, 1.0)}


def test_too_few_seeds_and_absent_scratch_claim_nothing(tmp_path: Path) -> None:
    def fate(trial: str, role: str, tokens: int) -> str:
        return "absent" if trial.startswith("scratch") and role == "end" else always_done(trial, role, tokens)

    few = Study(load(SweepBuilder(tmp_path / "few", arms=SWEPT, domains=("code",), seeds=2).build(), "demo"))
    none = Study(load(SweepBuilder(tmp_path / "none", arms=SWEPT, domains=("code",), fate=fate).build(), "demo"))
    assert "decides the sign" not in "\n".join(verdict_sentences(few))
    assert "with the same embedding_init" not in "\n".join(verdict_sentences(none))
    frame = tables.registry()["by_field"].build(none)
    assert len(frame) == 6 and frame["gain_nats"].isna().all() and set(frame["scratch_best"]) == {""}


def test_a_sweep_without_such_a_field_has_no_rows(demo_study: Study) -> None:
    assert tables.registry()["by_field"].build(demo_study).empty
