"""The stages `prepretrain` and `pretrain`: put a run together from a stage's context and train it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sweeps.errors import RecordError, UsageError
from sweeps.language.mixture import PART
from sweeps.language.plugins import Upstream
from workloads.contract import CorpusReader, MixturePart, Repeating, SequenceSource, StageContext, Stopped
from workloads.training.checkpoints import find_start
from workloads.training.feeds import CorpusFeed, Feed, UpstreamFeed
from workloads.training.loop import Run, Trainer, Validation
from workloads.training.micro_batch import settled
from workloads.training.model import PREPRETRAIN_EMBEDDING_STD, build_model, empty_model
from workloads.training.process import join, seed_globals
from workloads.training.transfer import carry_over, read_weights, rescale_body


def prepretrain(context: StageContext) -> Mapping[str, float]:
    """Train on the upstream up to the segment's end.

    Raises:
        Stopped: asked to leave.
        Diverged: a loss is not finite.
        RecordError: a needed checkpoint or bank is damaged.
    """
    began = time.monotonic()
    source = upstream_source(context, stream="train", role="bank")
    feed = UpstreamFeed(source)
    scores = train(context, feed, began=began, fresh=lambda: build_model(
        context.science["model"], feed.vocabulary, seed=context.science["seed"].seed, purpose="prepretrain",
        embedding_std=PREPRETRAIN_EMBEDDING_STD))
    return with_epochs(scores, source, source.sequence_length)


def pretrain(context: StageContext) -> Mapping[str, float]:
    """Train on a domain's corpus up to the segment's end; its trunk begins with the transferred body, if there is one.

    Raises:
        Stopped: asked to leave.
        Diverged: a loss is not finite.
        RecordError: a needed checkpoint, body or corpus is damaged.
    """
    began = time.monotonic()
    science = context.science
    reader = open_reader(one(context, "corpus"), context)

    def fresh() -> Any:
        model = build_model(science["model"], reader.vocabulary, seed=science["seed"].seed, purpose="pretrain",
                            embedding_std=science["transfer"].embedding_init)
        _transfer(context, model)
        return model

    scores = train(context, CorpusFeed(reader), began=began, fresh=fresh,
                   validation=Validation(science=science["validation"], reader=reader))
    return with_epochs(scores, reader, reader.sequence_length)


def with_epochs(scores: Mapping[str, float], data: object, sequence_length: int) -> Mapping[str, float]:
    """Return the scores, and how many epochs of the data the run has consumed since it began, if that ever repeats."""
    if not isinstance(data, Repeating):
        return scores
    return {**scores, "epochs": scores["tokens"] / (data.train_sequences * sequence_length)}


def train(
    context: StageContext, feed: Feed, *, began: float, fresh: Callable[[], Any], validation: Validation | None = None,
    sequence_length: int | None = None,
) -> Mapping[str, float]:
    """Train up to the segment's end, from the furthest sound checkpoint of the run.

    Args:
        context: the stage.
        feed: what it trains on.
        began: when the stage began, `time.monotonic()` seconds.
        fresh: makes the model that the run begins with, where there is no checkpoint.
        validation: evaluations along the run.
        sequence_length: tokens of the feed's sequences; None: the model's.

    Raises:
        Stopped: asked to leave.
        Diverged: a loss is not finite.
        RecordError: a needed checkpoint is damaged.
    """
    science = context.science
    place = join(science["engine"].threads_per_rank)
    if any(place.any(context.should_stop())):  # asked during the imports, which take seconds
        raise Stopped("stopped before the first update")
    seed = science["seed"].seed
    start = place.decide(lambda: find_start(context, science["segment"]))
    model = empty_model(science["model"], feed.vocabulary) if start is not None else fresh()
    shape = science["model"]
    shape = shape.model_copy(update={"sequence_length": sequence_length or shape.sequence_length})
    execution = settled(context, place, model, start, vocabulary=feed.vocabulary)
    seed_globals(seed, place.rank)
    run = Run(
        context=context, place=place, model=model, start=start, feed=feed, optim=science["optim"],
        segment=science["segment"], engine=science["engine"], sequence_length=shape.sequence_length,
        flops_per_token=shape.flops_per_token(feed.vocabulary), began=began, validation=validation,
        execution=execution,
    )
    return Trainer(run).train()


def _transfer(context: StageContext, model: Any) -> None:
    """Put what the upstream's run left into a fresh model: what `transfer.*` carries over, or its norms alone."""
    given = [(role, folder) for role in ("body", "norms") for folder in context.inputs(role)]
    if len(given) > 1:
        raise RecordError(f"one body can be transferred, {len(given)} were given")
    for role, folder in given:
        if role == "norms":
            rescale_body(model, read_weights(folder))
        else:
            carry_over(model, read_weights(folder), context.science["transfer"])


def one(context: StageContext, role: str) -> Path:
    """Return the artifact folder of the only input with this role.

    Raises:
        RecordError: there is none, or more than one.
    """
    found = context.inputs(role)
    if len(found) != 1:
        raise RecordError(f"stage {context.kind}/{context.fingerprint} needs one input {role!r}, got {len(found)}")
    return found[0]


def open_reader(folder: Path, context: StageContext) -> CorpusReader:
    """Return the corpus in an artifact folder, in the order of the stage's seed."""
    from workloads.data.corpus import open_corpus

    reader: CorpusReader = open_corpus(
        folder, seed=context.science["seed"].seed, sequence_length=context.science["model"].sequence_length
    )
    return reader


def upstream_source(context: StageContext, *, stream: str, role: str) -> SequenceSource:
    """Return a stream of the stage's upstream, from the rule banks or the corpus with this role."""
    parts = [name.removeprefix(PART) for name in context.science if name.startswith(PART)]
    if not parts:
        return _source(context, "upstream", stream, role)
    made: SequenceSource = context.plugin("upstream").load()(
        context.science["upstream"], seed=context.science["seed"].seed, stream=stream,
        sequence_length=context.science["model"].sequence_length,
        parts={name: _part(context, name, stream, role) for name in parts},
    )
    return made


def _source(context: StageContext, section: str, stream: str, role: str) -> SequenceSource:
    source: SequenceSource = context.plugin(section).load()(
        context.science[section], seed=context.science["seed"].seed, stream=stream,
        sequence_length=context.science["model"].sequence_length, banks=context.inputs(role),
    )
    return source


def _part(context: StageContext, name: str, stream: str, role: str) -> MixturePart:
    """Return a part of a mixture; without its source where it has a bank and no sequence here reads it.

    Raises:
        UsageError: the upstream of a part states no vocabulary and reads no corpus.
    """
    section, role = PART + name, f"{role}.{name}"
    plugin = context.plugin(section)
    assert isinstance(plugin, Upstream)
    unread = plugin.bank is not None and not context.inputs(role)
    source = None if unread else _source(context, section, stream, role)
    key = context.science["upstream"].parts[name].upstream
    if plugin.vocabulary is not None:
        vocabulary = plugin.vocabulary(context.science[section])
    elif source is not None:
        vocabulary = source.vocabulary
    else:
        raise UsageError(f"the upstream {key} has a bank and states no vocabulary; it cannot be a part of a mixture")
    return MixturePart(source=source, family=plugin.inherits or key, vocabulary=vocabulary)
