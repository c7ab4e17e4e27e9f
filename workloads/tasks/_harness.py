"""Definitions of lm-evaluation-harness as items: its own code builds every context and choice. Heavy.

What it would send to a model is taken over byte for byte, blanks at a context's end before each choice, where its
models move them. Nothing is read but what is pinned: datasets of the Hub at their commits, and the folder.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from jinja2 import TemplateError  # of the templates of definitions

from sweeps.errors import UsageError
from workloads.contract import Brought, Item
from workloads.data.hub import Dataset
from workloads.downstream.items import checked
from workloads.tasks._official import verified
from workloads.tasks.harness import HarnessScience, identity

log = logging.getLogger(__name__)

SEED = 1234
"""Of shots: the default of lm-eval's `fewshot_random_seed`."""
BUILDERS = ("json", "csv", "parquet", "text", "arrow")
"""What a definition may read files of its folder with, as `dataset_path`."""
REFUSED = {
    "class": "is a Python class, and no definition", "use_prompt": "takes its prompt from elsewhere",
    "process_results": "tells right from wrong by a function of its own",
    "custom_dataset": "makes its data by a function, which nothing pins",
    "doc_to_image": "shows pictures", "doc_to_audio": "plays sounds",
}
OURS = ("tag", "group", "task_list", "filter_list", "metric_list", "dataset_kwargs")
"""What of a definition is not for the object that is made of it, or not used here."""
METRICS = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
"""In place of a definition's own, which may be downloaded code; none is computed."""
BROKEN = (OSError, ValueError, TypeError, LookupError, RuntimeError, SyntaxError, AttributeError, AssertionError,
          ImportError, TemplateError)
"""What a definition that does not fit its data, or its code, raises."""


@dataclass(frozen=True)
class Together:
    """Several datasets of the Hub as one `workloads.contract.Remote`."""

    parts: list[Dataset]

    @property
    def label(self) -> str:
        """Of all."""
        return ", ".join(part.label for part in self.parts)

    @property
    def place(self) -> Path:
        """The Hub's cache."""
        return self.parts[0].place

    @property
    def complete(self) -> bool:
        """Whether all were brought here."""
        return all(part.complete for part in self.parts)

    def missing_bytes(self) -> int:
        """Return what is still to be brought of all."""
        return sum(part.missing_bytes() for part in self.parts)

    def bring(self, report: Callable[[Brought], None] = lambda _: None) -> None:
        """Bring one after another; raises as they do."""
        total, before = self.missing_bytes(), 0
        for part in self.parts:
            own = part.missing_bytes()
            part.bring(lambda b, done=before: report(  # type: ignore[misc]
                Brought(done_bytes=done + b.done_bytes, of_bytes=total)))
            before += own


def items(science: HarnessScience) -> list[Item]:
    """Return the items of every task, in the order of its documents.

    Raises:
        UsageError: there is no such task, it is not of a kind that can be asked here, its documents are not, or the
            items are not those that are pinned.
        EnvironmentError_: lm-eval is missing, or a dataset is not here and cannot be brought.
    """
    identity(science)
    index = _index(science)
    with TemporaryDirectory(prefix="harness-") as cache:
        found = [item for name in science.tasks for item in _items(name, _task(name, index, science, cache), science)]
    return verified("harness", found, science)


def _index(science: HarnessScience) -> Mapping[str, Any]:
    """Return name -> entry of the folder's definitions, and lm-eval's own where these are not enough."""
    from lm_eval.tasks import TaskManager

    place = science.place()
    own = TaskManager(include_path=str(place), include_defaults=False).task_index if place else {}
    return own if own.keys() >= set(science.tasks) else {**TaskManager().task_index, **own}


def _task(name: str, index: Mapping[str, Any], science: HarnessScience, cache: str) -> Any:
    """Return lm-eval's task, with its instances built."""
    from datasets.exceptions import DatasetsError
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    entry = _allowed(name, index)
    _see_includes(entry.yaml_path, science.place())
    data = _data(name, entry.cfg, science) | {"metric_list": METRICS}
    try:
        config = {key: value for key, value in load_yaml(entry.yaml_path).items() if key not in OURS} | data
        config["dataset_kwargs"]["cache_dir"] = cache  # what other data has left in the user's is never read
        task = ConfigurableTask(config=config)
        stated = task.config.num_fewshot
        if stated is None or (stated and science.shots is not None):
            task.set_config("num_fewshot", science.shots or 0)
        task.set_fewshot_seed(SEED)
        task.build_all_requests(limit=science.limit)
    except (*BROKEN, DatasetsError) as error:
        raise UsageError(f"harness, {name} ({entry.yaml_path}): lm-eval cannot build it: {type(error).__name__}: "
                         f"{error}") from error
    return task


