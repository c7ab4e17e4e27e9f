"""Programs that a model writes: judged by running them, exact after any interruption, and never run outside a sandbox
unless a person has asked."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from tokenizers import Tokenizer

from sweeps.language.generation import GenerationScience
from sweeps.language.stage import Execution
from sweeps.store.layout import Layout
from tests.workloads.downstream.conftest import Made, StageContext, asked, downstream, weights
from workloads.contract import Item, Stopped
from workloads.downstream import programs
from workloads.downstream.programs import GREEDY, RECORDS, SAMPLES, VERDICTS, Judged
from workloads.downstream.run import RECORDS as ITEM_RECORDS
from workloads.downstream.run import run
from workloads.downstream.rungs import pass_at_k
from workloads.downstream.sampling import Ask, Sample, Sampler
from workloads.sandbox.box import Box
from workloads.sandbox.kinds import LADDER
from workloads.sandbox.ladder import fault, open_box
from workloads.tasks import humaneval
from workloads.tasks._python_functions import items
from workloads.tasks.python_functions import PLUGIN, PythonFunctionsScience

ITEMS = [item for item in items(PythonFunctionsScience(items=4)) if item.level == "1"]
ASKED = GenerationScience(samples=3, passes=(1, 2), max_new_tokens=12)
OFFICIAL = [
    {"task_id": "HumanEval/0", "prompt": 'def twice(x):\n    """Return x two times."""\n', "entry_point": "twice",
     "canonical_solution": "    return 2 * x\n",
     "test": "\n\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate(2) == 4\n"},
    {"task_id": "HumanEval/1", "prompt": 'import math\n\n\ndef root(x):\n    """\n    >>> root(9)\n    3\n    """\n',
     "entry_point": "root", "canonical_solution": "    y = math.isqrt(x)\n    return y\n",
     "test": "def check(candidate):\n    assert candidate(9) == 3\n    assert candidate(0) == 0\n"},
]
RIGHT = {item.id: item.answer for item in ITEMS} | {
    str(row["task_id"]): f"\n{row['canonical_solution']}" for row in OFFICIAL}
WRONG = "\n    return None\n"


@pytest.fixture(scope="module")
def model(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights(tmp_path_factory.mktemp("model"), made.load().get_vocab_size(), scale=20.0)


@pytest.fixture(scope="module")
def posed_items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return asked(tmp_path_factory.mktemp("items"), ITEMS)


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> str:
    """The first kind that holds here; it is tried once."""
    kind = next((kind for kind in LADDER if not fault(kind)), None)
    if kind is None:
        pytest.skip("no sandbox holds on this machine")
    monkeypatch.setattr(programs, "open_box", lambda limits, **about: Box(kind=kind, limits=limits, workers=1))
    return kind.name


@pytest.fixture
def no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "open_box", partial(open_box, ladder=()))


def context(store: Layout, made: Made, items: Path, model: Path | None, generation: GenerationScience = ASKED,
            **about: Any) -> StageContext:
    science = PythonFunctionsScience(items=4, generation=generation)
    return downstream(store, made, items, model, of=("python_functions", science), task=PLUGIN, **about)


class Scripted:
    """Writes the right answer where a number says so, else a wrong one; greedy is number 0."""

    def __init__(self, right: dict[int, str]) -> None:
        self._right = right

    def truncates(self, prompt: str) -> bool:
        return False

    def __call__(self, asks: list[Ask]) -> Iterator[Sample]:
        for ask in asks:
            for number in ask.numbers:
                text = RIGHT[ask.id] if self._right.get(number, "") in ("all", ask.id) else WRONG
                yield Sample(id=ask.id, number=number, text=text, ended="stop", tokens=(1, 2), margins=(0.3, 0.1),
                             length=64, truncated=False)


def scripted(monkeypatch: pytest.MonkeyPatch, right: dict[int, str]) -> None:
    """Let models write the right answer under these numbers: of the item with an id, or of all."""
    monkeypatch.setattr(programs.Author, "sampler", lambda author, temperature: Scripted(right))


def records(context: StageContext, name: str = RECORDS) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = parquet.read_table(context.attempt.artifacts / name).to_pydict()
    return table


def test_rungs_are_the_shares_of_programs_that_pass(
        store: Layout, made: Made, posed_items: Path, model: Path, sandbox: str, monkeypatch: pytest.MonkeyPatch
        ) -> None:
    first, count = ITEMS[0].id, len(ITEMS)
    scripted(monkeypatch, {GREEDY: first, 2: "all", 3: first})
    stage = context(store, made, posed_items, model)
    found = run(stage)
    assert found["python_functions.all.exact"] == pytest.approx(1 / count)
    for k in (1, 2):
        expected = (pass_at_k(3, 2, k) + (count - 1) * pass_at_k(3, 1, k)) / count
        assert found[f"python_functions.all.pass@{k}"] == pytest.approx(expected)
        assert found[f"python_functions.1.pass@{k}"] == pytest.approx(expected)
        assert 0 <= found[f"python_functions.all.pass@{k}.chance"] < 1e-6
    assert found[f"python_functions.sandbox.{sandbox}"] == 1 and found["python_functions.programs.not_evaluable"] == 0
    assert found["python_functions.all.cloze"] >= 0, "the other rungs stay"
    rows = records(stage)
    assert len(rows["id"]) == 4 * count and set(rows["sandbox"]) == {sandbox}
    assert [how for how, n in zip(rows["how"], rows["number"], strict=True) if n == 2] == ["passed"] * count
    assert rows["temperature"][:4] == [0.0, 0.8, 0.8, 0.8] and set(rows["margin"]) == {0.1}
    assert records(stage, ITEM_RECORDS)["pass@1"] == pytest.approx([2 / 3] + [1 / 3] * (count - 1))


def test_what_a_real_model_writes_is_drawn_run_and_recorded(
        store: Layout, made: Made, posed_items: Path, model: Path, sandbox: str) -> None:
    stage = context(store, made, posed_items, model)
    found = run(stage)
    assert found["python_functions.all.pass@1"] == found["python_functions.all.exact"] == 0
    rows = records(stage)
    assert rows["number"] == [0, 1, 2, 3] * len(ITEMS) and None not in rows["passed"]
    assert all(0 < count <= ASKED.max_new_tokens for count in rows["tokens"])
    assert set(rows["batch_rows"]) == {16} and len(set(rows["text"])) > len(ITEMS)


def official(store: Layout, made: Made, model: Path, folder: Path) -> StageContext:
    """A stage that is asked a small HumanEval, from a file in the official format."""
    path = folder / "HumanEval.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in OFFICIAL).encode()))
    science = humaneval.HumanEvalScience(
        paths=(str(path),), count=2, generation=humaneval.HumanEvalGeneration(**ASKED.model_dump()))
    items = asked(folder / "items", humaneval.PLUGIN.load()(science))
    return downstream(store, made, items, model, of=("humaneval", science), task=humaneval.PLUGIN)


def test_programs_for_the_official_file_are_drawn_run_and_recorded(
        store: Layout, made: Made, model: Path, sandbox: str, tmp_path: Path) -> None:
    stage = official(store, made, model, tmp_path)
    found = run(stage)
    assert found["humaneval.all.pass@1"] == found["humaneval.all.exact"] == 0
    assert found[f"humaneval.sandbox.{sandbox}"] == 1 and found["humaneval.programs.not_evaluable"] == 0
    rows = records(stage)
    assert rows["id"] == [row["task_id"] for row in OFFICIAL for _ in range(4)] and rows["passed"] == [False] * 8
    assert all(0 < count <= ASKED.max_new_tokens for count in rows["tokens"]) and len(set(rows["text"])) > 2


def test_the_official_solutions_pass_the_official_checks(
        store: Layout, made: Made, model: Path, sandbox: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, {GREEDY: "all", 2: "HumanEval/1"})
    stage = official(store, made, model, tmp_path)
    found = run(stage)
    assert found["humaneval.all.exact"] == 1 and found["humaneval.all.pass@1"] == pytest.approx(1 / 6)
    assert records(stage)["passed"] == [True, False, False, False, True, False, True, False]


@pytest.mark.parametrize("stop_after", [0, 3, 4, 9, 17, 20, 22])
def test_a_stopped_stage_goes_on_after_the_last_program_or_verdict(
        stop_after: int, store: Layout, made: Made, posed_items: Path, model: Path, sandbox: str) -> None:
    """Four items: asked after each of their scores, then of sixteen programs, then of their verdicts."""
    whole = context(store, made, posed_items, model, fingerprint="a" * 32)
    expected = run(whole)
    first = context(store, made, posed_items, model, fingerprint="b" * 32, stop_after=stop_after)
    with pytest.raises(Stopped):
        run(first)
    second = Watched("downstream", "b" * 32, first.science, store, folders=first.folders, task=PLUGIN)
    second.seen = []
    assert run(second) == expected
    assert len(second.seen) == 24 - stop_after - 1, "each score, program and verdict once, over both attempts"
    for name in (RECORDS, ITEM_RECORDS):
        assert (second.attempt.artifacts / name).read_bytes() == (whole.attempt.artifacts / name).read_bytes()


class Watched(StageContext):
    """Counts what was found out: the stage asks once after each."""

    seen: list[str]

    def should_stop(self) -> bool:
        self.seen.append("one")
        return False


def test_verdicts_of_another_kind_of_sandbox_are_not_taken_over(
        store: Layout, made: Made, posed_items: Path, model: Path, sandbox: str, monkeypatch: pytest.MonkeyPatch
        ) -> None:
    first = context(store, made, posed_items, model)
    run(first)
    monkeypatch.setattr(programs, "open_box", partial(open_box, ladder=()))
    second = Watched("downstream", first.fingerprint, first.science, store, folders=first.folders, task=PLUGIN,
                     execution=Execution(unsafe_exec=True))
    second.seen = []
    assert run(second)["python_functions.sandbox.unsafe"] == 1
    assert len(second.seen) == len(ITEMS), "the verdicts alone"
    assert (second.attempt.folder.path / SAMPLES).exists() and (second.attempt.folder.path / VERDICTS).exists()


@pytest.mark.usefixtures("no_sandbox")
def test_without_a_sandbox_nothing_is_written_and_the_task_is_not_evaluated(
        store: Layout, made: Made, posed_items: Path, model: Path) -> None:
    stage = context(store, made, posed_items, model)
    found = run(stage)
    assert found["python_functions.sandbox.none"] == 1
    assert found["python_functions.programs.not_evaluable"] == len(ITEMS)
    assert "python_functions.all.pass@1" not in found and "python_functions.all.exact" not in found
    assert "python_functions.all.pass@1.chance" in found and "python_functions.all.cloze" in found
    assert not (stage.attempt.artifacts / RECORDS).exists() and not (stage.attempt.folder.path / SAMPLES).exists()


@pytest.mark.usefixtures("no_sandbox")
def test_a_person_may_ask_for_none_and_the_result_says_so(
        store: Layout, made: Made, posed_items: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, {1: "all"})
    stage = context(store, made, posed_items, model, execution=Execution(unsafe_exec=True))
    found = run(stage)
    assert found["python_functions.sandbox.unsafe"] == 1 and set(records(stage)["sandbox"]) == {"unsafe"}
    assert found["python_functions.all.pass@1"] == pytest.approx(1 / 3) and found["python_functions.all.exact"] == 0


def test_too_many_truncated_prompts_give_no_program(
        store: Layout, made: Made, model: Path, sandbox: str, tmp_path: Path) -> None:
    """Their likelihoods may still be scored: a choice is shorter than what a model may write."""
    stage = context(store, made, asked(tmp_path / "items", ITEMS), model, replaced(max_new_tokens=110))
    found = run(stage)
    assert found["python_functions.truncated"] == 0 and found["python_functions.programs.truncated"] > 0
    assert found["python_functions.programs.not_evaluable"] == len(ITEMS)
    assert "python_functions.all.pass@1" not in found and "python_functions.all.cloze" in found


def replaced(**fields: Any) -> GenerationScience:
    return GenerationScience.model_validate({**ASKED.model_dump(), **fields})


def test_an_item_whose_tests_cannot_be_judged_has_no_value_and_is_counted(
        store: Layout, made: Made, model: Path, sandbox: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = replace(ITEMS[1], tests="assert False\n")
    folder = asked(tmp_path / "items", [ITEMS[0], broken, *ITEMS[2:]])
    scripted(monkeypatch, {1: "all"})
    stage = context(store, made, folder, model)
    found = run(stage)
    assert found["python_functions.programs.not_evaluable"] == 1
    assert found["python_functions.all.pass@1"] == pytest.approx(1 / 3)
    assert records(stage, ITEM_RECORDS)["pass@1"][1] is None


def test_an_item_has_rungs_only_with_a_verdict_on_every_program() -> None:
    judged = Judged(id="a", passed_N=(True, False, True, False, False), how_N=("",) * 5)
    assert judged.rungs((1, 2, 4)) == {
        "exact": 1.0, "pass@1": pytest.approx(0.25), "pass@2": pytest.approx(0.5), "pass@4": 1.0}
    assert replace(judged, passed_N=(True, False, None, False, False)).rungs((1,)) == {}
    with pytest.raises(ValueError, match="draw more samples"):
        judged.rungs((5,))


def test_a_program_ends_where_its_function_does(made: Made, model: Path) -> None:
    """So that no time is spent on what `body_of` cuts away."""
    tokenizer: Tokenizer = made.load()
    author = programs.Author(model=Stub(), tokenizer=tokenizer, sequence_length=128, seed=0, generation=ASKED)
    sampler: Sampler = author.sampler(0.0)
    for text, place in (("\n    return 1\nprint", 13), ("\n    a\n\n    b\n\tc", -1), ("\ndef", 0), ("x\n#", 1)):
        assert sampler.stop_in(text.encode()) == place
    assert sampler.tail == 2


class Stub:
    """A model that is never run."""


def test_items_without_tests_are_no_programs(store: Layout, made: Made, model: Path, sandbox: str, tmp_path: Path
                                             ) -> None:
    plain = Item(id="p", level="1", prompt="def f(x):\n    pass", answer="\n    return x\n", distractors=("\n    0\n",))
    found = run(context(store, made, asked(tmp_path / "items", [plain]), model))
    assert found["python_functions.programs.not_evaluable"] == 1
