"""Scores of items: bit for bit their own, whatever else is scored and in which order."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.workloads.downstream.conftest import MODEL, Made
from workloads.contract import Diverged, Item
from workloads.data.make_tokenizer import END_OF_DOCUMENT
from workloads.downstream.items import Posed, posed
from workloads.downstream.scoring import CHOICE_STEP, LENGTH_STEP, ROWS, Encoding, Score, endings, scores
from workloads.tasks._arithmetic import items
from workloads.tasks.arithmetic import ArithmeticScience
from workloads.training.model import build_model

TESTS = [posed("arithmetic", i) for i in items(ArithmeticScience(items=6))]


@pytest.fixture(scope="module")
def tokenizer(made: Made) -> Tokenizer:
    return made.load()


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Any:
    torch.manual_seed(0)
    model = build_model(MODEL, tokenizer.get_vocab_size(), seed=0, purpose="pretrain", embedding_std=1.0)
    with torch.no_grad():
        model.lm_head.weight.mul_(30.0)  # differences that one can see
    return model.eval()


def scored(model: Any, tokenizer: Tokenizer, asked: list[Posed]) -> dict[str, Score]:
    encoding = Encoding(tokenizer, MODEL.sequence_length)
    return {s.id: s for s in scores(model, [encoding.item(i) for i in asked], encoding.endings_V)}


@given(st.randoms(use_true_random=False), st.integers(1, len(TESTS)))
@settings(max_examples=12)
def test_neither_order_nor_neighbours_nor_a_restart_change_a_bit(
        made: Made, model: Any, rng: random.Random, count: int) -> None:
    tokenizer = made.load()
    whole = scored(model, tokenizer, TESTS)
    part = rng.sample(TESTS, count)
    assert scored(model, tokenizer, part) == {i.id: whole[i.id] for i in part}


def test_a_choice_costs_what_the_model_gives_its_tokens(model: Any, tokenizer: Tokenizer) -> None:
    """Against one forward pass of each row alone, without batch or padding."""
    encoding = Encoding(tokenizer, MODEL.sequence_length)
    found = scored(model, tokenizer, TESTS)
    for item in TESTS[::5]:
        e = encoding.item(item)
        for choice, row in enumerate(e.rows):
            law = model(input_ids=torch.tensor([row])).logits[0].double().log_softmax(-1)
            nats = sum(float(law[t - 1, row[t]].detach()) for t in range(e.start, len(row)))
            assert found[item.id].nats_C[choice] == pytest.approx(nats, abs=1e-4)
            assert found[item.id].tokens_C[choice] == len(row) - e.start
            assert tokenizer.decode(row[1:]) == item.prompt + item.choices_C[choice]
            assert row == [tokenizer.token_to_id(END_OF_DOCUMENT),
                           *tokenizer.encode(item.prompt + item.choices_C[choice]).ids]


class Writer(torch.nn.Module):
    """Follows a text: at each place the token that comes next in it, then `after`. Its keys are the tokens."""

    device = torch.device("cpu")

    def __init__(self, rows: dict[tuple[int, ...], int], vocabulary: int) -> None:
        super().__init__()
        self.rows, self.vocabulary = rows, vocabulary

    def forward(self, input_ids: torch.Tensor, past_key_values: Any, position_ids: Any = None, **about: Any) -> Any:
        logits, keys_B1T1 = torch.zeros(*input_ids.shape, self.vocabulary), input_ids[:, None, :, None].float()
        held_BT = past_key_values.update(keys_B1T1, keys_B1T1, 0)[0][:, 0, :, 0].int().tolist()
        for b, row in enumerate(input_ids.tolist()):
            before = held_BT[b][:int(position_ids[b, 0])] if position_ids is not None else []
            for t in range(len(row)):
                after = self.rows.get((*before, *row[:t + 1]))
                if after is not None:
                    logits[b, t, after] = 20.0
        return type("Out", (), {"logits": logits})


@pytest.mark.parametrize(("written", "right"), [(" 42\n", True), (" 42.", True), (" 425", False), (" 4\n", False)])
def test_greedy_decoding_writes_the_whole_answer_and_ends_it(tokenizer: Tokenizer, written: str, right: bool) -> None:
    item = posed("t", Item(id="a", level="1", prompt="Answer:", answer=" 42", distractors=(" 7",)))
    text = [tokenizer.token_to_id(END_OF_DOCUMENT), *tokenizer.encode("Answer:" + written).ids]
    rows = {tuple(text[:n]): text[n] for n in range(1, len(text))}
    model = Writer(rows, tokenizer.get_vocab_size())
    [score] = scored(model, tokenizer, [item]).values()
    assert score.greedy is right
    assert (score.ending > math.log(0.99)) is right or written == " 4\n"


def test_a_model_to_which_all_tokens_are_alike_writes_nothing_right(tokenizer: Tokenizer) -> None:
    model = Writer({}, tokenizer.get_vocab_size())
    found = scored(model, tokenizer, TESTS).values()
    assert not any(score.greedy for score in found)


def test_an_answer_has_ended_where_no_letter_or_digit_follows(tokenizer: Tokenizer) -> None:
    ends = endings(tokenizer)
    of = {text: bool(ends[tokenizer.encode(text).ids[0]]) for text in ("a", "Z", "7", "é", " x", "\n", ".", "日")}
    assert of == {"a": False, "Z": False, "7": False, "é": False, " x": True, "\n": True, ".": True, "日": False}
    assert ends[tokenizer.token_to_id(END_OF_DOCUMENT)]


def test_a_prompt_that_is_too_long_loses_its_beginning_and_says_so(model: Any, tokenizer: Tokenizer) -> None:
    long = Posed(id="long", level="1", prompt="word " * 300 + "Answer:", choices_C=(" 1", " 2"), gold=0)
    e = Encoding(tokenizer, MODEL.sequence_length).item(long)
    assert e.truncated and max(map(len, e.rows)) == MODEL.sequence_length
    assert all(tokenizer.decode(row[e.start:]) == choice for row, choice in zip(e.rows, long.choices_C, strict=True))
    assert scored(model, tokenizer, [long, *TESTS])["long"].truncated


def test_every_batch_has_the_recorded_shape_and_a_prompt_is_computed_once(model: Any, tokenizer: Tokenizer) -> None:
    seen: list[tuple[int, ...]] = []
    encoding = Encoding(tokenizer, MODEL.sequence_length)
    asked = [encoding.item(i) for i in TESTS]
    hook = model.register_forward_pre_hook(lambda _, __, given: seen.append(tuple(given["input_ids"].shape)),
                                           with_kwargs=True)
    found = {s.id: s.length for s in scores(model, asked, encoding.endings_V)}
    hook.remove()
    expected: list[tuple[int, ...]] = []
    for places, further in sorted({e.shape for e in asked}):
        alike = [e for e in asked if e.shape == (places, further)]
        assert places % LENGTH_STEP == further % CHOICE_STEP == 0
        assert {found[e.item.id] for e in alike} == {places + further}
        expected += [(ROWS, places)] * math.ceil(len(alike) / ROWS)
        expected += [(ROWS, further)] * math.ceil(sum(len(e.rows) for e in alike) / ROWS)
    assert sorted(seen) == sorted(expected)


def test_an_item_without_a_prompt_of_its_own_beyond_the_beginning_is_scored(model: Any, tokenizer: Tokenizer) -> None:
    """Its choices fill the model's sequence, so nothing stands before them but the end of a document."""
    wide = Posed(id="wide", level="1", prompt="Answer:", choices_C=(" word" * 300, " 1"), gold=1)
    e = Encoding(tokenizer, MODEL.sequence_length).item(wide)
    assert e.start == 1 and e.truncated
    row = e.rows[1]
    law_TV = model(input_ids=torch.tensor([row])).logits[0].detach().double().log_softmax(-1)
    [score] = scored(model, tokenizer, [wide]).values()
    assert score.nats_C[1] == pytest.approx(sum(float(law_TV[t - 1, row[t]]) for t in range(1, len(row))), abs=1e-4)


def test_logits_that_are_not_finite_are_no_score(model: Any, tokenizer: Tokenizer) -> None:
    broken = build_model(MODEL, tokenizer.get_vocab_size(), seed=0, purpose="pretrain", embedding_std=1.0)
    with torch.no_grad():
        broken.lm_head.weight[3] = float("nan")
    with pytest.raises(Diverged, match="cannot be evaluated"):
        scored(broken, tokenizer, TESTS)
