"""DeepSpeed's configuration, the loss of an update, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sweeps.errors import UsageError
from sweeps.language.science import EngineScience, OptimScience
from sweeps.language.stage import Execution
from tests.workloads.training.fakes import MODEL, FakeSource
from workloads.contract import SequenceBatch
from workloads.training.engine import Engine, deepspeed_config, micro_batch
from workloads.training.feeds import UpstreamFeed, Window, labels_of, text_batch
from workloads.training.model import build_model
from workloads.training.process import Place, join

pytestmark = pytest.mark.filterwarnings("ignore:`torch.distributed:FutureWarning")  # DeepSpeed's ZeRO 3 calls

OPTIM = OptimScience(batch_sequences=4, weight_decay=0.0)


def make(execution: Execution, *, optim: OptimScience = OPTIM, precision: Any = "fp32") -> tuple[Engine, Any]:
    model = build_model(MODEL, 30, seed=0, purpose="pretrain", embedding_std=1.0)
    return Engine(model, optim, EngineScience(precision=precision), execution, join(1)), model


def batch(count: int = 4) -> SequenceBatch:
    return FakeSource(seed=0, stream="train", sequence_length=16).sequences(np.arange(count))


def test_configuration_as_it_leaves_the_house() -> None:
    config = deepspeed_config(
        OptimScience(batch_sequences=32), EngineScience(precision="bf16"),
        Execution(ranks=2, zero_stage=2, micro_batch=4), parameters=1_000,
    )
    assert config == {
        "train_batch_size": 32, "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 4,
        "gradient_clipping": 1.0, "steps_per_print": 2**31 - 1, "wall_clock_breakdown": False,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": 2, "reduce_bucket_size": 1_000, "allgather_bucket_size": 1_000},
        "bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}, "communication_data_type": "fp32",
    }


def test_bf16_with_zero_0_is_refused() -> None:
    with pytest.raises(UsageError, match="bf16 needs ZeRO stage 1, 2 or 3"):
        deepspeed_config(OPTIM, EngineScience(precision="bf16"), Execution(zero_stage=0), parameters=1)


@pytest.mark.parametrize(("execution", "words"), [
    (Execution(ranks=3), "not divisible by 3 ranks"), (Execution(micro_batch=3), "micro_batch 3 does not divide"),
])
def test_batches_that_do_not_divide_are_refused(execution: Execution, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        micro_batch(OPTIM, execution)


def test_more_ranks_than_processes_are_refused() -> None:
    with pytest.raises(UsageError, match="1 processes were started for a stage of 2 ranks"):
        make(Execution(ranks=2))


def test_only_targets_count() -> None:
    given = batch()
    given.target_BT[1, 8:] = False
    labels = labels_of(given)
    assert (labels[:, :3] == -100).all() and (labels[:, -1] == -100).all()
    assert labels[0, 3] == given.tokens_BT[0, 4]
    assert int((labels >= 0).sum()) == int(given.target_BT.sum())
    engine, model = make(Execution())
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(given.tokens_BT.astype(np.int64))).logits
        log_p = F.log_softmax(logits, -1)
    wanted = [-float(log_p[b, t - 1, given.tokens_BT[b, t]]) for b, t in np.argwhere(given.target_BT)]
    loss, norm = engine.update(given, lr=1e-3)
    assert float(loss) == pytest.approx(float(np.mean(wanted)), abs=1e-5)
    assert math.isnan(norm)
    engine.close()


def test_accumulation_weighs_by_targets() -> None:
    """Micro-batches with different numbers of targets give the update of the whole batch."""
    given = batch()
    given.target_BT[0, 5:] = False
    found = {}
    for micro in (4, 1):
        engine, _ = make(Execution(micro_batch=micro))
        loss, norm = engine.update(given, lr=1e-3, want_norm=True)
        found[micro] = (float(loss), norm, engine.weights()["model.layers.0.mlp.up_proj.weight"])
        assert engine.adam_steps() == 1
        engine.close()
    assert found[1][0] == pytest.approx(found[4][0], abs=1e-6)
    assert found[1][1] == pytest.approx(found[4][1], rel=1e-4)
    assert torch.allclose(found[1][2], found[4][2], atol=1e-5)


@pytest.mark.parametrize(("precision", "stage"), [
    ("fp32", 1), ("fp32", 2), ("fp32", 3), ("bf16", 1), ("bf16", 2), ("bf16", 3), ("autocast", 0),
])
def test_every_layout_of_one_rank_agrees(precision: str, stage: int) -> None:
    plain, _ = make(Execution())
    other, _ = make(Execution(zero_stage=stage), precision=precision)
    given, losses = batch(), []
    for _ in range(4):
        losses.append([float(e.update(given, lr=1e-2, want_norm=True)[0]) for e in (plain, other)])
    assert np.diff(losses, axis=1) == pytest.approx(0, abs=1e-5 if precision == "fp32" else 0.05)
    assert other.adam_steps() == 4
    assert {k: v.shape for k, v in other.weights().items()} == {k: v.shape for k, v in plain.weights().items()}
    assert all(v.dtype == torch.float32 for v in other.weights().values())
    plain.close()
    other.close()


def test_decay_spares_the_norms() -> None:
    engine, model = make(Execution(), optim=OptimScience(batch_sequences=4, weight_decay=0.5))
    decays = {p.ndim: g["weight_decay"] for g in engine._engine.optimizer.param_groups for p in g["params"]}
    assert decays == {1: 0.0, 2: 0.5}
    engine.close()


def test_ranks_share_an_update_and_windows_change_nothing() -> None:
    source = FakeSource(seed=0, stream="train", sequence_length=16)
    whole = source.sequences(np.arange(4 * 40)).tokens_BT.reshape(40, 4, 16)
    for world in (1, 2):
        parts = []
        for rank in range(world):
            place = Place(rank=rank, world=world, device=torch.device("cpu"))
            window = Window(UpstreamFeed(source), batch=4, last_update=40, place=place)
            parts.append(np.stack([window.update(u).tokens_BT for u in range(3, 40)]))
        assert (np.concatenate(parts, axis=1) == whole[3:]).all()


def test_a_window_never_reads_beyond_the_stage() -> None:
    source = FakeSource(seed=0, stream="train", sequence_length=16)
    place = Place(rank=0, world=1, device=torch.device("cpu"))
    window = Window(UpstreamFeed(source), batch=4, last_update=5, place=place)
    for update in range(3, 5):
        window.update(update)
    assert source.asked == list(range(12, 20))


def test_text_has_every_token_but_the_first_as_target() -> None:
    assert text_batch(np.zeros((2, 5), np.int32)).target_BT.sum() == 8
