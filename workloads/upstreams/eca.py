"""Upstream `eca`: elementary cellular automata, as in "Intelligence at the Edge of Chaos" (arXiv 2410.02536). Light.

Rule r maps a cell c between left neighbour l and right neighbour g to bit 4 l + 2 c + g of r. Rows of the ring are
frames: `[start]`, patches, `[end]`; a patch of p cells is the token sum of cell_j 2^j. The first kept row is no
target, and delimiters are none.

Loss floor: a row decides the next one, so a reader that knows the rule has a loss of 0 on every target. One that must
find the rule among n pays at most ln n nats per sequence in all: 0 for one rule, 5.5 for `any`.

Wolfram's classes are properties of the long run that cannot be computed from the rule; the table is the usual one
for the 88 rules that differ by more than a mirror and a swap of 0 and 1 (Martinez, arXiv 1306.5577).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from sweeps.errors import nearest
from sweeps.language.plugins import Upstream
from workloads.upstreams._binary_ca import MAX_PATCH_CELLS, BinaryCaScience, listed, one_text, patches_of

ANY = "any"
RULES = 256
REPRESENTATIVES = {
    "class-1": (0, 8, 32, 40, 128, 136, 160, 168),
    "class-3": (18, 22, 30, 45, 60, 90, 105, 122, 126, 146, 150),
    "class-4": (41, 54, 106, 110),
}
"""Smallest number of every equivalent group of rules, by class; the other 65 groups are class 2."""
CLASSES = ("class-1", "class-2", "class-3", "class-4")
"""Uniform, periodic, chaotic, complex."""


def mirrored(rule: int) -> int:
    """Return the rule that does the same from right to left: patterns 001 and 100, 011 and 110 change places."""
    return sum((rule >> int(f"{pattern:03b}"[::-1], 2) & 1) << pattern for pattern in range(8))


def complemented(rule: int) -> int:
    """Return the rule that does the same with 0 and 1 swapped."""
    return sum((~rule >> (7 - pattern) & 1) << pattern for pattern in range(8))


def wolfram_class(rule: int) -> str:
    """Return `class-1` to `class-4`."""
    smallest = min(rule, mirrored(rule), complemented(rule), mirrored(complemented(rule)))
    return next((name for name, rules in REPRESENTATIVES.items() if smallest in rules), "class-2")


def rule_number(text: str) -> int:
    """Return the number of a rule.

    Raises:
        ValueError: the text is no number from 0 to 255.
    """
    if not (text.isascii() and text.isdigit() and int(text) < RULES):
        words = (*CLASSES, ANY)
        raise ValueError(f"rule {text!r} is no number from 0 to 255; write for instance 110, several as 30,90, "
                         f"or one word alone; {nearest(text, words)}")
    return int(text)


def rule_numbers(text: str) -> Sequence[int]:
    """Return the rules that `EcaScience.rules` stands for."""
    if text == ANY or text in CLASSES:
        return [rule for rule in range(RULES) if text in (ANY, wolfram_class(rule))]
    return listed(text, rule_number)


def canonical_rules(text: str) -> str:
    """Return the one spelling of a list of rules, so that `90, 30` and `30,90` are the same stage."""
    return text if text == ANY or text in CLASSES else ",".join(map(str, rule_numbers(text)))


class EcaScience(BinaryCaScience):
    """Fields of elementary cellular automata."""

    rules: Annotated[str, BeforeValidator(one_text), AfterValidator(canonical_rules)] = "110"
    """A number from 0 to 255, several separated by commas, a class (`class-1` uniform, `class-2` periodic, `class-3`
    chaotic, `class-4` complex) or `any`. Every sequence draws one of them, uniformly."""
    width: Annotated[int, Field(ge=3, le=65_536)] = 144
    """Cells of the ring; 144 gives frames as long as those of `nca`."""
    patch: Annotated[int, Field(ge=1, le=MAX_PATCH_CELLS)] = 4
    """Cells that make one token."""

    @property
    def patches(self) -> int:
        """Patch tokens of a frame."""
        return patches_of((1, self.width), (1, self.patch))

    @model_validator(mode="after")
    def _limits(self) -> EcaScience:
        patches_of((1, self.width), (1, self.patch))
        return self


def vocabulary(science: EcaScience) -> int:
    """Return the number of token ids: patches and the two delimiters."""
    return int(2**science.patch) + 2


def frame_tokens(science: EcaScience) -> int:
    """Return the tokens of a frame, its two delimiters included."""
    return science.patches + 2


SMALL = {"width": 64}

PLUGIN = Upstream(
    science=EcaScience,
    revision=1,
    implementation="workloads.upstreams._binary_ca_source:make_eca",
    scales={"tiny": SMALL, "1m": SMALL},
    vocabulary=vocabulary,
    frame_tokens=frame_tokens,
    frames_implementation="workloads.upstreams._binary_ca_source:eca_frames",
)
