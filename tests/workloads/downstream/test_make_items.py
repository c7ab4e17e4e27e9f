"""The stage `items`: sound items, and which of them a training text holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import EnvironmentError_, RecordError, UsageError
from sweeps.language.science import IdentityScience
from sweeps.store.layout import Layout
from tests.workloads.downstream.conftest import PLUGIN, Made, StageContext, spec_of
from workloads.contract import Item
from workloads.data.make_text import TRAIN, read_texts
from workloads.data.paragraphs import GRAM_WORDS
from workloads.downstream import contamination
from workloads.downstream.items import ITEMS, apart, checked, posed, read, write
from workloads.downstream.make_items import run
from workloads.tasks.arithmetic import ArithmeticScience


def item(**about: Any) -> Item:
    return Item(**{"id": "a", "level": "1", "prompt": "Question?", "answer": " yes", "distractors": (" no",), **about})


@pytest.mark.parametrize(("items", "reason"), [
    ([], "has no items"), ([item(), item()], "another item's"), ([item(answer=" ")], "a choice is empty"),
    ([item(distractors=(" yes",))], "two choices are alike"), ([item(prompt="Question? ")], "ends in a blank"),
    ([item(answer="yes")], "does not begin with a blank"), ([item(prompt=" ")], "ends in a blank"),
    ([item(level="1.5")], "is a part of score names"), ([item(level="all")], "is a part of score names"),
])
def test_items_that_are_not_sound_are_refused(items: Sequence[Item], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        checked("t", items)


def test_items_come_back_as_they_were_written(tmp_path: Path) -> None:
    found = [posed("t", item(id=str(n), prompt=f"Größe {n}?")) for n in range(5)]
    write(tmp_path / ITEMS, found)
    assert read(tmp_path) == found
    (tmp_path / ITEMS).write_text("{}\n", encoding="utf-8")
    with pytest.raises(RecordError, match="damaged"):
        read(tmp_path)


def test_the_stage_finds_what_a_training_text_holds(store: Layout, made: Made) -> None:
    science = ArithmeticScience(items=20)
    context = StageContext("items", "i" * 32, {"task.arithmetic": science}, store, folders={"text:notes": made.text})
    spec_of(context, "text:notes")
    scores = run(context)
    found = read(context.attempt.artifacts)
    text = "\n".join(read_texts(made.text / TRAIN)).lower()
    plain = f" {' '.join(re.findall(r'[a-z0-9]+', text))} "
    assert scores["items"] == 60 and scores["too_short_to_tell"] == sum(not i.grams for i in found) < 60
    for one, source in zip(found, PLUGIN.load()(science), strict=True):
        grams = contamination.grams_of(source.prompt + source.answer)
        held = [f" {' '.join(gram)} " in plain for gram in grams]
        assert one.touched["notes"] == pytest.approx(sum(held) / max(len(held), 1))
    assert 0 < scores["touched"] == sum(not i.clean for i in found)


def test_other_data_than_the_plan_saw_is_not_asked(store: Layout) -> None:
    """As it is with domains: another version of what a task reads, or files that were changed since."""
    task = replace(PLUGIN, identity=lambda science: {"files": "b" * 64})
    for number, planned in enumerate("ab"):
        context = StageContext("items", str(number) * 32, {
            "task.arithmetic": ArithmeticScience(items=4), "identity": IdentityScience(sources={"files": planned * 64}),
        }, store, task=task)
        spec_of(context)
        if planned == "a":
            with pytest.raises(EnvironmentError_, match="the plan was made with files aaa.*, here is bbb"):
                run(context)
        else:
            assert run(context)["items"] == 12


words = st.lists(st.sampled_from("abcdef"), max_size=40)


@given(words, st.lists(words, max_size=3))
def test_a_share_is_that_of_grams_found_by_looking(question: list[str], texts: list[list[str]]) -> None:
    one = item(prompt=" ".join(question) + ".", answer=" z", distractors=())
    asked = [*question, "z"]
    grams = [asked[i:i + GRAM_WORDS] for i in range(len(asked) - GRAM_WORDS + 1)]
    held = [any(gram == text[i:i + GRAM_WORDS] for text in texts for i in range(len(text))) for gram in grams]
    [share] = contamination.shares([one], [" ".join(text) for text in texts])
    assert share == pytest.approx(sum(held) / max(len(held), 1))


def test_training_items_that_are_asked_too_are_refused(store: Layout, made: Made, tmp_path: Path) -> None:
    """Whatever their case and blanks, and before anything is trained."""
    source = PLUGIN.load()(ArithmeticScience(items=4, split="train"))
    leaked = replace(source[3], prompt=source[3].prompt.upper().replace(" ", "  "))
    (tmp_path / "asked").mkdir()
    write(tmp_path / "asked" / ITEMS, [posed("arithmetic", i) for i in [
        *PLUGIN.load()(ArithmeticScience(items=4)), leaked]])

    def stage(fingerprint: str) -> StageContext:
        science = ArithmeticScience(items=4, split="train")
        found = StageContext("items", fingerprint * 32, {"task.arithmetic": science}, store,
                             folders={"apart": tmp_path / "asked"})
        spec_of(found, "apart")
        return found

    with pytest.raises(UsageError, match=rf"1 training items are among those that it asks, such as {source[3].id}"):
        run(stage("j"))
    (tmp_path / "asked" / ITEMS).unlink()
    write(tmp_path / "asked" / ITEMS, [posed("arithmetic", i) for i in PLUGIN.load()(ArithmeticScience(items=4))])
    assert run(stage("k"))["items"] == 12


words = st.lists(st.sampled_from(["one", "two", "Three", "four"]), min_size=1, max_size=3).map(" ".join)


@given(st.lists(st.tuples(words, words), min_size=1, unique=True), st.data())
@settings(max_examples=50)
def test_items_are_apart_just_where_no_question_with_its_answer_is_in_both(
        pairs: list[tuple[str, str]], data: st.DataObject) -> None:
    found = [posed("t", item(id=str(n), prompt=p, answer=f" {a}", distractors=())) for n, (p, a) in enumerate(pairs)]
    cut = data.draw(st.integers(0, len(found)))
    apart("t", found[:cut], found[cut:])
    both = data.draw(st.sampled_from(found))
    with pytest.raises(UsageError, match="are among those that it asks"):
        apart("t", [both], found)
