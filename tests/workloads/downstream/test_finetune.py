"""The stage `finetune`: its rows, exact resume, that something is learned, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sweeps.errors import RecordError, UsageError
from sweeps.language.science import EngineScience, OptimScience, RowsScience, SeedScience, SegmentScience
from sweeps.store import records
from sweeps.store.layout import Layout
from tests.workloads.downstream.conftest import MODEL, Made, StageContext, asked, downstream, weights
from workloads.contract import Item, Stopped
from workloads.data.make_tokenizer import END_OF_DOCUMENT
from workloads.downstream import finetune
from workloads.downstream.finetune import ItemFeed
from workloads.downstream.items import Posed, posed
from workloads.downstream.run import run as score
from workloads.tasks._arithmetic import items
from workloads.tasks.arithmetic import ArithmeticScience
from workloads.training.transfer import read_weights

LENGTH, BATCH = 96, 8
TRAINING = items(ArithmeticScience(items=8, split="train"))
ITEMS = [posed("arithmetic", item) for item in TRAINING]


@pytest.fixture(scope="module")
def model(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights(tmp_path_factory.mktemp("model"), made.load().get_vocab_size())


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return asked(tmp_path_factory.mktemp("training"), TRAINING)


def context(store: Layout, made: Made, training: Path, model: Path, name: str, **about: Any) -> StageContext:
    updates, rows = about.pop("updates", 12), about.pop("rows", RowsScience(sequence_length=LENGTH))
    decay_from = about.pop("decay_from", None)
    update = BATCH * (rows.sequence_length or MODEL.sequence_length)
    segment = SegmentScience(end_tokens=updates * update, horizon_tokens=updates * update)
    if decay_from is not None:
        segment = SegmentScience(end_tokens=updates * update, decay_from=decay_from * update)
    return StageContext("finetune", name * 32, {
        "model": MODEL, "engine": EngineScience(), "seed": SeedScience(seed=1), "segment": segment, "rows": rows,
        "optim": OptimScience(batch_sequences=BATCH, lr=5e-3, schedule="wsd" if decay_from is not None else "cosine"),
    }, store, folders={"items": training, "tokenizer": made.tokenizer, "model": model}, **about)


def feed(made: Made, found: list[Posed] = ITEMS, *, length: int = LENGTH, seed: int = 0, **rows: Any) -> ItemFeed:
    return ItemFeed(found, made.load(), RowsScience(**rows), length=length, seed=seed)


def test_a_row_is_prompt_answer_and_end_and_only_the_last_two_are_learned(made: Made) -> None:
    tokenizer = made.load()
    made_of = feed(made)
    batch = made_of.load(np.arange(len(ITEMS)))
    expected = {(i.prompt, i.choices_C[i.gold]) for i in ITEMS}
    for tokens_T, target_T in zip(batch.tokens_BT, batch.target_BT, strict=True):
        end = int(np.flatnonzero(target_T)[-1])
        assert tokenizer.id_to_token(int(tokens_T[0])) == tokenizer.id_to_token(int(tokens_T[end])) == END_OF_DOCUMENT
        learned = tokenizer.decode(tokens_T[target_T][:-1].tolist())
        prompt = tokenizer.decode(tokens_T[1:int(np.flatnonzero(target_T)[0])].tolist())
        assert (prompt, learned) in expected and not tokens_T[end + 1:].any()
    assert made_of.truncated == 0
    whole = feed(made, loss="all").load(np.arange(len(ITEMS)))
    assert (whole.tokens_BT == batch.tokens_BT).all() and not whole.target_BT[:, 0].any()
    assert (whole.target_BT.sum(1) > batch.target_BT.sum(1)).all()


def test_every_item_is_met_once_in_an_epoch_in_an_order_of_the_seeds(made: Made) -> None:
    count = len(ITEMS)
    epochs = [[tuple(row) for row in feed(made, seed=seed).load(np.arange(count) + epoch * count).tokens_BT]
              for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert len({frozenset(e) for e in epochs}) == 1 and len(set(epochs[0])) == count
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_a_long_prompt_loses_its_beginning_and_a_long_answer_is_refused(made: Made) -> None:
    long = posed("t", Item(id="long", level="1", prompt="word " * 200 + "Answer:", answer=" 7"))
    cut = feed(made, [*ITEMS, long])
    assert cut.truncated == 1
    answer = posed("t", Item(id="wordy", level="1", prompt="Question?", answer=" word" * 200))
    with pytest.raises(UsageError, match="wordy does not fit a row of 96 tokens; raise finetune.sequence_length"):
        feed(made, [answer])


def test_a_killed_stage_goes_on_and_equals_an_uninterrupted_one(
        store: Layout, made: Made, training: Path, model: Path) -> None:
    whole = context(store, made, training, model, "a")
    scores = finetune.run(whole)
    with pytest.raises(Stopped):
        finetune.run(context(store, made, training, model, "b", stop_after=5))
    torch.manual_seed(99)
    again = context(store, made, training, model, "b")
    resumed = finetune.run(again)
    parent = records.read_parent(again.attempt.folder)
    assert parent is not None and 0 < parent.tokens < 12 * BATCH * LENGTH
    one, other = (read_weights(c.attempt.artifacts) for c in (whole, again))
    assert all(torch.equal(one[k], other[k]) for k in one)
    for name in ("loss", "updates", "adam_steps", "tokens", "items", "epochs"):
        assert scores[name] == resumed[name]
    assert (scores["updates"], scores["items"], scores["epochs"]) == (12, len(TRAINING), 12 * BATCH / len(TRAINING))
    assert scores["tokens"] == 12 * BATCH * LENGTH and scores["truncated"] == 0


def test_what_is_trained_on_is_learned_and_everything_is_carried_over(
        store: Layout, made: Made, training: Path, model: Path, tmp_path: Path) -> None:
    tuned = context(store, made, training, model, "c", updates=60)
    finetune.run(tuned)
    found = {name: score(downstream(store, made, training, folder, fingerprint=name * 32))
             for name, folder in (("d", model), ("e", tuned.attempt.artifacts))}
    assert found["e"]["arithmetic.all.answer_bits"] < 0.7 * found["d"]["arithmetic.all.answer_bits"]
    still = context(store, made, training, model, "f", updates=1)
    still.science = {**still.science, "optim": OptimScience(batch_sequences=BATCH, lr=1e-12, weight_decay=0.0)}
    finetune.run(still)
    before, after = read_weights(model), read_weights(still.attempt.artifacts)
    assert before.keys() == after.keys() and all(torch.allclose(before[k], after[k], atol=1e-9) for k in before)


def test_a_model_of_another_tokenizer_is_refused(store: Layout, made: Made, training: Path, tmp_path: Path) -> None:
    other = weights(tmp_path / "other", made.load().get_vocab_size() + 1)
    with pytest.raises(RecordError, match="nothing is trained with another tokenizer"):
        finetune.run(context(store, made, training, other, "g"))
