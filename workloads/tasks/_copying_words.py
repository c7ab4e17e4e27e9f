"""Copying in words: a string of words, then its beginning again (the induction-head test of Olsson et al. 2022).

The four choices are two strings of words, each in two orders: the words that were told and words that were not, and of
each the same with two neighbours exchanged. So a guess gets 1/4, who knows that what was said is said again 1/2, and
who knows in which order all. At level 0 the words are a phrase of English, whose order need not have been told: who
knows which words follow which, and copies nothing, gets 1/2. All words (of phrases, the nouns) are drawn alike
and have four letters: neither length nor the frequencies of tokens say anything, and the two orders of the same words
are a tie of the unigram model.
"""

from __future__ import annotations

from typing import Any

from workloads.contract import Item
from workloads.downstream.items import drawn
from workloads.tasks._drawn import Draw, Question

COPIED = (2, 6, 18)
"""Words to be copied, from level 1."""
PHRASES = ("of the", "in the", "for the", "from the", "with the")
"""What stands between the two nouns of a phrase (level 0)."""
BEGUN = 2
"""Words of the repetition that the prompt has."""
WORDS = (
    "area", "back", "bank", "base", "bird", "blue", "boat", "body", "book", "card", "case", "city", "cold", "copy",
    "date", "deal", "door", "east", "edge", "face", "fact", "farm", "file", "fire", "fish", "food", "foot", "form",
    "game", "girl", "gold", "hair", "half", "hall", "hand", "head", "hill", "home", "hour", "idea", "king", "lake",
    "land", "life", "line", "list", "main", "mind", "name", "page", "park", "part", "path", "road", "rock", "room",
    "rule", "seat", "ship", "side", "song", "star", "step", "team", "term", "test", "text", "time", "tree", "type",
    "unit", "user", "view", "wall", "week", "wind", "word", "work", "year", "zone",
)


def items(science: Any) -> list[Item]:
    """Return the items of all levels."""
    return drawn("copying_words", science, make, range(len(COPIED) + 1))


def make(draw: Draw, level: int) -> Question:
    """Return different words, the first of them again, and how that goes on."""
    if level:
        copied = COPIED[level - 1]
        words = draw.shuffled(WORDS)[:BEGUN + 2 * copied]
        begun, right, other = words[:BEGUN], words[BEGUN:-copied], words[-copied:]
        place = draw.below(copied - 1)
    else:
        between, nouns = draw.choice(PHRASES).split(), draw.shuffled(WORDS)
        begun, place = ["the"], 1
        right, other = ([first, *between, last] for first, last in (nouns[:2], nouns[2:4]))
    wrong = _exchanged(right, place), other, _exchanged(other, place)
    return Question(prompt=f"{' '.join(begun + right)}\n{' '.join(begun)}", answer=f" {' '.join(right)}",
                    distractors=tuple(f" {' '.join(choice)}" for choice in wrong))


def _exchanged(words: list[str], place: int) -> list[str]:
    """Return the words with the one at `place` and the next exchanged."""
    return [*words[:place], words[place + 1], words[place], *words[place + 2:]]
