"""`downstream.tasks`: which stages it adds, what they share, and that nothing else moves."""

from __future__ import annotations

import pytest

from sweeps.language.downstream import CHOICES, PROMPT, scoring_flops
from sweeps.language.graph import Graph
from sweeps.language.science import ModelScience
from tests.sweeps.test_parts import plan, refused, stages
from workloads.tasks.arithmetic import ArithmeticScience

TASKS = {"downstream.tasks": ["arithmetic", "brackets"]}


def by_role(graph: Graph, trial: str, role: str) -> list[str]:
    return [step.fingerprint for step in graph.paths[trial] if step.role == role]


def test_asking_for_tasks_moves_no_stage() -> None:
    _, without = plan(["none", "nca"])
    _, graph = plan(["none", "nca"], TASKS)
    assert without.nodes.keys() < graph.nodes.keys()
    new = [n.spec.kind for f, n in graph.nodes.items() if f not in without.nodes]
    # items and twin once for both arms
    assert sorted(new) == ["downstream"] * 6 + ["items"] * 2


def test_a_further_task_or_k_adds_only_its_own_stages() -> None:
    _, two = plan(["none", "nca"], TASKS)
    _, three = plan(["none", "nca"], {"downstream.tasks": ["automata", "brackets", "arithmetic"]})
    assert two.nodes.keys() < three.nodes.keys()
    _, passes = plan(["none", "nca"], {**TASKS, "downstream.passes": [1, 4]})
    moved = {n.spec.kind for f, n in passes.nodes.items() if f not in two.nodes}
    assert moved == {"downstream"}


def test_a_task_reads_the_model_and_every_training_text() -> None:
    _, graph = plan(["none", "nca"], TASKS)
    trial = "nca-code-s0"
    scored = graph.nodes[by_role(graph, trial, "downstream")[0]].spec
    assert [i.role for i in scored.inputs] == ["model", "items", "tokenizer", "corpus"]
    assert scored.inputs[0].fingerprint == [f for f in stages(graph, trial, "pretrain")][-1]
    items = graph.nodes[by_role(graph, trial, "items")[0]].spec
    assert {i.role for i in items.inputs} == {"text:code", "text:math", "text:web"}
    twin = graph.nodes[by_role(graph, trial, "downstream_twin")[0]].spec
    assert [i.role for i in twin.inputs] == ["items", "tokenizer"]


def work(task: str, **fields: int) -> float:
    found, graph = plan(["none"], {"downstream.tasks": [task], **{f"{task}.{name}": n for name, n in fields.items()}})
    scored, twin = (graph.nodes[by_role(graph, found[0].id, role)[0]] for role in ("downstream", "downstream_twin"))
    assert scored.work == twin.work == scored.scoring_flops > 0 and scored.tokens == 0
    return scored.work


def test_what_scoring_takes_grows_with_its_items_and_with_what_is_written() -> None:
    assert work("arithmetic", items=80) == pytest.approx(2 * work("arithmetic", items=40))
    assert work("python_functions") == pytest.approx(4 / 3 * work("arithmetic", items=40))
    assert work("arithmetic", items=40, shots=1) > work("arithmetic", items=40)
    drawn = {"generation.max_new_tokens": 100, "generation.samples": 10}
    assert work("python_functions", **drawn) > 10 * work("python_functions")
    assert 1.8 < work("python_functions", **{**drawn, "generation.samples": 20}) / work("python_functions", **drawn) < 2


def test_a_forward_pass_is_a_third_of_training() -> None:
    model, task = ModelScience(sequence_length=256), ArithmeticScience()
    assert scoring_flops(1, task, model, 1_024) == pytest.approx(
        (PROMPT + CHOICES) * model.flops_per_token(1_024) / 3)
    many = ArithmeticScience(shots=32)
    assert scoring_flops(1, many, model, 1_024) == pytest.approx(
        (256 + CHOICES) * model.flops_per_token(1_024) / 3), "a prompt is no longer than the model's sequence"


def test_twins_are_one_for_all_arms_and_domains() -> None:
    found, graph = plan(["none", "nca"], TASKS, domain=["code", "web"], seed=[0, 1])
    assert len({f for t in found for f in by_role(graph, t.id, "downstream_twin")}) == 2 * 2
    assert len({f for t in found for f in by_role(graph, t.id, "downstream")}) == 2 * len(found)


def test_a_task_is_named_where_it_belongs() -> None:
    assert "is a task of downstream.tasks; name it there" in refused(["none"], {"evaluate.tasks": ["arithmetic"]})
    assert "is a task of evaluate.tasks; name it there" in refused(["none"], {"downstream.tasks": ["copying"]})
    assert "arithmetic" in refused(["none"], {"downstream.tasks": ["arithmetik"]})
    assert "given twice" in refused(["none"], {"downstream.tasks": ["brackets", "brackets"]})


def test_a_field_of_a_task_can_be_an_axis() -> None:
    found, graph = plan(["none"], TASKS, **{"arithmetic.shots": [0, 2]})
    assert len({f for t in found for f in by_role(graph, t.id, "items")}) == 2 + 1


PROGRAMS = {"downstream.tasks": ["python_functions"]}


def test_programs_move_the_stages_that_write_them_and_not_the_items() -> None:
    _, without = plan(["none"], PROGRAMS)
    _, graph = plan(["none"], {**PROGRAMS, "python_functions.generation.samples": 10})
    moved = [node.spec for key, node in graph.nodes.items() if key not in without.nodes]
    assert [spec.kind for spec in moved] == ["downstream"] * 2  # the model and its twin
    assert {spec.sections["task.python_functions"].changed["generation"]["samples"] for spec in moved} == {10}


def test_what_no_estimate_or_no_room_is_left_for_is_refused_when_planning() -> None:
    asked = {**PROGRAMS, "python_functions.generation.samples": 4}
    assert "pass@10 has no unbiased estimate from 4 samples" in refused(["none"], asked)
    most = {**PROGRAMS, "python_functions.generation.samples": 10, "python_functions.generation.max_new_tokens": 255}
    assert "254 is the most" in refused(["none"], most)
    plan(["none"], {**most, "python_functions.generation.max_new_tokens": 254})
    plan(["none"], {**PROGRAMS, "python_functions.generation.max_new_tokens": 255})  # nothing is written
