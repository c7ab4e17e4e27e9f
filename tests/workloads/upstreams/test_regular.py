"""`regular`: the automata are drawn as documented, and every string is one of its automaton, by its law."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sweeps.errors import UsageError
from workloads.upstreams._regular import Automata, RegularSource, entropy_rate
from workloads.upstreams.regular import PLUGIN, RegularScience, vocabulary

Machine = list[dict[int, tuple[int, int]]]
"""One automaton, state by state: symbol -> (next state, weight)."""


def source(length: int = 256, stream: str = "train", seed: int = 1, **fields: object) -> RegularSource:
    made = PLUGIN.load()(RegularScience.model_validate(fields), seed=seed, stream=stream, sequence_length=length,
                         banks=[])
    assert isinstance(made, RegularSource)
    return made


def machine(automata: Automata, row: int) -> Machine:
    """Return one automaton; fails where a state has two edges with one symbol."""
    states: Machine = []
    for state in range(int(automata.states_B[row])):
        weights = automata.weights_BSE[row, state].tolist()
        symbols, targets = automata.symbols_BSE[row, state].tolist(), automata.targets_BSE[row, state].tolist()
        edges = [edge for edge in zip(symbols, targets, weights, strict=True) if edge[2] > 0]
        states.append({symbol: (target, weight) for symbol, target, weight in edges})
        assert len(states[-1]) == len(edges)
    return states


def losses(found: Machine, tokens_T: npt.NDArray[np.int32], science: RegularScience) -> list[float]:
    """Return -ln of the probability of every token by the documented law; fails where it is 0."""
    state, fresh, out = 0, True, []
    for token in tokens_T.tolist():
        if token == science.symbols:
            assert not fresh, "a string is empty"
            out.append(-math.log(science.p_end))
            state, fresh = 0, True
            continue
        assert token in found[state], "the automaton has no such edge"
        target, weight = found[state][token]
        going_on = 1.0 if fresh else 1.0 - science.p_end
        out.append(-math.log(going_on * weight / sum(w for _, w in found[state].values())))
        state, fresh = target, False
    return out


@settings(max_examples=50)
@given(st.data())
def test_every_string_is_accepted_by_its_automaton_and_all_limits_hold(data: st.DataObject) -> None:
    states_low, edges_low = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 8))
    science = RegularScience(
        symbols=data.draw(st.integers(max(2, edges_low + 3), 30)), states_low=states_low,
        states_high=states_low + data.draw(st.integers(0, 10)), edges_low=edges_low,
        edges_high=edges_low + data.draw(st.integers(0, 3)), max_weight=data.draw(st.sampled_from([1, 7, 65_536])),
        p_end=data.draw(st.sampled_from([1e-6, 0.05, 0.5, 0.99])))
    made = RegularSource(science, seed=3, stream="train", sequence_length=90)
    index = np.arange(2) + data.draw(st.integers(0, 2**40))
    tokens, automata = made.sequences(index).tokens_BT, made.automata(index)
    assert tokens.max() < made.vocabulary == vocabulary(science) == science.symbols + 1
    for row in range(2):
        found = machine(automata, row)
        assert states_low <= len(found) <= science.states_high
        for edges in found:
            assert edges_low <= len(edges) <= science.edges_high
            assert all(0 <= symbol < science.symbols and 0 <= target < len(found) and 1 <= w <= science.max_weight
                       for symbol, (target, w) in edges.items())
        losses(found, tokens[row], science)


def chi_square(counts: npt.NDArray[np.int64]) -> float:
    expected = counts.sum() / len(counts)
    return float(((counts - expected) ** 2 / expected).sum())


def test_states_edges_symbols_and_targets_are_uniform() -> None:
    automata = source(states_low=3, states_high=6, edges_low=2, edges_high=4, symbols=9).automata(np.arange(4000))
    assert chi_square(np.bincount(automata.states_B)[3:]) < 16.3  # 99.9 % with 3 degrees of freedom
    exists_BSE = automata.weights_BSE > 0
    assert chi_square(np.bincount(exists_BSE[:, 0].sum(axis=1))[2:]) < 13.8  # 2
    first, last = automata.symbols_BSE[:, 0, 0], automata.symbols_BSE[:, 0, 3]
    for symbols in (first, last):
        assert chi_square(np.bincount(symbols, minlength=9)) < 26.1  # 8
    pairs = np.bincount(first * 9 + last, minlength=81).reshape(9, 9)
    assert chi_square(pairs[~np.eye(9, dtype=bool)]) < 112.3  # 71
    targets = automata.targets_BSE[automata.states_B == 6][:, 0, 0]
    assert chi_square(np.bincount(targets, minlength=6)) < 20.5  # 5


def test_weights_are_uniform_up_to_the_largest() -> None:
    automata = source(max_weight=5, states_low=1, states_high=1).automata(np.arange(4000))
    counts = np.bincount(automata.weights_BSE[:, 0, 0])
    assert counts[0] == 0 and chi_square(counts[1:]) < 18.5  # 99.9 % with 4 degrees of freedom


def test_the_mean_loss_of_who_knows_the_automaton_is_the_entropy_rate() -> None:
    made, index = source(4000, max_weight=6, p_end=0.1), np.arange(60)
    automata, tokens = made.automata(index), made.sequences(index).tokens_BT
    rates = entropy_rate(made.science, automata)
    excess = [np.mean(losses(machine(automata, row), tokens[row], made.science)) - rates[row] for row in index]
    assert rates.min() > 0 and rates.std() > 0.05
    assert abs(np.mean(excess)) < 4 * np.std(excess) / math.sqrt(len(excess))
    assert np.std(excess) < 0.05


def test_the_oracle_is_the_expected_loss_of_every_token() -> None:
    made, index = source(300, max_weight=6, p_end=0.1), np.arange(40)
    automata, tokens, nats = made.automata(index), made.sequences(index).tokens_BT, made.oracle(index)
    assert nats.shape == tokens.shape
    for row in index[:5]:
        found, state = machine(automata, row), 0
        for place, token in enumerate(tokens[row].tolist()):
            fresh = place == 0 or tokens[row, place - 1] == 18
            weights = np.array([weight for _, weight in found[state].values()])
            law = weights / weights.sum() if fresh else np.append(0.9 * weights / weights.sum(), 0.1)
            assert math.isclose(nats[row, place], -(law * np.log(law)).sum(), abs_tol=1e-12)
            state = 0 if token == 18 else found[state][token][0]
    gap = [np.mean(losses(machine(automata, row), tokens[row], made.science) - nats[row]) for row in index]
    assert abs(np.mean(gap)) < 4 * np.std(gap) / math.sqrt(len(gap))


@pytest.mark.parametrize("p_end", [0.05, 0.5, 1.0])
def test_the_entropy_rate_of_a_fair_coin_is_the_known_one(p_end: float) -> None:
    made = source(states_low=1, states_high=1, edges_low=2, edges_high=2, p_end=p_end)
    end = -p_end * math.log(p_end) - (1 - p_end) * math.log(1 - p_end) if p_end < 1 else 0.0
    expected = (math.log(2) + end) / (1 + p_end)  # 1/p symbols and as many choices of ending make 1/p + 1 tokens
    np.testing.assert_allclose(entropy_rate(made.science, made.automata(np.arange(3))), expected, rtol=1e-12)


def test_a_sequence_that_only_has_one_way_is_free() -> None:
    made = source(edges_low=1, edges_high=1, p_end=1.0)
    np.testing.assert_allclose(entropy_rate(made.science, made.automata(np.arange(9))), 0.0, atol=1e-15)
    tokens = made.sequences(np.arange(9)).tokens_BT
    assert (tokens[:, 1::2] == 18).all() and (tokens[:, 2::2] == tokens[:, :1]).all()


def test_strings_have_the_mean_length_that_p_end_says() -> None:
    tokens = source(1024, p_end=0.05).sequences(np.arange(200)).tokens_BT
    share = (tokens == 18).mean()
    assert abs(share - 0.05 / 1.05) < 4 * math.sqrt(share / tokens.size)


def test_sequences_are_the_same_in_any_batch_and_on_both_paths() -> None:
    made, index = source(max_weight=9), np.array([5, 0, 2**40, 17])
    whole = made.sequences(index).tokens_BT
    for row, one in enumerate(index):
        np.testing.assert_array_equal(made.sequences(np.array([one])).tokens_BT[0], whole[row])
    slow = RegularSource(made.science, seed=1, stream="train", sequence_length=256, compiled=False)
    np.testing.assert_array_equal(slow.sequences(index).tokens_BT, whole)


def test_streams_and_seeds_have_other_automata_and_strings() -> None:
    made = [source(64, stream, seed) for stream, seed in (("train", 1), ("held_out", 1), ("train", 2))]
    assert len(np.unique(np.concatenate([s.sequences(np.arange(2)).tokens_BT for s in made]), axis=0)) == 6
    assert len(np.unique(np.concatenate([s.automata(np.arange(2)).symbols_BSE for s in made]), axis=0)) == 6


def test_the_tokens_are_those_of_the_first_version() -> None:
    tokens = source(max_weight=9).sequences(np.arange(8)).tokens_BT.astype("<i4")
    assert hashlib.sha256(tokens.tobytes()).hexdigest()[:16] == "6cd384b49c357ff1"


@pytest.mark.parametrize("fields, message", [
    ({"states_low": 13}, "states_low 13 is above states_high 12"),
    ({"edges_low": 5}, "edges_low 5 is above edges_high 4"),
    ({"edges_high": 8, "symbols": 7}, "edges_high 8 is above symbols 7"),
    ({"states_high": 65}, "less than or equal to 64"),
    ({"p_end": 0}, "greater than or equal to"),
    ({"p_end": 1.5}, "less than or equal to 1"),
    ({"max_weight": 0}, "greater than or equal to 1"),
    ({"symbols": 1}, "greater than or equal to 2"),
])
def test_bad_fields_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RegularScience.model_validate(fields)


def test_targets_are_all_but_the_first_token_and_banks_are_refused(tmp_path: Path) -> None:
    batch = source(16).sequences(np.arange(2))
    assert not batch.target_BT[:, 0].any() and batch.target_BT[:, 1:].all()
    with pytest.raises(UsageError, match="regular reads no rule bank"):
        PLUGIN.load()(RegularScience(), seed=1, stream="train", sequence_length=16, banks=[tmp_path])
