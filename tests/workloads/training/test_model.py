"""Initialisation by name, and weights on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sweeps.errors import RecordError, UsageError
from sweeps.language.science import ModelScience
from tests.workloads.training.fakes import MODEL
from workloads.training.model import EMBEDDINGS, INPUT, OUTPUT, Purpose, build_model
from workloads.training.transfer import load_weights, read_weights, write_weights


def weights(
    vocabulary: int, *, seed: int = 0, std: float = 1.0, purpose: Purpose = "pretrain"
) -> dict[str, torch.Tensor]:
    model = build_model(MODEL, vocabulary, seed=seed, purpose=purpose, embedding_std=std)
    return {k: p.detach() for k, p in model.named_parameters()}


def test_the_body_depends_on_the_seed_alone() -> None:
    one, other = weights(40), weights(99, purpose="prepretrain", std=0.1)
    assert all(torch.equal(one[k], other[k]) for k in one if k not in EMBEDDINGS)
    assert not torch.equal(one["model.layers.0.mlp.up_proj.weight"],
                           weights(40, seed=1)["model.layers.0.mlp.up_proj.weight"])


def test_fresh_embeddings_do_not_begin_with_those_of_the_upstream() -> None:
    upstream, fresh = weights(40, purpose="prepretrain"), weights(99)
    for name in EMBEDDINGS:
        assert not torch.equal(upstream[name], fresh[name][:40])


def test_scales() -> None:
    drawn = weights(2000, std=3.0)
    assert float(drawn[INPUT].std()) == pytest.approx(3.0, rel=0.02)
    assert float(drawn[OUTPUT].std()) == pytest.approx(0.02, rel=0.02)
    assert torch.equal(drawn["model.norm.weight"], torch.ones(MODEL.width))
    assert not torch.equal(drawn["model.layers.0.self_attn.q_proj.weight"],
                           drawn["model.layers.1.self_attn.q_proj.weight"])


def test_body_parameters_are_as_stated() -> None:
    body = sum(p.numel() for k, p in weights(40).items() if k not in EMBEDDINGS)
    assert body == MODEL.body_parameters
    assert MODEL.flops_per_token(40) == 6 * (body + 40 * 16) + 6 * 2 * 16 * 16


def test_tied_embeddings_are_one_tensor() -> None:
    model = build_model(MODEL.model_copy(update={"tied": True}), 40, seed=0, purpose="pretrain", embedding_std=0.5)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert float(model.lm_head.weight.detach().std()) == pytest.approx(0.5, rel=0.1)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(UsageError, match="multiple of model.heads"):
        build_model(ModelScience(width=16, heads=3), 40, seed=0, purpose="pretrain", embedding_std=1.0)


def test_weights_on_disk(tmp_path: Path) -> None:
    given = weights(40)
    write_weights(tmp_path, given, "{}")
    model = build_model(MODEL, 40, seed=7, purpose="pretrain", embedding_std=1.0)
    load_weights(model, read_weights(tmp_path))
    assert all(torch.equal(p, given[k]) for k, p in model.named_parameters())
    with pytest.raises(RecordError, match="shape"):
        load_weights(model, weights(41))
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(RecordError, match="cannot be read"):
        read_weights(tmp_path)
    with pytest.raises(RecordError, match="cannot be read"):
        read_weights(tmp_path / "nowhere")
