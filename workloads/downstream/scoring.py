"""Log-probabilities of choices, in batches of one fixed physical shape, so that an item's numbers are its own.

Rows of a batch are not bit-equal across batch shapes, but within one shape neither the order, nor the neighbours, nor a
restart changes a bit. So a batch always has ROWS rows, filled up with rows of zeros, and its length follows from the
item alone: the longest of its choices, rounded up to a multiple of LENGTH_STEP tokens. Both are recorded.

A row is [end of document] + prompt + choice + zeros. The end of a document stands where a training text would begin. A
row that is longer than the model's sequence loses the beginning of its prompt.

Shape suffixes: B rows, T tokens, V vocabulary, C choices, A tokens of a choice.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from sweeps.store import files
from workloads.data.make_tokenizer import END_OF_DOCUMENT
from workloads.downstream.items import Posed
from workloads.training.losses import Logits

ROWS = 16
"""Rows of a batch."""
LENGTH_STEP = 64
"""Lengths of batches are multiples of it."""

BEYOND_ASCII = tuple(map(chr, [*range(0xA1, 0xAD), *range(0xAE, 0x100), *range(0x121, 0x144)]))
"""What stands for the bytes 0x7F to 0xFF in a byte-level vocabulary (GPT-2's `bytes_to_unicode`)."""
WORD = frozenset([*string.ascii_letters, *string.digits, *BEYOND_ASCII])


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a model says of an item."""

    id: str
    nats_C: tuple[float, ...]
    """Log-probability of each choice given the prompt."""
    ending: float
    """Log-probability, given the prompt and the right answer, that the answer ends there (see `endings`)."""
    greedy: bool
    """Greedy decoding writes the right answer and ends it there. A tie at the top is no right answer."""
    tokens_C: tuple[int, ...]
    """Tokens of each choice."""
    length: int
    """Tokens of the batch's rows, padding included."""
    truncated: bool
    """The prompt has lost its beginning."""

    @property
    def key(self) -> str:
        """The item's id."""
        return self.id

    @staticmethod
    def of(fields: dict[str, Any]) -> Score:
        """Return the score that JSON has kept."""
        return Score(**{**fields, "nats_C": tuple(map(files.number, fields["nats_C"])),
                        "tokens_C": tuple(fields["tokens_C"])})


class Row(NamedTuple):
    """One choice of one item, ready for the model."""

    item: int
    """Number of the item."""
    choice: int
    tokens: list[int]
    answer: int
    """Place of the choice's first token in `tokens`."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """An item in tokens."""

    item: Posed
    rows: tuple[list[int], ...]
    starts: tuple[int, ...]
    length: int
    truncated: bool


class Encoding:
    """Encodes items for a model of sequences of `sequence_length` tokens."""

    def __init__(self, tokenizer: Tokenizer, sequence_length: int) -> None:
        """Use a tokenizer of this project, which has an end-of-document token and every byte."""
        self._tokenizer = tokenizer
        self._limit = sequence_length
        self._end = cast(int, tokenizer.token_to_id(END_OF_DOCUMENT))
        self.endings_V = endings(tokenizer)

    def item(self, item: Posed) -> Encoded:
        """Return an item's rows."""
        prompt = self._tokenizer.encode(item.prompt).ids
        rows, starts, truncated = [], [], False
        for choice in item.choices_C:
            ids = self._tokenizer.encode(choice).ids[:self._limit - 1]
            room = self._limit - 1 - len(ids)
            truncated |= room < len(prompt)
            kept = prompt[max(len(prompt) - room, 0):]
            rows.append([self._end, *kept, *ids])
            starts.append(1 + len(kept))
        longest = max(map(len, rows))
        length = min(-(-longest // LENGTH_STEP) * LENGTH_STEP, self._limit)
        return Encoded(item=item, rows=tuple(rows), starts=tuple(starts), length=length, truncated=truncated)


def endings(tokenizer: Tokenizer) -> npt.NDArray[np.bool_]:
    """Return (V,) whether an answer has ended where this token follows it: it begins with no letter and no digit.

    So ` 42` is not taken for the beginning of ` 425`. Bytes beyond ASCII count as letters.
    """
    found = np.ones(tokenizer.get_vocab_size(), dtype=np.bool_)
    for token, number in tokenizer.get_vocab().items():
        found[number] = token == END_OF_DOCUMENT or token[0] not in WORD
    return found


def scores(logits: Logits, encoded: Sequence[Encoded], endings_V: npt.NDArray[np.bool_]) -> Iterator[Score]:
    """Yield the score of every item, short ones first; an item's numbers do not depend on the others.

    Raises:
        Diverged: the model's logits are not finite.
    """
    for length in sorted({e.length for e in encoded}):
        yield from _of_length(logits, [e for e in encoded if e.length == length], length, endings_V)


def _of_length(logits: Logits, encoded: Sequence[Encoded], length: int, endings_V: npt.NDArray[np.bool_]
               ) -> Iterator[Score]:
    ends = torch.from_numpy(endings_V)
    rows = [Row(number, choice, tokens, start) for number, e in enumerate(encoded)
            for choice, (tokens, start) in enumerate(zip(e.rows, e.starts, strict=True))]
    nats: dict[int, list[float]] = {}
    right: dict[int, tuple[float, bool]] = {}
    for batch in _batches(rows):
        tokens_BT = np.zeros((ROWS, length), dtype=np.int32)
        for place, row in enumerate(batch):
            tokens_BT[place, :len(row.tokens)] = row.tokens
        logits_BTV = logits(tokens_BT)
        for place, row in enumerate(batch):
            e = encoded[row.item]
            answer_AV = logits_BTV[place, row.answer - 1:len(row.tokens)].double().cpu()
            nats.setdefault(row.item, []).append(_nats(answer_AV, row))
            if row.choice == e.item.gold:
                right[row.item] = _written(answer_AV, row, ends)
            if len(nats[row.item]) == len(e.rows):
                yield Score(
                    id=e.item.id, nats_C=tuple(nats.pop(row.item)), ending=right[row.item][0],
                    greedy=right.pop(row.item)[1], length=length, truncated=e.truncated,
                    tokens_C=tuple(len(r) - s for r, s in zip(e.rows, e.starts, strict=True)))


def _batches(rows: Sequence[Row]) -> Iterable[Sequence[Row]]:
    return (rows[first:first + ROWS] for first in range(0, len(rows), ROWS))


def _nats(answer_AV: torch.Tensor, row: Row) -> float:
    """Return log p of the choice; the last row of logits is that of the token after it."""
    ids = torch.tensor(row.tokens[row.answer:])[:, None]
    return float((answer_AV[:-1].gather(-1, ids)[:, 0] - answer_AV[:-1].logsumexp(-1)).sum())


def _written(answer_AV: torch.Tensor, row: Row, ends_V: torch.Tensor) -> tuple[float, bool]:
    """Return the log-probability of an ending after the answer, and whether greedy decoding writes just this."""
    last_V = answer_AV[-1]
    ending = float(last_V[ends_V].logsumexp(-1) - last_V.logsumexp(-1))
    ids = torch.tensor(row.tokens[row.answer:])[:, None]
    at_top = (answer_AV[:-1] >= answer_AV[:-1].gather(-1, ids)).sum(-1) == 1
    ended = bool(last_V[ends_V].max() > last_V[~ends_V].max())
    return ending, bool(at_top.all()) and ended
