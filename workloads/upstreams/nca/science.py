"""The fields of the NCA upstream: what decides the data, with limits. Light: pydantic and the standard library.

"Release" is the code published with arXiv 2603.10055 as it runs, "paper" its text; where they differ the docstring
of the field says which does what.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from sweeps.language.plugins import Science

MAX_VOCABULARY = 65_536
"""Token ids must fit the 16-bit files that corpora are kept in."""
FIXED_POINT_BITS = 20
"""Rule weights are multiples of 2^-20, so that logits are sums that float64 holds exactly, in any order."""
TRUNCATION = 2.0 / 0.87962566103423978
"""Largest value of flax's LeCun normal, in standard deviations: cut at 2, then divided by the sd that is left."""
BAND = re.compile(r"(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)")


def parse_band(text: str) -> tuple[float, float]:
    """Return the limits of a band such as `30-45`, in percent.

    Raises:
        ValueError: it is not `LOW-HIGH` with 0 <= LOW < HIGH <= 100.
    """
    match = BAND.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"band {text!r} is not LOW-HIGH in percent; write for instance 30-45")
    low, high = float(match[1]), float(match[2])
    if not low < high <= 100:
        raise ValueError(f"band {text!r} needs 0 <= LOW < HIGH <= 100 (percent); write for instance 30-45")
    return low, high


def canonical_band(text: str) -> str:
    """Return the one spelling of a band, so that `30.0-45` and `30-45` are the same stage."""
    low, high = parse_band(text)
    return f"{low:g}-{high:g}"


class GridScience(Science):
    """The torus that a rule runs on."""

    height: Annotated[int, Field(ge=2, le=256)] = 12
    """Cells. 12 in release and paper."""
    width: Annotated[int, Field(ge=2, le=256)] = 12
    """Cells. 12 in release and paper."""


class NetworkScience(Science):
    """The random network that a rule is: convolution, 1x1 convolution, ReLU, 1x1 convolution."""

    neighbourhood: Annotated[int, Field(ge=1, le=7)] = 3
    """Side of the convolution's window in cells, odd. 3 in release and paper."""
    linear_channels: Annotated[int, Field(ge=1, le=64)] = 4
    """Channels after the convolution; nothing non-linear follows it. 4 in release and paper."""
    relu_channels: Annotated[int, Field(ge=1, le=256)] = 16
    """Channels of the only hidden layer. 16 in release and paper."""

    @model_validator(mode="after")
    def _odd(self) -> NetworkScience:
        if self.neighbourhood % 2 == 0:
            raise ValueError(f"neighbourhood is {self.neighbourhood}; it must be odd (1, 3, 5 or 7)")
        return self


class ComplexityScience(Science):
    """Which random rules are accepted: those whose gzip score lies strictly inside a band."""

    band: Annotated[str, AfterValidator(canonical_band)] = "60-75"
    """`LOW-HIGH` in percent of `scale`; LOW < score < HIGH. Release and paper: raw 20-30, 30-40, 40-50, 50-100."""
    scale: Literal["raw", "normalized"] = "normalized"
    """`raw`: compressed over raw bytes (release, paper). `normalized`: that over its value for uniform noise of the
    same alphabet, patch, grid and frames, so that bands are comparable across alphabets."""
    trials: Annotated[int, Field(ge=1, le=255)] = 1
    """Initial grids whose scores are averaged. 1 in the release, where a rule lands in its band again only half the
    time."""
    frames: Annotated[int, Field(ge=1, le=1000)] = 10
    """Frames that are compressed together, taken as in a sequence. 10 in the release."""


class RulesScience(Science):
    """How many rules there are."""

    unique: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """0: a fresh rule for every sequence (paper). Otherwise that many, reused in turn (release: 16,000, through a
    precedence bug)."""


