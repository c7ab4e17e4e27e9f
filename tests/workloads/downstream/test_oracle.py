"""Against lm-evaluation-harness, as an oracle: the same items on the same exported model, in fp32.

Needs the extra `harness` (`pip install -e '.[harness]'`); without it these tests are skipped and say so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from sweeps.language.science import ModelScience
from tests.workloads.downstream.conftest import Made
from workloads.contract import Item
from workloads.data.make_tokenizer import END_OF_DOCUMENT, TOKENIZER
from workloads.downstream.items import Posed, posed
from workloads.downstream.rungs import choice_rungs
from workloads.downstream.scoring import Encoding, Score, scores
from workloads.tasks import _arithmetic, _brackets, _induction
from workloads.tasks.arithmetic import ArithmeticScience
from workloads.tasks.brackets import PLUGIN as BRACKETS
from workloads.tasks.harness import PLUGIN as HARNESS
from workloads.tasks.induction import PLUGIN as INDUCTION
from workloads.training.model import build_model, empty_model
from workloads.training.transfer import load_weights, read_weights, write_weights

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # their imports warn
FOLDER = Path(__file__).parent.parent.parent / "data" / "harness"
MODEL = ModelScience(layers=3, width=64, mlp=128, heads=4, sequence_length=384)
TASKS: dict[str, Callable[[], Sequence[Item]]] = {
    "arithmetic": lambda: _arithmetic.items(ArithmeticScience(items=15)),
    "brackets": lambda: _brackets.items(BRACKETS.science(items=15)),
    "induction": lambda: _induction.items(INDUCTION.science(items=15)),
}


@pytest.fixture(scope="module")
def harness() -> Any:
    """The harness, offline."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE"):
            patch.setenv(name, "1")
        yield pytest.importorskip("lm_eval.evaluator", reason="lm-eval is not installed: pip install '.[harness]'")


@pytest.fixture(scope="module")
def exported(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a training stage leaves: weights and config under Hugging Face's names."""
    folder = tmp_path_factory.mktemp("exported")
    model = build_model(MODEL, made.load().get_vocab_size(), seed=0, purpose="pretrain", embedding_std=1.0)
    weights = {name: value * 12.0 if name == "lm_head.weight" else value for name, value in model.state_dict().items()}
    write_weights(folder, weights, model.config.to_json_string())
    return folder


def model_of_harness(exported: Path, made: Made) -> Any:
    """Return the model for the harness. It is given the end of a document before each prompt, as here."""
    from lm_eval.models.huggingface import HFLM

    class Begun(HFLM):  # type: ignore[misc]
        def _encode_pair(self, context: str, continuation: str) -> Any:
            return super()._encode_pair(END_OF_DOCUMENT + context, continuation)

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(made.tokenizer / TOKENIZER), eos_token=END_OF_DOCUMENT)
    return Begun(pretrained=str(exported), tokenizer=tokenizer, device="cpu", dtype="float32", batch_size=4,
                 max_length=MODEL.sequence_length)


def of_harness(harness: Any, exported: Path, made: Made, name: str, asked: Sequence[Posed]) -> Any:
    """Return the harness's samples of our items, and its accuracy."""
    from lm_eval.api.task import ConfigurableTask

    docs = [{"prompt": i.prompt, "choices": list(i.choices_C), "gold": i.gold} for i in asked]
    task = ConfigurableTask(config={
        "task": name, "custom_dataset": lambda **_: {"test": Dataset.from_list(docs)}, "test_split": "test",
        "output_type": "multiple_choice", "doc_to_text": lambda doc: doc["prompt"], "target_delimiter": "",
        "doc_to_choice": lambda doc: doc["choices"], "doc_to_target": lambda doc: doc["gold"],
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]})
    found = harness.evaluate(lm=model_of_harness(exported, made), task_dict={name: task}, bootstrap_iters=0)
    samples = sorted(found["samples"][name], key=lambda s: s["doc_id"])
    return samples, found["results"][name]["acc,none"]


