"""The stage `finetune`: a finished model, trained further on a task's training items.

A row is one item: [end of document] + prompt + answer + end of document, filled up. That is the row with which the
item would be scored (`scoring.Encoding`), and the end lets the model stop where the answer does. The training is that
of all stages (`workloads.training.runs.train`), so resume is as exact.

Shape suffixes: N items, B rows of a batch, T tokens of a row.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from tokenizers import Tokenizer

from sweeps.errors import RecordError, UsageError
from sweeps.language.science import RowsScience
from workloads.contract import Ints, SequenceBatch, StageContext
from workloads.data.corpus import epoch_order
from workloads.data.make_tokenizer import END_OF_DOCUMENT, TOKENIZER, load_tokenizer
from workloads.downstream.items import Posed, read
from workloads.downstream.scoring import Encoding
from workloads.training.model import INPUT, empty_model
from workloads.training.runs import one, train
from workloads.training.transfer import load_weights, read_weights


class ItemFeed:
    """Items as training rows; each once in an epoch, in an order that the seed draws."""

    def __init__(self, items: Sequence[Posed], tokenizer: Tokenizer, rows: RowsScience, *, length: int, seed: int
                 ) -> None:
        """Encode every item.

        Raises:
            UsageError: an answer is longer than a row.
        """
        self.vocabulary = tokenizer.get_vocab_size()
        self.truncated = 0
        """Items whose prompt has lost its beginning."""
        self._seed = seed
        self._tokens_NT = np.zeros((len(items), length), dtype=np.int32)
        self._target_NT = np.zeros((len(items), length), dtype=np.bool_)
        end, encoding = cast(int, tokenizer.token_to_id(END_OF_DOCUMENT)), Encoding(tokenizer, length - 1)
        for number, item in enumerate(items):
            answer = item.choices_C[item.gold]
            if len(tokenizer.encode(answer).ids) > length - 2:
                raise UsageError(f"the answer of training item {item.id} does not fit a row of {length} tokens; raise "
                                 "finetune.sequence_length, or leave it out for the model's")
            encoded = encoding.item(replace(item, choices_C=(answer,), gold=0))
            row = [*encoded.rows[0], end]
            self._tokens_NT[number, :len(row)] = row
            self._target_NT[number, encoded.start if rows.loss == "answer" else 1:len(row)] = True
            self.truncated += encoded.truncated

    def load(self, index_B: Ints) -> SequenceBatch:
        """Return the rows with these indices; they go on with the next epoch's order."""
        epoch_B, place_B = np.divmod(index_B, len(self._tokens_NT))
        taken_B = np.array([epoch_order(self._seed, int(epoch), len(self._tokens_NT))[place]
                            for epoch, place in zip(epoch_B, place_B, strict=True)], dtype=np.int64)
        return SequenceBatch(tokens_BT=self._tokens_NT[taken_B], target_BT=self._target_NT[taken_B])


def run(context: StageContext) -> Mapping[str, float]:
    """Train the model on the items up to the segment's end; return how that went, the epochs, and what was cut.

    Raises:
        Stopped: asked to leave.
        Diverged: a loss is not finite.
        RecordError: an input is missing, damaged or does not fit the others.
        UsageError: an answer is longer than a row.
    """
    began, science = time.monotonic(), context.science
    items, tokenizer = read(one(context, "items")), load_tokenizer(one(context, "tokenizer") / TOKENIZER)
    length = science["rows"].sequence_length or science["model"].sequence_length
    feed = ItemFeed(items, tokenizer, science["rows"], length=length, seed=science["seed"].seed)
    scores = train(
        context, feed, began=began, fresh=lambda: _finished(context, feed.vocabulary), sequence_length=length)
    rows = science["optim"].batch_sequences * scores["updates"]
    return {**scores, "items": float(len(items)), "epochs": rows / len(items), "truncated": float(feed.truncated)}


def _finished(context: StageContext, vocabulary: int) -> Any:
    """Return the model that is fine-tuned.

    Raises:
        RecordError: it is missing, damaged, or has another tokenizer.
    """
    weights = read_weights(one(context, "model"))
    if len(weights[INPUT]) != vocabulary:
        raise RecordError(f"the checkpoint has {len(weights[INPUT])} token ids, its tokenizer {vocabulary}; nothing is "
                          "trained with another tokenizer: plan again")
    model = empty_model(context.science["model"], vocabulary)
    load_weights(model, weights)
    return model