class NcaBankScience(Science):
    """The fields that decide which rules are accepted; upstreams that agree on them share a bank."""

    states: Annotated[int, Field(ge=2, le=256)] = 10
    """Alphabet n of a cell. 10 in release and paper."""
    grid: GridScience = GridScience()
    """The torus."""
    patch: Annotated[int, Field(ge=1, le=16)] = 2
    """Side of the square of cells that makes one token. 2 in release and paper."""
    network: NetworkScience = NetworkScience()
    """The rule's network."""
    pad_channels: bool = True
    """Quirk of the release: the wrap padding also pads the channel axis, so states 0 and n-1 are seen twice. The
    paper has no such thing; kept on by default because it defines the rules under test."""
    temperature: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 1e-4
    """Of the categorical draw of each step; release 1e-4, paper 1e-3. 0 is argmax, ties to the lowest state."""
    initial_grid: Literal["categorical", "uniform"] = "categorical"
    """`categorical` (release): cells i.i.d. from the softmax of one N(0,1) vector per sequence. `uniform` (paper)."""
    burn_in: Annotated[int, Field(ge=0, le=1_000_000)] = 10
    """Steps before the first kept frame. 10 in release and paper."""
    frame_stride: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Steps from one kept frame to the next. 1 in release and paper."""
    complexity: ComplexityScience = ComplexityScience()
    """Which rules are accepted."""

    @property
    def vocabulary(self) -> int:
        """Patch tokens and the two delimiters."""
        return int(self.states ** (self.patch**2)) + 2

    @property
    def patches(self) -> int:
        """Patch tokens of a frame."""
        return (self.grid.height // self.patch) * (self.grid.width // self.patch)

    @model_validator(mode="after")
    def _limits(self) -> NcaBankScience:
        grid = f"{self.grid.height}x{self.grid.width}"
        if self.grid.height % self.patch or self.grid.width % self.patch:
            raise ValueError(f"patch {self.patch} does not divide the {grid} grid; both sides must be multiples of it")
        if self.vocabulary > MAX_VOCABULARY:
            raise ValueError(
                f"states^(patch^2) + 2 = {self.vocabulary} token ids, more than {MAX_VOCABULARY}; "
                "lower states or patch"
            )
        if 0 < self.temperature < 1e-9:
            raise ValueError(f"temperature {self.temperature:g} is below 1e-9; write 0 for argmax")
        if exact_bits(self) > 53:
            raise ValueError(
                f"the network needs {exact_bits(self)} bits for exact logits and float64 has 53; "
                "lower network.relu_channels, network.linear_channels or network.neighbourhood"
            )
        return self


def exact_bits(bank: NcaBankScience) -> int:
    """Return how many bits the largest possible difference of two logits takes, in units of 2^-40."""
    net, window = bank.network, bank.network.neighbourhood**2
    inputs = bank.states + 2 if bank.pad_channels else bank.states
    seen = 2 if bank.pad_channels else 1
    half_unit = 0.5 ** (FIXED_POINT_BITS + 1)
    entry = seen * TRUNCATION**2 * math.sqrt(net.linear_channels / (window * inputs)) + half_unit
    logit = net.relu_channels * window * entry * (TRUNCATION / math.sqrt(net.relu_channels) + half_unit)
    return math.ceil(math.log2(2 * logit)) + 2 * FIXED_POINT_BITS


class NcaScience(NcaBankScience):
    """All fields of the NCA upstream. The defaults are the protocol `fair` at 12 x 12 and n = 10."""

    delimiter_loss: bool = False
    """Quirk of the release (on there): delimiters of all frames but the first are targets of the loss."""
    rules: RulesScience = RulesScience()
    """How many rules."""


def bank_fields(science: NcaBankScience) -> NcaBankScience:
    """Return only the fields that decide the bank."""
    return NcaBankScience(**{name: getattr(science, name) for name in NcaBankScience.model_fields})


def rules_needed(science: NcaScience, sequences: int) -> int:
    """Return how many rules of the bank the first `sequences` sequences read."""
    return min(science.rules.unique, sequences) if science.rules.unique else sequences
