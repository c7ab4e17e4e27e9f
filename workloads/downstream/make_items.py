"""The stage `items`: a task's items, checked, shuffled and compared with training texts, once for all models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from sweeps.errors import RecordError
from sweeps.language.plugins import ItemTask
from sweeps.store import files
from workloads.contract import StageContext, Stopped
from workloads.data.identity import check_identity
from workloads.data.make_text import TRAIN, read_texts
from workloads.downstream import contamination
from workloads.downstream.items import ITEMS, apart, checked, posed, read, write

ASK_EVERY = 256
"""Documents between two questions whether to stop."""
TASK = "task."
"""Prefix of the section of the task; its key follows."""
APART = "apart"
"""Role of the items that these must not be: those that are asked, where these are trained on."""
IDENTITY = "identity"
"""Section of what the plan saw of outside data."""
TEXT = "text:"
"""Prefix of the roles of texts; the domain follows."""


def run(context: StageContext) -> Mapping[str, float]:
    """Write the items; return their number, and how many a training text holds in part.

    Raises:
        UsageError: the task's items are not sound, or training items are among those that are asked.
        EnvironmentError_: what the task reads here is not what the plan saw.
        RecordError: an input is missing.
        Stopped: asked to leave; nothing is kept, it takes seconds.
    """
    task = task_of(context)
    section = TASK + task
    plugin = context.plugin(section)
    assert isinstance(plugin, ItemTask)
    if IDENTITY in context.science:  # of a task that reads outside data
        check_identity(plugin, context.science[section], context.science[IDENTITY])
    items = checked(task, plugin.load()(context.science[section]))
    found = [replace(posed(task, item), grams=len(contamination.grams_of(item.prompt + item.answer)))
             for item in items]
    for role in roles_of(context):
        if role.startswith(TEXT):
            [folder] = context.inputs(role)
            held = contamination.shares(items, _heard(context, read_texts(folder / TRAIN)))
            found = [replace(item, touched={**item.touched, role.removeprefix(TEXT): share})
                     for item, share in zip(found, held, strict=True)]
    for folder in context.inputs(APART):
        apart(task, found, read(folder))
    write(context.attempt.artifacts / ITEMS, found)
    return {"items": float(len(found)), "touched": float(sum(not item.clean for item in found)),
            "too_short_to_tell": float(sum(not item.grams for item in found))}


def _heard(context: StageContext, texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts, and now and then say that the stage lives and ask whether it is to go on."""
    for number, text in enumerate(texts):
        if number % ASK_EVERY == 0 and context.should_stop():
            raise Stopped
        yield text


def task_of(context: StageContext) -> str:
    """Return the key of the one task of a stage.

    Raises:
        RecordError: it has none, or several.
    """
    found = [section.removeprefix(TASK) for section in context.science if section.startswith(TASK)]
    if len(found) != 1:
        raise RecordError(f"stage {context.kind} has {len(found)} tasks; it needs one: plan again")
    return found[0]


def roles_of(context: StageContext) -> list[str]:
    """Return the roles of the stage's inputs, as its spec on disk lists them."""
    return [given["role"] for given in files.read_json(context.attempt.stage.spec)["inputs"]]
