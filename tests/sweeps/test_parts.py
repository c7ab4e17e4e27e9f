"""Upstreams that read more than a bank of their own: which stages they share, and what is refused before any job."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from orchestrator.plan import make_plan, run_pilots
from sweeps.errors import SweepFileError
from sweeps.language.graph import Graph
from sweeps.language.grid import Trial, trials
from sweeps.language.plugins import Registries
from sweeps.language.read import Source
from sweeps.language.resolve import Resolver
from sweeps.language.spec import Overrides, check
from sweeps.language.stages import GraphBuilder
from workloads.registry import load_registries

CURRICULUM = {
    "mixture.parts": {"easy": {"upstream": "nca", "fields": {"complexity.band": "30-45"}},
                      "hard": {"upstream": "nca", "fields": {"complexity.band": "60-75"}}},
    "mixture.weights": {"0": {"easy": 1}, "0.5x": {"hard": 1}},
}


@cache
def registries() -> Registries:
    return load_registries()


def plan(upstreams: list[str], fields: dict[str, Any] | None = None, **axes: Any) -> tuple[list[Trial], Graph]:
    """Plan one domain and seed of a sweep at scale tiny."""
    values = {"schema_version": 1, "name": "t", "fields": fields or {}, "baseline": {"upstream": upstreams[0]},
              "axes": {"upstream": upstreams, "domain": ["code"], "seed": [0], **axes}}
    source = Source(name="t.yaml", values=values)
    resolver = Resolver(check(source), source, registries())
    found = trials(resolver)
    return found, GraphBuilder(registries(), "tiny").build(found)


def stages(graph: Graph, trial: str, *kinds: str) -> list[str]:
    return list(dict.fromkeys(s.fingerprint for s in graph.paths[trial] if s.kind in kinds))


def refused(upstreams: list[str], fields: dict[str, Any] | None = None, **axes: Any) -> str:
    with pytest.raises(SweepFileError) as error:
        plan(upstreams, fields, **axes)
    return str(error.value)


# -- text --------------------------------------------------------------------------------------------------------


def test_text_reads_the_corpus_of_the_domain_and_no_bank() -> None:
    _, graph = plan(["none", "text"], {"text.domain": "math"})
    corpus, = {i.fingerprint for k in stages(graph, "text-code-s0", "prepretrain")
               for i in graph.nodes[k].spec.inputs if i.role == "bank"}
    assert graph.nodes[corpus].label == "corpus math"
    assert corpus in stages(graph, "scratch-code-s0", "corpus"), "it is the corpus that scratch is measured on"
    gate, = (s.fingerprint for s in graph.paths["text-code-s0"] if s.role == "gate")
    assert [i.role for i in graph.nodes[gate].spec.inputs] == ["model", "bank", "bank_held_out"]
    flops = {graph.nodes[k].flops_per_token for k in stages(graph, "text-code-s0", "prepretrain", "pretrain")}
    assert len(flops) == 1, "one vocabulary upstream and downstream"


def test_a_path_holds_the_text_that_its_upstream_alone_reads() -> None:
    _, graph = plan(["none", "text"], {"text.domain": "web", "tokenizer.corpora": ["code"]})
    labels = {graph.nodes[s.fingerprint].label for s in graph.paths["text-code-s0"]}
    assert {"text web", "corpus web"} <= labels
    assert "corpus web" not in {graph.nodes[s.fingerprint].label for s in graph.paths["scratch-code-s0"]}


def test_a_tokenizer_of_another_size_is_another_upstream() -> None:
    _, graph = plan(["none", "text"], **{"tokenizer.vocabulary": [512, 1024]})
    runs = [stages(graph, f"text_vocabulary={v}-code-s0", "prepretrain") for v in (512, 1024)]
    assert not set(runs[0]) & set(runs[1])


def test_a_domains_field_as_an_axis_makes_other_text() -> None:
    _, graph = plan(["none", "text"], {"text.domain": "code"}, **{"code.min_chars": [100, 400]})
    for kind in ("text", "tokenizer", "corpus", "prepretrain", "pretrain", "evaluate"):
        one, other = (stages(graph, f"text_min_chars={n}-code-s0", kind) for n in (100, 400))
        assert one != other, kind


@pytest.mark.parametrize(("field", "role"), [
    ("copying.length", "evaluate"), ("upstream_gate.margin", "gate"), ("evaluate.gate_tokens", "gate")])
def test_a_measurements_field_as_an_axis_makes_another_measurement(field: str, role: str) -> None:
    found, graph = plan(["none", "nca"], **{field: [16, 32]})
    ends = {s.fingerprint for t in found if t.upstream == "nca" for s in graph.paths[t.id] if s.role == role}
    assert len(ends) == 2


def test_keeping_embeddings_is_an_axis_of_text_alone() -> None:
    found, graph = plan(["none", "nca", "text"], **{"transfer.embeddings": ["reinit", "keep"]})
    assert [t.arm for t in found] == ["scratch", "nca", "text embeddings=reinit", "text embeddings=keep"]
    reinit, keep = ("text_embeddings=reinit-code-s0", "text_embeddings=keep-code-s0")
    assert stages(graph, reinit, "prepretrain") == stages(graph, keep, "prepretrain")
    assert not set(stages(graph, reinit, "pretrain")) & set(stages(graph, keep, "pretrain"))
    twins = {s.fingerprint for path in graph.paths.values() for s in path if s.role == "twin"}
    assert len(twins) == 1, "the untrained twin has nothing to keep"


def test_keeping_embeddings_does_not_move_scratch() -> None:
    _, plain = plan(["none", "text"])
    _, kept = plan(["none", "text"], {"transfer.embeddings": "keep"})
    assert plain.paths["scratch-code-s0"] == kept.paths["scratch-code-s0"]
    assert plain.paths["text-code-s0"] != kept.paths["text-code-s0"]


def test_embeddings_of_other_tokens_cannot_be_kept() -> None:
    said = refused(["none", "nca", "text"], {"transfer.embeddings": "keep"})
    assert "fields.transfer.embeddings" in said and "nca has token ids of its own" in said
    assert "transfer.embeddings: [reinit, keep]" in said
    assert "known: keep, reinit" in refused(["none", "text"], {"transfer.embeddings": "kepe"})


def test_an_unknown_domain_of_text_is_refused_with_its_place() -> None:
    assert "fields.text.domain = 'wbe': unknown domain" in refused(["none", "text"], {"text.domain": "wbe"})
    said = refused(["none", "text"], **{"text.domain": ["web", "mth"]})
    assert "axes.text.domain = 'mth': unknown domain" in said and "Did you mean 'math'" in said


# -- init_rescaled -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upstreams", [["none", "nca", "init_rescaled"], ["none", "init_rescaled", "nca"]])
def test_the_norms_come_from_the_stages_of_the_nca_run(upstreams: list[str]) -> None:
    found, graph = plan(upstreams, {"nca.temperature": 1e-3}, complexity=["60-75"], token_budget=["0.5x", "1x"])
    assert {t.arm for t in found} == {"scratch", "nca 60-75 0.5x", "nca 60-75 1x", "init_rescaled 0.5x",
                                      "init_rescaled 1x"}
    for budget in ("0.5x", "1x"):
        nca, control = f"nca_60-75_{budget}-code-s0", f"init_rescaled_{budget}-code-s0"
        for kind in ("rules", "prepretrain"):
            assert stages(graph, nca, kind) == stages(graph, control, kind)
        gates = [[s for s in graph.paths[trial] if s.role == "gate"] for trial in (nca, control)]
        assert gates[0] == gates[1]
        assert not set(stages(graph, nca, "pretrain")) & set(stages(graph, control, "pretrain"))
        first = graph.nodes[stages(graph, control, "pretrain")[0]].spec
        assert [i.role for i in first.inputs] == ["corpus", "norms"]
    trunk = [n for n in graph.nodes.values() if n.spec.kind == "prepretrain" and n.after is not None]
    assert len(trunk) == 1 and trunk[0].start_tokens > 0


def test_another_band_of_the_control_is_another_run() -> None:
    _, graph = plan(["none", "nca", "init_rescaled"], {"init_rescaled.complexity.band": "30-45"}, complexity=["60-75"])
    runs = [stages(graph, f"{arm}-code-s0", "prepretrain") for arm in ("nca_60-75", "init_rescaled")]
    assert not set(runs[0]) & set(runs[1])
    assert registries().upstreams["init_rescaled"].control


# -- mixture -----------------------------------------------------------------------------------------------------


def test_a_curriculum_shares_the_banks_of_the_plain_bands_and_has_their_vocabulary() -> None:
    _, graph = plan(["none", "nca", "mixture"], CURRICULUM, complexity=["30-45", "60-75"])
    plain = {band: stages(graph, f"nca_{band}-code-s0", "rules") for band in ("30-45", "60-75")}
    mixed = stages(graph, "mixture-code-s0", "rules")
    assert set(mixed) <= {*plain["30-45"], *plain["60-75"]}
    last = graph.nodes[stages(graph, "mixture-code-s0", "prepretrain")[-1]]
    assert last.flops_per_token == graph.nodes[stages(graph, "nca_30-45-code-s0", "prepretrain")[-1]].flops_per_token
    roles = [{i.role for i in graph.nodes[k].spec.inputs} for k in stages(graph, "mixture-code-s0", "prepretrain")]
    assert roles == [{"bank.easy", "bank.hard"}, {"bank.hard", "trunk"}], "the branch lies in the second phase"


def test_an_early_budget_needs_no_rules_of_a_late_part() -> None:
    _, graph = plan(["none", "mixture"], CURRICULUM, token_budget=["0.25x", "1x"])
    early = [graph.nodes[k].spec.inputs for k in stages(graph, "mixture_0.25x-code-s0", "prepretrain")]
    assert {i.role for inputs in early for i in inputs} == {"bank.easy", "trunk"}
    assert any(n.after is not None for n in graph.nodes.values()), "budgets are points on one trunk"


def test_the_gate_measures_the_mean_of_what_was_trained_on() -> None:
    _, graph = plan(["none", "mixture"], CURRICULUM)
    gate, = (graph.nodes[s.fingerprint] for s in graph.paths["mixture-code-s0"] if s.role == "gate")
    law = gate.spec.sections["upstream"].values["weights"]["0"]
    assert set(law) == {"easy", "hard"} and law["easy"] / sum(law.values()) == pytest.approx(0.5, abs=0.002)
    assert {i.role for i in gate.spec.inputs} == {
        "model", "bank.easy", "bank.hard", "bank_held_out.easy", "bank_held_out.hard"}


def test_parts_have_the_fields_of_the_file_and_defaults_spelled_out_move_nothing() -> None:
    _, base = plan(["none", "mixture"], CURRICULUM)
    spelled = {**CURRICULUM, "mixture.parts": {
        "hard": {"upstream": "nca", "fields": {"complexity.band": "60-75"}},
        "easy": {"fields": {"states": 4, "complexity.band": "30.0-45"}, "upstream": "nca"}}}
    assert plan(["none", "mixture"], spelled)[1].paths == base.paths
    warm = plan(["none", "mixture"], {**CURRICULUM, "nca.temperature": 1e-3})[1]
    assert not set(stages(warm, "mixture-code-s0", "rules")) & set(stages(base, "mixture-code-s0", "rules"))


def test_a_mixture_may_hold_text_and_brackets() -> None:
    fields = {"mixture.parts": {"a": {"upstream": "text", "fields": {"domain": "web"}},
                                "b": {"upstream": "shuffle_dyck"},
                                "c": {"upstream": "text", "fields": {"domain": "math"}}}}
    found, graph = plan(["none", "mixture"], fields)
    spec = graph.nodes[stages(graph, "mixture-code-s0", "prepretrain")[0]].spec
    assert [(i.role, i.kind) for i in spec.inputs] == [("bank.a", "corpus"), ("bank.c", "corpus")]
    assert found[1].note == "a 1 + b 1 + c 1"
    model = found[1].core["model"]
    assert graph.nodes[spec.fingerprint].flops_per_token == model.flops_per_token(1024 + 128)


def test_every_fault_of_a_mixture_is_told_at_once() -> None:
    said = refused(["none", "mixture"], {"mixture.parts": {
        "a": {"upstream": "ncaa"}, "b": {"upstream": "none"}, "c": {"upstream": "nca", "fields": {"states": 1}},
        "d": {"upstream": "nca", "fields": {"complexity.band": "75-60"}},
        "e": {"upstream": "text", "fields": {"domain": "wbe"}}, "f": {"upstream": "mixture"},
    }, "mixture.weights": {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}})
    for words in ("fields.mixture.parts.a.upstream = 'ncaa': unknown upstream", "Did you mean 'nca'",
                  "fields.mixture.parts.b.upstream = 'none': cannot be a part",
                  "fields.mixture.parts.c.fields.states = 1: must be greater than or equal to 2",
                  "fields.mixture.parts.d.fields.complexity.band = '75-60'",
                  "fields.mixture.parts.e.fields.domain = 'wbe': unknown domain",
                  "fields.mixture.parts.f.upstream = 'mixture': cannot be a part", "the part f is never drawn"):
        assert words in said, said


def test_a_fault_of_a_parts_shape_names_the_part() -> None:
    said = refused(["none", "mixture"], {"mixture.parts": {"a": {"upstrem": "nca"}, "b": {"upstream": "nca"}}})
    assert "fields.mixture.parts.a.upstrem" in said and "Did you mean 'upstream'" in said
    said = refused(["none", "mixture"], {"mixture.weights": {"nca": 1, "shufle_dyck": 1}})
    assert "fields.mixture.weights" in said and "unknown part 'shufle_dyck'" in said


def test_a_part_of_which_no_data_can_be_made_is_refused_by_its_pilot(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("schema_version: 1\nname: s\n"
                    "axes: {upstream: [none, mixture, init_rescaled], domain: [code], seed: [0]}\n"
                    "fields:\n  nca.complexity.band: 97-99\n  init_rescaled.complexity.band: 98-99\n  mixture.parts:\n"
                    "    a: {upstream: shuffle_dyck}\n    b: {upstream: nca, fields: {complexity.scale: raw}}\n")
    with pytest.raises(SweepFileError) as error:
        run_pilots(make_plan(path, Overrides(), tmp_path / "store"))
    said = str(error.value)
    assert "mixture: part b: complexity.band 97-99 (raw) cannot be met" in said and "init_rescaled: complexity" in said
