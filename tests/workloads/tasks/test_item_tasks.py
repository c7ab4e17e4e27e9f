"""Every built-in downstream task: sound items, splits that share nothing, and answers that are right."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import UsageError
from sweeps.language.plugins import ItemTask
from sweeps.language.science import FinetuneScience
from workloads.downstream.items import apart, checked, digest, posed
from workloads.registry import load_registries
from workloads.tasks import _arithmetic, _automata, _brackets, _copying_words, _induction, _python_functions
from workloads.tasks._drawn import SPLITS, Draw, DrawnScience, Make, Question, alike, questions, split_of

TASKS = {key: task for key, task in load_registries().tasks.items()
         if isinstance(task, ItemTask) and issubclass(task.science, DrawnScience)}
MAKES: dict[str, tuple[Make, range]] = {
    "arithmetic": (_arithmetic.make, range(1, 4)), "automata": (_automata.make, range(1, 4)),
    "brackets": (_brackets.make, range(1, 4)), "copying_words": (_copying_words.make, range(4)),
    "induction": (_induction.make, range(1, 4)), "python_functions": (_python_functions.make, range(4))}
draws = st.integers(0, 10**6).map(lambda n: Draw(str(n)))
levels = st.sampled_from([1, 2, 3])
OLDER_FUNCTIONS = "cf1aeb3a42ffb018838dd7285455d17eae4899f34b7f639ce1e7e66c62edca9c"
"""Digest of `python_functions` as it was in revision 2, without the wrong bodies of levels 1 to 3."""


@pytest.mark.parametrize("task", TASKS)
def test_items_are_sound_graded_and_the_same_every_time(task: str) -> None:
    plugin = TASKS[task]
    science = plugin.science()
    found = checked(task, plugin.load()(science))
    assert digest(found) == digest(plugin.load()(science))
    assert digest(found) != digest(plugin.load()(science.model_copy(update={"seed": 1})))
    assert isinstance(science, DrawnScience)
    assert Counter(i.level for i in found) == dict.fromkeys(map(str, MAKES[task][1]), science.items)
    assert all(item.distractors for item in found) and plugin.count(science) == len(found)


@pytest.mark.parametrize("task", TASKS)
def test_no_question_of_the_test_split_is_in_another_split_or_a_shot(task: str) -> None:
    plugin = TASKS[task]
    prompts = {split: {i.prompt for seed in (0, 1) for i in plugin.load()(
        plugin.science(split=split, seed=seed, items=8))} for split in SPLITS}
    assert not prompts["test"] & (prompts["train"] | prompts["validation"])
    make, levels = MAKES[task]
    for level in levels:
        shots = list(questions(make, f"{task}/0/shots", level, "train", 2))
        assert {split_of(q.prompt) for q in shots} == {"train"}
        item = next(i for i in plugin.load()(plugin.science(items=8, shots=2)) if i.level == str(level))
        assert item.shots == "".join(f"{q.prompt}{q.answer}\n\n" for q in shots)


@pytest.mark.parametrize("task", TASKS)
def test_training_items_are_many_sound_and_none_that_is_asked(task: str) -> None:
    plugin = TASKS[task]
    assert plugin.training is not None
    science = plugin.science(shots=2)
    training = checked(task, plugin.load()(plugin.training(science, FinetuneScience())))
    asked = [posed(task, i) for i in plugin.load()(science)]
    apart(task, [posed(task, i) for i in training], asked)
    assert len(training) >= 2 * len(asked)
    assert training[0].shots == plugin.load()(science)[0].shots, "they are asked as the test items are"
    with pytest.raises(ValueError, match="training split"):
        plugin.training(plugin.science(split="train"), FinetuneScience())


def test_a_level_with_too_few_questions_is_an_error_that_says_so() -> None:
    def make(draw: Draw, level: int) -> Question:
        return Question(prompt=f"{draw.below(4)} ?", answer=" a", distractors=())

    with pytest.raises(UsageError, match="level 1 of few has no 9 different questions"):
        list(questions(make, "few/0", 1, "train", 9))


@given(draws, levels)
@settings(max_examples=50)
def test_the_answer_of_a_word_problem_is_what_its_steps_say(draw: Draw, level: int) -> None:
    question = _arithmetic.make(draw, level)
    value = int(re.findall(r"has (\d+) ", question.prompt)[0])
    for verb, number in re.findall(r" (gets|finds|gives away|loses|then has) (\d+) ", question.prompt):
        n = int(number)
        value = value * n if verb == "then has" else value + (n if verb in ("gets", "finds") else -n)
    assert question.answer == f" {value}" and len(question.distractors) == 3


@pytest.mark.parametrize(("task", "level"), [(task, level) for task in TASKS for level in MAKES[task][1]])
def test_length_does_not_tell_the_right_choice(task: str, level: int) -> None:
    """A sum of log p falls with length: with choices of several lengths, chance would not be 1/m."""
    for number in range(300):
        question = MAKES[task][0](Draw(str(number)), level)
        choices = (question.answer, *question.distractors)
        assert len({len(c) for c in choices}) == len({len(c.encode()) for c in choices}) == 1, choices


@given(draws, st.integers(-2_000, 2_000), st.lists(st.integers(-100, 3_000), max_size=6))
def test_wrong_numbers_are_as_long_as_the_right_one_and_enough(draw: Draw, right: int, slips: list[int]) -> None:
    found = alike(draw, right, slips)
    assert len(set(found)) == len(found) >= 8 and right not in found
    assert all(len(str(n)) == len(str(right)) and (n < 0) == (right < 0) for n in found)
    first = [n for n in dict.fromkeys(slips) if n in found]
    assert found[:len(first)] == first, "what people do wrong comes first"


@given(draws, levels)
@settings(max_examples=50)
def test_the_answer_closes_the_innermost_open_bracket(draw: Draw, level: int) -> None:
    question, stack = _brackets.make(draw, level), []
    partner = dict(_brackets.PAIRS)
    for bracket in question.prompt.split():
        if bracket in partner:
            stack.append(partner[bracket])
        else:
            assert stack.pop() == bracket
    assert question.answer == f" {stack[-1]}" and len(question.distractors) == 3


@given(draws, levels)
@settings(max_examples=50)
def test_what_an_automaton_writes_next_is_what_followed_one_round_before(draw: Draw, level: int) -> None:
    question, states = _automata.make(draw, level), _automata.STATES[level - 1]
    text = question.prompt.split()
    assert text[states:] == text[:-states] and question.answer == f" {text[-states]}"


@given(draws, levels)
@settings(max_examples=50)
def test_the_recalled_number_is_the_one_beside_the_word(draw: Draw, level: int) -> None:
    question = _induction.make(draw, level)
    *pairs, asked = question.prompt.split("\n")
    told = dict(pair.split() for pair in pairs)
    assert question.answer == f" {told[asked]}"
    assert {question.answer, *question.distractors} == {f" {digit}" for digit in told.values()}


@given(draws, levels)
@settings(max_examples=50)
def test_the_copy_goes_on_as_the_words_were_told(draw: Draw, level: int) -> None:
    question = _copying_words.make(draw, level)
    told, begun = (line.split() for line in question.prompt.split("\n"))
    assert begun + question.answer.split() == told and len(set(told)) == len(told)
    assert len(told) == _copying_words.BEGUN + _copying_words.COPIED[level - 1]


@given(draws, levels)
@settings(max_examples=50)
def test_neither_the_words_nor_their_order_alone_say_what_is_copied(draw: Draw, level: int) -> None:
    """Two choices have the told words and two have others, in orders that differ by two neighbours."""
    question = _copying_words.make(draw, level)
    right, exchanged, other, other_exchanged = (
        choice.split() for choice in (question.answer, *question.distractors))
    assert sorted(right) == sorted(exchanged) and sorted(other) == sorted(other_exchanged)
    assert not set(other) & set(question.prompt.split()) and len(set(other)) == len(other) == len(right)
    places = [[i for i, pair in enumerate(zip(a, b, strict=True)) if pair[0] != pair[1]]
              for a, b in ((right, exchanged), (other, other_exchanged))]
    assert places[0] == places[1] == [places[0][0], places[0][0] + 1]


@given(draws)
@settings(max_examples=50)
def test_a_phrase_is_told_from_another_and_from_its_exchanged_words(draw: Draw) -> None:
    question = _copying_words.make(draw, 0)
    told, begun = question.prompt.split("\n")
    assert begun == "the" and f"the{question.answer}" == told
    right, exchanged, other, other_exchanged = (
        choice.split() for choice in (question.answer, *question.distractors))
    for plain, moved in ((right, exchanged), (other, other_exchanged)):
        assert f"{plain[1]} {plain[2]}" in _copying_words.PHRASES
        assert [plain[0], plain[2], plain[1], plain[3]] == moved
    assert other[1:3] == right[1:3] and len({right[0], right[3], other[0], other[3]}) == 4


@given(draws, st.sampled_from([0, 1, 2, 3]))
@settings(max_examples=60)
def test_the_right_body_passes_its_tests_and_no_wrong_one_does(draw: Draw, level: int) -> None:
    question = _python_functions.make(draw, level)

    def passes(body: str) -> bool:
        names: dict[str, object] = {}
        try:
            exec(question.prompt + body + question.tests, names)  # this project's own text, not a model's
        except (AssertionError, IndexError, SyntaxError, TypeError, ZeroDivisionError, OverflowError):
            return False
        return True

    assert passes(question.answer)
    assert not any(passes(wrong) for wrong in question.distractors)


@given(draws)
@settings(max_examples=60)
def test_the_bodies_of_the_entry_level_differ_in_order_alone(draw: Draw) -> None:
    """So that neither length nor the frequencies of tokens say which is right."""
    question = _python_functions.make(draw, 0)
    assert all(sorted(wrong.split(" ")) == sorted(question.answer.rstrip().split(" ")) for wrong in
               (distractor.rstrip() for distractor in question.distractors))


def test_but_for_the_wrong_bodies_from_level_1_on_the_functions_are_the_older_ones() -> None:
    plugin = TASKS["python_functions"]
    found = [item if item.level == "0" else replace(item, distractors=()) for item in plugin.load()(plugin.science())]
    assert len(found) == 160 and digest(found) == OLDER_FUNCTIONS


@given(st.text(min_size=1))
def test_a_question_belongs_to_one_split(prompt: str) -> None:
    assert split_of(prompt) in SPLITS and split_of(prompt) == split_of(prompt)


def test_the_place_of_the_answer_says_nothing() -> None:
    items = TASKS["brackets"].load()(TASKS["brackets"].science(items=200))
    places = [posed("brackets", item).gold for item in items]
    counts = [places.count(place) for place in range(4)]
    assert sum(counts) == 600 and all(100 < count < 200 for count in counts), counts
