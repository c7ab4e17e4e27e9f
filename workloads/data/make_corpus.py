"""Stage `corpus`: text to shards of token ids, each document followed by the end-of-document token.

    train-00000.bin ...  validation-00000.bin ...   little-endian uint16 (uint32 above 65,536 ids)
    index.json                                      sizes, SHA-256, vocabulary, bytes per token id

Streams: memory holds one shard and a few batches of documents, whatever the corpus. A killed stage goes on at the shard
after the last one that a checkpoint names (every `run.checkpoint_every`, and when it is asked to leave); the shards are
the same bytes. For what it costs see benchmarks/tokenise.py.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeps.errors import RecordError
from sweeps.language.science import CorpusScience
from sweeps.store import files
from sweeps.store.records import checkpoints, damage
from sweeps.store.space import see_room_for_stage, writing
from workloads.contract import StageContext, Stopped
from workloads.data import make_text
from workloads.data.encoder import Encoder
from workloads.data.make_tokenizer import TOKENIZER, load_tokenizer
from workloads.data.token_stream import Place, blocks, encoded_lines
from workloads.ranks import cores

INDEX = "index.json"
STATE = "corpus.json"
"""In a checkpoint: what is written, and where the text goes on."""
TOKEN_BYTES = 2.0
"""Bytes of text that a token stands for at least, over a text (2.16 measured: `math` with 1,024 ids)."""
SMALL_VOCABULARY = 1 << 16
"""Ids of vocabularies up to this size fit two bytes."""


@dataclass(kw_only=True)
class Part:
    """The shards of the training or the held-out text."""

    tokens: int = 0
    """Tokens in all, end-of-document tokens included."""
    place: Place = field(default_factory=Place)
    """The next token that is in no shard."""
    shards: list[dict[str, Any]] = field(default_factory=list)
    """File, tokens, size in bytes and SHA-256 of each."""

    def stated(self) -> dict[str, Any]:
        """Return what the index says of it."""
        return {"tokens": self.tokens, "bytes": self.place.bytes, "documents": self.place.documents,
                "shards": self.shards}


def run(context: StageContext) -> Mapping[str, float]:
    """Encode the text; return tokens, bytes and bytes per token.

    Raises:
        RecordError: an input is missing, or the tokenizer does not reproduce the text.
        StorageError: there is too little space, said before anything is written.
        Stopped: the job was asked to leave.
    """
    text, tokenizer_folder = _input(context, "text"), _input(context, "tokenizer")
    encoder = Encoder(load_tokenizer(tokenizer_folder / TOKENIZER))
    writer = Writer(context, encoder)
    writer.see_space({"train": text / make_text.TRAIN, "validation": text / make_text.VALIDATION})
    train = writer.write("train", text / make_text.TRAIN)
    validation = writer.write("validation", text / make_text.VALIDATION)
    files.create(context.attempt.artifacts / INDEX, files.to_json({
        "schema_version": files.SCHEMA_VERSION, "domain": files.read_json(text / make_text.SOURCES)["domain"],
        "vocabulary": encoder.vocabulary, "dtype": writer.dtype.str, "end_of_document": encoder.end,
        "token_bytes": encoder.bytes_V.tolist(), "train": train.stated(), "validation": validation.stated(),
    }))
    size = train.place.bytes + validation.place.bytes
    return {
        "train_tokens": float(train.tokens), "validation_tokens": float(validation.tokens),
        "train_bytes": float(train.place.bytes), "validation_bytes": float(validation.place.bytes),
        "bytes_per_token": size / max(train.tokens + validation.tokens, 1),
    }


class Writer:
    """Writes the shards of one attempt, and the checkpoints from which another goes on."""

    def __init__(self, context: StageContext, encoder: Encoder) -> None:
        """Take over what the furthest sound checkpoint of earlier attempts names."""
        self.dtype = np.dtype("<u2" if encoder.vocabulary <= SMALL_VOCABULARY else "<u4")
        self._context = context
        self._encoder = encoder
        self._science: CorpusScience = context.science["corpus"]
        self._parts: dict[str, Part] = {}
        self._saved = time.monotonic()
        self._saved_tokens = 0
        self._resume()

    def see_space(self, sources: Mapping[str, Path]) -> None:
        """See that the shards which are still to be written fit on the disk; `sources`: part -> its text.

        Raises:
            StorageError: they do not.
        """
        left = sum(path.stat().st_size - self._parts.get(name, Part()).place.offset for name, path in sources.items())
        see_room_for_stage(self._context.attempt.artifacts, int(left / TOKEN_BYTES * self.dtype.itemsize),
                           f"corpus of {sources['train']}")

    def write(self, name: str, source: Path) -> Part:
        """Write the shards of one part that are not there yet; return all of it.

        Raises:
            RecordError: tokens do not stand for as many bytes as the text has.
            Stopped: the job was asked to leave.
        """
        part, size = self._parts.setdefault(name, Part()), source.stat().st_size
        block = np.empty(self._science.shard_tokens, self.dtype)
        with closing(encoded_lines(source, self._encoder, start=part.place, threads=cores())) as documents:
            for filled, place in blocks(documents, block, part.place):
                if filled:
                    part.shards.append(self._shard(f"{name}-{len(part.shards):05d}.bin", block[:filled]))
                    part.tokens, part.place = part.tokens + filled, place
                    self._context.attempt.row(tokens=0, kind="progress", values={
                        f"{name}_tokens_written": float(part.tokens), "done": float(place.offset), "of": float(size)})
                self._pause()
        return part

    def _pause(self) -> None:
        """Save now and then; leave where that was asked."""
        stop = self._context.should_stop()
        if stop or time.monotonic() - self._saved > self._context.execution.checkpoint_seconds:
            self._save()
        if stop:
            raise Stopped

    def _shard(self, name: str, block: npt.NDArray[Any]) -> dict[str, Any]:
        path = self._context.attempt.artifacts / name
        with writing(path):
            path.write_bytes(block.data)
        return {"file": name, "tokens": len(block), "size": path.stat().st_size, "sha256": files.sha256_file(path)}

    def _save(self) -> None:
        """Make the shards durable and commit a checkpoint that names them, where there is something new."""
        self._saved = time.monotonic()
        tokens = sum(part.tokens for part in self._parts.values())
        if tokens <= self._saved_tokens:
            return
        self._saved_tokens, attempt = tokens, self._context.attempt
        for part in self._parts.values():
            for shard in part.shards:
                files.sync(attempt.artifacts / shard["file"])
        folder = attempt.checkpoint_folder(tokens)
        files.create(folder / STATE, files.to_json({
            "schema_version": files.SCHEMA_VERSION, "parts": {k: asdict(part) for k, part in self._parts.items()}}))
        attempt.commit_checkpoint(tokens)

    def _resume(self) -> None:
        """Take the shards of the furthest checkpoint whose files are what it says; without one, begin anew."""
        attempt = self._context.attempt
        for found in checkpoints(attempt.stage):
            if damage(found):
                continue
            stated = files.read_json(found.folder / STATE)["parts"]
            theirs = attempt.stage.attempt(found.owner.attempt).artifacts
            if all(_is(theirs / s["file"], s) for part in stated.values() for s in part["shards"]):
                for part in stated.values():
                    for shard in part["shards"]:
                        _link(theirs / shard["file"], attempt.artifacts / shard["file"])
                self._parts = {k: Part(**{**p, "place": Place(**p["place"])}) for k, p in stated.items()}
                self._saved_tokens = found.tokens
                attempt.set_parent(found.owner)
                return


def _is(path: Path, shard: Mapping[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == shard["size"] and files.sha256_file(path) == shard["sha256"]


def _link(source: Path, target: Path) -> None:
    """Give a file of an earlier attempt a name in this one: no copy where the filesystem has links."""
    try:
        os.link(source, target)
    except OSError:
        with writing(target):
            shutil.copyfile(source, target)


def _input(context: StageContext, role: str) -> Path:
    folders = context.inputs(role)
    if len(folders) != 1:
        raise RecordError(f"stage corpus needs one input {role!r}, it has {len(folders)}")
    return folders[0]
