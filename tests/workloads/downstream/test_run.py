"""The stage `downstream`: records, exact resume, and what is never scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
import torch

from sweeps.errors import RecordError
from sweeps.language.science import ScoringScience
from sweeps.store import files
from sweeps.store.layout import Layout
from tests.workloads.downstream.conftest import Made, StageContext, asked, downstream, weights
from workloads.contract import Diverged, Item, Stopped
from workloads.downstream import journal
from workloads.downstream.run import JOURNAL, RECORDS, run
from workloads.downstream.scoring import scores
from workloads.tasks._arithmetic import items
from workloads.tasks.arithmetic import ArithmeticScience

TESTS = items(ArithmeticScience(items=8))


@pytest.fixture(scope="module")
def model(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights(tmp_path_factory.mktemp("model"), made.load().get_vocab_size(), scale=20.0)


@pytest.fixture(scope="module")
def posed_items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return asked(tmp_path_factory.mktemp("items"), TESTS)


def records(context: StageContext) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = parquet.read_table(context.attempt.artifacts / RECORDS).to_pydict()
    return table


def test_scores_are_means_of_the_records(store: Layout, made: Made, posed_items: Path, model: Path) -> None:
    context = downstream(store, made, posed_items, model)
    found, table = run(context), None
    table = records(context)
    assert table["id"] == [item.id for item in TESTS]
    for rung in ("answer_bits", "probability", "margin", "cloze", "exact", "pass@1", "pass@100"):
        for of in ("", ".chance", ".unigram"):
            values = table[rung + of]
            assert found[f"arithmetic.all.{rung}{of}"] == pytest.approx(sum(values) / len(values))
            first = [v for v, level in zip(values, table["level"], strict=True) if level == "1"]
            assert found[f"arithmetic.1.{rung}{of}"] == pytest.approx(sum(first) / len(first))
    assert found["arithmetic.items"] == 24 and found["arithmetic.not_evaluable"] == 0
    assert found["arithmetic.all.cloze.chance"] == pytest.approx(0.25)
    right = [max(range(4), key=nats.__getitem__) == gold
             for nats, gold in zip(table["nats"], table["gold"], strict=True)]
    assert table["cloze"] == [float(r) for r in right]
    assert set(table["batch_rows"]) == {16}
    assert [c[g] for c, g in zip(table["choices"], table["gold"], strict=True)] == [i.answer for i in TESTS]


def test_the_twin_has_the_tokenizer_alone(store: Layout, made: Made, posed_items: Path) -> None:
    found = run(downstream(store, made, posed_items, None))
    assert found["arithmetic.all.probability"] == pytest.approx(0.25, abs=0.1)
    assert not any(name.endswith(".unigram") for name in found)


@pytest.mark.parametrize("stop_after", [0, 1, 5, 17])
def test_a_stopped_stage_goes_on_after_the_last_item(
        stop_after: int, store: Layout, made: Made, posed_items: Path, model: Path) -> None:
    whole = downstream(store, made, posed_items, model, fingerprint="a" * 32)
    expected = run(whole)
    first = downstream(store, made, posed_items, model, fingerprint="b" * 32, stop_after=stop_after)
    with pytest.raises(Stopped):
        run(first)
    asked_again: list[str] = []
    second = Watched("downstream", "b" * 32, first.science, store, folders=first.folders)
    second.seen = asked_again
    assert run(second) == expected
    assert len(asked_again) == len(TESTS) - stop_after - 1, "each item once, over both attempts"
    assert records(second) == records(whole)
    assert (second.attempt.artifacts / RECORDS).read_bytes() == (whole.attempt.artifacts / RECORDS).read_bytes()


class Watched(StageContext):
    """Counts the items that were scored: the stage asks once after each."""

    seen: list[str]

    def should_stop(self) -> bool:
        self.seen.append("item")
        return False


def test_a_torn_line_is_scored_again_and_another_head_is_not_taken_over(
        store: Layout, made: Made, posed_items: Path, model: Path) -> None:
    first = downstream(store, made, posed_items, model)
    expected = run(first)
    path = first.attempt.folder.path / JOURNAL
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines[:5], lines[5][:40]]) + "\n", encoding="utf-8")
    second = Watched("downstream", first.fingerprint, first.science, store, folders=first.folders)
    second.seen = []
    assert run(second) == expected and len(second.seen) == len(TESTS) - 4
    head = {**(files.decode_line(lines[0]) or {}), "device": "cuda"}
    assert not list(journal.earlier(path, {k: v for k, v in head.items() if k != "n"}))


def test_two_scores_of_one_item_are_an_error(store: Layout, made: Made, posed_items: Path, model: Path) -> None:
    first = downstream(store, made, posed_items, model)
    run(first)
    path = first.attempt.folder.path / JOURNAL
    line = files.decode_line(path.read_text(encoding="utf-8").splitlines()[3]) or {}
    number = int(line.pop("n"))
    with path.open("a", encoding="utf-8") as out:
        out.write(files.encode_line(number, {**line, "ending": -9.0}))
    with pytest.raises(RecordError, match="scored twice, and differently"):
        run(downstream(store, made, posed_items, model))


def test_logits_that_are_not_finite_make_the_arm_not_evaluable(
        store: Layout, made: Made, posed_items: Path, tmp_path: Path) -> None:
    broken = weights(tmp_path / "broken", made.load().get_vocab_size(), scale=float("nan"))
    with pytest.raises(Diverged, match="cannot be evaluated"):
        run(downstream(store, made, posed_items, broken))


def test_another_vocabulary_than_the_tokenizers_is_refused(
        store: Layout, made: Made, posed_items: Path, tmp_path: Path) -> None:
    other = weights(tmp_path / "other", made.load().get_vocab_size() + 1)
    with pytest.raises(RecordError, match="nothing is scored with another tokenizer"):
        run(downstream(store, made, posed_items, other))


def test_a_corpus_of_another_tokenizer_is_refused(
        store: Layout, made: Made, posed_items: Path, model: Path, tmp_path: Path) -> None:
    index = files.read_json(made.corpus / "index.json")
    (tmp_path / "corpus").mkdir()
    files.create(tmp_path / "corpus" / "index.json", files.to_json(
        {**index, "token_bytes": index["token_bytes"][:-1] + [index["token_bytes"][-1] + 1]}))
    context = downstream(store, made, posed_items, model)
    context.folders = {**context.folders, "corpus": tmp_path / "corpus"}
    with pytest.raises(RecordError, match="another tokenizer"):
        run(context)


def test_items_that_are_missing_are_no_result(store: Layout, made: Made, model: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="has no items"):
        run(downstream(store, made, asked(tmp_path / "none", []), model))


def test_items_of_one_id_are_no_result(store: Layout, made: Made, model: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="two items have one id"):
        run(downstream(store, made, asked(tmp_path / "twice", [*TESTS, TESTS[0]]), model))


def test_a_part_of_the_items_is_no_result(
        store: Layout, made: Made, posed_items: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workloads.downstream.run.scores", lambda model, encoded, endings_V: scores(
        model, encoded[1:], endings_V))
    with pytest.raises(RecordError, match="23 of 24 items have a score"):
        run(downstream(store, made, posed_items, model))


@pytest.mark.parametrize(("limit", "scored"), [("5%", False), ("50%", True)])
def test_too_many_truncated_prompts_give_no_score(
        limit: str, scored: bool, store: Layout, made: Made, model: Path, tmp_path: Path) -> None:
    long = [Item(id=f"l{n}", level="1", prompt="word " * 300 + "Answer:", answer=" 1", distractors=(" 2",))
            for n in range(3)]
    folder = asked(tmp_path / "long", [*TESTS, *long])
    found = run(downstream(store, made, folder, model, scoring=ScoringScience.model_validate(
        {"truncated_limit": limit})))
    assert found["arithmetic.truncated"] == 3
    assert ("arithmetic.all.cloze" in found) is scored
    assert found["arithmetic.not_evaluable"] == (0 if scored else 27)


def test_scores_are_given_with_and_without_touched_items(
        store: Layout, made: Made, model: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from workloads.downstream.items import ITEMS, posed, write

    folder = tmp_path / "touched"
    folder.mkdir()
    found = [replace(posed("arithmetic", i), touched={"web": 0.5 if n < 10 else 0.0}) for n, i in enumerate(TESTS)]
    write(folder / ITEMS, found)
    context = downstream(store, made, folder, model)
    scores, table = run(context), None
    table = records(context)
    clean = [v for v, t in zip(table["probability"], table["touched.web"], strict=True) if not t]
    assert scores["arithmetic.touched"] == 10 and len(clean) == 14
    assert scores["arithmetic.all.probability.clean"] == pytest.approx(sum(clean) / 14)


def test_threads_belong_to_what_makes_numbers_comparable(
        store: Layout, made: Made, posed_items: Path, model: Path) -> None:
    context = downstream(store, made, posed_items, model)
    run(context)
    head = files.decode_line((context.attempt.folder.path / JOURNAL).read_text(encoding="utf-8").splitlines()[0]) or {}
    assert head["threads"] == torch.get_num_threads() and head["device"] == "cpu" and head["rows"] == 16
