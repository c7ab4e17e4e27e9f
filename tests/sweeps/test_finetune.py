"""`downstream.finetune`: which stages it adds, what they share, that nothing else moves, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from sweeps.language.checks import check_layout
from sweeps.language.grid import trials
from sweeps.language.plugins import ItemTask
from sweeps.language.presets import PROTOCOLS, SCALES
from sweeps.language.read import Source
from sweeps.language.resolve import Resolver
from sweeps.language.science import FinetuneScience
from sweeps.language.spec import check
from sweeps.language.stages import GraphBuilder
from tests.sweeps.test_downstream import TASKS, by_role
from tests.sweeps.test_parts import plan, refused, registries, stages

TUNED = {**TASKS, "downstream.finetune": ["arithmetic"]}
TRIAL = "nca-code-s0"


def test_fine_tuning_moves_no_stage_and_the_score_before_it_is_the_one_that_there_is() -> None:
    _, without = plan(["none", "nca"], TASKS)
    _, graph = plan(["none", "nca"], TUNED)
    assert without.nodes.keys() < graph.nodes.keys()
    new = sorted(n.spec.kind for f, n in graph.nodes.items() if f not in without.nodes)
    assert new == ["downstream", "downstream", "finetune", "finetune", "items"], "the items once for both arms"
    before, = by_role(graph, TRIAL, "downstream_untuned")
    assert before in by_role(without, TRIAL, "downstream")
    after = by_role(graph, TRIAL, "downstream")
    assert before not in after and len(after) == len(TASKS["downstream.tasks"])


def test_what_is_read_and_trained() -> None:
    _, graph = plan(["none", "nca"], {**TUNED, "finetune.updates": 7, "finetune.sequence_length": 128})
    tuned, = by_role(graph, TRIAL, "finetune")
    node = graph.nodes[tuned]
    model, items, _ = node.spec.inputs
    assert [i.role for i in node.spec.inputs] == ["model", "items", "tokenizer"]
    assert model.fingerprint == stages(graph, TRIAL, "pretrain")[-1]
    training = graph.nodes[items.fingerprint].spec
    asked, = (i for i in training.inputs)
    assert (asked.role, asked.fingerprint) == ("apart", by_role(graph, TRIAL, "items")[0])
    values = training.sections["task.arithmetic"].values
    assert (values["split"], values["items"]) == ("train", FinetuneScience().items)
    assert node.end_tokens == 7 * 4 * 128 and node.spec.sections["segment"].values["horizon_tokens"] == node.end_tokens
    scored = graph.nodes[by_role(graph, TRIAL, "downstream")[0]].spec
    assert (scored.inputs[0].kind, scored.inputs[0].fingerprint) == ("finetune", tuned)


def test_wsd_has_a_trunk_and_a_branch_and_longer_ones_share_the_trunks_run() -> None:
    fields = {**TUNED, "finetune.schedule": "wsd", "finetune.warmup": "5k", "finetune.decay": "20%"}
    _, graph = plan(["none"], fields)
    trunk, branch = (graph.nodes[f] for f in by_role(graph, "scratch-code-s0", "finetune"))
    assert branch.spec.inputs[-1].fingerprint == trunk.spec.fingerprint
    assert branch.spec.sections["segment"].values["decay_from"] == trunk.end_tokens == 400 * 4 * 256
    _, two = plan(["none"], fields, **{"finetune.updates": [500, 1000]})
    trunks = sorted((n for n in two.nodes.values() if n.spec.kind == "finetune" and n.after is not None),
                    key=lambda n: n.end_tokens)
    assert [n.start_tokens for n in trunks] == [400 * 4 * 256] and trunks[0].end_tokens == 800 * 4 * 256
    assert len([n for n in two.nodes.values() if n.spec.kind == "pretrain"]) == len(
        [n for n in graph.nodes.values() if n.spec.kind == "pretrain"]), "pre-training is shared"


def test_what_follows_an_upstream_waits_for_its_gate() -> None:
    source = Source(name="t.yaml", values={
        "schema_version": 1, "name": "t", "fields": TUNED, "baseline": {"upstream": "none"},
        "axes": {"upstream": ["none", "nca"], "domain": ["code"], "seed": [0]}})
    graph = GraphBuilder(registries(), "tiny", gate_required=True).build(
        trials(Resolver(check(source), source, registries())))
    for role in ("finetune", "downstream_untuned", "downstream"):
        assert all(graph.nodes[f].gate for f in by_role(graph, TRIAL, role))


@pytest.mark.parametrize(("fields", "reason"), [
    ({"downstream.tasks": ["brackets"]}, "is none of downstream.tasks; name it there too"),
    ({"arithmetic.split": "train"}, "is asked its training split"),
    ({"finetune.sequence_length": 1024}, "the model has 256"),
    ({"finetune.schedule": "wsd"}, "a share needs the schedule cosine"),
    ({"finetune.updates": 0}, "greater than 0"),
    ({"downstream.tasks": ["humaneval"], "humaneval.revision": "a" * 40, "downstream.finetune": ["humaneval"]},
     "has no training items; leave it out"),
    ({"downstream.tasks": ["gsm8k"], "gsm8k.paths": [__file__], "downstream.finetune": ["gsm8k"]},
     "needs gsm8k.training_paths"),
    ({"downstream.tasks": ["gsm8k"], "gsm8k.revision": "a" * 40, "downstream.finetune": ["gsm8k"],
      "finetune.worked": True}, "set gsm8k.generation.samples (10), so that solutions are written and read"),
    ({"downstream.tasks": ["bigbench_lite"], "bigbench_lite.paths": [__file__], "downstream.finetune": [
        "bigbench_lite"]}, "set bigbench_lite.split to test"),
])
def test_what_cannot_be_is_refused_before_any_job(fields: dict[str, Any], reason: str) -> None:
    assert reason in refused(["none"], {**TUNED, **fields})


def test_the_batch_must_divide_by_the_ranks() -> None:
    source = Source(name="t.yaml", values={
        "schema_version": 1, "name": "t", "fields": {**TUNED, "finetune.batch_sequences": 3}, "run": {"ranks": 2},
        "baseline": {"upstream": "none"}, "axes": {"upstream": ["none"], "domain": ["code"], "seed": [0]}})
    resolver = Resolver(check(source), source, registries())
    check_layout(resolver, [t.core for t in trials(resolver)])
    assert [p.message for p in resolver.problems.values()] == ["must divide finetune.batch_sequences = 3"]


def recipe(task: str, scale: str, protocol: str, **fields: Any) -> FinetuneScience:
    source = Source(name="t.yaml", values={
        "schema_version": 1, "name": "t", "scale": scale, "protocol": protocol, "fields": fields,
        "baseline": {"upstream": "none"}, "axes": {"upstream": ["none"], "domain": ["code"], "seed": [0]}})
    plugin = registries().tasks[task]
    assert isinstance(plugin, ItemTask)
    found: FinetuneScience = Resolver(check(source), source, registries()).recipe(plugin, {})
    return found


def test_a_published_recipe_is_its_tasks_own_at_its_scale_and_protocol() -> None:
    found = recipe("gsm8k", "1.6b", "release")
    assert (found.lr, found.batch_sequences, found.worked, found.schedule) == (1e-5, 512, True, "cosine")
    assert found.updates * found.batch_sequences == pytest.approx(10 * 7_473, rel=0.01), "ten epochs"
    assert (recipe("arithmetic", "1.6b", "release").lr, recipe("gsm8k", "tiny", "fair").lr) == (5e-5, 4e-4)
    assert recipe("gsm8k", "1.6b", "release", **{"finetune.lr": 3e-5}).lr == 3e-5, "what the file gives is above"


def test_the_published_way_to_score_a_worked_solution_comes_with_its_protocol() -> None:
    plugin = registries().tasks["gsm8k"]
    assert {preset for preset, fields in plugin.recipes.items() if fields.get("worked")} == set(plugin.protocols)
    assert all(fields["generation.samples"] >= 10 for fields in plugin.protocols.values())


def test_every_recipe_is_of_known_presets_and_fields() -> None:
    for task in registries().tasks.values():
        for preset, fields in (task.recipes if isinstance(task, ItemTask) else {}).items():
            assert preset in (*PROTOCOLS, *SCALES)
            FinetuneScience.model_validate(fields)
