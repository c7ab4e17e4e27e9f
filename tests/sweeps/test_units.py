"""Quantities: what people write is read exactly, and equal quantities become equal text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.language.units import Amount, Duration, Fraction, tokens_text


@pytest.mark.parametrize(("written", "tokens"), [
    ("164M", 164_000_000), ("163.84M", 163_840_000), ("1_500", 1500), (300_000, 300_000), ("1e6", 1_000_000),
    ("300k", 300_000), ("9.02B", 9_020_000_000), ("0.5k", 500),
])
def test_absolute_amounts_are_exact(written: object, tokens: int) -> None:
    assert Amount(written).tokens() == tokens


def test_multiples_and_shares_need_their_whole() -> None:
    assert Amount("0.25x").tokens(reference=300_000) == 75_000
    assert Amount("5%").tokens(whole=300_000) == 15_000
    with pytest.raises(ValueError, match="has no meaning here"):
        Amount("2x").tokens()
    with pytest.raises(ValueError, match="has no meaning here"):
        Amount("5%").tokens(reference=3)


@pytest.mark.parametrize("bad", ["", "x", "-3", "0", "1.5", "164 Mio", "five", True, None, "1e-3", "nan", "1x%"])
def test_bad_amounts_say_what_is_allowed(bad: object) -> None:
    with pytest.raises(ValueError, match="164M"):
        Amount(bad)


@given(st.integers(min_value=1, max_value=10**15))
def test_an_amount_survives_its_own_text(tokens: int) -> None:
    assert Amount(Amount(tokens)) == Amount(tokens)
    assert Amount(tokens).tokens() == tokens


@pytest.mark.parametrize(("one", "other"), [("1000", "1k"), ("0.5x", ".5x".replace(".", "0.")), ("5%", "5.0 %")])
def test_equal_quantities_are_written_alike(one: str, other: str) -> None:
    assert Amount(one) == Amount(other)


@pytest.mark.parametrize(("written", "ratio"), [("5%", 0.05), (0.05, 0.05), ("100%", 1.0), (1, 1.0), ("0.5 %", 0.005)])
def test_shares(written: object, ratio: float) -> None:
    assert Fraction(written).ratio == pytest.approx(ratio)
    assert Fraction(written).of(1_000_000) == round(ratio * 1_000_000)


@pytest.mark.parametrize("bad", ["0", "101%", 1.5, "-5%", "half", None])
def test_bad_shares_say_what_is_allowed(bad: object) -> None:
    with pytest.raises(ValueError, match="5%"):
        Fraction(bad)


@pytest.mark.parametrize(("written", "seconds"), [("90 s", 90), ("2 min", 120), ("1.5 h", 5400), ("2min", 120)])
def test_durations(written: str, seconds: float) -> None:
    assert Duration(written).seconds == seconds


@pytest.mark.parametrize("bad", ["90", 90, "2 weeks", "-1 s", ""])
def test_bad_durations_say_what_is_allowed(bad: object) -> None:
    with pytest.raises(ValueError, match="2 min"):
        Duration(bad)


def test_tokens_are_shown_short() -> None:
    assert [tokens_text(t) for t in (512, 299_008, 163_840_000, 9e9)] == ["512", "299k", "163.8M", "9B"]
