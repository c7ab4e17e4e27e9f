"""Mixtures as the language sees them: laws, schedules, token ids."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sweeps.language.mixture import MixtureScience, token_ids
from sweeps.language.stage import section

NAMES = ("a", "b", "c")
LENGTH = 16
LAWS = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9), min_size=1).filter(lambda law: any(law.values()))
SCHEDULES = st.dictionaries(st.integers(1, 2_000), LAWS, max_size=4)


def mixture(weights: Any = None, *, parts: Mapping[str, Any] | None = None) -> MixtureScience:
    """A mixture of a, b and c at a scale where `1x` is 1,000 tokens."""
    given = parts if parts is not None else {name: {"upstream": "nca"} for name in NAMES}
    values = {"parts": given} | ({} if weights is None else {"weights": weights})
    return MixtureScience.model_validate(values, context={"upstream_tokens": 1_000})


@pytest.mark.parametrize(("weights", "law"), [
    (None, {"a": 1, "b": 1, "c": 1}), ({"a": 2, "b": 2, "c": 2}, {"a": 1, "b": 1, "c": 1}),
    ({"a": 0.1, "b": 0.3}, {"a": 1, "b": 3}), ({"b": "x"}, None), ({"c": 1e-3, "a": 0, "b": 2e-3}, {"b": 2, "c": 1}),
])
def test_equal_laws_are_written_alike(weights: Any, law: dict[str, int] | None) -> None:
    if law is None:
        with pytest.raises(ValidationError):
            mixture(weights)
        return
    assert mixture(weights).weights == {0: law} and list(mixture(weights).weights[0]) == sorted(law)
    assert section(mixture(weights)) == section(mixture(law))


def test_a_schedule_in_multiples_of_the_reference_is_the_one_in_tokens() -> None:
    one = mixture({"0.5x": {"b": 1}, "0": {"a": 1}})
    assert one.weights == {0: {"a": 1}, 500: {"b": 1}}
    assert section(one) == section(mixture({"0x": {"a": 2}, "0.5k": {"b": 3}}))
    again = MixtureScience.model_validate(section(one).values)  # as a job reads it, without the scale
    assert again.weights == one.weights


def test_a_parts_fields_are_no_part_of_the_mixtures_section() -> None:
    spelled = mixture(parts={"a": {"upstream": "nca", "fields": {"complexity.band": "30-45"}},
                             "b": {"upstream": "nca"}})
    nested = mixture(parts={"a": {"upstream": "nca", "fields": {"complexity": {"band": "30-45"}}},
                            "b": {"upstream": "nca"}})
    assert spelled.parts["a"].fields == nested.parts["a"].fields == {"complexity.band": "30-45"}
    assert "complexity" not in section(spelled).identity


@pytest.mark.parametrize(("weights", "says"), [
    ([1, 2], ["must map parts to weights"]),
    ({"a": -1}, ["the weight of a is -1", "0 or above"]),
    ({"a": float("inf")}, ["weight of a is inf"]),
    ({"a": True}, ["weight of a is True"]),
    ({"a": 0, "b": 0}, ["are all 0"]),
    ({"aa": 1, "b": -2}, ["unknown part 'aa'", "Did you mean 'a'", "weight of b is -2"]),
    ({"0.5x": {"a": 1}}, ["no law at token 0"]),
    ({"0": {}, "soon": {"a": 1}}, ["{} is no law", "soon: not an amount"]),
    ({"0": {"a": 1}, "500": {"a": 1}, "0.5x": {"b": 1}}, ["0.5x is a point that was given already"]),
    ({"0": {"a": 1}, "50%": {"b": 1}}, ["50%: a share has no meaning here", "write 164M"]),
])
def test_bad_weights_are_refused_all_at_once(weights: Any, says: list[str]) -> None:
    with pytest.raises(ValidationError) as error:
        mixture(weights)
    assert all(words in str(error.value) for words in says), str(error.value)


@pytest.mark.parametrize(("parts", "says"), [
    ({"a": {"upstream": "nca"}}, "two parts at least"), ({}, "two parts at least"),
    ({"a b": {"upstream": "nca"}, "c": {"upstream": "nca"}}, "'a b'"),
    ({"a": {"upstream": "nca"}, "b": {}}, "b.upstream"),
])
def test_bad_parts_are_refused(parts: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        mixture(parts=parts)


@given(LAWS, SCHEDULES, st.integers(1, 300))
def test_the_mean_law_is_what_counting_gives(
    first: dict[str, int], later: dict[int, dict[str, int]], count: int
) -> None:
    science = mixture({"0": first, **{str(k): law for k, law in later.items()}})
    starts = sorted({0: first, **later}.items())
    shares = dict.fromkeys(NAMES, Fraction(0))
    for number in range(count):
        law = [law for start, law in starts if start <= number * LENGTH][-1]
        for name, weight in law.items():
            shares[name] += Fraction(weight, sum(law.values()))
    mean = science.mean(count, LENGTH).weights[0]
    whole = sum(mean.values())
    assert {k: v / count for k, v in shares.items() if v} == {k: Fraction(v, whole) for k, v in mean.items()}


@given(LAWS, SCHEDULES, st.integers(0, 200), st.integers(0, 200))
def test_a_part_reads_no_more_than_from_its_first_to_its_last_sequence(
    first: dict[str, int], later: dict[int, dict[str, int]], start: int, count: int
) -> None:
    science = mixture({"0": first, **{str(k): law for k, law in later.items()}})
    laws = sorted({0: first, **later}.items())
    for part in NAMES:
        mine = [i for i in range(start, start + count)
                if [law for at, law in laws if at <= i * LENGTH][-1].get(part)]
        found = science.reads(part, range(start, start + count), LENGTH)
        assert (found.start, found.stop) == (mine[0], mine[-1] + 1) if mine else not found


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3),
                       st.tuples(st.sampled_from(["nca", "text"]), st.integers(1, 9)), min_size=1))
def test_token_ids_are_shared_by_equal_vocabularies_and_by_no_others(parts: dict[str, tuple[str, int]]) -> None:
    first, count = token_ids(parts)
    taken = {k: set(range(first[k], first[k] + parts[k][1])) for k in parts}
    assert set().union(*taken.values()) == set(range(count))
    for one in parts:
        for other in parts:
            assert (taken[one] == taken[other]) if parts[one] == parts[other] else not taken[one] & taken[other]
