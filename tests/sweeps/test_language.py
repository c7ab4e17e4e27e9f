"""From file to trials to stages: identities move with the science and with nothing else."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import SweepFileError, UsageError
from sweeps.language.graph import Graph
from sweeps.language.grid import Trial, trials
from sweeps.language.read import Source, parse
from sweeps.language.resolve import Resolver
from sweeps.language.science import SECTIONS
from sweeps.language.spec import Overrides, apply, check, load_sweep
from sweeps.language.stages import GraphBuilder
from tests.sweeps.fakes import registries

SWEEP = """
schema_version: 1
name: t
axes:
  upstream: [none, nca_shuffled, nca]
  complexity: [30-45, 60-75]
  token_budget: [1x]
  domain: [web, code]
  seed: [0, 1]
"""


def plan(values: dict[str, Any]) -> tuple[list[Trial], Graph]:
    source = Source(name="t.yaml", values=values)
    resolver = Resolver(check(source), source, registries())
    found = trials(resolver)
    return found, GraphBuilder(registries(), resolver.sweep.scale).build(found)


def values(**changes: Any) -> dict[str, Any]:
    parsed = parse(SWEEP, "t.yaml").values
    return {**parsed, **changes}


def ids(graph: Graph) -> dict[str, tuple[str, ...]]:
    return {trial: tuple(s.fingerprint for s in path) for trial, path in graph.paths.items()}


def test_an_axis_that_an_upstream_lacks_collapses() -> None:
    found, _ = plan(values())
    assert [t.id for t in found if t.seed == 0 and t.domain == "web"] == [
        "scratch-web-s0", "nca_shuffled-web-s0", "nca_30-45-web-s0", "nca_60-75-web-s0"]
    assert len(found) == 4 * 2 * 2


def test_one_seed_of_every_cell_comes_first() -> None:
    found, _ = plan(values())
    assert [t.seed for t in found] == [0] * 8 + [1] * 8


def test_trials_share_stages_and_every_trial_has_its_scratch() -> None:
    found, graph = plan(values())
    kinds = [n.spec.kind for n in graph.nodes.values()]
    # PPT: (shuffled + 2 bands) x 2 seeds, each a trunk point and a decay branch, for all domains.
    assert kinds.count("prepretrain") == 3 * 2 * 2
    assert kinds.count("tokenizer") == 1
    assert all(t.baseline == f"scratch-{t.domain}-s{t.seed}" for t in found)


def test_inputs_come_before_their_readers() -> None:
    _, graph = plan(values())
    seen: set[str] = set()
    for key, node in graph.nodes.items():
        assert all(i.fingerprint in seen for i in node.spec.inputs), node.label
        seen.add(key)


def test_a_budget_shares_the_trunk_of_a_smaller_one_whatever_else_the_sweep_has() -> None:
    small = values(axes={**values()["axes"], "token_budget": ["0.5x"]})
    both = values(axes={**values()["axes"], "token_budget": ["0.5x", "1x"]})
    _, one = plan(small)
    _, two = plan(both)
    assert set(one.nodes) <= set(two.nodes)
    trunk = [n for n in two.nodes.values() if n.spec.kind == "prepretrain" and n.after is not None]
    assert trunk and all(n.start_tokens > 0 for n in trunk)


@given(st.randoms())
@settings(max_examples=20)
def test_order_of_keys_never_moves_a_fingerprint(rng: random.Random) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            keys = list(value)
            rng.shuffle(keys)
            return {k: shuffled(value[k]) for k in keys}
        return value

    fields = {"nca.complexity.scale": "raw", "pretrain.lr": 1e-3, "model.width": 32}
    base = ids(plan(values(fields=fields))[1])
    assert ids(plan(shuffled(values(fields=fields)))[1]) == base


def test_defaults_spelled_out_run_options_and_paths_never_move_a_fingerprint() -> None:
    base = ids(plan(values())[1])
    spelled = {"nca.complexity.scale": "normalized", "nca.n": 4, "pretrain.lr": 0.004, "model.width": 64,
               "pretrain.tokens": "300k", "evaluate.every": "5.0%", "transfer.embedding_init": 1}
    assert ids(plan(values(fields=spelled))[1]) == base
    run = {"checkpoint_every": "7 min", "slots": 3, "zero_stage": 2, "micro_batch": 1, "cluster": "elsewhere",
           "pack": 20, "hang_floor": "1 h", "checkpoint_share": "10%", "keep_checkpoints": 3, "keep_at": ["10k", "1M"],
           "checkpoint_async": False,
           "activation_checkpointing": True, "offload": "optimizer"}
    assert ids(plan(values(run=run, question="other", name="other"))[1]) == base


LEAVES = [
    ("model.width", 128), ("model.rope_base", 5e5), ("model.tied", True), ("model.dropout", 0.1),
    ("transfer.embedding_init", 0.2), ("pretrain.lr", 1e-3), ("pretrain.decay", "20%"), ("pretrain.tokens", "2x"),
    ("prepretrain.lr", 1e-3), ("transfer.reinit", ["norm"]), ("transfer.rescale", True),
    ("prepretrain.clip", 0.5), ("evaluate.every", "10%"), ("evaluate.end_tokens", "8k"), ("engine.precision", "bf16"),
    ("engine.threads_per_rank", 2), ("engine.loss_chunk", 512), ("engine.compile", True),
    ("tokenizer.vocabulary", 2048), ("documents.validation_share", "5%"),
    ("corpus.shard_tokens", 1000), ("nca.n", 5), ("nca.complexity.scale", "raw"),
]


@pytest.mark.parametrize(("field", "value"), LEAVES)
def test_every_science_field_moves_a_fingerprint(field: str, value: Any) -> None:
    def last(graph: Graph) -> str:
        return graph.paths["nca_60-75-web-s0"][-1].fingerprint

    assert last(plan(values(fields={field: value}))[1]) != last(plan(values())[1])


def test_a_new_field_with_a_default_moves_no_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    from sweeps.language import science

    base = ids(plan(values())[1])

    class Wider(science.ModelScience):
        """The same model with one more option."""

        depth_scaling: float = 0.0

    monkeypatch.setitem(SECTIONS, "model", Wider)
    assert ids(plan(values())[1]) == base


@pytest.mark.parametrize(("changes", "expected"), [
    ({"axes": {"upstream": ["ncaa"], "domain": ["web"], "seed": [0]}}, "Did you mean 'nca'"),
    ({"axes": {"upstream": ["none"], "domain": ["wbe"], "seed": [0]}}, "Did you mean 'web'"),
    ({"axes": {"upstream": ["none"], "domain": ["web"]}}, "'seed' is missing"),
    ({"axes": {"upstream": ["none"], "domain": ["web"], "seed": []}}, "empty"),
    ({"axes": {"upstream": ["none"], "domain": ["web"], "seed": [1, 1]}}, "twice"),
    ({"axes": {"upstream": ["nca"], "domain": ["web"], "seed": [0]}}, "baseline"),
    ({"fields": {"pretrain.lrr": 1}}, "Did you mean 'lr'"),
    ({"fields": {"pretrian.lr": 1}}, "Did you mean 'pretrain'"),
    ({"fields": {"pretrain.lr": "fast"}}, "number"),
    ({"fields": {"pretrain.tokens": "10"}}, "less than one update"),
    ({"fields": {"model.heads": 3}}, "must divide"),
    ({"scale": "tyni"}, "Did you mean 'tiny'"),
    ({"protocol": "fairr"}, "fair"),
    ({"nmae": "x"}, "Did you mean 'name'"),
    ({"name": "../escape"}, "pattern"),
])
def test_bad_sweeps_name_the_key_and_the_nearest_allowed(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(SweepFileError) as error:
        plan(values(**changes))
    assert expected in str(error.value)


def test_all_problems_come_at_once_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(SWEEP.replace("name: t", "name: a b\nscale: huge\nprotocl: fair"), encoding="utf-8")
    with pytest.raises(SweepFileError) as error:
        load_sweep(path)
    text = str(error.value)
    assert len(error.value.problems) == 3
    assert f"{path}:3: name" in text and f"{path}:4: scale" in text and f"{path}:5: protocl" in text


@pytest.mark.parametrize(("text", "expected"), [
    ("a: 1\na: 2\n", "duplicate"), ("- 1\n", "not a mapping"), ("a: [1\n", "valid YAML"),
    ("a: !!python/object/apply:os.system ['true']\n", "tags"), ("", "empty"),
])
def test_what_is_not_a_sweep_file_is_said_so(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SweepFileError, match=expected):
        load_sweep(path)


def test_numbers_and_words_are_read_as_yaml_1_2() -> None:
    parsed = parse("a: 5e-4\nb: no\nc: 164e6\nd: 30-45\n", "x").values
    assert parsed == {"a": 5e-4, "b": "no", "c": 164e6, "d": "30-45"}


def test_overrides_pass_the_same_checks_as_the_file() -> None:
    source = Source(name="t", values=values())
    changed = apply(source, Overrides(sets=("domain=[math]", "pretrain.lr=1e-3"), seeds="3", scale="1m"))
    sweep = check(changed)
    assert sweep.axes["domain"] == ("math",) and sweep.axes["seed"] == (0, 1, 2)
    assert sweep.fields == {"pretrain.lr": 1e-3} and sweep.scale == "1m"
    for bad in ("domain", "=3", "nothing=1"):
        with pytest.raises(UsageError):
            apply(source, Overrides(sets=(bad,)))
    with pytest.raises(UsageError, match="--seeds"):
        apply(source, Overrides(seeds="many"))
