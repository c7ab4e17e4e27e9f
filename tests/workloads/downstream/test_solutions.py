"""GSM8K in the published way: fine-tuned on worked solutions, solutions are written, and their number is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest

from sweeps.language.science import FinetuneScience
from sweeps.store.layout import Layout
from tests.workloads.downstream.conftest import Made, StageContext, asked, downstream, weights
from tests.workloads.downstream.test_finetune import context as finetuning
from tests.workloads.downstream.test_programs import Watched
from workloads.contract import Stopped
from workloads.downstream import finetune
from workloads.downstream.programs import RECORDS
from workloads.downstream.run import run
from workloads.tasks import gsm8k

ROWS = [
    {"question": "Anna has 3 cups and gets 4. How many cups?", "answer": "She has 3+4=<<3+4=7>>7 cups.\n#### 7"},
    {"question": "Ben has 9 pens and gives away 5. How many pens?", "answer": "He has 9-5=<<9-5=4>>4 pens.\n#### 4"},
    {"question": "Max has 6 eggs, then has 2 times as many. How many eggs?", "answer": "6*2=<<6*2=12>>12.\n#### 12"},
]
SAMPLES_EACH = 4


@pytest.fixture
def science(tmp_path: Path) -> gsm8k.Gsm8kScience:
    """Asked and trained on alike, so that what is learned can be seen; the stage `items` would refuse that."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return gsm8k.Gsm8kScience.model_validate({
        "paths": [str(path)], "training_paths": [str(path)], "count": 3, "training_count": 3,
        "generation": {"samples": SAMPLES_EACH, "passes": (1, 2), "max_new_tokens": 60}})


@pytest.fixture
def learned(science: gsm8k.Gsm8kScience, store: Layout, made: Made, tmp_path: Path) -> Path:
    """A model that was fine-tuned on the worked solutions until it has them by heart."""
    worked = gsm8k.training(science, FinetuneScience(worked=True))
    start = weights(tmp_path / "start", made.load().get_vocab_size())
    stage = finetuning(store, made, asked(tmp_path / "training", list(gsm8k.PLUGIN.load()(worked))), start, "f",
                       updates=500)
    assert finetune.run(stage)["loss"] < 0.05
    return stage.attempt.artifacts


def scored(store: Layout, made: Made, science: gsm8k.Gsm8kScience, model: Path, **about: Any) -> StageContext:
    folder = asked(store.root / "items", list(gsm8k.PLUGIN.load()(science)))
    return downstream(store, made, folder, model, of=("gsm8k", science), task=gsm8k.PLUGIN, **about)


def test_a_model_that_has_learned_worked_solutions_is_scored_by_the_number_at_their_end(
        store: Layout, made: Made, science: gsm8k.Gsm8kScience, learned: Path) -> None:
    stage = scored(store, made, science, learned)
    found = run(stage)
    assert found["gsm8k.all.exact"] == 1 and found["gsm8k.all.pass@2"] >= found["gsm8k.all.pass@1"] > 0.5
    assert found["gsm8k.all.pass@1.chance"] < 0.01 and not [name for name in found if ".sandbox." in name]
    assert found["gsm8k.programs.not_evaluable"] == 0 and found["gsm8k.all.cloze"] >= 0
    rows = parquet.read_table(stage.attempt.artifacts / RECORDS).to_pydict()
    greedy = [text for text, n in zip(rows["text"], rows["number"], strict=True) if n == 0]
    assert [text.strip() for text in greedy] == [row["answer"] for row in ROWS], "stopped by the end of the document"
    assert set(rows["sandbox"]) == {""} and set(rows["how"]) <= {"passed", "failed"}
    at_once = science.model_copy(update={"generation": gsm8k.Gsm8kGeneration()})
    assert run(scored(store, made, at_once, learned, fingerprint="e" * 32))["gsm8k.all.exact"] == 0


@pytest.mark.parametrize("stop_after", [1, 4, 12])
def test_a_stopped_stage_goes_on_after_the_last_solution(
        stop_after: int, store: Layout, made: Made, science: gsm8k.Gsm8kScience, tmp_path: Path) -> None:
    model = weights(tmp_path / "model", made.load().get_vocab_size(), scale=20.0)
    whole = scored(store, made, science, model, fingerprint="a" * 32)
    expected = run(whole)
    with pytest.raises(Stopped):
        run(scored(store, made, science, model, fingerprint="b" * 32, stop_after=stop_after))
    first = scored(store, made, science, model, fingerprint="b" * 32)
    again = Watched("downstream", "b" * 32, first.science, store, folders=first.folders, task=gsm8k.PLUGIN)
    again.seen = []
    assert run(again) == expected
    assert (again.attempt.artifacts / RECORDS).read_bytes() == (whole.attempt.artifacts / RECORDS).read_bytes()
    assert len(again.seen) == len(ROWS) * (2 + SAMPLES_EACH) - stop_after - 1, "each score and solution once"


def test_solutions_that_lose_their_prompts_are_not_scored_by_likelihood_instead(
        store: Layout, made: Made, science: gsm8k.Gsm8kScience, tmp_path: Path) -> None:
    model = weights(tmp_path / "model", made.load().get_vocab_size())
    long = science.model_copy(update={"generation": science.generation.model_copy(update={"max_new_tokens": 120})})
    found = run(scored(store, made, long, model))
    assert found["gsm8k.truncated"] == 0 and found["gsm8k.programs.truncated"] == len(ROWS)
    assert "gsm8k.all.exact" not in found and "gsm8k.all.pass@1" not in found and "gsm8k.all.cloze" in found
