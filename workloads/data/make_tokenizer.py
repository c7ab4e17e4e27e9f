"""Stage `tokenizer`: a byte-level BPE trained on training text only, the same bytes every time.

Byte level: the 256 bytes are in the vocabulary, so every text is encoded and decoded exactly, and each token stands for
a fixed number of bytes. Costs about 3 s for 6 MB on one core.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from sweeps.errors import RecordError
from sweeps.language.science import TokenizerScience
from workloads.contract import StageContext, Stopped
from workloads.data.make_text import TRAIN, VALIDATION, read_texts

TOKENIZER = "tokenizer.json"
END_OF_DOCUMENT = "<|endoftext|>"
"""GPT-2's name for it. Text that contains these characters is encoded as text (see `load_tokenizer`)."""
BATCH_DOCUMENTS = 256
"""Documents encoded at a time."""


def run(context: StageContext) -> Mapping[str, float]:
    """Train the tokenizer; return its vocabulary and its bytes per token on held-out text of its corpora.

    Raises:
        RecordError: an input text is missing.
        Stopped: the job was asked to leave.
    """
    science: TokenizerScience = context.science["tokenizer"]
    folders = [folder for name in science.corpora for folder in _folders(context, f"text:{name}")]
    tokenizer = train(itertools.chain.from_iterable(_first_texts(f / TRAIN, science.max_bytes) for f in folders),
                      science.vocabulary)
    if context.should_stop():
        raise Stopped
    path = context.attempt.artifacts / TOKENIZER
    tokenizer.save(str(path), pretty=False)
    loaded = load_tokenizer(path)
    tokens = size = 0
    for folder in folders:
        for ids, text in encoded(loaded, _first_texts(folder / VALIDATION, science.max_bytes)):
            tokens, size = tokens + len(ids), size + len(text.encode())
        if context.should_stop():
            raise Stopped
    return {"vocabulary": float(loaded.get_vocab_size()), "bytes_per_token": size / max(tokens, 1)}


def train(texts: Iterator[str], vocabulary: int) -> Tokenizer:
    """Return a byte-level BPE with `vocabulary` token ids; fewer where the text has no more pairs to merge."""
    one_thread()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END_OF_DOCUMENT], initial_alphabet=_bytes(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Return a tokenizer that this stage made; the end-of-document characters inside a text are ordinary text."""
    one_thread()
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    return tokenizer


def encoded(tokenizer: Tokenizer, texts: Iterator[str]) -> Iterator[tuple[list[int], str]]:
    """Yield token ids and text of each document, without end-of-document tokens."""
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == BATCH_DOCUMENTS:
            yield from _encode(tokenizer, batch)
            batch = []
    yield from _encode(tokenizer, batch)


def token_bytes(tokenizer: Tokenizer) -> list[int]:
    """Return for every token id the bytes of text that it stands for; 0 for the end of a document.

    A byte-level vocabulary writes each byte as one character, so the length of an entry is its number of bytes.
    """
    sizes = [0] * tokenizer.get_vocab_size()
    for token, number in tokenizer.get_vocab().items():
        sizes[number] = 0 if token == END_OF_DOCUMENT else len(token)
    return sizes


def one_thread() -> None:
    """Make `tokenizers` count and encode in one thread: the slot that this job has."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _bytes() -> list[str]:
    alphabet: list[str] = sorted(pre_tokenizers.ByteLevel.alphabet())
    return alphabet


def _encode(tokenizer: Tokenizer, batch: list[str]) -> Iterator[tuple[list[int], str]]:
    for found, text in zip(tokenizer.encode_batch_fast(batch), batch, strict=True):
        yield found.ids, text


def _first_texts(path: Path, max_bytes: int) -> Iterator[str]:
    """Yield documents of a corpus until they reach `max_bytes`; the first is always read."""
    size = 0
    for text in read_texts(path):
        yield text
        size += len(text.encode())
        if size >= max_bytes:
            break


def _folders(context: StageContext, role: str) -> list[Path]:
    folders = list(context.inputs(role))
    if not folders:
        raise RecordError(f"stage tokenizer has no input {role!r}; plan again with that corpus")
    return folders
