"""Values that cross the sandbox's wall: plain Python values as tagged JSON, exact, and parsed strictly.

    null, true, false, "text"
    ["int", "-0x1f"]   ["float", "0x1.8p+1" | "nan" | "inf"]   ["complex", REAL, IMAG]   ["bytes", "00ff"]
    ["list", V, ...]   ["tuple", V, ...]   ["set", V, ...]   ["frozenset", V, ...]   ["dict", [K, V], ...]

What is decoded is made of exactly these types, so `==` on it is Python's own, whatever the other side did. A subclass
(`defaultdict`, `IntEnum`, a `float` with its own `__eq__`) crosses as the plain value that it holds. Anything else, a
function or an iterator, does not cross. Imported inside the sandbox as well: standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

MAX_DEPTH = 64
"""Containers inside containers."""


class NotAValue(ValueError):  # noqa: N818 - says what the text or the object is
    """The object is none of these types, or the text is not the encoding of any value."""


SEQUENCES: dict[str, type] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


def encode(value: object) -> str:
    """Return the text of a value.

    Raises:
        NotAValue: it holds something of another type, or is nested too deeply.
    """
    return json.dumps(_tagged(value, MAX_DEPTH), separators=(",", ":"))


def decode(text: str | bytes) -> Any:
    """Return the value of a text.

    Raises:
        NotAValue: no value has this text.
    """
    try:
        found = json.loads(text, parse_int=_refuse, parse_float=_refuse, parse_constant=_refuse,
                           object_pairs_hook=_refuse)
        return _value(found, MAX_DEPTH)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:  # TypeError: a list in a set or as a key
        raise NotAValue(f"not the text of a value: {error}") from error


def _refuse(found: object) -> Any:
    raise NotAValue(f"{str(found)[:40]!r} without a tag")


def _tagged(value: Any, depth: int) -> Any:
    """Return what JSON has for the value; a subclass is read by its base's own methods."""
    if depth < 0:
        raise NotAValue(f"more than {MAX_DEPTH} containers inside each other")
    if value is None or value is True or value is False:
        return value
    for kind, tagged in _SCALARS:
        if issubclass(type(value), kind):
            return tagged(value)
    for tag, kind in SEQUENCES.items():
        if issubclass(type(value), kind):
            return [tag, *(_tagged(v, depth - 1) for v in _iterated(kind, value))]
    if issubclass(type(value), dict):
        return ["dict", *([_tagged(k, depth - 1), _tagged(v, depth - 1)] for k, v in dict.items(value))]
    raise NotAValue(f"a {type(value).__name__} is no plain value")


def _iterated(kind: Any, value: Any) -> Iterable[Any]:
    found: Iterable[Any] = kind.__iter__(value)
    return found


_SCALARS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, lambda v: ["int", hex(int.__int__(v))]),
    (float, lambda v: ["float", float.hex(float.__float__(v))]),
    (complex, lambda v: ["complex", float.hex(complex.__complex__(v).real), float.hex(complex.__complex__(v).imag)]),
    (bytes, lambda v: ["bytes", bytes.hex(v)]),
)


def _value(found: Any, depth: int) -> Any:
    if found is None or isinstance(found, (bool, str)):
        return found
    if depth < 0 or not isinstance(found, list) or not found:
        raise NotAValue("no tag, or too deep")
    tag, *rest = found
    if tag in SEQUENCES:
        values = [_value(v, depth - 1) for v in rest]
        made = SEQUENCES[tag](values)
        if len(made) != len(values):
            raise NotAValue(f"a {tag} with equal elements")
        return made
    if tag == "dict":
        pairs = [(_value(k, depth - 1), _value(v, depth - 1)) for k, v in rest]
        return _same_size(dict(pairs), len(pairs))
    return _scalar(tag, rest)


def _same_size(made: dict[Any, Any], count: int) -> dict[Any, Any]:
    if len(made) != count:
        raise NotAValue("a dict with equal keys")
    return made


def _scalar(tag: object, rest: list[Any]) -> Any:
    if not all(isinstance(text, str) for text in rest):
        raise NotAValue(f"{tag!r} of no text")
    if tag == "int" and len(rest) == 1:
        return int(rest[0], 16)
    if tag == "float" and len(rest) == 1:
        return float.fromhex(rest[0])
    if tag == "complex" and len(rest) == 2:
        return complex(float.fromhex(rest[0]), float.fromhex(rest[1]))
    if tag == "bytes" and len(rest) == 1:
        return bytes.fromhex(rest[0])
    raise NotAValue(f"unknown tag {tag!r}")
