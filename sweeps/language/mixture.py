"""An upstream that is made of others: which parts, and how many of the sequences are each part's, over the tokens.

A sequence comes wholly from one part, drawn by the weights that hold where its first token lies, and is that part's
sequence of the same number: so a mixture needs no count of what came before, and its parts share the banks of the plain
upstreams. Weights are whole numbers in lowest terms and the draw compares integers, so that the law is exact.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from sweeps.errors import nearest
from sweeps.language.plugins import Science
from sweeps.language.units import Amount

PART = "part."
"""Prefix of the sections of a mixture's parts; the part's name follows."""
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
"""Names of parts; they end up in the roles of inputs and in the names of sections."""

Law = dict[str, int]
"""Part -> weight, a whole number above 0; the weights have no common divisor. A part that is left out is not drawn."""


def _dotted(value: object) -> object:
    """Return fields by dotted name, also where some were given as mappings inside mappings."""
    if not isinstance(value, Mapping):
        return value
    found: dict[str, Any] = {}
    for key, inner in value.items():
        below = _dotted(inner)
        found |= {f"{key}.{k}": v for k, v in below.items()} if isinstance(below, dict) and below else {str(key): inner}
    return found


class PartScience(Science):
    """One part of a mixture."""

    upstream: str
    """What its sequences come from."""
    fields: Annotated[dict[str, Any], BeforeValidator(_dotted)] = Field(default={}, exclude=True)
    """Its own fields by dotted name, for instance `complexity.band: 30-45`; before them apply the presets and what the
    file gives for that upstream. A stage holds them resolved, in a section of the part's own."""


