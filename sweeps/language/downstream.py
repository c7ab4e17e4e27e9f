"""The stages of downstream tasks: a task's items, made once, and their scores on each model. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from sweeps.language.generation import generation_of, without_generation
from sweeps.language.graph import DataStages
from sweeps.language.grid import Trial
from sweeps.language.ladder import DOWNSTREAM, DOWNSTREAM_TWIN, DOWNSTREAM_UNTUNED
from sweeps.language.manifest import PathStep
from sweeps.language.plugins import ItemTask, Science
from sweeps.language.science import IdentityScience, MeasureScience, ModelScience, ScoringScience, TransferScience
from sweeps.language.stage import Input, StageSpec, section

Tune = Callable[[Trial, str, str, str], list[PathStep]]
"""(trial, task, final model, its test items) -> the stages of its fine-tuning, the fine-tuned model last."""
PROMPT, CHOICES = 128, 64
"""Tokens of an item's prompt and of its choices, padding included, about (workloads/downstream/scoring.py)."""
WRITTEN = 6
"""A token that a model writes takes as long as so many that it reads: 7.6 at `tiny`, 5.0 at `1m`, on a CPU
(benchmarks/README.md: 14.7k against 111k tokens/s, 5.8k against 29k)."""


def scoring_flops(count: int, task: Science, model: ModelScience, vocabulary: int) -> float:
    """Return about what it takes to score `count` items of a task, as FLOPs of forward passes.

    One is a third of the FLOPs of training (Kaplan et al. 2020). A text that the model writes is taken to be as long as
    it may be.
    """
    asked = generation_of(task)
    written = (1 + asked.samples) * asked.max_new_tokens if asked.samples else 0
    prompt = min(PROMPT * (1 + (getattr(task, "shots", 0) or 0)), model.sequence_length)
    return count * (prompt + CHOICES + WRITTEN * written) * model.flops_per_token(vocabulary) / 3


class DownstreamStages(DataStages):
    """Adds them to the stages that make data."""

    def _downstream(self, trial: Trial, model: str, data: Iterable[Input], tune: Tune) -> list[PathStep]:
        """Return the stages of the downstream tasks: items, and their scores on the final model and on its twin.

        One stage for each task, so that a further task costs nothing but itself. Where the model is fine-tuned for a
        task, it is scored before and after.
        """
        texts = dict.fromkeys(text for i in data for text in self._texts(i))
        corpus = self._corpus(trial, trial.domain)
        steps: list[PathStep] = []
        for task in trial.core["downstream"].tasks:
            items = self._items(task, trial.core["tasks"][task], tuple(texts))
            read = (Input("items", "items", items), Input("tokenizer", "tokenizer", self._tokenizer(trial)))
            scored = self._scored(trial, task, "pretrained", (
                Input("model", "pretrain", model), *read, Input("corpus", "corpus", corpus)))
            twin = self._scored(trial, task, "untrained", read)
            steps += [PathStep("items", "items", items), PathStep(DOWNSTREAM_TWIN, "downstream", twin)]
            if task in trial.core["finetunings"]:
                steps += [PathStep(DOWNSTREAM_UNTUNED, "downstream", scored), *tune(trial, task, model, items)]
                scored = self._scored(trial, task, "finetuned", (
                    Input("model", "finetune", steps[-1].fingerprint), *read, Input("corpus", "corpus", corpus)))
            steps.append(PathStep(DOWNSTREAM, "downstream", scored))
        return steps

    def _texts(self, corpus: Input) -> Iterator[Input]:
        """Yield the text of a corpus, with the role `text:DOMAIN`."""
        for i in self.graph.nodes[corpus.fingerprint].spec.inputs:
            if i.kind == "text":
                domain = self.graph.nodes[i.fingerprint].spec.sections["domain"].plugin.partition(":")[2]
                yield Input(f"text:{domain}", "text", i.fingerprint)

    def _items(self, task: str, science: Science, read: tuple[Input, ...], label: str = "items") -> str:
        """Return the stage that makes a task's items; it reads texts that may hold them, or items that must not be."""
        def make() -> str:
            plugin = self.registries.tasks.find(task)
            outside = plugin.identity(science) if isinstance(plugin, ItemTask) and plugin.identity else {}
            sources = {"identity": section(IdentityScience(sources=dict(outside)))} if outside else {}
            return self._add(StageSpec(
                kind="items", revisions=self._revision("items", **{f"task__{task}": plugin}), inputs=read,
                sections={f"task.{task}": section(without_generation(science), f"task:{task}"), **sources}),
                f"{label} {task}")

        return str(self._once(("items", task, id(science), read), make))

    def _scored(self, trial: Trial, task: str, subject: str, inputs: tuple[Input, ...]) -> str:
        core, plugin = trial.core, self.registries.tasks.find(task)
        assert isinstance(plugin, ItemTask)
        scoring = self._once(("scoring", id(core["downstream"])), lambda: section(ScoringScience(**{
            name: getattr(core["downstream"], name) for name in ScoringScience.model_fields})))
        fresh = {} if subject != "untrained" else {
            "transfer": section(TransferScience(embedding_init=core["transfer"].embedding_init))}
        spec = StageSpec(
            kind="downstream", inputs=inputs,
            revisions=self._revision("downstream", **{f"task__{task}": plugin}),
            sections={
                "model": self._section(core["model"]), "engine": self._section(core["engine"]),
                "seed": self._seed(trial), "scoring": scoring, **fresh,
                "measure": self._once(("scored", subject), lambda: section(MeasureScience(subject=subject))),
                f"task.{task}": self._section(core["tasks"][task], f"task:{task}"),
            },
        )
        model = f"{trial.domain} {trial.arm}"
        name = {"untrained": "untrained twin", "finetuned": f"{model} fine-tuned"}.get(subject, model)
        return self._add(spec, f"downstream {task} {name} s{trial.seed}", scoring_flops=scoring_flops(
            plugin.count(core["tasks"][task]) or 0, core["tasks"][task], core["model"], core["tokenizer"].vocabulary))
