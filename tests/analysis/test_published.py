"""The published results beside one's own."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from analysis.figures import registry
from analysis.published import beside, curves, results
from analysis.study import Study
from analysis.tables import registry as tables


def test_published_gains_are_the_ratios_of_published_perplexities() -> None:
    assert len(results()) == 12
    nca, text = beside("web", "nca"), beside("openwebtext", "C4")
    assert nca is not None and nca.gain_nats == pytest.approx(math.log(14.66 / 13.82))
    assert text is not None and text.gain_nats < 0 and beside("web", "life") is None


def test_published_curves_end_near_the_published_perplexities() -> None:
    """Read off a figure: within 0.005 nats."""
    for upstream, curve in curves().items():
        known = beside("web", upstream)
        assert known is not None and curve.losses[-1] == pytest.approx(math.log(known.perplexity), abs=0.005)


def test_the_table_has_arms_of_published_upstreams_and_no_controls(demo_study: Study) -> None:
    frame = tables()["published"].build(demo_study)
    assert set(frame["arm"]) == {"nca 30-45", "nca 60-75"} and len(frame) == 6


def test_an_overlay_changes_the_figures_that_it_is_laid_under_and_no_other(demo_study: Study) -> None:
    laid = replace(demo_study, overlay=True)
    changed = {name for name, plugin in registry().items()
               if [d.svg for d in plugin.build(demo_study)] != [d.svg for d in plugin.build(laid)]}
    assert changed == {"gain_by_band"}, "the demo ends before the published curves begin"
