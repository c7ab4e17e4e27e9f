"""Steps with a key-value cache: what they say is what the model says of the whole text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workloads.downstream.conftest import MODEL
from workloads.contract import Diverged
from workloads.downstream.slots import Slots, prefill
from workloads.training.model import build_model

VOCABULARY, PLACES, LONGEST = 50, 16, 8
texts = st.lists(st.integers(0, VOCABULARY - 1), min_size=2, max_size=PLACES)


@pytest.fixture(scope="module")
def model() -> Any:
    made = build_model(MODEL, VOCABULARY, seed=1, purpose="pretrain", embedding_std=1.0).eval()
    with torch.no_grad():  # norms of trained models are not 1
        for name, parameter in made.named_parameters():
            if "norm" in name:
                parameter.copy_(1.0 + 0.3 * torch.sin(torch.arange(len(parameter)) + len(name)))
            elif "proj" in name or "lm_head" in name:
                parameter.mul_(8.0)
    return made


@given(st.lists(texts, min_size=1, max_size=3), texts, st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=5))
@settings(max_examples=20)
def test_a_step_says_what_the_model_says_of_the_whole_text(
        model: Any, begun: list[list[int]], later: list[int], added: list[int]) -> None:
    """Rows of several lengths, one of which is given another text on the way."""
    with torch.inference_mode():
        slots, held = Slots(model, len(begun), PLACES + LONGEST), [list(text) for text in begun]

        def begin(row: int, text: list[int]) -> None:
            padded = torch.tensor([text + [0] * (PLACES - len(text))])
            slots.begin(row, prefill(model, padded)[0])
            held[row] = list(text)

        for row, text in enumerate(begun):
            begin(row, text)
        for number, token in enumerate(added):
            if number == 2:
                begin(0, later)
            logits_BV = slots.step([text[-1] for text in held], [len(text) - 1 for text in held])
            for text, logits_V in zip(held, logits_BV, strict=True):
                whole_V = model(input_ids=torch.tensor([text])).logits[0, -1]
                torch.testing.assert_close(logits_V, whole_V, atol=1e-4, rtol=1e-4)
                text.append(token)


def test_logits_that_are_not_finite_are_refused(model: Any) -> None:
    with torch.inference_mode():
        slots = Slots(model, 2, PLACES)
        slots.step([1, 2], [0, 0])
        slots.begin(0, torch.full((MODEL.layers, 2, MODEL.heads, 1, MODEL.width // MODEL.heads), torch.nan))
        with pytest.raises(Diverged, match="cannot be evaluated"):
            slots.step([1, 2], [1, 1])
