"""Log-probabilities of choices, in batches of one fixed physical shape, so that an item's numbers are its own.

Rows of a batch are not bit-equal across batch shapes, but within one shape neither the order, nor the neighbours, nor a
restart changes a bit. So a batch always has ROWS rows, filled up with rows of zeros, and its length follows from the
item alone: its prompt, rounded up to a multiple of LENGTH_STEP tokens, and the longest of its choices, rounded up to a
multiple of CHOICE_STEP. All are recorded.

A row is [end of document] + prompt + choice. The end of a document stands where a training text would begin. Where the
longest row is longer than the model's sequence, the prompt loses its beginning. Keys and values of the prompt are
computed once for all choices, without its last token, which stands before each choice: what follows it is the first
thing to be told.

Shape suffixes: B rows, P places of a prompt, V vocabulary, C choices, A tokens of a choice, L layers, H heads, D width
of a head.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from sweeps.store import files
from workloads.data.make_tokenizer import END_OF_DOCUMENT
from workloads.downstream.items import Posed
from workloads.downstream.slots import extend, prefill

ROWS = 16
"""Rows of a batch."""
LENGTH_STEP = 64
"""Places of prompts in batches are multiples of it."""
CHOICE_STEP = 16
"""Those of choices of this."""

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
    """Places of the batch's rows, padding included: those of the prompt and those of a choice."""
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
    """The prompt's last token, then the choice."""
    held: int
    """Tokens before them."""
    pairs_LHPD: torch.Tensor
    """Their keys and values (`slots.prefill`)."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """An item in tokens."""

    item: Posed
    rows: tuple[list[int], ...]
    start: int
    """Place of a choice's first token, the same in all rows."""
    truncated: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Places of the prompt without its last token, and of that token with a choice."""
        longest = max(map(len, self.rows)) - self.start + 1
        return max(-(-(self.start - 1) // LENGTH_STEP), 1) * LENGTH_STEP, -(-longest // CHOICE_STEP) * CHOICE_STEP

    @property
    def length(self) -> int:
        """Places of a row."""
        return sum(self.shape)


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
        choices_CA = [self._tokenizer.encode(choice).ids[:self._limit - 1] for choice in item.choices_C]
        lost = max(len(prompt) + max(map(len, choices_CA)) + 1 - self._limit, 0)
        before = [self._end, *prompt[lost:]]
        return Encoded(item=item, rows=tuple([*before, *ids] for ids in choices_CA), start=len(before),
                       truncated=lost > 0)


def endings(tokenizer: Tokenizer) -> npt.NDArray[np.bool_]:
    """Return (V,) whether an answer has ended where this token follows it: it begins with no letter and no digit.

    So ` 42` is not taken for the beginning of ` 425`. Bytes beyond ASCII count as letters.
    """
    found = np.ones(tokenizer.get_vocab_size(), dtype=np.bool_)
    for token, number in tokenizer.get_vocab().items():
        found[number] = token == END_OF_DOCUMENT or token[0] not in WORD
    return found


def scores(model: Any, encoded: Sequence[Encoded], endings_V: npt.NDArray[np.bool_]) -> Iterator[Score]:
    """Yield the score of every item, short ones first; an item's numbers do not depend on the others.

    Args:
        model: of Hugging Face, in evaluation mode, on its device.
        encoded: the items.
        endings_V: `Encoding.endings_V`.

    Raises:
        Diverged: the model's logits are not finite.
    """
    for shape in sorted({e.shape for e in encoded}):
        yield from _of_shape(model, [e for e in encoded if e.shape == shape], shape, endings_V)


def _of_shape(model: Any, encoded: Sequence[Encoded], shape: tuple[int, int], endings_V: npt.NDArray[np.bool_]
              ) -> Iterator[Score]:
    places, further = shape
    ends, rows = torch.from_numpy(endings_V), _rows(model, encoded, places)
    nats: dict[int, list[float]] = {}
    right: dict[int, tuple[float, bool]] = {}
    while batch := list(islice(rows, ROWS)):
        logits_BAV = _logits(model, batch, further)
        for place, row in enumerate(batch):
            e = encoded[row.item]
            answer_AV = logits_BAV[place, :len(row.tokens)].double().cpu()
            nats.setdefault(row.item, []).append(_nats(answer_AV, row))
            if row.choice == e.item.gold:
                right[row.item] = _written(answer_AV, row, ends)
            if len(nats[row.item]) == len(e.rows):
                yield Score(
                    id=e.item.id, nats_C=tuple(nats.pop(row.item)), ending=right[row.item][0],
                    greedy=right.pop(row.item)[1], length=e.length, truncated=e.truncated,
                    tokens_C=tuple(len(r) - e.start for r in e.rows))


def _rows(model: Any, encoded: Sequence[Encoded], places: int) -> Iterator[Row]:
    """Yield every choice of every item; the prompts of ROWS items are computed at a time."""
    for first in range(0, len(encoded), ROWS):
        batch = encoded[first:first + ROWS]
        tokens_BP = torch.zeros((ROWS, places), dtype=torch.long)
        for place, e in enumerate(batch):
            tokens_BP[place, :e.start - 1] = torch.tensor(e.rows[0][:e.start - 1])
        with torch.inference_mode():
            pairs_BLHPD = prefill(model, tokens_BP.to(model.device))
        for place, e in enumerate(batch):
            for choice, tokens in enumerate(e.rows):
                yield Row(first + place, choice, tokens[e.start - 1:], e.start - 1, pairs_BLHPD[place])


def _logits(model: Any, batch: Sequence[Row], further: int) -> torch.Tensor:
    """Return the logits of the rows' tokens, and of rows of zeros that fill the batch up."""
    tokens_BA, held_B = torch.zeros((ROWS, further), dtype=torch.long), torch.zeros(ROWS, dtype=torch.long)
    for place, row in enumerate(batch):
        tokens_BA[place, :len(row.tokens)] = torch.tensor(row.tokens)
        held_B[place] = row.held
    pairs = [row.pairs_LHPD for row in batch]
    with torch.inference_mode():
        pairs_LBHPD = torch.stack(pairs + pairs[:1] * (ROWS - len(pairs)), 2)
        return extend(model, pairs_LBHPD, tokens_BA.to(model.device), held_B.to(model.device))


def _nats(answer_AV: torch.Tensor, row: Row) -> float:
    """Return log p of the choice; the last row of logits is that of the token after it."""
    ids = torch.tensor(row.tokens[1:])[:, None]
    return float((answer_AV[:-1].gather(-1, ids)[:, 0] - answer_AV[:-1].logsumexp(-1)).sum())


def _written(answer_AV: torch.Tensor, row: Row, ends_V: torch.Tensor) -> tuple[float, bool]:
    """Return the log-probability of an ending after the answer, and whether greedy decoding writes just this."""
    last_V = answer_AV[-1]
    ending = float(last_V[ends_V].logsumexp(-1) - last_V.logsumexp(-1))
    ids = torch.tensor(row.tokens[1:])[:, None]
    at_top = (answer_AV[:-1] >= answer_AV[:-1].gather(-1, ids)).sum(-1) == 1
    ended = bool(last_V[ends_V].max() > last_V[~ends_V].max())
    return ending, bool(at_top.all()) and ended
