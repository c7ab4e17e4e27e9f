"""Initialisation by name, and weights on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sweeps.errors import RecordError, UsageError
from sweeps.language.science import ModelScience
from tests.workloads.training.fakes import MODEL
from workloads.training.model import (
    EMBEDDINGS,
    INPUT,
    OUTPUT,
    Purpose,
    build_model,
    compile_body,
    recompute_activations,
    summed_loss,
)
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


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_compiled_layers_are_computed_again_under_the_same_dropout() -> None:
    """Another mask would give another gradient, and the loss would not tell."""
    tokens_BT, found = torch.arange(32).view(2, 16), list[dict[str, torch.Tensor]]()
    for recomputed, seed in ((False, 5), (True, 5), (False, 6)):
        model = build_model(MODEL.model_copy(update={"dropout": 0.1}), 40, seed=0, purpose="pretrain",
                            embedding_std=1.0).train()
        if recomputed:
            recompute_activations(model)
        compile_body(model, zero_stage=0)
        torch.manual_seed(seed)
        summed_loss(model, tokens_BT, tokens_BT, None).backward()  # type: ignore[no-untyped-call]
        found.append({name: p.grad for name, p in model.named_parameters()})
    kept, again, other = (one["model.layers.0.self_attn.v_proj.weight"] for one in found)
    assert float((again - kept).norm() / kept.norm()) < 1e-5 < 1e-2 < float((other - kept).norm() / kept.norm())


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