def _allowed(name: str, index: Mapping[str, Any]) -> Any:
    """Return the entry of a task, if it is of a kind that can be asked here."""
    if name not in index:
        near = difflib.get_close_matches(name, index, n=5)
        raise UsageError(f"harness.tasks: there is no {name!r} in the folder or in lm-eval; "
                         f"{'near it: ' + ', '.join(near) if near else '`lm-eval ls tasks` lists its own'}")
    entry = index[name]
    members = sorted(entry.tags) if entry.kind.name == "TAG" else (
        [str(m if isinstance(m, str) else m.get("task", m)) for m in entry.cfg.get("task") or ()]
        if entry.kind.name == "GROUP" else None)
    if members is not None:
        raise UsageError(f"harness.tasks: {name} stands for several tasks; name those that you mean: "
                         f"{', '.join(members)}")
    kind = entry.cfg.get("output_type", "generate_until")
    wrong = [why for key, why in REFUSED.items() if entry.cfg.get(key)]
    if kind != "multiple_choice" or wrong:
        raise UsageError(
            f"harness.tasks: {name} {wrong[0] if wrong else f'is of output_type {kind}'}; what is taken from lm-eval "
            "is multiple_choice, of which one choice is right (written answers: the tasks gsm8k and humaneval; bits of "
            "a text: the task domain_loss)")
    return entry


def _see_includes(path: Path, place: Path | None) -> None:
    """See that a definition of the folder includes nothing from elsewhere, which would not be in its SHA-256."""
    from lm_eval.tasks._yaml_loader import load_yaml

    if place is None or not path.is_relative_to(place):
        return
    stated = load_yaml(path, resolve_func=False, recursive=False).get("include", [])
    for name in [stated] if isinstance(stated, str) else stated:
        included = (path.parent / name).resolve()
        if not included.is_relative_to(place):
            raise UsageError(f"{path} includes {name}, which is not in harness.folder; copy it there")
        _see_includes(included, place)


def _data(name: str, config: Mapping[str, Any], science: HarnessScience) -> dict[str, Any]:
    """Return where a definition's data lies here, in its own words.

    Raises:
        UsageError: nothing pins it.
    """
    given = {key: value for key, value in (config.get("dataset_kwargs") or {}).items()
             if key not in ("revision", "trust_remote_code", "streaming")}
    path, hub = str(config.get("dataset_path")), science.hub()
    if path in hub:
        remote = Dataset(hub[path])
        remote.bring()
        return {"dataset_path": str(remote.folder()), "dataset_kwargs": given}
    if path in BUILDERS and given.get("data_files"):
        return {"dataset_kwargs": {**given, "data_files": _inside(name, given["data_files"], science.place())}}
    raise UsageError(f"harness, {name}: its data is {path}, which may be other data tomorrow; name a commit of that "
                     f"dataset of the Hub, harness.datasets: ['{path}@COMMIT'] (git ls-remote "
                     f"https://huggingface.co/datasets/{path})")


def _inside(name: str, files: Any, place: Path | None) -> Any:
    """Return a definition's `data_files` with their places here, if they lie in the folder."""
    if isinstance(files, Mapping):
        return {split: _inside(name, part, place) for split, part in files.items()}
    if isinstance(files, list):
        return [_inside(name, part, place) for part in files]
    if place is None or "://" in files or files.startswith(("/", "~")) or ".." in PurePosixPath(files).parts:
        raise UsageError(f"harness, {name}: it reads {files}, which nothing pins; let it lie in harness.folder beside "
                         "the definition, and name it relative to that folder")
    return str(place / files)


def _items(name: str, task: Any, science: HarnessScience) -> Iterator[Item]:
    """Yield the items of a task; see that none is lost unsaid."""
    unfit: dict[int, str] = {}
    fit = 0
    for number, instances in groupby(task.instances, key=lambda instance: instance.doc_id):
        try:
            yield _item(name.replace(".", "_"), number, task, list(instances))
            fit += 1
        except UsageError as error:
            unfit[number] = str(error)
    if unfit and (science.unfit == "refuse" or not fit):
        first = next(iter(unfit))
        raise UsageError(f"harness, {name}: {len(unfit)} of {len(unfit) + fit} documents cannot be asked here, first "
                         f"{first}: {unfit[first]}" + ("; harness.unfit: leave_out leaves them out" if fit else ""))
    if unfit:
        log.warning("harness, %s: left out, as they cannot be asked: %s", name, unfit)


def _item(level: str, number: int, task: Any, instances: list[Any]) -> Item:
    """Return a document as an item: what lm-eval would ask, choice by choice.

    Raises:
        UsageError: it is none.
    """
    doc, contexts = instances[0].doc, {instance.args[0] for instance in instances}
    if len(contexts) > 1:
        raise UsageError("it asks for one continuation of several contexts, and an item has one")
    whole = contexts.pop()
    bare = task.fewshot_context(doc, num_fewshot=0, gen_prefix=task.doc_to_prefix(doc))
    prompt = bare.removeprefix(task.resolve_field(doc, task.config.description) or "")
    shots = whole.removesuffix(prompt) if prompt.strip() else ""
    prompt = whole[len(shots):].rstrip()
    blanks = whole[len(shots) + len(prompt):]
    choices = [blanks + instance.args[1] for instance in instances]
    right = task.doc_to_target(doc)
    if isinstance(right, str) and right in task.doc_to_choice(doc):
        right = task.doc_to_choice(doc).index(right)
    if not isinstance(right, int) or not 0 <= right < len(choices) or len(choices) < 2:
        raise UsageError(f"of its {len(choices)} choices {right!r} is right; one of several must be")
    answer = choices.pop(right)
    if prompt and prompt + answer in shots:  # lm-eval may draw shots from the documents that it asks
        raise UsageError("it is among its own shots, answer included")
    return checked("harness", [Item(id=f"{level}-{number}", level=level, prompt=prompt, answer=answer,
                                    distractors=tuple(choices), shots=shots)])[0]
