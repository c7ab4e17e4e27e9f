"""Fine-tuning: a task's recipe, and the items that it trains on. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeps.language.plugins import ItemTask, Science
from sweeps.language.resolve import FINETUNE, Resolver
from sweeps.language.science import FinetuneScience


@dataclass(frozen=True, kw_only=True)
class Finetuning:
    """How a trial's final model is fine-tuned for one task."""

    recipe: FinetuneScience
    items: Science
    """The task's fields, of its training items."""


def finetunings(resolver: Resolver, core: Mapping[str, Any], extras: Mapping[str, Any]
                ) -> dict[str, Finetuning | None]:
    """Return task -> its fine-tuning, for each of `downstream.finetune`; None where a problem was noted.

    Args:
        resolver: takes the problems.
        core: the trial's sections, with its tasks.
        extras: its values on further axes.
    """
    if any(core[section] is None for section in ("model", "downstream", FINETUNE)):
        return {}
    own = {k.partition(".")[2]: v for k, v in extras.items() if k.startswith(FINETUNE + ".")}
    found: dict[str, Finetuning | None] = {}
    for task in core["downstream"].finetune:
        plugin, science = resolver.registries.tasks.get(task), core.get("tasks", {}).get(task)
        found[task] = None
        reason: str | None = None
        if task not in core["downstream"].tasks:
            reason = "is none of downstream.tasks; name it there too"
        elif isinstance(plugin, ItemTask) and science is not None:
            found[task], reason = _finetuning(resolver.recipe(plugin, own), plugin, science)
            longest, length = core["model"].sequence_length, core[FINETUNE].sequence_length or 0
            if length > longest:
                reason = f"has rows of finetune.sequence_length = {length} tokens; the model has {longest}"
        if reason is not None:
            resolver.problem("fields.downstream.finetune", task, reason)
    return found


def _finetuning(recipe: FinetuneScience | None, plugin: ItemTask, science: Science
                ) -> tuple[Finetuning | None, str | None]:
    """Return a task's fine-tuning, or why it has none."""
    if recipe is None:
        return None, None
    if plugin.training is None:
        return None, "has no training items; leave it out"
    try:
        return Finetuning(recipe=recipe, items=plugin.training(science, recipe)), None
    except ValueError as error:
        return None, str(error)
