"""DeepSpeed's configuration, the loss of an update, and what is refused."""

from __future__ import annotations

import itertools
import math
import re
import threading
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.models.llama.modeling_llama import LlamaMLP

from sweeps.errors import RecordError, UsageError
from sweeps.language.science import EngineScience, OptimScience
from sweeps.language.stage import Execution
from tests.workloads.training.fakes import MODEL, FakeSource
from tests.workloads.training.ranks import parted
from workloads.contract import Ints, SequenceBatch
from workloads.training import engine as engine_module
from workloads.training.engine import TAG, Engine, deepspeed_config, micro_batch
from workloads.training.feeds import IGNORED, UpstreamFeed, Window, labels_of, text_batch
from workloads.training.model import build_model, cross_entropy_sum
from workloads.training.process import Place, join
from workloads.training.universal import to_universal

pytestmark = pytest.mark.filterwarnings("ignore:`torch.distributed:FutureWarning")  # DeepSpeed's ZeRO 3 calls

OPTIM = OptimScience(batch_sequences=4, weight_decay=0.0)


@pytest.fixture(autouse=True)
def small_parameters_are_parted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_zero", parted)


def make(
    execution: Execution, *, optim: OptimScience = OPTIM, precision: Any = "fp32", dropout: float = 0.0,
    chunk: int | None = None,
) -> tuple[Engine, Any]:
    shape = MODEL.model_copy(update={"dropout": dropout})
    model = build_model(shape, 30, seed=0, purpose="pretrain", embedding_std=1.0)
    return Engine(model, optim, EngineScience(precision=precision, loss_chunk=chunk), execution, join(1)), model


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
        "bf16": {"enabled": True, "check_grad_overflow": False},
            "data_types": {"grad_accum_dtype": "fp32"}, "communication_data_type": "fp32",
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
    assert float(norm) > 0
    engine.close()


@pytest.mark.parametrize("zero", [0, 1])
def test_attention_is_causal_without_a_mask_and_adam_is_fused(zero: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a mask there is no flash kernel; a release of transformers that hands one on would only be slower."""
    attention, asked = F.scaled_dot_product_attention, list[Any]()

    def spied(*given: torch.Tensor, **named: Any) -> torch.Tensor:
        asked.append((len(given), named.get("attn_mask"), named.get("is_causal")))
        return attention(*given, **named)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spied)
    engine, _ = make(Execution(zero_stage=zero))
    engine.update(batch(), lr=1e-3)
    engine.held_out_loss(batch())
    assert asked == [(3, None, True)] * 2 * MODEL.layers
    assert type(engine._adam) is torch.optim.AdamW and all(group["fused"] for group in engine._adam.param_groups)
    engine.close()


def test_compiled_attention_has_no_mask_either() -> None:
    engine, model = make(Execution())
    asked: list[tuple[Any, Any]] = []

    def looked_at(graph: torch.fx.GraphModule, _: Any) -> Any:
        asked.extend((node.kwargs["attn_mask"], node.kwargs["is_causal"]) for node in graph.graph.nodes
                     if node.target is F.scaled_dot_product_attention)
        return graph

    torch.compiler.reset()
    torch.compile(model.model, backend=looked_at, fullgraph=True)(input_ids=torch.from_numpy(batch().tokens_BT))
    assert asked == [(None, True)] * MODEL.layers
    engine.close()


class Waits(TorchDispatchMode):
    """Counts what a host asks of a device and waits for: the value of a tensor, or of how many of its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero):
            self.found.append("".join(traceback.format_stack(limit=8)))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("precision", "zero", "clip"), [
    ("fp32", 0, 1.0), ("fp32", 0, 0.0), ("fp32", 1, 1.0), ("fp32", 2, 1.0), ("fp32", 3, 1.0), ("autocast", 0, 1.0),
    ("autocast", 1, 1.0), ("bf16", 1, 1.0), ("bf16", 1, 0.0), ("bf16", 2, 1.0), ("bf16", 3, 1.0), ("bf16", 3, 0.0),
])
def test_no_update_waits_for_the_device(precision: str, zero: int, clip: float) -> None:
    """Where there is a GPU, torch itself refuses whatever would wait."""
    engine, _ = make(Execution(zero_stage=zero, micro_batch=2), precision=precision,
                     optim=OptimScience(**OPTIM.model_dump() | {"clip": clip}))
    given = batch()
    engine.update(given, lr=1e-3)  # the first one makes Adam's state
    if torch.cuda.is_available():
        torch.cuda.set_sync_debug_mode("error")
    try:
        with Waits() as waits:
            made = [engine.update(given, lr=1e-3) for _ in range(2)]
    finally:
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("default")
    assert not waits.found, waits.found[0]
    assert all(math.isfinite(float(value)) and float(value) > 0 for pair in made for value in pair)
    engine.close()


