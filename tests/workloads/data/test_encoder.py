"""The fast encoder: equal ids on every text, and no use of it where that is not proven."""

from __future__ import annotations

import itertools
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from workloads.data.encoder import Encoder, _byte_of
from workloads.data.make_tokenizer import END_OF_DOCUMENT, TOKENIZER, load_tokenizer, train
from workloads.data.paragraphs import normalise
from workloads.registry import load_registries

Made = tuple[Path, dict[str, float]]
CHARACTERS = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
BYTE_CHARACTERS = {byte: char for char, byte in _byte_of().items()}


def byte_level(merges: list[tuple[str, str]]) -> Tokenizer:
    """A tokenizer with the 256 bytes and these merges, in this order."""
    vocabulary = {END_OF_DOCUMENT: 0} | {BYTE_CHARACTERS[b]: b + 1 for b in range(256)}
    for a, b in merges:
        vocabulary.setdefault(a + b, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_DOCUMENT])
    tokenizer.encode_special_tokens = True
    return tokenizer


@pytest.fixture(scope="module")
def trained(tokenizer: Path) -> tuple[Encoder, Tokenizer]:
    """What stage `tokenizer` made."""
    loaded = load_tokenizer(tokenizer / TOKENIZER)
    return Encoder(loaded), loaded


@pytest.fixture(scope="module")
def classes() -> tuple[Encoder, Tokenizer]:
    """Joins a letter, a digit or a sign to the first byte of what follows: shows where a text was cut."""
    leads = [BYTE_CHARACTERS[b] for b in (*range(0x20, 0x80), *range(0xC2, 0xF5))]
    tokenizer = byte_level([(first, lead) for first in "a1!" for lead in leads])
    return Encoder(tokenizer), tokenizer


def assert_same(encoder: Encoder, tokenizer: Tokenizer, text: str) -> None:
    assert encoder.document(text).tolist() == [*tokenizer.encode(text).ids, encoder.end]


def beside_each_class(characters: list[str]) -> str:
    return "".join(f"a{c}\n1{c}\n!{c}\n  {c}  {c}\n" for c in characters)


@given(st.one_of(st.text(max_size=80), st.text(alphabet="a 1!\n\t'sdlrevtm\u00a0\u3000é日🙂", max_size=80)))
def test_ids_are_those_of_tokenizers(trained: tuple[Encoder, Tokenizer], text: str) -> None:
    assert trained[0].fast
    assert_same(*trained, text)


@given(st.lists(st.text(alphabet="aab ", min_size=1, max_size=30), min_size=1, max_size=6), st.data())
def test_ids_are_equal_for_tokenizers_trained_on_anything(texts: list[str], data: st.DataObject) -> None:
    """Few letters and many repeats: every merge overlaps others."""
    tokenizer = train(iter(texts * 3), 290)
    tokenizer.encode_special_tokens = True
    encoder = Encoder(tokenizer)
    assert encoder.fast
    assert_same(encoder, tokenizer, data.draw(st.text(alphabet="aab ", max_size=60)))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=8, unique=True), st.text("abc", max_size=40))
def test_ids_are_equal_for_any_merges_whatsoever(pairs: list[tuple[int, int]], text: str) -> None:
    """Merges that no training makes: proven equal ones go the fast way, all others are left to `tokenizers`."""
    known, merges = ["a", "b", "c"], []
    for a, b in pairs:
        pair = known[a % len(known)], known[b % len(known)]
        if pair not in merges:
            merges.append(pair)
            known.append("".join(pair))
    tokenizer = byte_level(merges)
    assert_same(Encoder(tokenizer), tokenizer, text)


def test_merges_that_tiktoken_would_read_otherwise_are_left_to_tokenizers() -> None:
    tokenizer = byte_level([("b", "c"), ("a", "b"), ("ab", "c")])  # `abc` stays `a`, `bc`: nothing joins those two
    encoder = Encoder(tokenizer)
    assert not encoder.fast
    assert len(encoder.document("abc")) == 3


@pytest.mark.parametrize("text", [
    "", f"models use {END_OF_DOCUMENT} here", " " * 40_000 + "x", "a" * 40_000, "\n" * 4_000, "don't I'll'S 'em",
])
def test_special_cases(trained: tuple[Encoder, Tokenizer], text: str) -> None:
    assert_same(*trained, text)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_more_blanks_than_the_pattern_can_step_over(trained: tuple[Encoder, Tokenizer]) -> None:
    assert_same(*trained, "a" + " " * 1_100_000 + "b")


def test_characters_are_of_the_same_class(classes: tuple[Encoder, Tokenizer]) -> None:
    """A letter in one library's tables and a sign in the other's would cut a text elsewhere: 20,000 characters."""
    assert_same(*classes, beside_each_class(random.Random(0).sample(CHARACTERS, 20_000)))


@pytest.mark.proof
@pytest.mark.timeout(900)
def test_every_character_is_of_the_same_class(classes: tuple[Encoder, Tokenizer]) -> None:
    for first in range(0, len(CHARACTERS), 1 << 14):
        assert_same(*classes, beside_each_class(CHARACTERS[first:first + (1 << 14)]))


@pytest.mark.parametrize("documents", [15, pytest.param(None, marks=[pytest.mark.proof, pytest.mark.timeout(900)])])
@pytest.mark.parametrize("domain", ["code", "math", "web"])
def test_every_id_of_the_embedded_text_is_equal(domain: str, documents: int | None) -> None:
    """None: all that the domain has, 34 MB in the three."""
    plugin = load_registries().domains.find(domain)
    texts = [d.text for d in itertools.islice(plugin.load()(plugin.science()), documents)]
    tokenizer = train(iter(texts[:300]), 1_024)
    tokenizer.encode_special_tokens = True
    encoder = Encoder(tokenizer)
    assert encoder.fast
    for text in texts:
        assert_same(encoder, tokenizer, normalise(text))
