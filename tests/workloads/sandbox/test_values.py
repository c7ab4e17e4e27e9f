"""What crosses the sandbox's wall comes back as it was, and nothing else is believed."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, namedtuple
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.sandbox.values import MAX_DEPTH, NotAValue, decode, encode

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(),
                    st.complex_numbers(allow_nan=False))
hashable = st.recursive(scalars, lambda inner: st.one_of(
    st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)), max_leaves=6)
plain = st.recursive(scalars, lambda inner: st.one_of(
    st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple), st.sets(hashable, max_size=4),
    st.dictionaries(hashable, inner, max_size=4)), max_leaves=20)


def types_of(value: Any) -> Any:
    """Return the value with its types spelled out: 1, 1.0 and True are equal, and so are 0.0 and -0.0."""
    if isinstance(value, dict):
        return [(types_of(k), types_of(v)) for k, v in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [types_of(v) for v in value]
    return type(value), math.copysign(1.0, value) if isinstance(value, float) else None


@given(plain)
def test_a_value_comes_back_exactly(value: Any) -> None:
    back = decode(encode(value))
    assert back == value and types_of(back) == types_of(value)


def test_floats_that_json_has_no_words_for_come_back() -> None:
    assert math.isnan(decode(encode(math.nan))) and decode(encode([math.inf, -math.inf])) == [math.inf, -math.inf]


@given(st.text() | st.binary())
def test_any_other_text_is_refused_with_the_one_error(text: str | bytes) -> None:
    try:
        value = decode(text)
    except NotAValue:
        return
    assert decode(encode(value)) == value


@pytest.mark.parametrize("text", [
    "", "1", "1.0", "NaN", "-Infinity", "{}", '{"int": "1"}', "[]", "[1]", '["int", 1]', '["int"]', '["int", "1", "2"]',
    '["float", "x"]', '["object", "x"]', '["set", ["list"]]', '["set", ["int", "0x1"], ["int", "0x1"]]',
    '["dict", ["a"]]', '["dict", ["a", null], ["a", null]]', '["dict", [["list"], null]]', '["bytes", "0"]',
    '["str", "a"]', '"a" "b"', "[" * 100_000, '["list", ' * (MAX_DEPTH + 2) + "null" + "]" * (MAX_DEPTH + 2)])
def test_what_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(NotAValue):
        decode(text)


def test_a_subclass_crosses_as_the_plain_value_that_it_holds() -> None:
    class Right(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            return True

    class Colour(IntEnum):
        RED = 3

    pair = namedtuple("pair", "a b")
    for value, expected in ((Right("no"), "no"), (Colour.RED, 3), (Counter("aab"), {"a": 2, "b": 1}),
                            (OrderedDict(a=1), {"a": 1}), (pair(1, 2), (1, 2))):
        back = decode(encode(value))
        assert type(back) is type(expected) and back == expected and expected == back
    assert decode(encode(Right("no"))) != "yes"


@pytest.mark.parametrize("value", [object(), print, iter([]), range(3), type, (x for x in ())])
def test_what_holds_no_plain_value_does_not_cross(value: object) -> None:
    with pytest.raises(NotAValue, match="no plain value"):
        encode([value])


def test_an_object_that_lies_about_its_class_does_not_cross() -> None:
    class Liar:
        __class__ = property(lambda self: str)  # type: ignore[assignment]

    assert isinstance(Liar(), str)
    with pytest.raises(NotAValue):
        encode(Liar())


def test_a_value_inside_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(NotAValue, match="inside each other"):
        encode(endless)
