"""Upstream `utm`: what random programs of a small universal machine print. Light: fields only.

In the manner of "Learning Universal Predictors" (arXiv 2401.14953), whose machine is a relative of BrainF*ck too. The
machine here: a circular tape of `cells` cells, each a number below `symbols`, all 0 at first, a head on cell 0, and

    >  <   move the head          +  -   add or subtract 1, modulo `symbols`          .   print the cell
    [  jump behind the matching ] where the cell is 0           ]  jump behind the matching [ where it is not

There is no input. A bracket without a partner does nothing. A program is `program_length` instructions, each of the
seven equally likely (within 6e-7). It runs until its end, for `steps` instructions, or until it has printed
`max_output` symbols. Instructions that are never reached do not matter, so what r instructions decide has a
probability of 7^-r or more: short descriptions are likely ones, as in Solomonoff's prior. With everything
bounded the machine is finite; it is universal as its limits grow.

A program that prints fewer than `min_output` symbols (in particular none) is passed over and the next is drawn: the
law is that of random programs, given that they print so many. At the defaults 39 % do; 92 % print at all. A sequence
is the outputs of such programs, each followed by the delimiter, cut to the length; every token but the first is a
target.

Loss floor: an output is a function of its program, so the best predictor pays at most program_length ln 7 nats for
each output with its delimiter (125 at 64), and much less in the mean.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from sweeps.language.plugins import Science, Upstream
from workloads.upstreams.regular import spell

LEAST_ACCEPTANCE = 0.01
"""Share of programs that must print `min_output` symbols; below it, most of the time goes into programs in vain."""


class UtmScience(Science):
    """Fields of the machine and of its programs."""

    symbols: Annotated[int, Field(ge=2, le=256)] = 16
    """Values of a cell, and so the symbols that it prints; the vocabulary has the delimiter besides."""
    cells: Annotated[int, Field(ge=1, le=4096)] = 32
    """Cells of the tape."""
    program_length: Annotated[int, Field(ge=1, le=1024)] = 64
    """Instructions of a program."""
    steps: Annotated[int, Field(ge=1, le=20_000)] = 1000
    """Instructions that a program may execute, jumps included."""
    min_output: Annotated[int, Field(ge=1)] = 8
    """Programs that print fewer symbols are passed over."""
    max_output: Annotated[int, Field(ge=1)] = 128
    """A program ends after so many symbols."""

    @model_validator(mode="after")
    def _limits(self) -> UtmScience:
        if not self.min_output <= self.max_output <= self.steps:
            raise ValueError(f"min_output {self.min_output}, max_output {self.max_output} and steps {self.steps} must "
                             "not fall in this order: a program prints one symbol a step at most")
        return self


def vocabulary(science: UtmScience) -> int:
    """Return the number of token ids: symbols and the delimiter."""
    return science.symbols + 1


def pilot(science: UtmScience) -> list[str]:
    """Return why no data can be made: too few random programs print `min_output` symbols."""
    from workloads.upstreams._utm import acceptance

    accepted, tried = acceptance(science)
    if accepted >= LEAST_ACCEPTANCE * tried:
        return []
    return [f"{accepted} of {tried} random programs print {science.min_output} symbols within {science.steps} steps, "
            f"and {LEAST_ACCEPTANCE:.0%} must; lower utm.min_output, or raise utm.program_length or utm.steps"]


PLUGIN = Upstream(
    science=UtmScience,
    revision=1,
    implementation="workloads.upstreams._utm:make_source",
    vocabulary=vocabulary,
    pilot=pilot,
    spell=spell,
)
