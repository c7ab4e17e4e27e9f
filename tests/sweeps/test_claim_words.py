"""Claims in words: what they mean, and what they cannot mean in a sweep file."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sweeps.language.claim import Claim, named


@pytest.mark.parametrize(("words", "fields"), [
    ("nca 50-100 beats scratch on web by more than 0 nats",
     {"arm": "nca 50-100", "over": "scratch", "domain": "web", "gain_nats": "> 0"}),
    ("NCA at 164M beats  text at 1.64B\n on web.",
     {"arm": "NCA at 164M", "over": "text at 1.64B", "domain": "web", "gain_nats": "> 0"}),
    ("best band on code is lower than on web", {"domain": "code", "band": "lower", "than": "web"}),
    ("the best band beats nca_shuffled on math by more than -0.01 nat",
     {"arm": "best_band", "over": "nca_shuffled", "domain": "math", "gain_nats": "> -0.01"}),
])
def test_a_sentence_is_the_contrast_that_it_states(words: str, fields: dict[str, str]) -> None:
    claim = Claim.model_validate(words)
    assert claim == Claim.model_validate({**fields, "says": " ".join(words.split()).rstrip(".")})


@pytest.mark.parametrize("claim", [
    "nca is better", "nca beats scratch", "", {"domain": "web"}, {"domain": "web", "band": "lower"},
    {"domain": "web", "gain_nats": "> 0", "band": "lower", "than": "code"},
    {"domain": "web", "arm": "nca", "band": "lower", "than": "code"}, {"domain": "web", "gain_nats": "about 3"},
])
def test_what_states_nothing_that_can_be_judged_is_refused(claim: Any) -> None:
    with pytest.raises(ValidationError):
        Claim.model_validate(claim)


def arm(label: str, upstream: str, complexity: str = "", budget: str = "1x", tokens: int = 0) -> dict[str, Any]:
    """An arm as names see it."""
    return {"arm": label, "upstream": upstream, "complexity": complexity, "token_budget": budget,
            "upstream_tokens": tokens - 160, "requested_upstream_tokens": tokens}


ARMS = [arm("scratch", "none", "", ""), arm("nca 50-100 1x", "nca", "50-100", "1x", 164_000_000),
        arm("nca 30-40 1x", "nca", "30-40", "1x", 164_000_000), arm("text 1x", "text", "", "1x", 164_000_000),
        arm("text 10x", "text", "", "10x", 1_640_000_000)]


@pytest.mark.parametrize(("name", "labels"), [
    ("scratch", ["scratch"]), ("none", ["scratch"]), ("nca 30-40", ["nca 30-40 1x"]), ("Text at 1.64B", ["text 10x"]),
    ("text at 10x", ["text 10x"]), ("text at 163999840", ["text 1x"]), ("text", ["text 1x", "text 10x"]),
    ("NCA at 164M", ["nca 50-100 1x", "nca 30-40 1x"]), ("nca at sea", []), ("gpt", []), ("", []),
])
def test_a_name_means_a_label_an_upstream_its_band_and_its_budget(name: str, labels: list[str]) -> None:
    assert named(name, ARMS) == labels