def test_accumulation_weighs_by_targets() -> None:
    """Micro-batches with different numbers of targets give the update of the whole batch."""
    given = batch()
    given.target_BT[0, 5:] = False
    found = {}
    for micro in (4, 1):
        engine, _ = make(Execution(micro_batch=micro))
        loss, norm = engine.update(given, lr=1e-3)
        found[micro] = (float(loss), float(norm), engine.weights()["model.layers.0.mlp.up_proj.weight"])
        assert engine.adam_steps() == 1
        engine.close()
    assert found[1][0] == pytest.approx(found[4][0], abs=1e-6)
    assert found[1][1] == pytest.approx(found[4][1], rel=1e-4)
    assert torch.allclose(found[1][2], found[4][2], atol=1e-5)


@pytest.mark.parametrize("stage", [0, 2])
def test_summed_accumulation_clips_so_many_times_harder_and_does_nothing_else(stage: int) -> None:
    """Adam does not see a constant factor (but for epsilon), clipping does: 32 times the gradient against a limit is
    the gradient against a 32th of it. Batches differ in size of gradient, so that a clipped run is another one."""
    def run(**optim: Any) -> tuple[list[float], list[float], torch.Tensor]:
        fields = OPTIM.model_dump() | {"epsilon": 1e-8} | optim
        engine, _ = make(Execution(zero_stage=stage, micro_batch=2), optim=OptimScience(**fields))
        given = [batch(), batch()]
        given[1].tokens_BT[:] = 3  # every prediction is the same token: other gradients
        made = [engine.update(given[u % 2], lr=1e-2) for u in range(4)]
        weights = engine.weights()["model.layers.0.mlp.up_proj.weight"]
        engine.close()
        return [float(loss) for loss, _ in made], [float(norm) for _, norm in made], weights

    _, [norm, *_], mean = run(clip=0.0)
    limit = 4 * norm
    loose, _, summed_loose = run(clip=0.0, summed_steps=32, epsilon=32e-8)
    assert torch.allclose(summed_loose, mean, atol=1e-6), "without clipping nothing changes"
    losses, norms, summed = run(clip=limit, summed_steps=32, epsilon=32e-8)
    assert norms[0] == pytest.approx(32 * norm, rel=1e-5) and norms[0] > limit > norm, "only the sum is clipped"
    harder, _, by_hand = run(clip=limit / 32)
    assert losses == pytest.approx(harder, abs=1e-5) and torch.allclose(summed, by_hand, atol=1e-5)
    _, _, unclipped = run(clip=limit)
    assert torch.allclose(unclipped, mean, atol=1e-6) and not torch.allclose(summed, mean, atol=1e-4)
    assert loose[0] == pytest.approx(losses[0], abs=1e-6), "the loss itself is the mean in any case"


@pytest.mark.parametrize(("precision", "stage"), [
    ("fp32", 1), ("fp32", 2), ("fp32", 3), ("bf16", 1), ("bf16", 2), ("bf16", 3), ("autocast", 0),
])
def test_every_layout_of_one_rank_agrees(precision: str, stage: int) -> None:
    plain, _ = make(Execution())
    other, model = make(Execution(zero_stage=stage), precision=precision)
    given, losses = batch(), []
    for _ in range(4):
        losses.append([float(e.update(given, lr=1e-2)[0]) for e in (plain, other)])
    assert np.diff(losses, axis=1) == pytest.approx(0, abs=1e-5 if precision == "fp32" else 0.05)
    assert other.adam_steps() == 4
    assert all((parameter.numel() == 0) is (stage == 3) for parameter in model.parameters())
    assert {k: v.shape for k, v in other.weights().items()} == {k: v.shape for k, v in plain.weights().items()}
    assert all(v.dtype == torch.float32 for v in other.weights().values())
    plain.close()
    other.close()


def trained(engine: Engine, updates: int = 3) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses of some updates from a fixed state of the generators, and the weights after them."""
    torch.manual_seed(1)
    losses = [float(engine.update(batch(), lr=1e-2)[0]) for _ in range(updates)]
    return losses, engine.weights()


def equal(one: tuple[list[float], dict[str, torch.Tensor]], other: tuple[list[float], dict[str, torch.Tensor]]) -> bool:
    return one[0] == other[0] and all(torch.equal(one[1][name], other[1][name]) for name in one[1] | other[1])


@pytest.mark.parametrize("stage", [0, 1, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "autocast"])
def test_activation_checkpointing_computes_layers_twice_and_changes_no_bit(
    precision: str, stage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, whose masks must be the same in both passes."""
    if (precision, stage) == ("bf16", 0):
        pytest.skip("does not exist")
    passes, plain = [0], LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda *given: passes.append(1) or plain(*given))
    found = {}
    for twice in (False, True):
        passes.clear()
        engine, _ = make(Execution(zero_stage=stage, micro_batch=2, activation_checkpointing=twice),
                         precision=precision, dropout=0.2)
        found[twice] = trained(engine)
        assert len(passes) == 3 * 2 * MODEL.layers * (1 + twice)
        engine.close()
    assert equal(found[False], found[True])


