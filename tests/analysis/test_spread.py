"""Losses over seeds at each token count, against a plain loop; and that a report leaves the collector as it was."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from analysis.study import Study, study
from orchestrator.reporting import write_report
from sweeps.errors import UsageError
from sweeps.store.layout import Layout


@pytest.mark.parametrize("root", ["demo", "partial"])
def test_spreads_are_those_of_a_plain_loop(root: str, request: pytest.FixtureRequest) -> None:
    found = study(request.getfixturevalue(root), "demo")
    seeds: dict[tuple[str, str, bool], dict[float, list[float]]] = {}
    for row in found.records.curves.itertuples():
        if row.loss == row.loss:
            seeds.setdefault((row.domain, row.arm, row.scored), {}).setdefault(row.tokens, []).append(row.loss)
    assert found.spread.keys() == seeds.keys() and len(seeds) > 12
    for key, spread in found.spread.items():
        losses = [seeds[key][tokens] for tokens in sorted(seeds[key])]
        assert spread.tokens.tolist() == sorted(seeds[key]) and spread.seeds.tolist() == [len(x) for x in losses]
        assert spread.mean.tolist() == pytest.approx([sum(x) / len(x) for x in losses], rel=1e-12)
        assert (spread.low.tolist(), spread.high.tolist()) == ([min(x) for x in losses], [max(x) for x in losses])
        assert type(key[2]) is bool


def test_spreads_are_in_the_plans_order(demo_study: Study) -> None:
    domains, arms = demo_study.records.domains, demo_study.records.arms
    assert list(demo_study.spread) == sorted(
        demo_study.spread, key=lambda key: (domains.index(key[0]), arms.index(key[1]), key[2]))


@pytest.mark.parametrize("on", [True, False])
def test_a_report_leaves_the_collector_as_it_was(on: bool, demo: Path, tmp_path: Path) -> None:
    was = gc.isenabled()
    try:
        (gc.enable if on else gc.disable)()
        write_report([Layout(demo)], "demo", tmp_path)
        assert gc.isenabled() is on
        with pytest.raises(UsageError):
            write_report([Layout(demo)], "nothing", tmp_path)
        assert gc.isenabled() is on
    finally:
        (gc.enable if was else gc.disable)()
