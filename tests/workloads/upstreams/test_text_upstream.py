"""The upstream `text`: a corpus by sequence number, in an order of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sweeps.errors import UsageError
from tests.workloads.data.conftest import corpus, texts, tokenizer  # noqa: F401 - fixtures
from workloads.data.corpus import open_corpus
from workloads.training.runs import with_epochs
from workloads.upstreams._text import TextSource
from workloads.upstreams.text import PLUGIN, TextUpstreamScience

LENGTH = 32
Corpus = tuple[Path, dict[str, float]]


def source(folder: Path, stream: str = "train", seed: int = 0) -> TextSource:
    made = PLUGIN.load()(TextUpstreamScience(domain="notes"), seed=seed, stream=stream, sequence_length=LENGTH,
                         banks=[folder])
    assert isinstance(made, TextSource)
    return made


def test_an_epoch_is_every_chunk_once_in_an_order_that_pre_training_never_has(corpus: Corpus) -> None:  # noqa: F811
    reader = open_corpus(corpus[0], seed=0, sequence_length=LENGTH)
    index = np.arange(reader.train_sequences)
    upstream, pretraining = source(corpus[0]).sequences(index), reader.train(index)
    assert sorted(map(bytes, upstream.tokens_BT)) == sorted(map(bytes, pretraining))
    same = (upstream.tokens_BT == pretraining).all(axis=1).mean()
    assert len(index) > 50 and same < 0.1
    assert (upstream.tokens_BT != source(corpus[0], seed=1).sequences(index).tokens_BT).any()


def test_the_same_bits_whatever_the_batch(corpus: Corpus) -> None:  # noqa: F811
    made = source(corpus[0])
    index = np.array([made._reader.train_sequences * 3 + 1, 0, 17])
    whole = made.sequences(index)
    for row, one in enumerate(index):
        np.testing.assert_array_equal(made.sequences(np.array([one])).tokens_BT[0], whole.tokens_BT[row])
    assert not whole.target_BT[:, 0].any() and whole.target_BT[:, 1:].all()
    assert (made.vocabulary, made.sequence_length, made.period) == (400, LENGTH, None)


def test_held_out_sequences_are_the_held_out_text_again_and_again(corpus: Corpus) -> None:  # noqa: F811
    reader = open_corpus(corpus[0], seed=0, sequence_length=LENGTH)
    count = reader.validation_sequences
    held_out = source(corpus[0], "held_out").sequences(np.arange(count + 3)).tokens_BT
    np.testing.assert_array_equal(held_out[:count], reader.validation(np.arange(count)))
    np.testing.assert_array_equal(held_out[count:], held_out[:3])


def test_one_corpus_is_read(corpus: Corpus) -> None:  # noqa: F811
    for banks in ([], [corpus[0], corpus[0]]):
        with pytest.raises(UsageError, match=f"one corpus and {len(banks)} were given"):
            PLUGIN.load()(TextUpstreamScience(), seed=0, stream="train", sequence_length=LENGTH, banks=banks)


def test_it_tells_how_many_epochs_a_run_reads(corpus: Corpus) -> None:  # noqa: F811
    reader = open_corpus(corpus[0], seed=0, sequence_length=LENGTH)
    tokens = 3 * reader.train_sequences * LENGTH
    assert with_epochs({"tokens": float(tokens)}, source(corpus[0]), LENGTH) == {"tokens": tokens, "epochs": 3.0}