def ours(exported: Path, made: Made, asked: Sequence[Posed]) -> list[Score]:
    """Return this project's scores of the exported model, as its stage takes them."""
    weights = read_weights(exported)
    model = empty_model(MODEL, made.load().get_vocab_size())
    load_weights(model, weights)
    encoding = Encoding(made.load(), MODEL.sequence_length)
    found = scores(model, [encoding.item(i) for i in asked],
                   encoding.endings_V)
    by_id = {score.id: score for score in found}
    return [by_id[item.id] for item in asked]


def agreed(own: Sequence[Score], asked: Sequence[Posed], theirs: Sequence[Mapping[str, Any]], accuracy: float) -> str:
    """See that both say the same of each item (`nats` of the choices in the item's order, `acc`); return how near."""
    right, close, worst = 0.0, 0, 0.0
    assert len(theirs) == len(asked) and not any(score.truncated for score in own)
    for item, score, their in zip(asked, own, theirs, strict=True):
        tolerance = max(1e-4, 1e-6 * max(score.tokens_C))
        gaps = [abs(a - b) for a, b in zip(score.nats_C, their["nats"], strict=True)]
        assert max(gaps) <= tolerance, (item, score, their)
        worst = max(worst, *gaps)
        cloze = choice_rungs(score.nats_C, item.gold)["cloze"]
        ordered = sorted(score.nats_C)
        near = any(b - a <= tolerance for a, b in zip(ordered, ordered[1:], strict=False))
        assert near or cloze == their["acc"], (item, score, their)
        right, close = right + cloze, close + near
    assert close or accuracy == right / len(asked)
    return (f"{len(asked)} items, log-likelihoods at most {worst:.1e} nats apart, accuracy {accuracy:.4f} and "
            f"{right / len(asked):.4f}, {close} items with options within the tolerance")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", TASKS)
def test_the_harness_says_the_same(
        name: str, harness: Any, exported: Path, made: Made, tell: Callable[[str], Any]) -> None:
    asked = [posed(name, item) for item in TASKS[name]()]
    samples, accuracy = of_harness(harness, exported, made, name, asked)
    theirs = [{"nats": [float(nats) for nats, _ in s["filtered_resps"]], "acc": s["acc"]} for s in samples]
    tell(f"{name}: {agreed(ours(exported, made, asked), asked, theirs, accuracy)}")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "shots"), [
    ("arc_local", 0), ("arc_local", 2), ("pairs_local", None), ("endings_local", 0), ("endings_local", 1)])
def test_the_harness_says_the_same_of_its_own_definitions(  # noqa: PLR0913 - fixtures
        name: str, shots: int | None, harness: Any, exported: Path, made: Made, tell: Callable[[str], Any],
        monkeypatch: pytest.MonkeyPatch) -> None:
    """The very bytes that it gives the model, and what the model says of them."""
    from lm_eval.tasks import TaskManager

    found = HARNESS.load()(HARNESS.science(tasks=(name,), folder=str(FOLDER), shots=shots))
    asked = [posed("harness", item) for item in found]
    monkeypatch.chdir(FOLDER)  # from where the harness finds the definitions' data
    said = harness.simple_evaluate(
        model=model_of_harness(exported, made), tasks=[name], num_fewshot=shots, bootstrap_iters=0,
        task_manager=TaskManager(include_path=str(FOLDER), include_defaults=False))
    theirs = []
    for item, sample in zip(asked, sorted(said["samples"][name], key=lambda s: s["doc_id"]), strict=True):
        nats = {"".join(given): float(value[0]) for given, value in zip(
            _arguments(sample), sample["filtered_resps"], strict=True)}
        assert nats.keys() == {item.prompt + choice for choice in item.choices_C}
        theirs.append({"nats": [nats[item.prompt + choice] for choice in item.choices_C], "acc": sample["acc"]})
    tell(f"{name}, {shots} shots: "
         f"{agreed(ours(exported, made, asked), asked, theirs, said['results'][name]['acc,none'])}")


def _arguments(sample: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return context and continuation of each choice, as the harness gave them to the model."""
    found = sample["arguments"]
    return [(a["arg_0"], a["arg_1"]) for a in found.values()] if isinstance(found, Mapping) else list(found)
