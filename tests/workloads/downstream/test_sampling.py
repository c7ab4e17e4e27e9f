"""What a model writes: a sample's tokens are its own, bit for bit, and another shape changes only close calls."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from sweeps.errors import UsageError
from tests.workloads.downstream.conftest import MODEL, Made
from workloads.contract import Diverged
from workloads.data.make_tokenizer import END_OF_DOCUMENT
from workloads.downstream.items import Posed
from workloads.downstream.sampling import Ask, Sample, Sampler, Sampling, choose, uniforms
from workloads.downstream.scoring import Encoding, scores
from workloads.tasks._arithmetic import items
from workloads.tasks.arithmetic import ArithmeticScience
from workloads.training.model import build_model

DRAWN = Sampling(seed=3, temperature=0.8, longest=12, stops=("7", "the "))
CLOSE = 1e-4
"""How near a boundary a token must have been that another batch shape changes."""
ASKS = [Ask(id=i.id, prompt=i.prompt, numbers=range(3)) for i in items(ArithmeticScience(items=4))]
Key = tuple[str, int]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As jobs have by default: with several, a matrix product may be split by how busy the machine is."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer(made: Made) -> Tokenizer:
    return made.load()


def sharp_model(tokenizer: Tokenizer, scale: float = 6.0) -> Any:
    """A model whose distributions are neither flat nor a single token."""
    model = build_model(MODEL, tokenizer.get_vocab_size(), seed=0, purpose="pretrain", embedding_std=1.0)
    with torch.no_grad():
        model.lm_head.weight.mul_(scale)
    return model.eval()


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Any:
    return sharp_model(tokenizer, 30.0)


def sampled(model: Any, tokenizer: Tokenizer, asks: Iterable[Ask], how: Sampling = DRAWN, **about: Any
            ) -> dict[Key, Sample]:
    found = {(s.id, s.number): s for s in Sampler(model, tokenizer, MODEL.sequence_length, how, **about)(asks)}
    return found


@pytest.fixture(scope="module")
def whole(model: Any, tokenizer: Tokenizer) -> dict[Key, Sample]:
    return sampled(model, tokenizer, ASKS)


@given(st.randoms(use_true_random=False), st.integers(1, 3 * len(ASKS)))
@settings(max_examples=6)
def test_neither_order_nor_neighbours_nor_a_restart_change_a_bit(
        model: Any, tokenizer: Tokenizer, whole: dict[Key, Sample], rng: random.Random, count: int) -> None:
    kept = rng.sample(sorted(whole), count)
    part = [replace(a, numbers=[n for i, n in kept if i == a.id]) for a in rng.sample(ASKS, len(ASKS))]
    assert sampled(model, tokenizer, part) == {key: whole[key] for key in kept}


def test_a_run_that_is_left_and_begun_again_makes_the_same_samples(
        model: Any, tokenizer: Tokenizer, whole: dict[Key, Sample]) -> None:
    stream = Sampler(model, tokenizer, MODEL.sequence_length, DRAWN)(ASKS)
    kept = {(s.id, s.number): s for s, _ in zip(stream, range(7), strict=False)}
    rest = [replace(a, numbers=[n for n in a.numbers if (a.id, n) not in kept]) for a in ASKS]
    assert 0 < len(kept) < len(whole) and kept | sampled(model, tokenizer, rest) == whole


def without_cache(model: Any, tokenizer: Tokenizer, ask: Ask, how: Sampling) -> Iterable[list[int]]:
    """The same draws with the model run on the whole text again for every token, one sample at a time."""
    prompt = [tokenizer.token_to_id(END_OF_DOCUMENT), *tokenizer.encode(ask.prompt).ids]
    for number in ask.numbers:
        tokens: list[int] = []
        for u in uniforms(how.seed, ask.id, number, how.longest):
            with torch.inference_mode():
                logits_V = model(input_ids=torch.tensor([prompt + tokens])).logits[0, -1]
            tokens += choose(logits_V[None], np.array([u]), how.temperature)[0]
        yield tokens


def differ_only_where_close(left: Sequence[int], right: Sequence[int], margins: Sequence[float]) -> bool:
    """Whether two samples are alike up to a token that was close to being another; say whether they differ at all."""
    first = next((n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), None)
    assert first is None or margins[first] < CLOSE, f"token {first} changed with a margin of {margins[first]}"
    return first is not None


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_the_cache_changes_nothing_but_close_calls(model: Any, tokenizer: Tokenizer, temperature: float) -> None:
    how = Sampling(temperature=temperature, longest=10)
    asks = [replace(a, numbers=[0, 5]) for a in ASKS[::3]]
    found = sampled(model, tokenizer, asks, how)
    for ask in asks:
        for number, tokens in zip(ask.numbers, without_cache(model, tokenizer, ask, how), strict=True):
            sample = found[ask.id, number]
            assert len(sample.tokens) == 10 or sample.ended == "document"
            differ_only_where_close(sample.tokens, tokens, sample.margins)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("rows", [1, 5, 32])
def test_across_shapes_whatever_changes_was_a_close_call(
        model: Any, tokenizer: Tokenizer, rows: int, temperature: float) -> None:
    how = Sampling(temperature=temperature, longest=16)
    asks = [replace(a, numbers=range(2 if temperature else 1)) for a in ASKS]
    ours, other = (sampled(model, tokenizer, asks, how, rows=r) for r in (16, rows))
    assert ours.keys() == other.keys()
    changed = sum(differ_only_where_close(ours[k].tokens, other[k].tokens, ours[k].margins) for k in ours)
    assert changed <= len(ours) // 4


def test_a_model_in_which_nothing_is_close_writes_the_same_at_every_shape(tokenizer: Tokenizer) -> None:
    """So that the tests across shapes cannot pass by every token being close."""
    far = [s for s in sampled(sharp_model(tokenizer, 30.0), tokenizer, ASKS).values() if min(s.margins) > CLOSE]
    assert len(far) > len(ASKS)


def test_greedy_writes_what_the_exact_rung_says(model: Any, tokenizer: Tokenizer) -> None:
    """The rung reads it from log-probabilities of the answer; here the model writes it."""
    encoding = Encoding(tokenizer, MODEL.sequence_length)
    written = sampled(model, tokenizer, ASKS, Sampling(temperature=0.0, longest=6))
    asked = []
    for ask in ASKS:
        answer = tokenizer.decode(written[ask.id, 0].tokens[:2])
        if tokenizer.encode(answer).ids == list(written[ask.id, 0].tokens[:2]):
            asked += [Posed(id=ask.id, level="1", prompt=ask.prompt, choices_C=(answer,), gold=0),
                      Posed(id=f"{ask.id}x", level="1", prompt=ask.prompt, choices_C=(f"{answer} no",), gold=0)]
    found = {s.id: s for s in scores(model,
                                     [encoding.item(i) for i in asked], encoding.endings_V)}
    assert asked
    for item in asked[::2]:
        third = written[item.id, 0].tokens[2]
        assert found[item.id].greedy is bool(encoding.endings_V[third])
        assert not found[f"{item.id}x"].greedy or "no" in written[item.id, 0].text


def test_the_share_of_right_samples_is_what_the_rung_says(tokenizer: Tokenizer) -> None:
    """400 samples of one token against the model's own probability: within four standard errors."""
    model, ask = sharp_model(tokenizer, 12.0), ASKS[0]
    found = sampled(model, tokenizer, [replace(ask, numbers=range(400))], Sampling(longest=1))
    prompt = [tokenizer.token_to_id(END_OF_DOCUMENT), *tokenizer.encode(ask.prompt).ids]
    with torch.inference_mode():
        law_V = model(input_ids=torch.tensor([prompt])).logits[0, -1].double().softmax(-1)
    token = int(law_V.argmax())
    chance = float(law_V[token])
    share = sum(s.tokens == (token,) for s in found.values()) / 400
    assert 0.01 < chance < 0.99 and abs(share - chance) < 4 * (chance * (1 - chance) / 400)**0.5


