"""Fields of pre-training for one domain alone: `code.pretrain.lr`."""

from __future__ import annotations

from typing import Any

import pytest

from sweeps.errors import SweepFileError
from sweeps.language.read import Source
from sweeps.language.resolve import Resolver
from sweeps.language.spec import check
from tests.sweeps.fakes import registries
from tests.sweeps.test_language import ids, plan, values

CODE = {"code.pretrain.lr": 2e-4, "code.pretrain.tokens": "2x"}


def test_it_moves_that_domains_pre_training_and_nothing_else() -> None:
    found, graph = plan(values(fields=CODE))
    base_found, base = plan(values())
    for trial in base.paths:
        shared = [s.role in ("end", "trunk", "evaluate") for s in base.paths[trial]]
        moved = [a != b for a, b in zip(ids(graph)[trial], ids(base)[trial], strict=True)]
        assert moved == (shared if "-code-" in trial else [False] * len(moved)), trial
    tokens = {t.id: t.pretrain_tokens for t in base_found}
    assert all(t.pretrain_tokens // tokens[t.id] == (2 if t.domain == "code" else 1) for t in found)
    assert all(t.baseline == f"scratch-{t.domain}-s{t.seed}" for t in found)


def test_it_means_what_the_field_means_in_a_sweep_of_that_domain() -> None:
    alone = {**values()["axes"], "domain": ["code"]}
    _, everywhere = plan(values(axes=alone, fields={k.removeprefix("code."): v for k, v in CODE.items()}))
    _, own = plan(values(fields=CODE))
    assert ids(everywhere).items() <= ids(own).items()


def test_it_comes_before_the_same_field_for_all_domains_and_is_no_field_of_the_domain() -> None:
    found, _ = plan(values(fields={"pretrain.lr": 1e-3, **CODE}))
    assert {(t.domain, t.core["pretrain"].lr) for t in found} == {("web", 1e-3), ("code", 2e-4)}
    _, graph = plan(values(fields=CODE))
    assert {n.label for n in graph.nodes.values() if n.spec.kind == "text"} == {"text code", "text math", "text web"}


def test_departures_name_it() -> None:
    source = Source(name="t.yaml", values=values(fields=CODE))
    found = {d.field: (d.given, d.preset) for d in Resolver(check(source), source, registries()).departures()}
    assert found["code.pretrain.lr"] == (2e-4, 0.004) and found["code.pretrain.tokens"] == ("2x", "1x")


def published(**changes: Any) -> dict[str, Any]:
    axes = {"upstream": ["none"], "domain": ["web", "math", "code"], "seed": [0]}
    return values(**{"protocol": "paper", "scale": "1.6b", "axes": axes, **changes})


def test_the_paper_trains_on_each_domain_as_published_at_its_own_scale_alone() -> None:
    update = 512 * 1_024
    tokens = {"web": 9_020_000_000, "math": 4_190_000_000, "code": 12_580_000_000}
    for share in (1, 0.5):
        found, _ = plan(published(fields={"pretrain.tokens": f"{share}x"}))
        assert {t.domain: t.pretrain_tokens for t in found} == {
            d: int(share * n) // update * update for d, n in tokens.items()}
    assert {t.domain: t.core["pretrain"].lr for t in found} == {"web": 5e-4, "math": 5e-4, "code": 2e-4}
    warmups = {t.domain: t.core["pretrain"].warmup for t in found}
    assert warmups == {"web": "10%", "math": "10%", "code": str(750 * update)}
    for changes in ({"scale": "400m"}, {"protocol": "fair"}):
        same, _ = plan(published(**changes))
        assert len({id(t.core["pretrain"]) for t in same}) == len({t.pretrain_tokens for t in same}) == 1


def test_its_own_values_are_no_departures_and_one_value_for_all_domains_departs_from_codes() -> None:
    def departures(**fields: Any) -> dict[str, tuple[Any, Any]]:
        source = Source(name="t.yaml", values=published(fields=fields))
        return {d.field: (d.given, d.preset) for d in Resolver(check(source), source, registries()).departures()}

    assert not departures() and not departures(**{"code.pretrain.lr": 2e-4})
    assert departures(**{"pretrain.lr": 5e-4}) == {"code.pretrain.lr": (5e-4, 2e-4)}
    both = {"pretrain.lr": 1e-3, "code.pretrain.lr": 5e-4}
    assert departures(**both) == {"pretrain.lr": (1e-3, 5e-4), "code.pretrain.lr": (5e-4, 2e-4)}
    found, _ = plan(published(fields={"pretrain.lr": 1e-3}))
    assert {t.core["pretrain"].lr for t in found} == {1e-3}, "what the file gives is above what a protocol sets"


@pytest.mark.parametrize(("fields", "words"), [
    ({"code.pretrain.lrr": 1}, r"fields.code.pretrain.lrr.*Did you mean 'lr'"),
    ({"code.pretrain.lr": "fast"}, r"fields.code.pretrain.lr = 'fast'.*number"),
    ({"code.pretrain.tokens": 10}, r"fields.code.pretrain.tokens = '10'.*less than one update"),
    ({"code.pretrain.warmup": "10%"}, r"fields.code.pretrain.warmup = '10%'.*absolute"),
    ({"math.pretrain.lr": -1}, r"fields.math.pretrain.lr = -1"),
    ({"code.model.width": 3}, r"fields.code.model.*unknown key"),
])
def test_a_slip_is_told_at_its_own_key(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SweepFileError, match=words):
        plan(values(fields=fields))


def test_an_axis_and_a_domains_own_value_are_one_too_many() -> None:
    with pytest.raises(SweepFileError, match="fields.code.pretrain.lr.*axis of this sweep too"):
        plan(values(axes={**values()["axes"], "pretrain.lr": [1e-3, 2e-3]}, fields={"code.pretrain.lr": 1e-4}))
