"""The presets are the sizes that the protocol states, every field reaches the model, and its FLOPs are as computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sweeps.language.presets import SCALES
from sweeps.language.science import ModelScience
from workloads.training.model import EMBEDDINGS, build_model, cross_entropy_sum, empty_model

BODIES = {"tiny": 131_392, "1m": 1_049_728, "10m": 9_834_560, "60m": 58_735_104, "160m": 160_459_008,
          "400m": 402_703_360, "1.6b": 1_610_713_088}
"""Parameters but those of input and output embeddings."""
SMALL = ModelScience(layers=3, width=32, mlp=48, heads=2, sequence_length=24)
VOCABULARY = 40


def model_of(scale: str) -> ModelScience:
    fields = SCALES[scale].fields()
    return ModelScience(**{k.removeprefix("model."): v for k, v in fields.items() if k.startswith("model.")})


@pytest.mark.parametrize("scale", SCALES)
def test_a_preset_has_the_body_that_its_formula_says(scale: str) -> None:
    science, vocabulary = model_of(scale), SCALES[scale].vocabulary
    with torch.device("meta"):
        sizes = {name: p.numel() for name, p in empty_model(science, vocabulary).named_parameters()}
    body = sum(size for name, size in sizes.items() if name not in EMBEDDINGS)
    assert body == science.body_parameters == BODIES[scale]
    assert {sizes[name] for name in EMBEDDINGS} == {vocabulary * science.width}


@pytest.mark.parametrize(("tied", "layers"), [(False, 3), (True, 1)])
def test_the_formula_is_the_counted_flops_but_for_the_mask_and_the_gains(tied: bool, layers: int) -> None:
    """The counter has both halves of the attention matrix, of which a causal kernel computes one, and only products of
    matrices; the formula counts the gains of the norms as weights (1 in 8,000 at 400m)."""
    science = SMALL.model_copy(update={"tied": tied, "layers": layers})
    model = build_model(science, VOCABULARY, seed=0, purpose="pretrain", embedding_std=1.0)
    tokens = torch.randint(VOCABULARY, (4, science.sequence_length))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # it knows no CPU kernel
        cross_entropy_sum(model(input_ids=tokens).logits.flatten(0, 1), tokens.flatten()).backward()
    masked = 6 * science.layers * science.width * science.sequence_length
    gains = 6 * (2 * science.layers + 1) * science.width
    assert counter.get_total_flops() == tokens.numel() * (science.flops_per_token(VOCABULARY) + masked - gains)


OTHERS: dict[str, Any] = {"layers": 2, "width": 16, "mlp": 64, "heads": 4, "sequence_length": 48, "rope_base": 500.0,
                          "init_std": 0.02, "norm_epsilon": 0.1, "tied": True, "dropout": 0.5}
"""Another value of every field."""


def made(science: ModelScience) -> tuple[dict[str, Any], torch.Tensor]:
    """Return a model's configuration, and its logits in training."""
    model = build_model(science, VOCABULARY, seed=0, purpose="pretrain", embedding_std=1.0).train()
    torch.manual_seed(0)
    return model.config.to_dict(), model(input_ids=torch.arange(science.sequence_length)[None] % VOCABULARY).logits


@pytest.mark.parametrize("field", ModelScience.model_fields)
def test_every_field_reaches_the_model(field: str) -> None:
    wide = SMALL.model_copy(update={"init_std": 0.2})  # so that attention tells positions apart
    config, logits = made(wide)
    changed = made(wide.model_copy(update={field: OTHERS[field]}))
    if field == "sequence_length":
        assert (config["max_position_embeddings"], changed[0]["max_position_embeddings"]) == (24, 48)
    assert changed[1].shape != logits.shape or not torch.allclose(changed[1], logits, atol=1e-4)
