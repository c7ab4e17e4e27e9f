"""A body from elsewhere: what it brings is what a run here would have left, and what does not fit is told by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file

from sweeps.errors import EnvironmentError_, UsageError
from sweeps.language.plugins import Plugin
from sweeps.language.science import IdentityScience
from sweeps.store import records
from sweeps.store.layout import Layout, StageFolder
from tests.workloads.training.fakes import MODEL, UPSTREAM_VOCABULARY, FakeContext, finished, science
from tests.workloads.training.test_runs import context, same, trained, values, weights
from workloads.contract import StageContext
from workloads.stages import body
from workloads.training import runs
from workloads.training.model import EMBEDDINGS, build_model, empty_model
from workloads.upstreams import checkpoint
from workloads.upstreams._checkpoint import body_shapes, read_body
from workloads.upstreams.checkpoint import CheckpointScience


class BodyContext(FakeContext):
    """A context of stage `body`."""

    def plugin(self, section: str) -> Plugin:
        assert section == "upstream"
        return checkpoint.PLUGIN


def given_at(folder: Path, **fields: Any) -> CheckpointScience:
    return CheckpointScience.model_validate(
        {"path": str(folder), "tokens": "1M", "vocabulary": UPSTREAM_VOCABULARY, **fields})


def bring(store: Layout, outside: CheckpointScience, name: str = "b", **identity: str | None) -> StageFolder:
    """Run stage `body` as it was planned, or with other sources than are here."""
    planned = IdentityScience(sources=identity or dict(checkpoint.identity(outside)))
    stage = BodyContext("body", name, {"upstream": outside, "model": MODEL, "identity": planned}, store)
    return finished(stage, body.run(cast(StageContext, stage)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint as `transformers` saves it."""
    model = build_model(MODEL, UPSTREAM_VOCABULARY, seed=7, purpose="prepretrain", embedding_std=1.0)
    model.save_pretrained(str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_a_run_that_was_exported_and_brought_back_trains_on_bit_for_bit(store: Layout, tmp_path: Path) -> None:
    upstream = trained(context(store, science(12), kind="prepretrain"), runs.prepretrain)
    native, again = (context(store, science(20)) for _ in range(2))
    native.given["body"] = [upstream]
    runs.pretrain(cast(StageContext, native))
    shutil.copytree(records.artifacts_of(upstream), tmp_path / "elsewhere")
    again.given["body"] = [bring(store, given_at(tmp_path / "elsewhere"))]
    shutil.rmtree(tmp_path / "elsewhere")
    runs.pretrain(cast(StageContext, again))
    assert same(weights(native), weights(again)) and values(native) == values(again)
    scratch = context(store, science(20))
    runs.pretrain(cast(StageContext, scratch))
    assert not same(weights(native), weights(scratch))


def test_its_names_and_shapes_are_those_of_the_model() -> None:
    own = {k: tuple(p.shape) for k, p in empty_model(MODEL, 40).named_parameters() if k not in EMBEDDINGS}
    assert body_shapes(MODEL) == own


def test_several_files_are_read_as_one(folder: Path, tmp_path: Path) -> None:
    whole, _ = read_body(given_at(folder), MODEL)
    model = build_model(MODEL, UPSTREAM_VOCABULARY, seed=7, purpose="prepretrain", embedding_std=1.0)
    model.save_pretrained(str(tmp_path / "parts"), max_shard_size="8KB")
    assert len(list((tmp_path / "parts").glob("model-*.safetensors"))) > 1
    found, _ = read_body(given_at(tmp_path / "parts"), MODEL)
    assert same(whole, found) and not EMBEDDINGS & found.keys()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_exactly(folder: Path, kind: torch.dtype) -> None:
    rounded = {k: v.to(kind) for k, v in load_file(str(folder / "model.safetensors")).items()}
    save_file(rounded, str(folder / "model.safetensors"))
    found, _ = read_body(given_at(folder), MODEL)
    assert all(torch.equal(v, rounded[k].float()) and v.dtype == torch.float32 for k, v in found.items())


@pytest.mark.parametrize(("change", "words"), [
    ({"layers": 3}, "num_hidden_layers 2, model.layers is 3"), ({"width": 32}, "hidden_size 16, model.width is 32"),
    ({"mlp": 48}, "intermediate_size 32, model.mlp is 48"), ({"heads": 4}, "num_attention_heads 2, model.heads is 4"),
    ({"rope_base": 5e5}, "rope_theta 10000.0, model.rope_base is 500000.0"),
    ({"norm_epsilon": 1e-5}, "rms_norm_eps 1e-06, model.norm_epsilon is 1e-05"),
])
def test_another_model_is_refused_by_the_name_of_its_field(folder: Path, change: dict[str, Any], words: str) -> None:
    model = MODEL.model_copy(update=change)
    assert any(words in reason for reason in checkpoint.misfits(given_at(folder), model))
    with pytest.raises(UsageError, match="cannot be the body"):
        read_body(given_at(folder), model)


@pytest.mark.parametrize(("change", "words"), [
    ({"model_type": "gpt2"}, "model_type 'gpt2', and only llama"),
    ({"num_key_value_heads": 1}, "num_key_value_heads 1"),
    ({"attention_bias": True}, "attention_bias True"), ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
    ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "rope_type 'llama3'"),
    ({"vocab_size": 31}, "vocab_size 31, its field `vocabulary` 30"), ({"head_dim": 4}, "head_dim 4"),
])
def test_another_architecture_is_refused_by_name(folder: Path, change: dict[str, Any], words: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    assert any(words in reason for reason in checkpoint.misfits(given_at(folder), MODEL))


@pytest.mark.parametrize(("change", "words"), [
    ({"model.norm.weight": None}, "the tensor model.norm.weight is missing"),
    ({"model.layers.0.extra": torch.ones(2)}, "the tensor model.layers.0.extra is not part of the model"),
    ({"model.norm.weight": torch.ones(3)}, "the tensor model.norm.weight has shape (3,), the model's is (16,)"),
    ({"model.norm.weight": torch.ones(16, dtype=torch.int8)}, "is of I8"),
    ({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}, ""),
])
def test_other_tensors_are_refused_by_name(folder: Path, change: dict[str, Any], words: str) -> None:
    tensors = {**load_file(str(folder / "model.safetensors")), **change}
    save_file({k: v for k, v in tensors.items() if v is not None}, str(folder / "model.safetensors"))
    found = checkpoint.misfits(given_at(folder), MODEL)
    assert (words in found[0]) if words else not found


def test_a_half_copied_file_and_an_empty_folder_are_told(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    for size in (0, 4, 60, len(whole) - 1):
        (folder / "model.safetensors").write_bytes(whole[:size])
        [reason] = checkpoint.misfits(given_at(folder), MODEL)
        assert "model.safetensors" in reason
    (folder / "model.safetensors").unlink()
    assert "lacks model.safetensors" in checkpoint.misfits(given_at(folder), MODEL)[0]
    assert "holds no checkpoint" in checkpoint.misfits(given_at(tmp_path / "nothing"), MODEL)[0]


def test_numbers_that_are_none_are_refused_before_a_job_trains_on_them(folder: Path) -> None:
    tensors = load_file(str(folder / "model.safetensors"))
    tensors["model.norm.weight"][3] = torch.nan
    save_file(tensors, str(folder / "model.safetensors"))
    with pytest.raises(UsageError, match=r"model\.norm\.weight holds numbers that are not finite"):
        read_body(given_at(folder), MODEL)


def test_identity_is_what_it_holds_wherever_it_lies(folder: Path, store: Layout, tmp_path: Path) -> None:
    planned = checkpoint.identity(given_at(folder))
    shutil.copytree(folder, tmp_path / "moved")
    assert checkpoint.identity(given_at(tmp_path / "moved")) == planned
    (tmp_path / "moved" / "config.json").write_text((folder / "config.json").read_text() + "\n")
    assert checkpoint.identity(given_at(tmp_path / "moved")) != planned
    with pytest.raises(EnvironmentError_, match="the plan was made with checkpoint"):
        bring(store, given_at(tmp_path / "moved"), **planned)


@pytest.mark.parametrize(("fields", "words"), [
    ({"path": ""}, "either path"), ({"repository": "a/b"}, "either path"),
    ({"path": "", "repository": "a/b"}, "repository and revision"), ({"path": "here"}, "absolute path"),
    ({"tokens": "1x"}, "is of nothing that is known here"),
    ({"path": "", "repository": "a/b", "revision": "main"}, "40 hex digits"),
])
def test_what_names_no_checkpoint_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        given_at(Path("/nowhere"), **fields)
