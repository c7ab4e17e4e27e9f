"""Upstream `life`: the Game of Life and life-like rules on a torus, as in LifeGPT (arXiv 2409.12182). Light.

A rule `Bx/Sy` says how many of its eight neighbours must live for a dead cell to be born (x) and for a living one to
survive (y). A frame is `[start]`, its patches row by row, `[end]`, as in `nca`; a patch of p x p cells is the token
sum of cell_j 2^j, j row-major inside the patch. The first kept frame is no target, and delimiters are none.

Loss floor: a frame decides the next one, so a reader that knows the rule has a loss of 0 on every target. One that
must find the rule among n pays at most ln n nats per sequence in all: 0 for one rule, 12.5 for `any`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from sweeps.language.plugins import Upstream
from workloads.upstreams._binary_ca import BinaryCaScience, listed, one_text, patches_of

ANY = "any"
RULES = 2**18
"""Life-like rules: born or not, and surviving or not, at 0 to 8 living neighbours."""


def rule_number(text: str) -> int:
    """Return a rule as 18 bits: bit c says born at c living neighbours, bit 9 + c surviving.

    Raises:
        ValueError: the text is no rule in B/S notation.
    """
    match = re.fullmatch(r"[Bb]([0-8]*)/[Ss]([0-8]*)", text)
    if match is None or any(len(set(counts)) < len(counts) for counts in match.groups()):
        raise ValueError(f"rule {text!r} is not in B/S notation, with each count of neighbours from 0 to 8 at most "
                         f"once; write for instance B3/S23, several as B3/S23,B36/S23, or {ANY}")
    born, survives = (sum(1 << int(count) for count in counts) for counts in match.groups())
    return born | survives << 9


def rule_text(number: int) -> str:
    """Return the rule in B/S notation."""
    counts = [str(bit % 9) for bit in range(18) if number >> bit & 1]
    births = (number & 0x1FF).bit_count()
    return f"B{''.join(counts[:births])}/S{''.join(counts[births:])}"


def rule_numbers(text: str) -> Sequence[int]:
    """Return the rules that `LifeScience.rules` stands for."""
    return range(RULES) if text == ANY else listed(text, rule_number)


def canonical_rules(text: str) -> str:
    """Return the one spelling of a list of rules, so that `b3/s32` and `B3/S23` are the same stage."""
    return text if text == ANY else ",".join(map(rule_text, rule_numbers(text)))


class LifeScience(BinaryCaScience):
    """Fields of life-like automata."""

    rules: Annotated[str, BeforeValidator(one_text), AfterValidator(canonical_rules)] = "B3/S23"
    """A rule in B/S notation, several separated by commas, or `any` (all 2^18). Every sequence draws one of them,
    uniformly. B3/S23 is the Game of Life."""
    height: Annotated[int, Field(ge=3, le=256)] = 12
    """Cells of the torus, at least 3: on 2 the same neighbour would count twice."""
    width: Annotated[int, Field(ge=3, le=256)] = 12
    """Cells of the torus."""
    patch: Annotated[int, Field(ge=1, le=3)] = 2
    """Side of the square of cells that makes one token."""

    @property
    def patches(self) -> int:
        """Patch tokens of a frame."""
        return patches_of((self.height, self.width), (self.patch, self.patch))

    @model_validator(mode="after")
    def _limits(self) -> LifeScience:
        patches_of((self.height, self.width), (self.patch, self.patch))
        return self


def vocabulary(science: LifeScience) -> int:
    """Return the number of token ids: patches and the two delimiters."""
    return int(2**science.patch**2) + 2


def frame_tokens(science: LifeScience) -> int:
    """Return the tokens of a frame, its two delimiters included."""
    return science.patches + 2


SMALL = {"height": 8, "width": 8}

PLUGIN = Upstream(
    science=LifeScience,
    revision=1,
    implementation="workloads.upstreams._binary_ca_source:make_life",
    scales={"tiny": SMALL, "1m": SMALL},
    vocabulary=vocabulary,
    frame_tokens=frame_tokens,
    frames_implementation="workloads.upstreams._binary_ca_source:life_frames",
)