def test_a_sample_ends_before_its_stop_and_says_so(model: Any, tokenizer: Tokenizer, whole: dict[Key, Sample]) -> None:
    ended = {s.ended for s in whole.values()}
    assert {"stop", "length"} <= ended
    for sample in whole.values():
        written = tokenizer.decode(sample.tokens)
        places = [p for stop in DRAWN.stops if (p := written.find(stop)) >= 0]
        assert (sample.ended == "stop") is bool(places)
        assert sample.text == (written[:min(places)] if places else written)
        assert len(sample.tokens) == DRAWN.longest or sample.ended != "length"
        assert len(sample.margins) == len(sample.tokens)


def test_the_end_of_a_document_ends_a_sample(tokenizer: Tokenizer) -> None:
    model = sharp_model(tokenizer)
    end = tokenizer.token_to_id(END_OF_DOCUMENT)
    model.lm_head.register_forward_hook(lambda _m, _i, out: out.index_fill(-1, torch.tensor([end]), 1e3))
    [sample] = sampled(model, tokenizer, [replace(ASKS[0], numbers=[0])], Sampling(longest=5)).values()
    assert (sample.ended, sample.text, sample.tokens) == ("document", "", (end,))


def test_a_prompt_that_is_too_long_loses_its_beginning_and_says_so(model: Any, tokenizer: Tokenizer) -> None:
    long = Ask(id="long", prompt="word " * 300 + "Answer:")
    found = sampled(model, tokenizer, [long, *ASKS])
    assert found["long", 0].truncated and not found[ASKS[0].id, 0].truncated
    assert found["long", 0].length == MODEL.sequence_length
    assert found["long", 0] == sampled(model, tokenizer, [replace(long, prompt="word" + long.prompt)])["long", 0]


