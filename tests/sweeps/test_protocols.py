"""The training fields of protocol section 4, as each preset sets them at the published scale, and what departs."""

from __future__ import annotations

from typing import Any

import pytest

from sweeps.language.read import Source
from sweeps.language.resolve import Resolver
from sweeps.language.spec import check
from tests.sweeps.fakes import registries
from tests.sweeps.test_language import plan, values

UPDATE = 32 * 1_024
"""Tokens of an upstream's update."""
PRETRAIN = {"lr": 5e-4, "batch_sequences": 512, "weight_decay": 1e-4, "clip": 1.0}
PREPRETRAIN = {"lr": 1e-4, "batch_sequences": 32, "weight_decay": 0.0}
COSINE = {"schedule": "cosine", "warmup": "10%", "final_lr_ratio": 0.0, "beta1": 0.9, "beta2": 0.999}
WSD = {"schedule": "wsd", "decay": "10%", "beta1": 0.9, "beta2": 0.95}
SET: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "fair": ({**PREPRETRAIN, **WSD, "clip": 1.0}, {**PRETRAIN, **WSD, "ends": ["50%", "70%", "100%"]}),
    "paper": ({**PREPRETRAIN, **COSINE, "clip": 0.0}, {**PRETRAIN, **COSINE, "ends": ["100%"]}),
    "release": ({**PREPRETRAIN, **COSINE, "clip": 0.0},
                {**PRETRAIN, **COSINE, "ends": ["100%"], "summed_steps": 32}),
}


@pytest.mark.parametrize("protocol", SET)
def test_a_protocol_sets_every_training_field(protocol: str) -> None:
    axes = {**values()["axes"], "upstream": ["none", "nca"], "domain": ["web"], "complexity": ["60-75"], "seed": [0]}
    found, graph = plan(values(protocol=protocol, scale="1.6b", axes=axes))
    for trial in found:
        for section, fields in zip(("prepretrain", "pretrain"), SET[protocol], strict=True):
            own = trial.core[section].model_dump(mode="json")
            assert {name: own[name] for name in fields} == fields, section
            assert own["summed_steps"] == fields.get("summed_steps", 1)
        assert trial.core["transfer"].embedding_init == 1.0 and trial.core["model"].dropout == 0.0
    segments = [n.spec.sections["segment"].values for n in graph.nodes.values() if n.spec.kind == "prepretrain"]
    end = max(s["end_tokens"] for s in segments)
    assert end == 5_000 * UPDATE
    if protocol == "fair":
        assert [s["decay_from"] for s in segments if s["end_tokens"] == end] == [4_500 * UPDATE]
    else:  # the checkpoint at the last warm-up step of 50,000
        assert [(s["end_tokens"], s["warmup_tokens"], s["horizon_tokens"], s["decay_from"]) for s in segments] == [
            (end, end, 10 * end, None)]


def departures(**fields: Any) -> dict[str, tuple[Any, str]]:
    axes = {**values()["axes"], "seed": [0, 1, 2]}
    source = Source(name="t.yaml", values=values(fields=fields, axes=axes))
    return {d.field: (d.given, d.source) for d in Resolver(check(source), source, registries()).departures()}


@pytest.mark.parametrize("rate", [4e-3, 1e-3])
def test_fair_owes_a_search_also_where_the_file_writes_the_values(rate: float) -> None:
    found = departures(**{"pretrain.lr": rate, "transfer.embedding_init": 1})
    assert found == {"pretrain.lr": (rate, "not yet searched"), "transfer.embedding_init": (1, "not yet searched")}


@pytest.mark.parametrize(("field", "alike", "other"), [
    ("evaluate.end_tokens", "32k", "33k"), ("evaluate.every", "5.0%", "5.1%"), ("pretrain.clip", 1, 2),
    ("pretrain.ends", ["50%", "70.0%", "100%"], ["50%", "100%"]), ("model.tied", False, True),
    ("documents.near_duplicates", None, "80%"), ("tokenizer.corpora", ["code", "math", "web"], ["code"]),
])
def test_a_presets_value_is_no_departure_however_it_is_written(field: str, alike: Any, other: Any) -> None:
    assert field not in departures(**{field: alike}) and field in departures(**{field: other})
