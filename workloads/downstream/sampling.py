"""What a model writes after a prompt, greedily or drawn, in batches of one fixed physical shape.

    sampler = Sampler(model, tokenizer, sequence_length, Sampling(temperature=0.8, longest=128, stops=("def ",)))
    for sample in sampler([Ask(id=item.id, prompt=item.prompt, numbers=range(20)) for item in items]):
        ...  # as soon as it is whole: keep it at once, and ask only for the missing ones after a restart

A sample is a pure function of model, device, threads, `Sampling`, `Sampler.shape`, the item's id and prompt, and its
own number. Each of its tokens is chosen by one uniform number from a counter-based generator (Philox) with the key
(seed, item) and the counter (sample, position), by the inverse of the distribution function. So neither order, nor
neighbours, nor a restart change a bit, and sample 3 is the same whether 4 or 200 are asked for.

At another batch shape the logits differ in their last bits (1.5e-5 nats in fp32), and a token may change where its
uniform number lies as near to a boundary of the distribution: `margins` says how near it lay.

The prompt's keys and values are computed once for all samples of an item. A row whose sample has ended takes the next
one, so no row waits for the longest. Costs one forward pass of `rows` tokens for each token of the longest row.

Shape suffixes: B rows, P places of a prompt, V vocabulary.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from sweeps.errors import UsageError
from workloads.data.make_tokenizer import END_OF_DOCUMENT
from workloads.downstream.scoring import LENGTH_STEP, ROWS
from workloads.downstream.slots import Slots, prefill


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How samples are drawn."""

    seed: int = 0
    temperature: float = 1.0
    """What logits are divided by; 0: greedy, the most likely token, of equal ones that of the lowest id."""
    longest: int
    """Tokens of a sample at most."""
    stops: tuple[str, ...] = ()
    """Texts before which a sample ends; the end of a document always ends it."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """Samples of one item."""

    id: str
    prompt: str
    numbers: Sequence[int] = (0,)
    """Which samples; each is drawn by its number alone."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the model wrote."""

    id: str
    number: int
    text: str
    """Up to the end of the document or the first of the stops, both left out; bytes that are no UTF-8 are U+FFFD."""
    ended: Literal["document", "stop", "length"]
    """What ended it; `length`: nothing did."""
    tokens: tuple[int, ...]
    """All that was drawn, the ending included."""
    margins: tuple[float, ...]
    """How far each token was from being another: drawn, the distance of its uniform number from the nearest boundary of
    the distribution function; greedy, the nats between the first and the second token."""
    length: int
    """Places of the prompt in its batch, padding included."""
    truncated: bool
    """The prompt has lost its beginning."""


