"""What the protocol `release` has that `paper` has not: gradients summed over accumulation before clipping."""

from __future__ import annotations

from sweeps.language.read import Source
from sweeps.language.resolve import Resolver
from sweeps.language.science import OptimScience
from sweeps.language.spec import check
from sweeps.language.stage import section
from tests.sweeps.fakes import registries
from tests.sweeps.test_language import ids, plan, values

SUMMED = "pretrain.summed_steps"


def departures(protocol: str, **fields: object) -> dict[str, object]:
    source = Source(name="t.yaml", values=values(protocol=protocol, fields=fields))
    return {d.field: d.preset for d in Resolver(check(source), source, registries()).departures()}


def test_the_release_sums_over_32_steps_in_pre_training_and_the_others_average() -> None:
    found = {protocol: {(t.core["pretrain"].summed_steps, t.core["prepretrain"].summed_steps)
                        for t in plan(values(protocol=protocol))[0]} for protocol in ("fair", "paper", "release")}
    assert found == {"fair": {(1, 1)}, "paper": {(1, 1)}, "release": {(32, 1)}}


def test_it_is_a_departure_where_the_protocol_does_not_say_so() -> None:
    assert departures("paper", **{SUMMED: 32})[SUMMED] == 1 and departures("fair", **{SUMMED: 2})[SUMMED] == 1
    assert departures("release", **{SUMMED: 1})[SUMMED] == 32
    assert SUMMED not in departures("release") and SUMMED not in departures("release", **{SUMMED: 32})


def test_it_moves_no_stage_that_averages_and_every_one_that_sums() -> None:
    assert section(OptimScience(lr=1.0)).changed == {"lr": 1.0}, "a mean adds nothing to a fingerprint"
    (_, mean), (_, summed) = (plan(values(protocol="release", fields={SUMMED: n})) for n in (1, 32))
    assert ids(summed) == ids(plan(values(protocol="release"))[1])
    for trial, path in mean.paths.items():
        moved = [a != b for a, b in zip(ids(mean)[trial], ids(summed)[trial], strict=True)]
        assert moved == [step.role in ("end", "trunk", "evaluate") for step in path], trial