@pytest.mark.parametrize(("precision", "stage"), [
    ("fp32", 0), ("fp32", 2), ("fp32", 3), ("bf16", 1), ("bf16", 3), ("autocast", 0), ("autocast", 3),
])
def test_a_loss_in_chunks_is_the_loss_and_no_more_logits_are_held(precision: str, stage: int) -> None:
    """Five rows at a time do not divide the 32 of a micro-batch."""
    found, held_out = {}, {}
    for chunk in (None, 5):
        engine, model = make(Execution(zero_stage=stage, micro_batch=2), precision=precision, chunk=chunk)
        rows: list[int] = []
        model.lm_head.register_forward_hook(lambda _, given, out, rows=rows: rows.append(out.shape[:-1].numel()))
        found[chunk], held_out[chunk] = trained(engine), engine.held_out_loss(batch(3))
        assert max(rows) == (chunk or 3 * 16)
        engine.close()
    near = 1e-6 if precision == "fp32" else 3e-4
    assert found[5][0] == pytest.approx(found[None][0], rel=near)
    assert held_out[5] == pytest.approx(held_out[None], rel=near)


@given(seed=st.integers(0, 99), chunk=st.integers(1, 70), tied=st.booleans())
@settings(max_examples=20)
def test_gradients_of_a_loss_in_chunks_are_those_of_the_whole(seed: int, chunk: int, tied: bool) -> None:
    """In float64, with targets at some of the 64 positions, or at none."""
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(30, (4, 16), generator=draw)
    labels = tokens.where(torch.rand(tokens.shape, generator=draw) < seed / 99, IGNORED)
    shape = MODEL.model_copy(update={"tied": tied})
    model = build_model(shape, 30, seed=seed, purpose="pretrain", embedding_std=1.0).double()
    found = []
    for loss in (cross_entropy_sum(model(input_ids=tokens).logits.flatten(0, 1), labels.flatten()),
                 model(input_ids=tokens, labels=labels, chunk=chunk)):
        found.append([loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))])
    for whole, chunked in zip(*found, strict=True):
        assert torch.allclose(whole, chunked, rtol=1e-5, atol=1e-6)  # the loss itself is made in fp32


OFFLOADS = [("optimizer", 1), ("optimizer", 2), ("optimizer", 3), ("optimizer+parameters", 3)]


@pytest.mark.parametrize(("offload", "stage"), OFFLOADS)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "autocast"])
def test_what_lies_in_the_hosts_memory_trains_the_same_and_is_restored_exactly(
    precision: str, offload: Any, stage: int, tmp_path: Path
) -> None:
    plain, _ = make(Execution(zero_stage=stage), precision=precision)
    wanted = trained(plain)[0], trained(plain, 2)
    plain.close()
    layout = Execution(zero_stage=stage, offload=offload)
    engine, _ = make(layout, precision=precision)
    before = trained(engine)[0]
    assert engine._engine.zero_cpu_offload()
    engine.save(tmp_path, torch.save)
    after = trained(engine, 2)
    engine.close()
    assert before == wanted[0] and equal(after, wanted[1]), "on a CPU, where nothing moves, every bit"
    again, _ = make(layout, precision=precision)
    again.load(tmp_path)
    assert equal(trained(again, 2), after)
    assert again.adam_steps() == 5
    again.close()


@pytest.mark.parametrize(("offload", "stage"), [("optimizer", 0), ("optimizer+parameters", 2)])
def test_offloading_what_a_stage_does_not_part_is_refused(offload: Any, stage: int) -> None:
    with pytest.raises(UsageError, match=rf"offload {re.escape(offload)} does not exist in ZeRO stage {stage}"):
        deepspeed_config(OPTIM, EngineScience(), Execution(zero_stage=stage, offload=offload), parameters=1)


