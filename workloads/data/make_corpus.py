"""Stage `corpus`: text to shards of token ids, each document followed by the end-of-document token.

    train-00000.bin ...  validation-00000.bin ...   little-endian uint16 (uint32 above 65,536 ids)
    index.json                                      sizes, SHA-256, vocabulary, bytes per token id

Costs about 3 s per 6 MB on one core; memory holds one shard and one batch of documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from sweeps.errors import RecordError
from sweeps.language.science import CorpusScience
from sweeps.store import files
from workloads.contract import StageContext, Stopped
from workloads.data import make_text
from workloads.data.make_tokenizer import END_OF_DOCUMENT, TOKENIZER, encoded, load_tokenizer, token_bytes

INDEX = "index.json"
SMALL_VOCABULARY = 1 << 16
"""Ids of vocabularies up to this size fit two bytes."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """The shards of the training or the held-out text."""

    tokens: int
    """Tokens in all, end-of-document tokens included."""
    bytes: int
    """Bytes of text."""
    documents: int
    shards: tuple[dict[str, Any], ...]
    """File, tokens, size in bytes and SHA-256 of each."""


def run(context: StageContext) -> Mapping[str, float]:
    """Encode the text; return tokens, bytes and bytes per token.

    Raises:
        RecordError: an input is missing, or the tokenizer does not reproduce the text.
        Stopped: the job was asked to leave.
    """
    science: CorpusScience = context.science["corpus"]
    text, tokenizer_folder = _input(context, "text"), _input(context, "tokenizer")
    tokenizer = load_tokenizer(tokenizer_folder / TOKENIZER)
    parts = {
        "train": write_part("train", text / make_text.TRAIN, tokenizer, science, context),
        "validation": write_part("validation", text / make_text.VALIDATION, tokenizer, science, context),
    }
    files.create(context.attempt.artifacts / INDEX, files.to_json({
        "schema_version": files.SCHEMA_VERSION, "domain": files.read_json(text / make_text.SOURCES)["domain"],
        "vocabulary": tokenizer.get_vocab_size(), "dtype": _dtype(tokenizer).str,
        "end_of_document": tokenizer.token_to_id(END_OF_DOCUMENT), "token_bytes": token_bytes(tokenizer),
        **{name: part.__dict__ for name, part in parts.items()},
    }))
    train, validation = parts["train"], parts["validation"]
    return {
        "train_tokens": float(train.tokens), "validation_tokens": float(validation.tokens),
        "train_bytes": float(train.bytes), "validation_bytes": float(validation.bytes),
        "bytes_per_token": (train.bytes + validation.bytes) / max(train.tokens + validation.tokens, 1),
    }


def write_part(name: str, source: Path, tokenizer: Tokenizer, science: CorpusScience, context: StageContext) -> Part:
    """Write the shards of one part.

    Raises:
        RecordError: tokens do not stand for as many bytes as the text has.
        Stopped: the job was asked to leave.
    """
    shards: list[dict[str, Any]] = []
    counts = {"documents": 0, "bytes": 0, "tokens": 0}
    for block in _blocks(_document_ids(source, tokenizer, counts, context), science.shard_tokens):
        path = context.attempt.artifacts / f"{name}-{len(shards):05d}.bin"
        path.write_bytes(block.astype(_dtype(tokenizer)).tobytes())
        shards.append({
            "file": path.name, "tokens": len(block), "size": path.stat().st_size, "sha256": files.sha256_file(path)
        })
        counts["tokens"] += len(block)
        context.attempt.row(tokens=0, kind="progress", values={f"{name}_tokens_written": float(counts["tokens"])})
    return Part(shards=tuple(shards), **counts)


def _document_ids(
    source: Path, tokenizer: Tokenizer, counts: dict[str, int], context: StageContext
) -> Iterator[npt.NDArray[np.uint32]]:
    """Yield the ids of each document with its end; add to `counts` and check that no byte was lost."""
    end = tokenizer.token_to_id(END_OF_DOCUMENT)
    bytes_V = np.array(token_bytes(tokenizer), dtype=np.int64)
    for ids, text in encoded(tokenizer, make_text.read_texts(source)):
        if context.should_stop():
            raise Stopped
        found = np.array([*ids, end], dtype=np.uint32)
        size = len(text.encode())
        if int(bytes_V[found].sum()) != size:
            raise RecordError(f"{source}: the tokenizer's tokens of a document stand for another number of bytes than "
                              f"its {size}; bits per byte would be wrong: remove the tokenizer stage to make it again")
        counts["documents"] += 1
        counts["bytes"] += size
        yield found


def _blocks(arrays: Iterator[npt.NDArray[np.uint32]], size: int) -> Iterator[npt.NDArray[np.uint32]]:
    """Yield arrays of exactly `size` numbers, the last one shorter."""
    held: list[npt.NDArray[np.uint32]] = []
    count = 0
    for array in arrays:
        held.append(array)
        count += len(array)
        if count >= size:
            joined = np.concatenate(held)
            while len(joined) >= size:
                yield joined[:size]
                joined = joined[size:]
            held, count = [joined], len(joined)
    if count:
        yield np.concatenate(held)


def _dtype(tokenizer: Tokenizer) -> np.dtype[Any]:
    return np.dtype("<u2" if tokenizer.get_vocab_size() <= SMALL_VOCABULARY else "<u4")


def _input(context: StageContext, role: str) -> Path:
    folders = context.inputs(role)
    if len(folders) != 1:
        raise RecordError(f"stage corpus needs one input {role!r}, it has {len(folders)}")
    return folders[0]