def test_every_forward_pass_has_a_recorded_shape(model: Any, tokenizer: Tokenizer) -> None:
    shapes: set[tuple[int, ...]] = set()
    hook = model.model.embed_tokens.register_forward_pre_hook(lambda _m, given: shapes.add(tuple(given[0].shape)))
    sampler = Sampler(model, tokenizer, MODEL.sequence_length, DRAWN)
    found = list(sampler(ASKS))
    hook.remove()
    rows, step = sampler.shape["rows"], sampler.shape["length_step"]
    assert shapes == {(rows,)} | {(rows, s.length) for s in found} and all(s.length % step == 0 for s in found)


def test_logits_that_are_not_finite_are_no_sample(tokenizer: Tokenizer) -> None:
    broken = sharp_model(tokenizer)
    with torch.no_grad():
        broken.lm_head.weight[3] = float("nan")
    with pytest.raises(Diverged, match="cannot be evaluated"):
        sampled(broken, tokenizer, ASKS)


@pytest.mark.parametrize(("how", "reason"), [
    (Sampling(longest=0), "longest may be 1 to 126"), (Sampling(longest=127), "longest may be 1 to 126"),
    (Sampling(longest=4, temperature=-1.0), "0 is greedy")])
def test_impossible_samples_are_refused(how: Sampling, reason: str, model: Any, tokenizer: Tokenizer) -> None:
    with pytest.raises(UsageError, match=reason):
        Sampler(model, tokenizer, MODEL.sequence_length, how)


@given(st.lists(st.floats(-8, 8), min_size=2, max_size=12), st.floats(0, 1, exclude_max=True), st.floats(0.25, 4))
def test_a_token_is_the_inverse_of_the_distribution_function(
        logits: list[float], uniform: float, temperature: float) -> None:
    [token], [margin] = choose(torch.tensor([logits], dtype=torch.float64), np.array([uniform]), temperature)
    weights = np.exp(np.array(logits) / temperature - max(logits) / temperature)
    bounds = np.cumsum(weights / weights.sum())[:-1]
    assert margin == pytest.approx(np.abs(bounds - uniform)[max(token - 1, 0):token + 1].min(), abs=1e-12)
    assert token == np.searchsorted(bounds, uniform, side="right") or margin < 1e-12


def test_of_equal_logits_greedy_takes_the_first() -> None:
    assert choose(torch.tensor([[0.0, 2.0, 2.0, 1.0]]), np.zeros(1), 0.0) == ([1], [0.0])


def test_draws_of_items_samples_and_positions_share_nothing() -> None:
    drawn = [uniforms(seed, item, number, 50) for seed in (0, 1) for item in ("a", "b") for number in (0, 1, 2)]
    assert len({u for row in drawn for u in row.tolist()}) == 50 * len(drawn)
    assert (uniforms(0, "a", 1, 200)[:50] == uniforms(0, "a", 1, 50)).all()
    spread = np.concatenate(drawn)
    assert 0 <= spread.min() < spread.max() < 1 and abs(spread.mean() - 0.5) < 4 * (1 / 12 / len(spread))**0.5
