"""A sweep with a body from elsewhere: planned without pre-pre-training, charged as declared, refused before any job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save_file

from orchestrator.__main__ import main
from orchestrator.plan import Planned, make_plan
from sweeps.errors import SweepFileError
from sweeps.language.presets import SCALES
from sweeps.language.science import ModelScience
from sweeps.language.spec import Overrides
from tests.workloads.data.fake_hub import COMMIT, FakeHub, serving
from workloads.upstreams._checkpoint import body_shapes

SWEEP = """
schema_version: 1
name: outside
question: Does a body from elsewhere help?
scale: tiny
gate: require
baseline: {upstream: none}
axes: {upstream: [none, nca, checkpoint], complexity: [60-75], domain: [code], seed: [0, 1]}
fields:
  tokenizer.corpora: [code]
  checkpoint.tokens: 164M
  checkpoint.vocabulary: 30
"""
ALONE = SWEEP.replace("nca, ", "").replace("complexity: [60-75], ", "")
"""Beside scratch there is nothing else."""
TINY = ModelScience()


def save(folder: Path, *, shift: float = 0.0, **config: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({
        "model_type": "llama", "num_hidden_layers": TINY.layers, "hidden_size": TINY.width,
        "intermediate_size": TINY.mlp, "num_attention_heads": TINY.heads, "vocab_size": 30, **config}))
    save_file({name: np.full(shape, shift, np.float32) for name, shape in body_shapes(TINY).items()},
              folder / "model.safetensors")
    return folder


def plan(tmp_path: Path, extra: str = "", sweep: str = SWEEP) -> Planned:
    (tmp_path / "outside.yaml").write_text(sweep + extra)
    return make_plan(tmp_path / "outside.yaml", Overrides(), tmp_path / "store")


def test_it_has_one_stage_for_all_seeds_and_no_pre_pre_training(tmp_path: Path) -> None:
    found = plan(tmp_path, f"  checkpoint.path: {save(tmp_path / 'body')}\n")
    paths = [t.path for t in found.file.trials if t.upstream == "checkpoint"]
    assert [t.arm for t in found.file.trials if t.upstream == "checkpoint"] == ["checkpoint"] * 2
    assert not any(step.role in ("prepretrain", "gate", "rules") for path in paths for step in path)
    assert len({step.fingerprint for path in paths for step in path if step.role == "body"}) == 1
    for path in paths:
        first = found.graph.nodes[next(s.fingerprint for s in path if s.role == "trunk")]
        assert [i.kind for i in first.spec.inputs if i.role == "body"] == ["body"]
        assert first.gate is None, "nothing is known of its held-out data: there is no gate to wait for"


def test_its_declared_tokens_and_their_flops_are_charged(tmp_path: Path) -> None:
    found = plan(tmp_path, f"  checkpoint.path: {save(tmp_path / 'body')}\n")
    trial = next(t for t in found.file.trials if t.upstream == "checkpoint")
    assert trial.upstream_tokens == 164_000_000
    assert trial.brought_flops == 164e6 * TINY.flops_per_token(30)
    assert all(t.brought_flops == 0 for t in found.file.trials if t.upstream != "checkpoint")
    assert sum(s.flops for s in found.file.stages if s.kind == "body") == 0, "nothing of it is trained here"


def test_other_weights_move_its_stages_and_another_place_or_declaration_does_not(tmp_path: Path) -> None:
    def last(folder: Path, extra: str = "") -> str:
        found = plan(tmp_path, f"  checkpoint.path: {folder}\n{extra}")
        return next(t for t in found.file.trials if t.upstream == "checkpoint").path[-1].fingerprint

    one = last(save(tmp_path / "body"))
    assert last(save(tmp_path / "moved")) == one != last(save(tmp_path / "other", shift=1.0))
    assert last(tmp_path / "body", "  transfer.reinit: [mlp]\n") != one


def test_arms_that_it_joins_stay_what_they_were(tmp_path: Path) -> None:
    alone = SWEEP.replace(", checkpoint]", "]")
    (tmp_path / "alone.yaml").write_text("\n".join(x for x in alone.splitlines() if "checkpoint." not in x))
    before = make_plan(tmp_path / "alone.yaml", Overrides(), tmp_path / "store").graph.nodes.keys()
    assert before < plan(tmp_path, f"  checkpoint.path: {save(tmp_path / 'body')}\n").graph.nodes.keys()


@pytest.mark.parametrize(("config", "extra", "words"), [
    ({"hidden_size": 128}, "", "hidden_size 128, model.width is 64"),
    ({"rms_norm_eps": 1e-5}, "", "rms_norm_eps 1e-05, model.norm_epsilon is 1e-06"),
    ({}, "  transfer.embeddings: keep\n", "checkpoint has token ids of its own"),
    ({"vocab_size": 31}, "", "vocab_size 31"),
])
def test_what_does_not_fit_is_refused_with_its_line(
    tmp_path: Path, config: dict[str, Any], extra: str, words: str
) -> None:
    save(tmp_path / "body", **config)
    with pytest.raises(SweepFileError, match=words) as error:
        plan(tmp_path, f"  checkpoint.path: {tmp_path / 'body'}\n{extra}", ALONE)
    assert "outside.yaml:" in str(error.value)


def test_equal_total_tokens_charge_it(tmp_path: Path) -> None:
    extra = f"  checkpoint.path: {save(tmp_path / 'body')}\n  pretrain.equal: total_tokens\n"
    found = plan(tmp_path, extra, ALONE.replace("164M", "100k"))
    by_arm = {t.arm: t.pretrain_tokens for t in found.file.trials}
    update = 4 * TINY.sequence_length
    assert by_arm["checkpoint"] == (SCALES["tiny"].pretrain_tokens // update * update - 100_000) // update * update


def test_one_on_the_hub_is_brought_beforehand_and_checked_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("time.sleep", lambda _: None)
    save(tmp_path / "hub")
    (tmp_path / "hub" / "pytorch_model.bin").write_bytes(b"not wanted")
    hub = FakeHub(tmp_path / "hub")
    extra = f"  checkpoint.repository: someone/data\n  checkpoint.revision: {COMMIT}\n"
    (tmp_path / "outside.yaml").write_text(ALONE + extra)
    with serving(hub) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE",
                            address + "/{repo_id}/resolve/{revision}/{filename}")
        verb = ["prefetch", str(tmp_path / "outside.yaml"), "--root", str(tmp_path / "store"), "--json"]
        assert main(verb) == 0
    told = json.loads(capsys.readouterr().out)
    assert [s["domain"] for s in told["sources"]] == ["checkpoint"]
    brought = {p.name for p in (tmp_path / "store" / "huggingface").rglob("snapshots/*/*")}
    assert brought == {"config.json", "model.safetensors"}