class Sampler:
    """Draws samples from one model."""

    def __init__(self, model: Any, tokenizer: Tokenizer, sequence_length: int, how: Sampling, rows: int = ROWS) -> None:
        """Use a model in evaluation mode, on its device, and a tokenizer of this project.

        Raises:
            UsageError: the samples leave no room for a prompt, or the temperature is below 0.
        """
        if not 0 < how.longest < sequence_length - 1:
            raise UsageError(f"samples of {how.longest} tokens do not fit behind a prompt in a model of "
                             f"{sequence_length} tokens; longest may be 1 to {sequence_length - 2}")
        if how.temperature < 0:
            raise UsageError(f"temperature {how.temperature} is below 0; 0 is greedy, 1 the model's own distribution")
        self.how, self.rows = how, rows
        self._model, self._tokenizer, self._room = model, tokenizer, sequence_length - how.longest
        self._end = cast(int, tokenizer.token_to_id(END_OF_DOCUMENT))
        of_character = {character: byte for byte, character in bytes_to_unicode().items()}
        self._bytes = [b""] * tokenizer.get_vocab_size()
        for token, number in tokenizer.get_vocab().items():
            if number != self._end:
                self._bytes[number] = bytes(of_character[character] for character in token)
        self._stops = re.compile(b"|".join(re.escape(stop.encode()) for stop in how.stops))

    @property
    def shape(self) -> dict[str, int]:
        """What decides the physical shapes of an item's batches; to be recorded."""
        return {"rows": self.rows, "length_step": LENGTH_STEP, "longest": self.how.longest}

    def __call__(self, asks: Iterable[Ask]) -> Iterator[Sample]:
        """Yield the samples asked for, as they end.

        Raises:
            Diverged: the model's logits are not finite.
        """
        prompts = [_Prompt(ask, self._tokenizer.encode(ask.prompt).ids, self) for ask in asks]
        with torch.inference_mode():
            for places in sorted({p.places for p in prompts}):
                yield from self._of_places([p for p in prompts if p.places == places], places)

    def _of_places(self, prompts: Sequence[_Prompt], places: int) -> Iterator[Sample]:
        slots = Slots(self._model, self.rows, places + self.how.longest)
        waiting = self._begun(prompts, places)
        runs: list[_Run | None] = [None] * self.rows
        tokens, at, uniforms = [0] * self.rows, [0] * self.rows, np.zeros(self.rows)
        while True:
            for row in range(self.rows):
                if runs[row] is None and (begun := next(waiting, None)):
                    runs[row], pairs_LHPD = begun
                    slots.begin(row, pairs_LHPD)
            if not any(runs):
                return
            for row, run in enumerate(runs):
                if run is not None:
                    tokens[row], at[row], uniforms[row] = run.next
            chosen, margins = choose(slots.step(tokens, at), uniforms, self.how.temperature)
            for row, run in enumerate(runs):
                if run is not None and run.ends_with(chosen[row], margins[row]):
                    runs[row] = None
                    yield run.sample()

    def _begun(self, prompts: Sequence[_Prompt], places: int) -> Iterator[tuple[_Run, torch.Tensor]]:
        """Yield every sample with the keys and values of its prompt without the last token."""
        device = self._model.lm_head.weight.device
        for first in range(0, len(prompts), self.rows):
            batch = prompts[first:first + self.rows]
            tokens_BP = torch.zeros((self.rows, places), dtype=torch.long)
            for row, prompt in enumerate(batch):
                tokens_BP[row, :len(prompt.tokens)] = torch.tensor(prompt.tokens)
            for prompt, pairs_LHPD in zip(batch, prefill(self._model, tokens_BP.to(device)), strict=False):
                yield from ((_Run(prompt, number, self), pairs_LHPD) for number in prompt.ask.numbers)

    def text(self, tokens: Iterable[int]) -> bytes:
        """Return the bytes that tokens stand for."""
        return b"".join(map(self._bytes.__getitem__, tokens))

    def stop_in(self, text: bytes) -> int:
        """Return where the first of the stops begins; -1: nowhere."""
        found = self._stops.search(text) if self.how.stops else None
        return found.start() if found else -1

    @cached_property
    def tail(self) -> int:
        """Tokens at the end of a text in which a stop that the last one has completed must lie."""
        return max((len(stop.encode()) for stop in self.how.stops), default=0)

    def ending(self, token: int) -> bool:
        """Return whether a token is the end of a document."""
        return token == self._end

    def truncates(self, prompt: str) -> bool:
        """Return whether a prompt loses its beginning."""
        ids = self._tokenizer.encode(prompt).ids
        return len(self.prompt(ids)) <= len(ids)

    def prompt(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Return the tokens of a prompt: the end of a document and as many of the last ones as there is room for."""
        return (self._end, *ids[max(len(ids) + 1 - self._room, 0):])


class _Prompt:
    """A prompt in tokens."""

    def __init__(self, ask: Ask, ids: Sequence[int], sampler: Sampler) -> None:
        self.ask, self.tokens = ask, sampler.prompt(ids)
        self.truncated = len(self.tokens) <= len(ids)
        self.places = -(-len(self.tokens) // LENGTH_STEP) * LENGTH_STEP


class _Run:
    """A sample that is being drawn."""

    def __init__(self, prompt: _Prompt, number: int, sampler: Sampler) -> None:
        self.prompt, self.number, self._sampler = prompt, number, sampler
        self._tokens: list[int] = []
        self._margins: list[float] = []
        self._uniforms = uniforms(sampler.how.seed, prompt.ask.id, number, sampler.how.longest)
        self._ended: Literal["document", "stop", "length"] = "length"

    @property
    def next(self) -> tuple[int, int, float]:
        """Return the newest token, its place, and the uniform number that chooses the one after it."""
        drawn = len(self._tokens)
        newest = self._tokens[-1] if drawn else self.prompt.tokens[-1]
        return newest, len(self.prompt.tokens) - 1 + drawn, self._uniforms[drawn]

    def ends_with(self, token: int, margin: float) -> bool:
        """Add a token; return whether the sample is whole."""
        self._tokens.append(token)
        self._margins.append(margin)
        sampler = self._sampler
        if sampler.ending(token):
            self._ended = "document"
        elif sampler.tail and sampler.stop_in(sampler.text(self._tokens[-sampler.tail:])) >= 0:
            self._ended = "stop"
        else:
            return len(self._tokens) == sampler.how.longest
        return True

    def sample(self) -> Sample:
        """Return what was written."""
        written = self._sampler.text(self._tokens)
        stop = self._sampler.stop_in(written) if self._ended == "stop" else -1
        return Sample(
            id=self.prompt.ask.id, number=self.number, ended=self._ended, tokens=tuple(self._tokens),
            text=(written if stop < 0 else written[:stop]).decode(errors="replace"), margins=tuple(self._margins),
            length=self.prompt.places, truncated=self.prompt.truncated)


def uniforms(seed: int, item: str, number: int, count: int) -> npt.NDArray[np.float64]:
    """Return (count,) numbers in [0, 1) that choose the tokens of a sample; the first ones do not depend on `count`."""
    key = np.frombuffer(hashlib.sha256(f"{seed}/{item}".encode()).digest()[:16], dtype=np.uint64)
    generator = np.random.Philox(key=key, counter=np.array([0, 0, number, 0], dtype=np.uint64))
    return np.random.Generator(generator).random(count)


def choose(logits_BV: torch.Tensor, uniforms_B: npt.NDArray[np.float64], temperature: float
           ) -> tuple[list[int], list[float]]:
    """Return the token of each row and its margin (see `Sample.margins`); arithmetic in fp64.

    Drawn, the token is the first whose cumulative probability exceeds the row's uniform number.
    """
    if not temperature:
        laws_BV = logits_BV.double().log_softmax(-1)
        token_B = laws_BV.argmax(-1)
        top_B2 = laws_BV.topk(2).values
        return token_B.tolist(), (top_B2[:, 0] - top_B2[:, 1]).tolist()
    sums_BV = (logits_BV.double() / temperature).softmax(-1).cumsum(-1)
    sums_BV[:, -1] = torch.inf  # the last token has all that is left: what is below has no boundary above
    u_B1 = torch.tensor(uniforms_B, device=sums_BV.device)[:, None]
    token_B1 = torch.searchsorted(sums_BV, u_B1, right=True)
    above_B1 = sums_BV.gather(-1, token_B1) - u_B1
    below_B1 = torch.where(token_B1 > 0, u_B1 - sums_BV.gather(-1, (token_B1 - 1).clamp(min=0)), torch.inf)
    return token_B1[:, 0].tolist(), torch.minimum(above_B1, below_B1)[:, 0].tolist()
