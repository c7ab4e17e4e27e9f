"""Values as people write them: `164M` tokens, `0.25x` of a reference, `5%` of a whole, `2 min`, `mlp@0-11`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

_SUFFIX = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12}
_SECONDS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "hour": 3600, "hours": 3600, "d": 86_400}
_DIGITS = 18
MAX_TOKENS = 10**16
"""A thousand times the largest corpus; more is a slip of the suffix."""
_NUMBER = r"([0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)"


def _decimal(text: str) -> Decimal:
    """Return a number of the pattern `_NUMBER`.

    Raises:
        ValueError: its exponent is beyond any quantity; written out it would fill the memory.
    """
    try:
        number = Decimal(text.replace("_", ""))
    except InvalidOperation as error:  # an exponent of more digits than Decimal holds
        raise ValueError(f"must lie between 1e-{_DIGITS} and 1e{_DIGITS}") from error
    if number and abs(number.adjusted()) > _DIGITS:
        raise ValueError(f"must lie between 1e-{_DIGITS} and 1e{_DIGITS}")
    return number


def _near(value: object, units: Iterable[str]) -> str:
    """Return the nearest quantity to a number with an unknown unit: `164m` -> `164M`; empty where there is none."""
    match = re.fullmatch(_NUMBER + r"\s*(\S+)", str(value).strip())
    if match is None:
        return ""
    written = match[2]
    folded = next((u for u in units if u.lower() == written.lower()), None)
    close = folded or next(iter(difflib.get_close_matches(written.lower(), list(units), n=1)), None)
    gap = " " if close is not None and len(close) > 1 else ""
    return f". Did you mean '{match[1]}{gap}{close}'?" if close else ""


def plain(value: Decimal) -> str:
    """Return a decimal in its shortest plain form, so that equal quantities are written alike."""
    text = format(value.normalize(), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


class _Text(str):
    """A string subclass that pydantic validates through its constructor; its text is canonical."""

    __slots__ = ()
    pattern = ""
    examples = ""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: cls(value), serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": ["string", "number"], "description": cls.examples}


class Amount(_Text):
    """Tokens: absolute (`164M`, `163840000`), a multiple of a reference (`0.25x`), or a share of a whole (`5%`)."""

    __slots__ = ()
    examples = "164M, 300k, 1500 (absolute), 0.25x (of the scale's reference) or 5% (of the whole)"

    def __new__(cls, value: object) -> Amount:
        """Accept a number or text.

        Raises:
            ValueError: it is not an amount, or is not positive.
        """
        match = re.fullmatch(_NUMBER + r"\s*([kKMBGT]?|x|%)", str(value).strip())
        if isinstance(value, bool) or match is None:
            raise ValueError(f"not an amount of tokens; write {cls.examples}{_near(value, 'kMBGTx%')}")
        number, unit = _decimal(match[1]), match[2]
        if number <= 0:
            raise ValueError(f"an amount must be above 0; write {cls.examples}")
        if unit in ("x", "%"):
            return super().__new__(cls, plain(number) + unit)
        tokens = number * _SUFFIX[unit]
        if tokens != tokens.to_integral_value():
            raise ValueError(f"{value} is not a whole number of tokens; write {cls.examples}")
        if tokens > MAX_TOKENS:
            raise ValueError(f"must be at most {MAX_TOKENS:,} tokens; write {cls.examples}")
        return super().__new__(cls, plain(tokens))

    def tokens(self, *, reference: int | None = None, whole: int | None = None) -> int:
        """Resolve to tokens, rounded down.

        Args:
            reference: tokens of `1x`.
            whole: tokens of `100%`.

        Raises:
            ValueError: it is relative to something that does not exist here.
        """
        if self.endswith("x"):
            if reference is None:
                raise ValueError(f"{self}: a multiple of a reference has no meaning here; write {self.examples}")
            return int(_decimal(self[:-1]) * reference)
        if self.endswith("%"):
            if whole is None:
                raise ValueError(f"{self}: a share has no meaning here; write {self.examples}")
            return int(_decimal(self[:-1]) * whole / 100)
        return int(self)


class Fraction(_Text):
    """A share above 0 and up to 1: `5%` or `0.05`."""

    __slots__ = ()
    examples = "a share such as 5% or 0.05"

    def __new__(cls, value: object) -> Fraction:
        """Accept a number or text.

        Raises:
            ValueError: it is not a share above 0 and at most 1.
        """
        match = re.fullmatch(_NUMBER + r"\s*(%?)", str(value).strip())
        if isinstance(value, bool) or match is None:
            raise ValueError(f"not a share; write {cls.examples}{_near(value, '%')}")
        percent = _decimal(match[1]) * (1 if match[2] else 100)
        if not 0 < percent <= 100:
            raise ValueError(f"a share must be above 0 and at most 100%; write {cls.examples}")
        return super().__new__(cls, plain(percent) + "%")

    def of(self, whole: int) -> int:
        """Return this share of `whole`, rounded down."""
        return int(_decimal(self[:-1]) * whole / 100)

    @property
    def ratio(self) -> float:
        """The share as a number between 0 and 1."""
        return float(_decimal(self[:-1]) / 100)


class Duration(_Text):
    """A time: `90 s`, `2 min`, `1.5 h`."""

    __slots__ = ()
    examples = "a time such as 90 s, 2 min or 1.5 h"

    def __new__(cls, value: object) -> Self:
        """Accept text with a unit.

        Raises:
            ValueError: it is not a positive time with a unit.
        """
        match = re.fullmatch(_NUMBER + r"\s*([a-z]+)", str(value).strip())
        if match is None or match[2] not in _SECONDS or _decimal(match[1]) <= 0:
            raise ValueError(f"not a time; write {cls.examples}{_near(value, _SECONDS)}")
        return super().__new__(cls, plain(_decimal(match[1]) * _SECONDS[match[2]]) + " s")

    @property
    def seconds(self) -> float:
        """The time in seconds."""
        return float(self[:-2])


class Pack(Duration):
    """How much one job takes: a time, or a number of stages."""

    __slots__ = ()
    examples = "a time such as 2 min, or a whole number of stages such as 20"

    def __new__(cls, value: object) -> Self:
        """Accept a whole number, or text with a unit.

        Raises:
            ValueError: it is neither.
        """
        if not isinstance(value, bool) and re.fullmatch(r"[1-9][0-9]{0,5}", str(value).strip()):
            return str.__new__(cls, str(value).strip())
        return super().__new__(cls, value)

    @property
    def stages(self) -> int | None:
        """The number of stages; None: it is a time."""
        return None if self.endswith(" s") else int(self)


class Redrawn(str):
    """A component of the body, and the layers in which it is drawn anew: `mlp` (all), `mlp@3`, `mlp@0-11`."""

    __slots__ = ()
    pattern = re.compile(r"(attention|mlp|norm)(?:@(\d{1,4})(?:-(\d{1,4}))?)?")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls, serialization=core_schema.plain_serializer_function_ser_schema(str))

    def __new__(cls, value: object) -> Redrawn:
        """Accept text.

        Raises:
            ValueError: it names no component, or its layers fall.
        """
        match = cls.pattern.fullmatch(str(value).strip())
        if match is None:
            raise ValueError("write attention, mlp or norm, with layers after an @ where not all: mlp@3, mlp@0-11")
        component, first, last = match[1], match[2], match[3] or match[2]
        if first is None:
            return super().__new__(cls, component)
        if int(first) > int(last):
            raise ValueError(f"layers must rise: {component}@{int(last)}-{int(first)}")
        return super().__new__(cls, f"{component}@{int(first)}" + f"-{int(last)}" * (int(first) != int(last)))

    @property
    def component(self) -> str:
        """`attention`, `mlp` or `norm`."""
        return self.partition("@")[0]

    @property
    def layers(self) -> range | None:
        """The layers; None: all, and for `norm` the last one, which is in no layer, too."""
        first, _, last = self.partition("@")[2].partition("-")
        return range(int(first), int(last or first) + 1) if first else None


@lru_cache(maxsize=4096)
def tokens_text(tokens: float) -> str:
    """Return tokens as people write them: 163.8M, 300k, 512."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if tokens >= size:
            return f"{tokens / size:.4g}{unit}"
    return f"{tokens:g}"
