"""Stage `text` in plain words: everything in memory, strings for hashes. What it keeps is what the stage keeps."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sweeps.language.science import TextScience
from workloads.contract import Document
from workloads.data.documents import path_hash
from workloads.data.paragraphs import cut
from workloads.data.split import MAX_ROUNDS

Gram = tuple[str, ...]
Paragraph = tuple[int, str]
"""Number of its document, and its text."""


def plain_split(documents: Sequence[Document], science: TextScience) -> dict[str, object]:
    """Return the texts of both parts, the overlaps and how many paragraphs were dropped."""
    paragraphs = [(n, piece) for n, document in enumerate(documents) for piece in cut(document.text)]
    everything = list(range(len(paragraphs)))
    kept = fresh(paragraphs)
    earlier: set[Gram] = set()
    repeated = []
    grams = grams_of(paragraphs, kept)
    for p in kept:
        found = grams.get(p, [])
        if found and sum(g in earlier for g in found) / len(found) > 0.5:
            repeated.append(p)
        earlier |= set(found)
    kept = [p for p in kept if p not in repeated]
    share = science.validation_share.ratio
    if science.search_share or science.split == "search":
        aside = (of_other(documents, science) if science.search_share else
                 held_out(documents, paragraphs, kept, share, "split"))
        kept = [p for p in kept if paragraphs[p][0] not in aside]
        everything = [p for p in everything if paragraphs[p][0] not in aside]
    salt = {"comparison": "split", "search": "search"}[science.split]
    as_read = held_out(documents, paragraphs, everything, share, salt)
    held = held_out(documents, paragraphs, kept, share, salt)
    train = [p for p in kept if paragraphs[p][0] not in held]
    validation = [p for p in kept if paragraphs[p][0] in held]
    seen = {g for found in grams_of(paragraphs, train).values() for g in found}
    for _ in range(MAX_ROUNDS):
        grams = grams_of(paragraphs, validation)
        above = [p for p, found in grams.items() if sum(g in seen for g in found) / len(found)
                 > science.overlap_limit.ratio]
        if not above:
            break
        validation = [p for p in validation if p not in above]
    return {
        "train": texts(paragraphs, train), "validation": texts(paragraphs, validation),
        "overlap": overlap(paragraphs, train, validation),
        "overlap_before": overlap(paragraphs, [p for p in everything if paragraphs[p][0] not in as_read],
                                  [p for p in everything if paragraphs[p][0] in as_read]),
        "dropped": len(paragraphs) - len(train) - len(validation), "empty": not train or not validation,
    }


def of_other(documents: Sequence[Document], science: TextScience) -> set[int]:
    """Return the documents that the other reads: a search's, where a comparison asks."""
    assert science.search_share is not None
    hashes = [int.from_bytes(path_hash(f"{d.source}/{d.path}", "search"), "big") for d in documents]
    searched = {n for n, number in enumerate(hashes) if number / 2**64 < science.search_share.ratio}
    return searched if science.split == "comparison" else set(range(len(documents))) - searched


def fresh(paragraphs: Sequence[Paragraph]) -> list[int]:
    """Return the paragraphs that are no copies, of documents that have one of at least 40 characters."""
    seen: set[str] = set()
    new, long = [], set()
    for p, (document, piece) in enumerate(paragraphs):
        folded = " ".join(piece.split())
        if len(folded) < 40:
            new.append(p)
        elif folded not in seen:
            seen.add(folded)
            new.append(p)
            long.add(document)
    return [p for p in new if paragraphs[p][0] in long]


def grams_of(paragraphs: Sequence[Paragraph], kept: Sequence[int]) -> dict[int, list[Gram]]:
    """Return the 13-grams of each paragraph, those whose seventh word it has, with all others left out."""
    found: dict[int, list[Gram]] = {}
    words = [(p, word) for p in kept for word in re.findall(r"\w+", paragraphs[p][1].lower())]
    for first in range(len(words) - 12):
        gram = words[first:first + 13]
        if paragraphs[gram[0][0]][0] == paragraphs[gram[12][0]][0]:
            found.setdefault(gram[6][0], []).append(tuple(word for _, word in gram))
    return found


def held_out(documents: Sequence[Document], paragraphs: Sequence[Paragraph], kept: Sequence[int], share: float,
             salt: str) -> set[int]:
    """Return the held-out documents among those that have a paragraph."""
    alive = sorted({paragraphs[p][0] for p in kept})
    order = sorted(alive, key=lambda d: path_hash(f"{documents[d].source}/{documents[d].path}", salt))
    return set(order[:max(1, round(share * len(alive)))])


def overlap(paragraphs: Sequence[Paragraph], train: Sequence[int], validation: Sequence[int]) -> float:
    """Return the share of held-out 13-grams that training has."""
    seen = {g for found in grams_of(paragraphs, train).values() for g in found}
    held = [g for found in grams_of(paragraphs, validation).values() for g in found]
    return sum(g in seen for g in held) / max(len(held), 1)


def texts(paragraphs: Sequence[Paragraph], kept: Sequence[int]) -> dict[int, str]:
    """Return document -> text of those with any."""
    joined: dict[int, str] = {}
    for p in kept:
        joined[paragraphs[p][0]] = joined.get(paragraphs[p][0], "") + paragraphs[p][1]
    return {d: text.strip("\n") + "\n" for d, text in joined.items() if text.strip()}
