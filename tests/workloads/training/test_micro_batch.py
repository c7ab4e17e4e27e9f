"""`run.micro_batch: auto`: what has room and is fast is found once, and all that continues the run does as it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from sweeps.language.science import EngineScience
from sweeps.language.stage import SEARCHED_ON_CPU, Execution
from sweeps.store import files, micro_batch
from sweeps.store.layout import Layout
from tests.workloads.training.fakes import MODEL, UPDATE, VOCABULARY, FakeContext, science
from tests.workloads.training.test_runs import context, same, trained, values, weights
from workloads.contract import Stopped
from workloads.training import micro_batch as searching
from workloads.training import runs
from workloads.training.micro_batch import Prober, Tried, fastest, search, sizes, state_bytes
from workloads.training.model import build_model
from workloads.training.process import Place

AUTO = Execution(checkpoint_seconds=1e9, micro_batch="auto")
ONE = Place(rank=0, world=1, device=torch.device("cpu"))


class SmallDevice(TorchDispatchMode):
    """A device on which no single tensor may be larger than this: what asks for more is told so as by CUDA."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self.limit_bytes = limit_bytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, torch.Tensor) and tensor.nbytes > self.limit_bytes:
                raise torch.OutOfMemoryError(f"out of memory. Tried to allocate {tensor.nbytes} bytes.")
        return made


def prober(precision: str = "fp32", **engine: Any) -> Prober:
    model = build_model(MODEL, VOCABULARY, seed=0, purpose="pretrain", embedding_std=1.0)
    return Prober(model, MODEL, EngineScience.model_validate({"precision": precision, **engine}), vocabulary=VOCABULARY,
                  device=torch.device("cpu"), beat=lambda: None)


def logits_bytes(sequences: int) -> int:
    return sequences * MODEL.sequence_length * VOCABULARY * 4


@contextmanager
def fixed_speeds(monkeypatch: pytest.MonkeyPatch, speeds: dict[int, float]) -> Iterator[list[int]]:
    """Let sizes have these speeds, and say which were tried."""
    asked: list[int] = []

    def probe(self: Prober, sequences: int) -> float:
        asked.append(sequences)
        return speeds[sequences]

    with monkeypatch.context() as patch:
        patch.setattr(Prober, "__call__", probe)
        yield asked


def noted(context: FakeContext) -> dict[str, Any]:
    return files.read_json(context.attempt.folder.micro_batch)


def settle(context: FakeContext, model: Any = None) -> Execution:
    """Settle the micro-batch of a run that begins."""
    if model is None:
        model = build_model(MODEL, VOCABULARY, seed=0, purpose="pretrain", embedding_std=1.0)
    return searching.settled(context, ONE, model, None, vocabulary=VOCABULARY)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "autocast"])
def test_the_first_size_without_room_ends_the_search(precision: str) -> None:
    probe = prober(precision)
    with SmallDevice(logits_bytes(3)):  # the largest tensor of a pass are the logits
        tried = search(probe, 16, ONE)
    assert [(t.micro_batch, t.sequences_per_second is None) for t in tried] == [(1, False), (2, False), (4, True)]
    assert fastest(tried) in (1, 2)


def test_a_loss_in_chunks_makes_room_for_more_sequences() -> None:
    room = {}
    for chunk in (None, MODEL.sequence_length):
        with SmallDevice(logits_bytes(3) - 1):  # the largest tensor of a pass are the logits
            room[chunk] = [t.micro_batch for t in search(prober(loss_chunk=chunk), 3, ONE) if t.sequences_per_second]
    assert room == {None: [1], MODEL.sequence_length: [1, 3]}


def test_no_room_for_one_sequence_is_what_it_is() -> None:
    with SmallDevice(logits_bytes(1) - 1), pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
        search(prober(), 16, ONE)


def test_a_search_begins_with_one_sequence_and_on_a_cpu_ends_while_there_is_memory() -> None:
    """A kernel that kills is no error to be caught; a GPU says that it is full."""
    def found(device: str, room: int) -> list[int]:
        def probe(sequences: int) -> float:
            if sequences > room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return 1.0

        return [t.micro_batch for t in search(probe, 512, Place(rank=0, world=1, device=torch.device(device)))]

    assert found("cpu", room=512) == [1, 2, 4, SEARCHED_ON_CPU]
    assert found("cuda", room=20) == [1, 2, 4, 8, 16, 32], "the last one had no room"


@given(st.integers(1, 600))
def test_every_size_divides_the_share_and_is_at_least_twice_the_one_before(share: int) -> None:
    found = sizes(share)
    assert found[0] == 1 and found[-1] == share
    assert all(share % n == 0 for n in found)
    assert all(b >= 2 * a for a, b in zip(found, found[1:-1], strict=False))


def test_the_smallest_of_the_fast_ones_is_taken() -> None:
    speeds = {1: 50.0, 2: 98.0, 4: 100.0, 8: 99.0, 16: None}
    assert fastest([Tried(micro_batch=n, sequences_per_second=s) for n, s in speeds.items()]) == 2


