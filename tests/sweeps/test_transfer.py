"""What is carried over, as a sweep file says it: one spelling each, refused where it is nonsense, idle for scratch."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import SweepFileError
from sweeps.language.science import TransferScience
from sweeps.language.units import Redrawn
from tests.sweeps.test_language import ids, plan, values

REINIT = "transfer.reinit"


def last(fields: dict[str, Any], trial: str = "nca_60-75-web-s0") -> str:
    return ids(plan(values(fields=fields))[1])[trial][-1]


def test_what_is_drawn_anew_moves_the_arms_that_carry_something_and_no_other() -> None:
    for fields in ({REINIT: ["mlp"]}, {"transfer.rescale": True}):
        assert last(fields) != last({})
        assert ids(plan(values(fields=fields))[1])["scratch-web-s0"] == ids(plan(values())[1])["scratch-web-s0"]


def test_spelled_out_defaults_and_the_order_of_components_move_nothing() -> None:
    assert last({REINIT: [], "transfer.rescale": False, "transfer.head": "as_embeddings"}) == last({})
    assert last({REINIT: ["mlp", "attention@1-1"]}) == last({REINIT: ["attention@1", "mlp"]})


def test_as_an_axis_it_has_arms_of_those_that_carry_something() -> None:
    found, _ = plan(values(axes={**values()["axes"], "complexity": ["60-75"],
                                 REINIT: [[], ["attention", "mlp@1"]], "transfer.rescale": [False, True]}))
    assert {t.arm for t in found} == {"scratch", *(
        f"{upstream} reinit={reinit} rescale={rescale}" for upstream in ("nca 60-75", "nca_shuffled")
        for reinit in ("nothing", "attention+mlp@1") for rescale in (False, True))}
    assert all(t.baseline == f"scratch-{t.domain}-s{t.seed}" for t in found)


@pytest.mark.parametrize(("fields", "words"), [
    ({REINIT: ["head"]}, "write attention, mlp or norm"), ({REINIT: ["mlp@2-1"]}, "layers must rise: mlp@1-2"),
    ({REINIT: ["mlp@0", "mlp@1"]}, "given twice"), ({REINIT: ["mlp@0-2"]}, "the model has 2 layers, 0 to 1"),
    ({"transfer.head": "keep"}, "has token ids of its own"),
    ({"transfer.head": "reinit", "transfer.embeddings": "keep", "model.tied": True}, "the model is tied"),
])
def test_what_means_nothing_is_refused_before_any_job(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SweepFileError, match=words):
        plan(values(fields=fields))


@given(component=st.sampled_from(["attention", "mlp", "norm"]), first=st.integers(0, 99), more=st.integers(0, 99))
@settings(max_examples=50)
def test_a_range_of_layers_has_one_spelling(component: str, first: int, more: int) -> None:
    redrawn = Redrawn(f" {component}@{first:02}-{first + more} ")
    assert redrawn == Redrawn(redrawn) and redrawn.component == component
    assert redrawn.layers == range(first, first + more + 1)
    assert TransferScience.model_validate({"reinit": [redrawn]}).model_dump(mode="json")["reinit"] == [str(redrawn)]
