"""What is carried over is the upstream's, bit for bit, and what is drawn anew is scratch's of the same seed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import RecordError
from sweeps.language.science import TransferScience
from tests.workloads.training.fakes import MODEL
from tests.workloads.training.test_model import weights
from workloads.training.model import EMBEDDINGS, INPUT, OUTPUT, build_model
from workloads.training.transfer import carry_over, rescale_body

VOCABULARY = 40
MODULES = {"attention": ("self_attn",), "mlp": ("mlp",), "norm": ("input_layernorm", "post_attention_layernorm")}


def fresh(*, tied: bool = False) -> Any:
    return build_model(MODEL.model_copy(update={"tied": tied}), VOCABULARY, seed=0, purpose="pretrain",
                       embedding_std=1.0)


def upstream(vocabulary: int = VOCABULARY, *, tied: bool = False) -> dict[str, torch.Tensor]:
    """What a run of another seed left: no tensor of it is a fresh model's."""
    drawn = {k: 3 * v + 0.5 for k, v in weights(vocabulary, seed=5).items()}
    return {k: v for k, v in drawn.items() if not tied or k != OUTPUT}


def values(model: Any) -> dict[str, torch.Tensor]:
    return {k: p.detach().clone() for k, p in model.named_parameters()}


def drawn_anew(name: str, reinit: list[str]) -> bool:
    """The rule again, said the other way round: from the names' text."""
    for text in reinit:
        component, _, layers = text.partition("@")
        first, _, last = layers.partition("-")
        allowed = range(int(first), int(last or first) + 1) if layers else range(MODEL.layers)
        if any(f"layers.{n}.{module}." in name for n in allowed for module in MODULES[component]):
            return True
        if not layers and component == "norm" and name == "model.norm.weight":
            return True
    return False


layers = st.sampled_from(["", "@0", "@1", "@0-1", "@0-0"])
components = st.lists(st.sampled_from(sorted(MODULES)), unique=True).flatmap(
    lambda names: st.tuples(*(st.builds(str.__add__, st.just(n), layers) for n in names)).map(list))
choice = st.sampled_from(["reinit", "keep"])


@given(reinit=components, embeddings=choice, head=choice | st.just("as_embeddings"), rescale=st.booleans(),
       tied=st.booleans())
@settings(max_examples=60)
def test_every_tensor_is_the_upstreams_or_scratchs(
    reinit: list[str], embeddings: str, head: str, rescale: bool, tied: bool
) -> None:
    science = TransferScience.model_validate(
        {"reinit": reinit, "embeddings": embeddings, "head": "as_embeddings" if tied else head, "rescale": rescale})
    model, theirs = fresh(tied=tied), upstream(tied=tied)
    scratch = values(model)
    carry_over(model, theirs, science)
    assert values(model).keys() == theirs.keys()
    kept = {INPUT: embeddings == "keep", OUTPUT: (embeddings if head == "as_embeddings" else head) == "keep"}
    for name, tensor in values(model).items():
        if not kept.get(name, not drawn_anew(name, reinit)):
            assert torch.equal(tensor, scratch[name]), name
        elif rescale and tensor.ndim > 1:
            assert float(tensor.norm()) == pytest.approx(float(scratch[name].norm()), rel=1e-5), name
            assert torch.allclose(tensor / tensor.norm(), theirs[name] / theirs[name].norm(), atol=1e-6), name
        else:
            assert torch.equal(tensor, theirs[name]), name
    if tied:
        assert model.lm_head.weight is model.model.embed_tokens.weight


def test_by_default_exactly_the_body_is_carried_over_whatever_the_vocabulary() -> None:
    model, body = fresh(), upstream(30)
    before = values(model)
    carry_over(model, body, TransferScience())
    assert all(torch.equal(v, before[k] if k in EMBEDDINGS else body[k]) for k, v in values(model).items())


@pytest.mark.parametrize(("fields", "name"), [
    ({"embeddings": "keep"}, INPUT), ({"head": "keep"}, OUTPUT), ({"embeddings": "keep", "head": "reinit"}, INPUT),
])
def test_another_vocabulary_is_refused_by_name_where_it_would_be_carried(fields: dict[str, str], name: str) -> None:
    model = fresh()
    before = values(model)
    with pytest.raises(RecordError, match=rf"{name} has shape \(30, 16\), the model's is \(40, 16\)"):
        carry_over(model, upstream(30), TransferScience.model_validate(fields))
    assert all(torch.equal(v, before[k]) for k, v in values(model).items())


def test_a_tensor_of_no_component_is_refused_by_name() -> None:
    model = fresh()
    model.model.layers[0].register_parameter("gate", torch.nn.Parameter(torch.ones(2)))
    with pytest.raises(RecordError, match="layers.0.gate belongs to no component"):
        carry_over(model, {**upstream(), "model.layers.0.gate": torch.ones(2)}, TransferScience())


def test_scratch_gets_the_norms_of_the_body_and_keeps_its_directions() -> None:
    model = fresh()
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    body = {k: v * (2 + i) + 0.01 for i, (k, v) in enumerate(weights(30, seed=5).items())}
    rescale_body(model, body)
    for name, parameter in ((k, p.detach()) for k, p in model.named_parameters()):
        if name in EMBEDDINGS or parameter.ndim == 1:
            assert torch.equal(parameter, before[name]), name
            continue
        assert float(parameter.norm()) == pytest.approx(float(body[name].norm()), rel=1e-6), name
        cosine = torch.nn.functional.cosine_similarity(parameter.flatten(), before[name].flatten(), dim=0)
        assert float(cosine) == pytest.approx(1, abs=1e-6), name
    with pytest.raises(RecordError, match="is missing"):
        rescale_body(model, {k: v for k, v in body.items() if "norm" not in k})


@pytest.mark.parametrize(("change", "words"), [
    ({"model.norm.weight": None}, "model.norm.weight is missing"),
    ({"model.extra": torch.ones(2)}, "model.extra is not part of the model"),
    ({"model.norm.weight": torch.ones(3)}, r"shape \(3,\), the model's is \(16,\)"),
])
def test_what_does_not_fit_is_refused_and_nothing_is_changed(
    change: dict[str, torch.Tensor | None], words: str
) -> None:
    model = fresh()
    body = {k: v for k, v in {**weights(30, seed=5), **change}.items() if v is not None}
    with pytest.raises(RecordError, match=words):
        carry_over(model, body, TransferScience())
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight, weights(40)["model.layers.0.mlp.up_proj.weight"])