@pytest.mark.parametrize(("precision", "stage"), [("fp32", 1), ("fp32", 2), ("fp32", 3), ("bf16", 1), ("bf16", 3)])
def test_a_checkpoint_for_any_number_of_ranks_loses_no_bit(precision: str, stage: int, tmp_path: Path) -> None:
    """Read by as many ranks as wrote it, it goes on exactly; norms still do not decay, and Adam counts once."""
    layout, decaying = Execution(zero_stage=stage), OPTIM.model_copy(update={"weight_decay": 0.5})
    engine, _ = make(layout, precision=precision, optim=decaying)
    trained(engine)
    engine.save(tmp_path / "own", torch.save)
    wanted = trained(engine)
    engine.close()
    to_universal(tmp_path / "own" / TAG, tmp_path / "any" / TAG)
    again, _ = make(layout, precision=precision, optim=decaying)
    again.load(tmp_path / "any", universal=True)
    assert again.adam_steps() == 3
    assert equal(trained(again), wanted)
    assert again.adam_steps() == 6
    again.close()


@pytest.mark.parametrize(("zero", "compiler", "said"), [
    (3, None, "stages 0, 1 and 2; set run.zero_stage 2"), (0, "no-such-compiler", "no 'no-such-compiler' is there"),
])
def test_what_cannot_be_compiled_is_refused_before_training(
    zero: int, compiler: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compiler:
        monkeypatch.setenv("CXX", compiler)
    model = build_model(MODEL, 64, seed=0, purpose="pretrain", embedding_std=1.0)
    with pytest.raises(UsageError, match=said):
        Engine(model, OPTIM, EngineScience(compile=True), Execution(zero_stage=zero), join(1))


@given(st.integers(0, 10**6), st.floats(-30, 30), st.floats(0.1, 3))
@settings(max_examples=50)
def test_one_rank_clips_to_the_bit_as_deepspeed_does(seed: int, exponent: float, limit: float) -> None:
    from deepspeed.comm import init_distributed
    from deepspeed.runtime.utils import clip_grad_norm_

    join(1)
    init_distributed("gloo")  # as the first engine of a process does
    generator, shapes = torch.Generator().manual_seed(seed), ((7, 5), (33,), (1,), (64, 130))
    grads = [torch.randn(shape, generator=generator) * 2.0**exponent for shape in shapes]
    both = [[torch.nn.Parameter(torch.zeros_like(g)) for g in grads] for _ in range(2)]
    for own in both:
        for parameter, grad in zip(own, grads, strict=True):
            parameter.grad = grad.clone()
    norm = engine_module.clip_gradients([*both[0], torch.nn.Parameter(torch.zeros(3))], limit)  # one has no gradient
    assert torch.equal(norm, clip_grad_norm_(both[1], limit))
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(*both, strict=True))  # type: ignore[arg-type]


def test_decay_spares_the_norms() -> None:
    engine, model = make(Execution(), optim=OptimScience(batch_sequences=4, weight_decay=0.5))
    decays = {p.ndim: g["weight_decay"] for g in engine._engine.optimizer.param_groups for p in g["params"]}
    assert decays == {1: 0.0, 2: 0.5}
    engine.close()


def test_ranks_share_an_update_and_windows_change_nothing() -> None:
    source = FakeSource(seed=0, stream="train", sequence_length=16)
    whole = source.sequences(np.arange(4 * 40)).tokens_BT.reshape(40, 4, 16)
    for world, device in itertools.product((1, 2), ("cpu", "meta")):  # anything but a CPU is fetched for ahead
        parts = []
        for rank in range(world):
            place = Place(rank=rank, world=world, device=torch.device(device))
            window = Window(UpstreamFeed(source), batch=4, last_update=40, place=place)
            parts.append(np.stack([window.update(u).tokens_BT for u in range(3, 40)]))
        assert (np.concatenate(parts, axis=1) == whole[3:]).all()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_window_never_reads_beyond_the_stage(device: str) -> None:
    source = FakeSource(seed=0, stream="train", sequence_length=16)
    place = Place(rank=0, world=1, device=torch.device(device))
    window = Window(UpstreamFeed(source), batch=4, last_update=5, place=place)
    for update in range(3, 5):
        window.update(update)
    assert source.asked == list(range(12, 20))


class Broken:
    """A feed whose second window cannot be read, and that says which thread asks."""

    vocabulary = 10

    def __init__(self) -> None:
        self.threads: list[str] = []

    def load(self, index_B: Ints) -> SequenceBatch:
        self.threads.append(threading.current_thread().name)
        if index_B[0]:
            raise RecordError("shard 3 is damaged")
        return text_batch(np.zeros((len(index_B), 4), np.int32))


def test_what_a_fetching_thread_meets_is_raised_where_its_window_is_asked_for() -> None:
    feed = Broken()
    window = Window(feed, batch=64, last_update=3, place=Place(rank=0, world=1, device=torch.device("meta")))
    window.update(0)
    with pytest.raises(RecordError, match="shard 3"):
        window.update(1)
    assert all(name.startswith("fetch") for name in feed.threads)


def test_text_has_every_token_but_the_first_as_target() -> None:
    assert text_batch(np.zeros((2, 5), np.int32)).target_BT.sum() == 8
