"""Text to token ids, exactly as `tokenizers` makes them, four times as fast where that is proven.

`tiktoken` is given the tokenizer's own merges and pattern. Both cut a text by the same pattern and then merge inside
each piece, but by other rules: `tokenizers` merges the listed pair of the lowest rank, tiktoken any neighbours that
together are a token, the lowest id first. The ids are equal where every token comes back as itself (`_proven`): up to
a first difference the merges made inside the bytes of a token u = a + b are those of u alone, and u alone ends as [u],
so the pair (a, b) that tiktoken would merge is the listed one. Every trained BPE is such; any other tokenizer is left
to `tokenizers`.

Costs about 0.1 s per 10,000 token ids to open.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import tiktoken
from tokenizers import Tokenizer

from sweeps.errors import RecordError
from workloads.data.make_tokenizer import END_OF_DOCUMENT, token_bytes

PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
"""What `tokenizers`' ByteLevel cuts by (GPT-2's pattern), written so that nothing is tried twice."""
PRE_TOKENIZER = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PLAIN = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
         "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
"""A BPE without what tiktoken does not know."""

Ids = npt.NDArray[np.uint32]


class Encoder:
    """Encodes documents; may be used by several threads at once, tiktoken lets go of the interpreter's lock."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Use `tokenizer`, or tiktoken with its merges where that is proven to give the same ids."""
        self.end = _end_of(tokenizer)
        self.vocabulary: int = tokenizer.get_vocab_size()
        self.bytes_V: npt.NDArray[np.int64] = np.array(token_bytes(tokenizer), dtype=np.int64)
        """Bytes of text that each id stands for."""
        self._tokenizer = tokenizer
        self._fast = _fast(tokenizer)

    @property
    def fast(self) -> bool:
        """Whether tiktoken does the work."""
        return self._fast is not None

    def document(self, text: str) -> Ids:
        """Return the ids of a document, the end-of-document token last; its characters inside a text are text."""
        if self._fast is not None:
            try:
                found = self._fast.encode_to_numpy(text, disallowed_special=())
            except ValueError:  # more blanks in a row than its pattern may step back over
                found = self._slow(text)
        else:
            found = self._slow(text)
        return np.append(found, np.uint32(self.end))

    def _slow(self, text: str) -> Ids:
        return np.array(self._tokenizer.encode(text).ids, dtype=np.uint32)


def _end_of(tokenizer: Tokenizer) -> int:
    end: int | None = tokenizer.token_to_id(END_OF_DOCUMENT)
    if end is None:
        raise RecordError(f"the tokenizer has no {END_OF_DOCUMENT}; remove its stage to make it again")
    return end


def _fast(tokenizer: Tokenizer) -> tiktoken.Encoding | None:
    """Return tiktoken with a tokenizer's merges, None where equal ids are not proven."""
    stated = json.loads(tokenizer.to_str())
    if stated["normalizer"] is not None or stated["pre_tokenizer"] != PRE_TOKENIZER:
        return None
    if any(stated["model"].get(key, value) != value for key, value in PLAIN.items()):
        return None
    if not _proven(tokenizer, stated["model"]):
        return None
    byte_of = _byte_of()
    ranks = {bytes(byte_of[c] for c in token): number for token, number in stated["model"]["vocab"].items()
             if token != END_OF_DOCUMENT}
    return tiktoken.Encoding(
        name="corpus", pat_str=PATTERN, mergeable_ranks=ranks,
        special_tokens={END_OF_DOCUMENT: _end_of(tokenizer)},
    )


def _proven(tokenizer: Tokenizer, model: dict[str, Any]) -> bool:
    """Return whether merges make one token each, in the order of ids, and every token comes back as itself.

    See the module's text for why that is enough.
    """
    vocabulary: dict[str, int] = model["vocab"]
    made = [vocabulary["".join(merge)] for merge in model["merges"]]
    if any(a >= b for a, b in pairwise(made)):
        return False
    return all(
        [t.id for t in tokenizer.model.tokenize(token)] == [number]
        for token, number in vocabulary.items() if token != END_OF_DOCUMENT
    )


def _byte_of() -> dict[str, int]:
    """Return character -> byte of byte-level vocabularies: printable Latin-1 is itself, the others follow at 256.

    GPT-2's `bytes_to_unicode`.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {**{chr(b): b for b in printable}, **{chr(256 + n): b for n, b in enumerate(others)}}
