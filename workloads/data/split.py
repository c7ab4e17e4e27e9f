"""Deduplicate, then split by file, then take out of the held-out part what training also says.

A search (docs/concepts/search.md) reads no file that a comparison holds out: it splits those that are left.

Suffixes: P paragraphs, D documents, G 13-grams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.errors import UsageError
from sweeps.language.science import TextScience
from workloads.contract import Document
from workloads.data.documents import path_hash
from workloads.data.paragraphs import Collection, Grams, Mask

NEAR_DUPLICATE = 0.5
"""A paragraph with more than this share of its 13-grams in earlier paragraphs is a near duplicate."""
SALTS = {"comparison": "split", "search": "search"}
"""What the hash that chooses held-out files is salted with."""
MAX_ROUNDS = 20
"""Dropping a paragraph joins its neighbours, which makes new 13-grams: the cleaning repeats until none is above."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which paragraphs are training text and which are held out."""

    train_P: Mask
    validation_P: Mask
    overlap_before: float
    """Share of held-out 13-grams found in training when the documents are split as they were read."""
    overlap: float
    """The same share of what is kept."""
    dropped: int
    """Paragraphs dropped as copies, as near duplicates or for overlap."""


def split(collection: Collection, science: TextScience) -> Split:
    """Return the split of a collection.

    Raises:
        UsageError: too few documents for a held-out part.
    """
    everything_P = np.ones(len(collection.pieces), dtype=np.bool_)
    kept_P = collection.fresh_P & ~near_duplicates(collection)
    if science.split == "search":
        set_aside_P = held_out(collection, kept_P, science.model_copy(update={"split": "comparison"}))
        kept_P, everything_P = kept_P & ~set_aside_P, everything_P & ~set_aside_P
    validation_P = kept_P & held_out(collection, kept_P, science)
    train_P = kept_P & ~validation_P
    seen = np.sort(collection.grams(train_P).hash_G)
    limit = science.overlap_limit.ratio
    for _ in range(MAX_ROUNDS):
        grams = collection.grams(validation_P)
        found_G = grams.found_in(seen)
        above_P = validation_P & (grams.share_of(found_G, len(kept_P)) > limit)
        if not above_P.any():
            break
        validation_P &= ~above_P
    if not train_P.any() or not validation_P.any():
        raise UsageError(
            f"{len(collection.documents)} documents leave nothing to {'hold out' if train_P.any() else 'train on'} "
            "after deduplication; give more text, or change text.validation_share"
        )
    grams = collection.grams(validation_P)
    return Split(
        train_P=train_P, validation_P=validation_P,
        overlap_before=overlap(collection, everything_P, held_out(collection, everything_P, science)),
        overlap=_share(grams.found_in(seen)), dropped=int(len(kept_P) - train_P.sum() - validation_P.sum()),
    )


def near_duplicates(collection: Collection) -> Mask:
    """Return which paragraphs mostly repeat earlier ones, word for word over 13 words."""
    grams: Grams = collection.grams(collection.fresh_P)
    _, first_U, number_G = np.unique(grams.hash_G, return_index=True, return_inverse=True)
    earlier_G = grams.paragraph_G[first_U][number_G] != grams.paragraph_G
    return np.asarray(grams.share_of(earlier_G, len(collection.pieces)) > NEAR_DUPLICATE)


def held_out(collection: Collection, kept_P: Mask, science: TextScience) -> Mask:
    """Return which paragraphs lie in held-out documents: the stated share of those with text, at least one."""
    document_P = collection.document_P
    alive = [int(d) for d in np.unique(document_P[kept_P])]
    chosen = held_out_documents([collection.documents[d] for d in alive], science.validation_share.ratio,
                                SALTS[science.split])
    chosen_D = np.zeros(len(collection.documents), dtype=np.bool_)
    chosen_D[[alive[i] for i in chosen]] = True
    return np.asarray(chosen_D[document_P])


def held_out_documents(documents: Sequence[Document], share: float, salt: str = SALTS["comparison"]) -> list[int]:
    """Return the positions of the held-out documents: those with the smallest salted hashes of their path."""
    order = sorted(range(len(documents)), key=lambda i: path_hash(_name(documents[i]), salt))
    return sorted(order[:max(1, round(share * len(documents)))] if documents else [])


def overlap(collection: Collection, kept_P: Mask, validation_P: Mask) -> float:
    """Return the share of held-out 13-grams that occur in training."""
    seen = np.sort(collection.grams(kept_P & ~validation_P).hash_G)
    return _share(collection.grams(kept_P & validation_P).found_in(seen))


def _share(found_G: Mask) -> float:
    return float(found_G.mean()) if len(found_G) else 0.0


def _name(document: Document) -> str:
    return f"{document.source}/{document.path}"
