"""Who knows the rule: the exact expected loss, against frequencies and against the generator's own laws."""

from __future__ import annotations

import numpy as np
import pytest

from tests.workloads.upstreams.conftest import SEED, small
from workloads.contract import Oracle
from workloads.upstreams.nca import philox, reference
from workloads.upstreams.nca.open_bank import RuleBank
from workloads.upstreams.nca.oracle import expected_nats, patch_nats
from workloads.upstreams.nca.rollout import Rules, neighbours
from workloads.upstreams.nca.science import NcaBankScience, bank_fields
from workloads.upstreams.nca.shuffled import ShuffledSource
from workloads.upstreams.nca.source import NcaSource
from workloads.upstreams.nca.tokens import patch_tokens

KEY = philox.derive_key("oracle")
TINY = {"states": 2, "grid": {"height": 4, "width": 4}, "temperature": 1.0}


def source(**changes: object) -> NcaSource:
    """Sequences of 40 rules that no band was asked of."""
    science = small(**changes)
    rules = reference.draw_rules(bank_fields(science), KEY, philox.split(np.arange(40, dtype=np.int64)))
    bank = RuleBank(starts=np.array([0, 40]), blocks=(rules,))
    return NcaSource(science, bank, seed=SEED, stream="train", sequence_length=256)


def test_the_expected_loss_is_the_entropy_of_what_is_drawn() -> None:
    bank, draws = NcaBankScience.model_validate(TINY), 20_000
    rules = reference.draw_rules(bank, KEY, philox.split(np.arange(1, dtype=np.int64)))
    grid_BS = np.random.default_rng(1).integers(0, 2, (1, 16))
    logits_BSN = reference.logits(rules, grid_BS, neighbours(bank))
    number_B2 = philox.split(np.arange(draws, dtype=np.int64))
    after = reference.sample(np.repeat(logits_BSN, draws, axis=0), bank.temperature, KEY, number_B2, 1)
    tokens_BP = patch_tokens(after.reshape(draws, 1, 4, 4), bank.states, bank.patch)[:, 0]
    frequencies = [np.bincount(tokens_BP[:, p], minlength=16) / draws for p in range(4)]
    seen = [-(f[f > 0] * np.log(f[f > 0])).sum() for f in frequencies]
    exact = patch_nats(bank, rules, grid_BS.reshape(1, 4, 4))[0]
    assert exact.min() > 0.1 and exact.max() < np.log(16) - 0.01, "a rule that shows nothing"
    # Plug-in entropies of 16 outcomes are about 15 / (2 draws) too low and vary by about 1 / sqrt(draws).
    assert seen == pytest.approx(exact, abs=2 / np.sqrt(draws))


def test_sequences_that_are_drawn_cost_what_is_expected() -> None:
    one = source(temperature=1.0)
    index_B = np.arange(40)
    nats_BT, batch = one.oracle(index_B), one.sequences(index_B)
    assert nats_BT is not None and nats_BT.shape == batch.tokens_BT.shape
    rules, frames = one._rolled(index_B)
    realised = []
    for frame in range(1, frames.shape[1]):
        grid_BS = frames[:, frame - 1].reshape(40, -1).astype(np.int64)
        weights = reference.weights(
            reference.logits(rules, grid_BS, neighbours(one.bank)).reshape(-1, 4), 1.0)
        drawn = frames[:, frame].reshape(-1)
        realised.append(np.log(weights.sum(axis=1) / weights[np.arange(len(drawn)), drawn]).sum())
    # All frames but the last are whole in 256 tokens; the last has 2 of 16 patches left out.
    expected = expected_nats(one.bank, rules, frames, 18 * frames.shape[1])
    assert expected is not None
    assert sum(realised) == pytest.approx(expected.sum(), rel=0.01)
    assert (nats_BT == expected[:, :256]).all()
    assert (nats_BT[:, :18] == 0).all() and (nats_BT[:, 18::18] == 0).all(), "first frame and delimiters"
    assert nats_BT[batch.target_BT].min() > 0


@pytest.mark.parametrize("stride", [1, 3])
def test_nothing_is_uncertain_at_argmax(stride: int) -> None:
    bank = NcaBankScience.model_validate({**TINY, "temperature": 0, "frame_stride": stride})
    rules = reference.draw_rules(bank, KEY, philox.split(np.arange(3, dtype=np.int64)))
    frames = reference.rollout(bank, rules, KEY, philox.split(np.arange(3, dtype=np.int64)), 4)
    nats = expected_nats(bank, rules, frames, 20)
    assert nats is not None and nats.shape == (3, 20) and not nats.any()


def test_equal_logits_cost_the_logarithm_of_the_states() -> None:
    bank = NcaBankScience.model_validate(TINY)
    nothing = Rules(tables_BKNC=np.zeros((1, 9, 2, 16), np.int32), outputs_BCN=np.zeros((1, 16, 2), np.int32))
    assert patch_nats(bank, nothing, np.zeros((1, 4, 4), np.uint8)) == pytest.approx(4 * np.log(2))


def test_no_exact_oracle_is_said_not_guessed() -> None:
    assert source(temperature=0.1, frame_stride=2).oracle(np.arange(2)) is None
    shuffled = ShuffledSource(source(), seed=SEED, stream="train")
    assert not isinstance(shuffled, Oracle) and isinstance(source(), Oracle)