def test_a_searched_run_is_that_of_the_number_it_found(store: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was timed before: dropout's generator too is where it would have been."""
    fields = science(25)
    fields["model"] = MODEL.model_copy(update={"dropout": 0.1})
    given_two = context(store, fields, execution=AUTO.model_copy(update={"micro_batch": 2}))
    runs.pretrain(given_two)
    found = context(store, fields, execution=AUTO)
    with fixed_speeds(monkeypatch, {1: 10.0, 2: 30.0, 4: 20.0}):
        runs.pretrain(found)
    assert same(weights(given_two), weights(found)) and values(given_two) == values(found)
    assert noted(given_two) == {"schema_version": 1, "micro_batch": 2, "how": "given"}
    record = noted(found)
    assert (record["micro_batch"], record["how"], record["device"]) == (2, "searched", "cpu")
    assert [t["sequences_per_second"] for t in record["tried"]] == [10.0, 30.0, 20.0]


def test_it_is_searched_by_time_where_nothing_stands_in(store: Layout) -> None:
    found = context(store, science(3), execution=AUTO)
    runs.pretrain(found)
    record = noted(found)
    assert [t["micro_batch"] for t in record["tried"]] == [1, 2, 4]
    assert all(t["sequences_per_second"] > 0 for t in record["tried"])
    assert record["micro_batch"] in (1, 2, 4)


def test_a_resumed_run_keeps_its_number_and_equals_an_uninterrupted_one(
    store: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another day another size would be the fastest."""
    whole = context(store, science(25), execution=AUTO.model_copy(update={"micro_batch": 1}))
    runs.pretrain(whole)
    first = context(store, science(25), name="x", execution=AUTO, stop_after=7)
    with fixed_speeds(monkeypatch, {1: 30.0, 2: 20.0, 4: 10.0}), pytest.raises(Stopped, match=str(7 * UPDATE)):
        runs.pretrain(first)
    again = context(store, science(25), name="x", execution=AUTO)
    with fixed_speeds(monkeypatch, {1: 10.0, 2: 20.0, 4: 30.0}) as asked:
        runs.pretrain(again)
    assert not asked and noted(again)["how"] == "kept" and noted(again)["micro_batch"] == 1
    assert same(weights(whole), weights(again)) and values(whole) == values(again)


def test_one_that_was_killed_before_its_first_checkpoint_left_its_number(
    store: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, speeds in ((1, {1: 30.0, 2: 20.0, 4: 10.0}), (2, {1: 10.0, 2: 20.0, 4: 30.0})):
        attempt = context(store, science(25), name="x", execution=AUTO)
        with fixed_speeds(monkeypatch, speeds) as asked:
            assert settle(attempt).micro_batch == 1
        assert bool(asked) == (number == 1)


def test_the_stages_of_a_run_share_one_number(store: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trunk's next point and its decay branch equal an uninterrupted run of the number that its first stage found."""
    def chain(execution: Execution, name: str) -> list[FakeContext]:
        trunk = context(store, science(10), name=f"{name}a", execution=execution)
        trained(trunk)
        further = context(store, science(20), name=f"{name}b", execution=execution, earlier=[trunk.folder])
        trained(further)
        branch = context(store, science(25, decay_from=20), name=f"{name}c", execution=execution,
                         given={"trunk": [further.folder]})
        trained(branch)
        return [trunk, further, branch]

    plain = chain(AUTO.model_copy(update={"micro_batch": 4}), "plain")
    with fixed_speeds(monkeypatch, {1: 10.0, 2: 20.0, 4: 30.0}) as asked:
        found = chain(AUTO, "auto")
    assert asked == [1, 2, 4], "one search"
    assert [noted(c)["micro_batch"] for c in found] == [4, 4, 4]
    assert all(same(weights(a), weights(b)) for a, b in zip(plain, found, strict=True))


def test_a_number_that_was_halved_by_hand_or_policy_counts_and_is_kept(
    store: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = context(store, science(25), name="x", execution=AUTO, stop_after=7)
    with fixed_speeds(monkeypatch, {1: 10.0, 2: 20.0, 4: 30.0}), pytest.raises(Stopped):
        runs.pretrain(first)
    halved = context(store, science(25), name="x", execution=AUTO.model_copy(update={"micro_batch": 2}), stop_after=7)
    with pytest.raises(Stopped):
        runs.pretrain(halved)
    last = context(store, science(25), name="x", execution=AUTO)
    runs.pretrain(last)
    assert noted(last)["micro_batch"] == 2
    assert micro_batch.last_noted(last.folder) == 2


def test_the_model_and_the_generators_are_as_before_the_search(store: Layout) -> None:
    model = build_model(MODEL, VOCABULARY, seed=0, purpose="pretrain", embedding_std=1.0)
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    assert settle(context(store, science(3), execution=AUTO), model).micro_batch in (1, 2, 4)
    assert all(torch.equal(p, before[k]) and p.grad is None for k, p in model.named_parameters())


def test_what_the_run_will_hold_beside_activations() -> None:
    """Per parameter: fp32 Adam 8; ZeRO's master copy and gradients 8 more, spread; bf16's fp32 gradients 4."""
    fp32, bf16 = EngineScience(), EngineScience(precision="bf16")
    assert state_bytes(1_000, fp32, Execution()) == 8_000 + 8_000
    assert state_bytes(1_000, fp32, Execution(zero_stage=1, ranks=2)) == 8_000 + 8_000
    assert state_bytes(1_000, bf16, Execution(zero_stage=1, ranks=4)) == 8_000 + 8_000
    assert state_bytes(100_000_000, fp32, Execution()) == 800_000_000 + 400_000_000