class MixtureScience(Science):
    """Parts and their weights."""

    parts: dict[str, PartScience]
    """Name -> part, two at least. Parts whose upstreams and vocabularies are the same have the same token ids (bands of
    one alphabet); the others have ids of their own, one part's after another's in the order of names."""
    weights: dict[int, Law] = Field(default={}, validate_default=True)
    """Part -> weight, for instance `{easy: 3, hard: 1}`; or a schedule (curriculum): tokens -> the weights from there
    on, for instance `{0: {easy: 1}, 0.5x: {easy: 1, hard: 1}}`, where `1x` is the scale's reference. Empty: all
    parts equally. Absolute, so that budgets are points on one trunk."""

    @field_validator("parts")
    @classmethod
    def _named(cls, parts: dict[str, PartScience]) -> dict[str, PartScience]:
        wrong = [name for name in parts if not NAME.fullmatch(name)]
        if len(parts) < 2:
            raise ValueError("a mixture has two parts at least; of one upstream alone, put that on the axis upstream")
        if wrong:
            raise ValueError(f"{', '.join(map(repr, wrong))}: a part's name is a letter, then letters, digits, _ and -")
        return parts

    @field_validator("weights", mode="before")
    @classmethod
    def _lawful(cls, value: Any, info: ValidationInfo) -> Any:
        """Return the schedule with tokens as numbers and every law in lowest terms."""
        parts = info.data.get("parts", {})
        if not isinstance(value, Mapping):
            raise ValueError(f"must map parts to weights, for instance {{{', '.join(f'{p}: 1' for p in parts)}}}, or "
                             "tokens to such weights")
        if not value:
            return {0: dict.fromkeys(sorted(parts), 1)}
        laws = value if all(isinstance(v, Mapping) for v in value.values()) else {0: value}
        reference = (info.context or {}).get("upstream_tokens")
        problems: list[str] = []
        schedule: dict[int, Law] = {}
        for written, law in laws.items():
            start = _tokens(written, reference, problems)
            if start in schedule and start >= 0:
                problems.append(f"{written} is a point that was given already")
            schedule[start] = _lowest_terms(law, parts, problems)
        if 0 not in schedule:
            problems.append("there is no law at token 0; begin the schedule with 0")
        if problems:
            raise ValueError("; ".join(dict.fromkeys(problems)))
        return dict(sorted(schedule.items()))

    def phases(self, sequence_length: int) -> list[tuple[int, Law]]:
        """Return the number of the first sequence of each phase, and its law; the last phase does not end."""
        return [(-(-start // sequence_length), law) for start, law in sorted(self.weights.items())]

    def reads(self, part: str, sequences: range, sequence_length: int) -> range:
        """Return the shortest range of sequences that holds all of the part's among `sequences`; empty: it has none."""
        own = [(first, end) for first, end, law in self._spans(sequences.stop, sequence_length)
               if part in law and end > sequences.start]
        return range(max(own[0][0], sequences.start), own[-1][1]) if own else range(0)

    def mean(self, sequences: int, sequence_length: int) -> Self:
        """Return the mixture without a schedule whose law is the mean over the first `sequences` sequences."""
        shares: dict[str, Fraction] = {}
        for first, end, law in self._spans(sequences, sequence_length):
            for part, weight in law.items():
                shares[part] = shares.get(part, Fraction(0)) + Fraction(weight * (end - first), sum(law.values()))
        return self.model_copy(update={"weights": {0: _whole(shares)}})

    def unused(self) -> list[str]:
        """Return the parts that no law has."""
        return [part for part in self.parts if not any(part in law for law in self.weights.values())]

    def _spans(self, stop: int, sequence_length: int) -> Iterator[tuple[int, int, Law]]:
        """Yield (first sequence, end, law) of each phase that has sequences before `stop`."""
        phases = self.phases(sequence_length)
        ends = [first for first, _ in phases[1:]] + [stop]
        for (first, law), end in zip(phases, ends, strict=True):
            if first < min(end, stop):
                yield first, min(end, stop), law


def _tokens(written: object, reference: int | None, problems: list[str]) -> int:
    if str(written).strip().rstrip("xkMBGT") in ("0", "0.0"):
        return 0
    try:
        return Amount(written).tokens(reference=reference)
    except ValueError as error:
        problems.append(f"{written}: {str(error).removeprefix(f'{written}: ')}")
        return -1


def _lowest_terms(law: object, parts: Mapping[str, Any], problems: list[str]) -> Law:
    """Return the weights above 0 as whole numbers without a common divisor; note what is wrong with them."""
    if not isinstance(law, Mapping) or not law:
        problems.append(f"{law!r} is no law; write {{{', '.join(f'{p}: 1' for p in parts)}}}")
        return {}
    found = {}
    for part, weight in law.items():
        if parts and part not in parts:
            problems.append(f"unknown part {part!r}; {nearest(str(part), parts)}")
        elif isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            problems.append(f"the weight of {part} is {weight!r}; it must be a number, 0 or above")
        else:
            found[str(part)] = Fraction(str(weight))
    if found and not any(found.values()):
        problems.append(f"the weights of {', '.join(found)} are all 0; give one of them more")
    return _whole(found)


def _whole(shares: Mapping[str, Fraction]) -> Law:
    positive = {part: share for part, share in sorted(shares.items()) if share}
    scale = math.lcm(*(share.denominator for share in positive.values()))
    whole = {part: int(share * scale) for part, share in positive.items()}
    common = math.gcd(*whole.values())
    return {part: weight // common for part, weight in whole.items()}


def token_ids(parts: Mapping[str, tuple[str, int]]) -> tuple[dict[str, int], int]:
    """Return each part's first token id and the number of ids, in the order of the parts' names.

    Args:
        parts: name -> (family of its upstream, size of its vocabulary); where both agree, the ids are shared.
    """
    first: dict[tuple[str, int], int] = {}
    count = 0
    for _, vocabulary in sorted(parts.items()):
        if vocabulary not in first:
            first[vocabulary] = count
            count += vocabulary[1]
    return {name: first[vocabulary] for name, vocabulary in parts.items()}, count
