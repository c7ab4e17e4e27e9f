"""Which items a training text holds in part: 13-grams of words, exactly compared (GPT-3, arXiv 2005.14165, app. C).

An item's words are those of its prompt, without the shots, and of its answer. An item of fewer than 13 words has no
13-gram, and nothing can be told of it. Costs about 1 s per 4 MB of training text on one core, whatever the items.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from workloads.contract import Item
from workloads.data.paragraphs import GRAM_WORDS

Gram = tuple[str, ...]
_WORD = re.compile(r"\w+")


def grams_of(text: str) -> list[Gram]:
    """Return the 13-grams of a text's words, in lower case."""
    words = _WORD.findall(text.lower())
    return [tuple(words[i:i + GRAM_WORDS]) for i in range(len(words) - GRAM_WORDS + 1)]


def shares(items: Sequence[Item], texts: Iterable[str]) -> list[float]:
    """Return for each item the share of its 13-grams that the texts hold; 0 where it has none."""
    of_item = [grams_of(item.prompt + item.answer) for item in items]
    sought = {gram for grams in of_item for gram in grams}
    held: set[Gram] = set()
    if sought:
        for text in texts:
            held.update(sought.intersection(grams_of(text)))
    return [sum(gram in held for gram in grams) / max(len(grams), 1) for grams in of_item]
