"""Tickets: inputs before readers, one trial's stages together, and no slot idle for long at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.costs import seconds_guess
from orchestrator.packer import SHORT_SECONDS, Packer, Room, add_measurement, pack_limit, throughput
from sweeps.language.graph import Node
from sweeps.language.stage import StageSpec
from sweeps.language.units import Pack
from sweeps.store.records import Result
from tests.orchestrator.plans import planned


def packer(tmp_path: Path) -> Packer:
    return Packer(planned(tmp_path).graph, lambda node: 1.0)


def test_a_ticket_never_holds_a_stage_before_its_inputs(tmp_path: Path) -> None:
    packing = packer(tmp_path)
    waiting, done = set(packing.graph.nodes), set[str]()
    while waiting:
        ready = packing.ready(waiting, done, done)
        assert ready
        ticket = packing.ticket(ready, waiting, done, Room(limit=7.0, weigh=packing.seconds))
        for key in ticket:
            assert all(n in done for n in packing.needs(packing.graph.nodes[key]))
            done.add(key)
            waiting.discard(key)


def test_a_ticket_stays_near_its_limit_and_holds_at_least_one_stage(tmp_path: Path) -> None:
    packing = packer(tmp_path)
    everything = set(packing.graph.nodes)
    for limit, expected in ((0.0, 1), (3.0, 3), (5.5, 6)):
        room = Room(limit=limit, weigh=packing.seconds)
        assert len(packing.ticket(packing.ready(everything, (), ()), everything, (), room)) == expected


def test_stages_of_earlier_trials_come_first(tmp_path: Path) -> None:
    packing = packer(tmp_path)
    everything = set(packing.graph.nodes)
    ready = packing.ready(everything, (), ())
    priorities = [packing.graph.nodes[k].priority for k in ready]
    assert priorities == sorted(priorities)


def test_tickets_shorten_towards_the_end() -> None:
    assert pack_limit(120, 10_000, 2) == 120
    assert pack_limit(120, 100, 2) == 50
    assert pack_limit(120, 0, 2) == 30
    assert pack_limit(5, 0, 2) == 5


def test_a_number_of_stages_fills_every_ticket_however_few_are_left(tmp_path: Path) -> None:
    packing = packer(tmp_path)
    waiting = set(packing.graph.nodes)
    ready = packing.ready(waiting, (), ())
    assert len(packing.ticket(ready, waiting, (), packing.room(Pack("20"), waiting, slots=1000))) == 20
    assert len(packing.ticket(ready, waiting, (), packing.room(Pack("1"), waiting, slots=1))) == 1


def test_a_long_stage_ends_a_ticket_that_counts_stages(tmp_path: Path) -> None:
    graph = packer(tmp_path).graph
    packing = Packer(graph, lambda node: 2 * SHORT_SECONDS if node.spec.kind == "rules" else 1.0)
    waiting = set(graph.nodes)
    ready = packing.ready(waiting, (), ())
    tickets = []
    while ready:
        tickets.append(packing.ticket(ready, waiting, (), packing.room(Pack("20"), waiting, slots=2)))
        waiting -= set(tickets[-1])
    kinds = [[graph.nodes[key].spec.kind for key in ticket] for ticket in tickets]
    assert any("rules" in ticket for ticket in kinds)
    assert all("rules" not in ticket[:-1] for ticket in kinds)
    assert 1 < max(map(len, kinds)) <= 20


def scoring(flops: float) -> Node:
    return Node(spec=StageSpec(kind="downstream", revisions={}, sections={}), label="", scoring_flops=flops)


def test_scoring_is_estimated_by_its_flops_until_stages_of_its_kind_have_told_their_speed() -> None:
    """Those that went on after another attempt, or ended at once, tell nothing."""
    measured: dict[str, tuple[float, float]] = {}
    small, large = scoring(1e10), scoring(6e12)
    assert seconds_guess(large, throughput(measured, "downstream", 25e9)) == pytest.approx(2.5 + 240)
    assert seconds_guess(small, throughput(measured, "downstream", 25e9)) == pytest.approx(2.5 + 0.4)
    assert seconds_guess(scoring(0), 25e9) == 5, "nothing is known of it"
    add_measurement(measured, large, Result(attempt=2, scores={}, seconds=1.0))
    add_measurement(measured, large, Result(attempt=1, scores={}, seconds=1.0, status="diverged"))
    assert not measured
    add_measurement(measured, large, Result(attempt=1, scores={}, seconds=500.0))
    add_measurement(measured, small, Result(attempt=1, scores={}, seconds=100.0))
    assert seconds_guess(large, throughput(measured, "downstream", 25e9)) == pytest.approx(2.5 + 6e12 * 600 / 6.01e12)


def test_training_is_measured_in_its_loop() -> None:
    node = Node(spec=StageSpec(kind="pretrain", revisions={}, sections={}), label="", end_tokens=1_000,
                flops_per_token=6e6)
    measured: dict[str, tuple[float, float]] = {}
    add_measurement(measured, node, Result(attempt=2, scores={"tokens_per_second": 100.0}, seconds=99.0))
    assert measured == {"pretrain": (6e9, 10.0)}
