"""Who goes on in a search: a function of the losses alone, whatever came first and whoever ran ahead."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.errors import SweepFileError
from sweeps.language.asha import Bracket, Candidate, decide, losses_of
from sweeps.language.grid import trials
from sweeps.language.presets import SEARCHED
from sweeps.language.read import Source
from sweeps.language.resolve import Resolver
from sweeps.language.search import boundary, cell_keys, plan_search, select_spec
from sweeps.language.spec import check
from sweeps.language.stages import GraphBuilder, rungs_of
from tests.sweeps.fakes import registries

LOSS = st.one_of(st.sampled_from([1.0, 2.0, 3.0, math.inf]), st.floats(0.5, 9.0))


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, list[list[float]]]:
    """Return eta, and the loss that each candidate would have at each rung."""
    rungs = draw(st.integers(1, 4))
    return draw(st.integers(2, 4)), draw(st.lists(st.lists(LOSS, min_size=rungs, max_size=rungs), min_size=1,
                                                  max_size=13))


def halving(eta: int, table: list[list[float]]) -> int | None:
    """Synchronous successive halving, written out: the best of the last rung."""
    alive = list(range(len(table)))
    for rung in range(len(table[0])):
        alive = sorted((c for c in alive if table[c][rung] < math.inf), key=lambda c: (table[c][rung], c))
        if rung < len(table[0]) - 1:
            quota = max(1, len(halving_size(table, eta, rung)) // eta)
            alive = sorted(alive[:quota])
    return alive[0] if alive else None


def halving_size(table: list[list[float]], eta: int, rung: int) -> list[int]:
    """Return who runs a rung, diverged ones included."""
    alive = list(range(len(table)))
    for below in range(rung):
        ranked = sorted((c for c in alive if table[c][below] < math.inf), key=lambda c: (table[c][below], c))
        alive = sorted(ranked[:max(1, len(alive) // eta)])
    return alive


def asked(table: list[list[float]], eta: int, known: dict[tuple[int, int], float]) -> list[tuple[int, int]]:
    """Return what may run now and has no loss yet."""
    found = decide(known, candidates=len(table), rungs=len(table[0]), eta=eta)
    return [(c, rung) for c in range(len(table)) for rung in range(found.allowed[c] + 1)
            if (c, rung) not in known and rung <= found.lost.get(c, rung)]


@given(tables(), st.randoms(use_true_random=False))
def test_the_choice_is_that_of_synchronous_halving_in_whatever_order_results_arrive(
    drawn: tuple[int, list[list[float]]], random: Any,
) -> None:
    eta, table = drawn
    known: dict[tuple[int, int], float] = {}
    while ready := asked(table, eta, known):
        candidate, rung = random.choice(ready)  # one of many workers ends; each look is a restart
        known[candidate, rung] = table[candidate][rung]
    found = decide(known, candidates=len(table), rungs=len(table[0]), eta=eta)
    assert found.over and found.best == halving(eta, table)
    assert list(found.sizes) == [len(halving_size(table, eta, r)) for r in range(len(table[0]))]


@given(tables(), st.randoms(use_true_random=False))
def test_who_has_lost_stays_lost(drawn: tuple[int, list[list[float]]], random: Any) -> None:
    eta, table = drawn
    known: dict[tuple[int, int], float] = {}
    lost: dict[int, int] = {}
    while ready := asked(table, eta, known):
        candidate, rung = random.choice(ready)
        known[candidate, rung] = table[candidate][rung]
        now = decide(known, candidates=len(table), rungs=len(table[0]), eta=eta)
        assert all(now.lost[c] <= at for c, at in lost.items())
        assert now.best is None or now.best not in {c for c, at in now.lost.items() if at < len(table[0]) - 1}
        lost = dict(now.lost)


@given(st.data(), st.integers(2, 4), st.integers(1, 12), st.integers(2, 4))
def test_at_most_one_in_eta_of_a_rung_goes_on(data: Any, eta: int, count: int, rungs: int) -> None:
    """Of any set of losses, also of one that no search would lead to."""
    places = st.tuples(st.integers(0, count - 1), st.integers(0, rungs - 1))
    known = data.draw(st.dictionaries(places, LOSS, max_size=40))
    found = decide(known, candidates=count, rungs=rungs, eta=eta)
    for rung in range(rungs - 1):
        here = [c for c in range(count) if found.allowed[c] > rung]
        ended = [c for c in range(count) if (c, rung) in known and found.allowed[c] >= rung]
        assert len(here) <= max(len(ended) // eta, min(1, len(ended)))
        assert all((c, rung) in known and known[c, rung] < math.inf for c in here)
        worst = max((known[c, rung] for c in here), default=-math.inf)
        if rung == 0:
            assert all(known[c, 0] >= worst for c in ended if c not in here), "a better one was passed over"


def test_equal_losses_are_told_apart_by_the_order_of_the_grid() -> None:
    found = decide({(c, 0): 1.0 for c in range(4)}, candidates=4, rungs=2, eta=2)
    assert found.allowed == (1, 1, 0, 0) and set(found.lost) == {2, 3}


def test_no_result_is_no_loss_and_a_diverged_seed_is_an_infinite_one() -> None:
    run = (("a", "b"),), (("c", "d"),)
    bracket = Bracket(cell="x", key="k", upstream_tokens=0, pretrain_tokens=1,
                      candidates=(Candidate(values={"pretrain.lr": 1e-3}, runs=run),))
    losses: dict[str, float] = {"a": 9.0, "b": 2.0, "c": 9.0}
    assert losses_of(bracket, losses.get) == {}, "one seed is not there yet"
    assert losses_of(bracket, {**losses, "d": 4.0}.get) == {(0, 0): 3.0}
    assert losses_of(bracket, {**losses, "c": math.inf}.get) == {(0, 0): math.inf}, "its end will never come"


# -- the sweep file ---------------------------------------------------------------------------------------------------

SEARCH: dict[str, Any] = {
    "schema_version": 1, "name": "search", "search": {"eta": 2},
    "axes": {"upstream": ["none", "nca"], "complexity": ["45-60"], "domain": ["web", "code"], "seed": [1000, 1001],
             "pretrain.lr": [1e-3, 2e-3, 4e-3], "transfer.embedding_init": [0.2, 1.0]},
    "fields": {"pretrain.ends": ["50%", "100%"]},
}


def resolver(**changes: Any) -> Resolver:
    values = {**SEARCH, **changes}
    source = Source(name="s.yaml", values={k: v for k, v in values.items() if v is not None})
    return Resolver(check(source), source, registries())


def axes(**changes: Any) -> dict[str, Any]:
    return {k: v for k, v in {**SEARCH["axes"], **changes}.items() if v is not None}


def test_a_bracket_holds_the_candidates_of_one_cell() -> None:
    made = resolver()
    found = trials(made)
    graph = GraphBuilder(registries(), "tiny", search=True).build(found)
    search = plan_search(made.sweep.search, found, graph.paths, registries(), "tiny")  # type: ignore[arg-type]
    assert [b.cell for b in search.brackets] == ["scratch | web", "scratch | code", "nca 45-60 | web",
                                                 "nca 45-60 | code"]
    for bracket in search.brackets:
        assert [tuple(c.values.values()) for c in bracket.candidates] == [
            (lr, std) for lr in (1e-3, 2e-3, 4e-3) for std in (0.2, 1.0)]
        assert all(len(c.runs) == 2 and bracket.rungs == 2 for c in bracket.candidates)
        assert bracket.select == select_spec(bracket, 2).fingerprint
    training = [s for b in search.brackets for c in b.candidates for run in c.runs for rung in run for s in rung]
    kinds = {"prepretrain", "pretrain"}
    assert set(training) == {k for k, n in graph.nodes.items() if n.spec.kind in kinds}
    assert len({b.key for b in search.brackets}) == 4


def test_a_search_measures_nothing_but_its_rungs_and_lower_ones_come_first() -> None:
    graph = GraphBuilder(registries(), "tiny", search=True).build(trials(resolver()))
    assert {n.spec.kind for n in graph.nodes.values()} == {"text", "tokenizer", "corpus", "rules", "prepretrain",
                                                           "pretrain"}
    assert {n.spec.sections["text"].values["split"] for n in graph.nodes.values() if n.spec.kind == "text"} == {
        "search"}
    rungs = [rungs_of(path) for path in graph.paths.values()]
    last_of_lower = max(graph.nodes[s].priority for r in rungs for s in r[0])
    assert last_of_lower < min(graph.nodes[s].priority for r in rungs for s in r[1])


def test_a_cell_is_what_is_trained_whatever_is_searched_and_measured() -> None:
    def keys(**changes: Any) -> dict[str, str]:
        made = resolver(search=None, axes=axes(**{"seed": [0], **dict.fromkeys(SEARCHED)}), **changes)
        return cell_keys(trials(made), registries(), "tiny")

    search = cell_keys(trials(resolver()), registries(), "tiny")
    assert keys() == search
    assert keys(fields={"pretrain.lr": 7e-3, "evaluate.end_tokens": "8k", "pretrain.ends": ["70%", "100%"],
                        "documents.search_share": "20%"}) == search
    for changed in ({"pretrain.tokens": "2x"}, {"pretrain.weight_decay": 0.1}, {"prepretrain.lr": 1e-4},
                    {"model.width": 128}, {"documents.max_bytes": 1000}, {"pretrain.decay": "20%"}):
        other = keys(fields=changed)
        assert other["nca 45-60 | web"] != search["nca 45-60 | web"], changed


def test_a_value_at_the_end_of_its_axis_is_flagged() -> None:
    bracket = Bracket(cell="x", key="k", upstream_tokens=0, pretrain_tokens=1, candidates=tuple(
        Candidate(values={"pretrain.lr": lr, "transfer.embedding_init": 1.0}, runs=((("a",),),))
        for lr in (1e-3, 2e-3, 4e-3)))
    assert [boundary(bracket, n) for n in range(3)] == [("pretrain.lr",), (), ("pretrain.lr",)]


@pytest.mark.parametrize(("changes", "expected"), [
    ({"axes": axes(seed=[999, 1000])}, "axes.seed.*999.*begin at 1,000"),
    ({"axes": axes(**{"pretrain.lr": None})}, "has pretrain.lr among its axes"),
    ({"claims": {"a": {"domain": "web", "arm": "nca", "gain_nats": "> 0"}}}, "compares no arms"),
    ({"gate": "require"}, "has no gates"),
    ({"searched": "other"}, "takes nothing from another"),
    ({"fields": {"documents.split": "comparison"}}, "documents.split.*apart; leave it out"),
    ({"fields": {"documents.search_share": "100%"}}, "documents.search_share.*must be below 100%"),
    ({"axes": axes(**{"documents.search_share": ["10%", "20%"]})}, "documents.search_share.*apart; leave it out"),
    ({"search": None, "searched": "s"}, "axes.pretrain.lr.*is what the search 's' chooses"),
])
def test_what_a_search_may_not_have(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(SweepFileError, match=expected):
        trials(resolver(**changes))
