"""What `life` and `eca` share: a binary automaton on a ring or torus, its frames as tokens. Light: fields only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import Field, model_validator

from sweeps.language.plugins import Science

MAX_PATCH_CELLS = 15
"""A patch is one token: 2^15 and the two delimiters stay below the 65,536 of the other upstreams."""


class BinaryCaScience(Science):
    """The first frame, and which frames are kept."""

    density_low: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    """Least share of living cells in a first grid. Every sequence draws its density between the two, uniformly, and
    then its cells independently."""
    density_high: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    """Largest share."""
    burn_in: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Steps before the first kept frame."""
    frame_stride: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Steps from one kept frame to the next."""

    @model_validator(mode="after")
    def _densities(self) -> BinaryCaScience:
        if self.density_low > self.density_high:
            raise ValueError(f"density_low {self.density_low:g} is above density_high {self.density_high:g}; "
                             "write the smaller first, or one value twice")
        return self


def one_text(value: Any) -> Any:
    """Return a rule, or a list of them, as YAML may have it (`110`, `[30, 90]`), as the text `30,90`."""
    parts = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(part, bool) or not isinstance(part, int | str) for part in parts):
        return value  # pydantic says that it is no string
    return ",".join(map(str, parts))


def listed(text: str, number: Callable[[str], int]) -> list[int]:
    """Return the rules of a text such as `30,90`, ascending.

    Raises:
        ValueError: one is no rule (raised by `number`), or is named twice.
    """
    rules = [number(part.strip()) for part in text.split(",")]
    if len(set(rules)) < len(rules):
        raise ValueError(f"{text!r} names a rule twice; give each once")
    return sorted(rules)


def patches_of(cells: Sequence[int], patch: Sequence[int]) -> int:
    """Return how many patches tile the grid, both given as (height, width).

    Raises:
        ValueError: they do not.
    """
    if any(side % step for side, step in zip(cells, patch, strict=True)):
        raise ValueError(f"a patch of {patch[0]}x{patch[1]} cells does not divide the {cells[0]}x{cells[1]} grid; "
                         "each side must be a multiple of it")
    return (cells[0] // patch[0]) * (cells[1] // patch[1])
