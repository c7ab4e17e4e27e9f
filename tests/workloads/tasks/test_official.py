"""Published tasks from small files in their official formats, written for this project."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from pydantic import ValidationError

from sweeps.errors import EnvironmentError_, UsageError
from sweeps.language.plugins import ItemTask
from sweeps.language.science import FinetuneScience
from workloads.contract import Item
from workloads.downstream.items import checked, digest
from workloads.tasks import bigbench_lite, gsm8k, humaneval

WORD_PROBLEMS = [
    {"question": "Mia has 1,200 beads and buys 34 more. How many has she?", "answer": "1200+34=1234\n#### 1,234"},
    {"question": "It is 3 degrees and gets 8 colder. What is it now?", "answer": "3-8=<<3-8=-5>>-5\n#### -5"},
]
FUNCTION = {
    "task_id": "Local/0", "prompt": 'def twice(x):\n    """Return x two times."""\n', "entry_point": "twice",
    "canonical_solution": "    return 2 * x\n", "test": "def check(candidate):\n    assert candidate(2) == 4\n",
}
CHOICES = {"name": "colours", "task_prefix": "Say the colour.", "examples": [
    {"input": "grass", "target_scores": {"green": 1, "red": 0, "blue": 0}},
    {"input": "blood", "target": ["red", "red "]}]}


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def items(plugin: ItemTask, **fields: Any) -> list[Item]:
    found: list[Item] = plugin.load()(plugin.science.model_validate(fields))
    return checked("t", found)


def test_gsm8k_asks_for_the_number_behind_the_mark(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "test.jsonl", WORD_PROBLEMS)
    found = items(gsm8k.PLUGIN, paths=[str(path)], count=2)
    assert [i.answer for i in found] == [" 1234", " -5"]
    assert found[0].prompt == f"Question: {WORD_PROBLEMS[0]['question']}\nAnswer:"
    assert all(len(i.distractors) == 3 and {len(d) for d in i.distractors} == {len(i.answer)} for i in found)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(WORD_PROBLEMS), tmp_path / "test.parquet")
    assert items(gsm8k.PLUGIN, paths=[str(tmp_path / "test.parquet")], count=2) == found


def test_gsm8k_is_fine_tuned_on_its_training_split_and_on_worked_solutions_where_asked(tmp_path: Path) -> None:
    test = jsonl(tmp_path / "test.jsonl", WORD_PROBLEMS[:1])
    train = jsonl(tmp_path / "train.jsonl", WORD_PROBLEMS[1:])
    science = gsm8k.Gsm8kScience(paths=(str(test),), count=1, training_paths=(str(train),), training_count=1)
    with pytest.raises(ValueError, match=r"set gsm8k\.generation\.samples"):
        gsm8k.training(science, FinetuneScience(worked=True))
    written = science.model_copy(update={"generation": gsm8k.Gsm8kGeneration(samples=10)})
    number, worked = (gsm8k.training(written, FinetuneScience(worked=w)) for w in (False, True))
    assert [(i.answer, len(i.distractors)) for i in gsm8k.PLUGIN.load()(number)] == [(" -5", 3)]
    assert [(i.answer, i.distractors) for i in gsm8k.PLUGIN.load()(worked)] == [(f" {WORD_PROBLEMS[1]['answer']}", ())]
    assert gsm8k.PLUGIN.identity is not None and gsm8k.PLUGIN.identity(number) != gsm8k.PLUGIN.identity(science)
    hub = gsm8k.training(gsm8k.Gsm8kScience(revision="a" * 40), FinetuneScience())
    assert (hub.files, hub.count, hub.revision) == (("main/train-*.parquet",), 7_473, "a" * 40)
    with pytest.raises(ValueError, match="needs gsm8k.training_paths"):
        gsm8k.training(gsm8k.Gsm8kScience(paths=(str(test),)), FinetuneScience())


def test_bigbenchs_splits_are_all_examples_and_share_none(tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    path.write_text(json.dumps({"name": "sums", "examples": [
        {"input": f"{n} + 1", "target": str(n + 1)} for n in range(50)]}), encoding="utf-8")
    every, train, test = ({i.prompt for i in items(bigbench_lite.PLUGIN, paths=[str(path)], split=split)}
                          for split in ("all", "train", "test"))
    assert train | test == every and not train & test and len(train) > len(test) > 0
    asked = bigbench_lite.BigBenchLiteScience(paths=(str(path),), split="test", count=len(test))
    assert {i.prompt for i in bigbench_lite.PLUGIN.load()(bigbench_lite.training(asked, FinetuneScience()))} == train
    with pytest.raises(ValueError, match=r"set bigbench_lite\.split to test"):
        bigbench_lite.training(bigbench_lite.BigBenchLiteScience(paths=(str(path),)), FinetuneScience())


@pytest.mark.parametrize(("written", "answer", "right"), [
    (" 3+4=<<3+4=7>>7\n#### 7", " 7", True), ("#### 7", " 3+4=7\n#### 7", True), ("####7.00 cups.", " 7", True),
    ("#### 1,234", " 1234", True), ("#### -5", " -5", True), ("#### 3\n#### 7", " 7", True), ("#### 7.", " 7", True),
    (" 7", " 7", False), ("", " 7", False), ("#### 7\n#### 3", " 7", False), ("#### 7\n#### x", " 7", False),
    ("#### 70", " 7", False), ("#### 5", " -5", False), ("#### 7.5", " 7", False), ("####", " 7", False),
    ("#### \u0667", " 7", False), ("#### x 7", " 7", False),
])
def test_the_number_behind_the_last_mark_is_what_a_solution_says(written: str, answer: str, right: bool) -> None:
    assert gsm8k.PLUGIN.load_judge()(written, answer) is right


def test_gsm8k_without_a_number_is_refused(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "test.jsonl", [{"question": "How many?", "answer": "many\n#### many"}])
    with pytest.raises(UsageError, match="not in '#### NUMBER'"):
        items(gsm8k.PLUGIN, paths=[str(path)], count=1)


def test_humaneval_joins_to_the_official_program(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "HumanEval.jsonl.gz", [FUNCTION])
    [item] = items(humaneval.PLUGIN, paths=[str(path)], count=1)
    assert item.prompt + item.answer == FUNCTION["prompt"] + FUNCTION["canonical_solution"]
    names: dict[str, Any] = {}
    exec(item.prompt + item.answer + item.tests, names)  # this test's own text
    assert names["twice"](3) == 6


def test_bigbench_reads_choices_and_free_answers(tmp_path: Path) -> None:
    path = tmp_path / "colours" / "task.json"
    path.parent.mkdir()
    path.write_text(json.dumps(CHOICES), encoding="utf-8")
    first, second = items(bigbench_lite.PLUGIN, paths=[str(tmp_path / "*" / "task.json")])
    assert first.prompt == "Say the colour.\nQ: grass\nA:" and first.level == "colours"
    assert (first.answer, first.distractors) == (" green", (" red", " blue"))
    assert (second.answer, second.distractors) == (" red", ())


def test_bigbench_without_one_right_answer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    path.write_text(json.dumps({"examples": [{"input": "?", "target_scores": {"a": 1, "b": 1}}]}), encoding="utf-8")
    with pytest.raises(UsageError, match="2 choices share the best score"):
        items(bigbench_lite.PLUGIN, paths=[str(path)])
    for targets in (["yes", "Yes."], []):
        path.write_text(json.dumps({"examples": [{"input": "?", "target": targets}]}), encoding="utf-8")
        with pytest.raises(UsageError, match=f"{len(targets)} targets count as right, and one text is scored"):
            items(bigbench_lite.PLUGIN, paths=[str(path)])
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(EnvironmentError_, match=r"no task\.json of BIG-bench"):
        items(bigbench_lite.PLUGIN, paths=[str(path)])


def test_a_part_of_a_task_is_not_scored(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "test.jsonl", WORD_PROBLEMS)
    with pytest.raises(UsageError, match=r"2 items here, gsm8k\.count says 1319"):
        items(gsm8k.PLUGIN, paths=[str(path)])


def test_other_items_than_the_pinned_ones_are_not_scored(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "test.jsonl", WORD_PROBLEMS)
    pinned = digest(items(gsm8k.PLUGIN, paths=[str(path)], count=2))
    assert items(gsm8k.PLUGIN, paths=[str(path)], count=2, sha256=pinned)
    jsonl(path, [WORD_PROBLEMS[1], WORD_PROBLEMS[0]])
    with pytest.raises(UsageError, match="other items than those"):
        items(gsm8k.PLUGIN, paths=[str(path)], count=2, sha256=pinned)


def test_the_identity_is_what_the_files_hold_not_where_they_lie(tmp_path: Path) -> None:
    first = jsonl(tmp_path / "a" / "test.jsonl", WORD_PROBLEMS)
    second = jsonl(tmp_path / "b" / "test.jsonl", WORD_PROBLEMS)
    third = jsonl(tmp_path / "c" / "test.jsonl", WORD_PROBLEMS[:1])
    identity = gsm8k.PLUGIN.identity
    assert identity is not None
    of = [identity(gsm8k.PLUGIN.science.model_validate({"paths": [str(p)]})) for p in (first, second, third)]
    assert of[0] == of[1] != of[2]
    pinned = gsm8k.PLUGIN.science.model_validate({"revision": "0" * 40})
    assert identity(pinned) == {"openai/gsm8k": "0" * 40}
    assert gsm8k.PLUGIN.elsewhere is not None and gsm8k.PLUGIN.elsewhere(pinned)


@pytest.mark.parametrize("fields", [{}, {"paths": ["/x"], "revision": "0" * 40}, {"revision": "main"},
                                    {"paths": ["relative.jsonl"]}, {"paths": ["/x"], "sha256": "abc"}])
def test_where_a_task_lies_is_said_once_and_for_good(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        gsm8k.PLUGIN.science.model_validate(fields)
