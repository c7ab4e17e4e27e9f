"""The stage `evaluate`: load a model, run every task on it.

A model whose logits are not finite is not evaluable: argmax of NaN scores 100 % on some tasks. It raises `Diverged`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sweeps.errors import RecordError
from sweeps.store import files
from workloads.contract import CorpusReader, Diverged, SequenceSource, StageContext
from workloads.training.losses import Logits
from workloads.training.model import INPUT, build_model, empty_model
from workloads.training.process import join, seed_globals
from workloads.training.runs import one, open_reader, upstream_source
from workloads.training.transfer import load_weights, read_weights

CORPUS = "corpus:"
"""Prefix of the roles of corpora; the domain follows."""
TASK = "task."
"""Prefix of the sections of tasks; the task's key follows."""


@dataclass(kw_only=True)
class Measured:
    """The subject of all tasks of a stage; keeps `workloads.contract.Subject`."""

    model: Any
    device: torch.device
    vocabulary: int
    sequence_length: int
    seed: int
    tokens: int
    corpora: Mapping[str, CorpusReader] = field(default_factory=dict)
    source: SequenceSource | None = None
    held_out: SequenceSource | None = None


def evaluate(context: StageContext) -> Mapping[str, float]:
    """Return the scores of every task, each name after its task's key: `domain_loss.web.loss`.

    Raises:
        Diverged: the model's logits are not finite.
        RecordError: an input is missing or damaged.
        Stopped: asked to leave; nothing is kept, evaluations are short.
    """
    place = join(context.science["engine"].threads_per_rank)
    seed_globals(context.science["seed"].seed, place.rank)
    subject = _subject(context, place.device)
    scores: dict[str, float] = {}
    for section in context.science:
        if section.startswith(TASK):
            measure = context.plugin(section).load()
            measured: Mapping[str, float] = measure(context.science[section], subject)
            scores |= {f"{section.removeprefix(TASK)}.{name}": value for name, value in measured.items()}
    if not scores:
        raise RecordError("a stage evaluate without tasks measures nothing")
    return scores


def _subject(context: StageContext, device: torch.device) -> Measured:
    science = context.science
    corpora = {
        role.removeprefix(CORPUS): open_reader(one(context, role), context)
        for role in _roles(context) if role.startswith(CORPUS)
    }
    model, vocabulary = load_model(context, next(iter(corpora.values())).vocabulary if corpora else None)
    model.register_forward_pre_hook(lambda *_: context.pulse.beat())
    subject = Measured(
        model=model.to(device).eval(), device=device, vocabulary=vocabulary, corpora=corpora,
        sequence_length=science["model"].sequence_length, seed=science["seed"].seed, tokens=science["measure"].tokens,
    )
    if "upstream" in science:
        subject.source = upstream_source(context, stream="train", role="bank")
        subject.held_out = upstream_source(context, stream="held_out", role="bank_held_out")
    return subject


def _roles(context: StageContext) -> list[str]:
    """Return the roles of the stage's inputs, as its spec on disk lists them."""
    return [given["role"] for given in files.read_json(context.attempt.stage.spec)["inputs"]]


def load_model(context: StageContext, text_vocabulary: int | None) -> tuple[Any, int]:
    """Return the model that a stage measures, and its vocabulary: a finished one, or the untrained twin of one.

    Args:
        context: the stage.
        text_vocabulary: token ids of the tokenizer, which a twin has; None: the stage reads no text.

    Raises:
        RecordError: an input is missing or damaged.
    """
    science = context.science
    if science["measure"].subject != "untrained":
        weights = read_weights(one(context, "model"))
        vocabulary = len(weights[INPUT])
        model = empty_model(science["model"], vocabulary)
        load_weights(model, weights)
        return model, vocabulary
    if text_vocabulary is None:
        raise RecordError("the untrained twin needs a corpus: it has the vocabulary of the trained model")
    return build_model(
        science["model"], text_vocabulary, seed=science["seed"].seed, purpose="pretrain",
        embedding_std=science["transfer"].embedding_init,
    ), text_vocabulary


def logits_of(subject: Any) -> Logits:
    """Return the function that gives a subject's logits, refusing those that are not finite."""
    def logits(tokens_BT: npt.NDArray[np.int32]) -> torch.Tensor:
        with torch.inference_mode():
            tokens = torch.from_numpy(np.ascontiguousarray(tokens_BT, dtype=np.int64)).to(subject.device)
            out: torch.Tensor = subject.model(input_ids=tokens).logits
            if not bool(torch.isfinite(torch.stack(torch.aminmax(out))).all()):  # a NaN is both
                raise Diverged("the model's logits are not finite, so this arm cannot be evaluated")
            return out

    return logits
