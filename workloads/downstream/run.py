"""The stage `downstream`: one task's items scored on one model; a record for each item, a mean for each rung.

Nothing is scored that cannot be trusted: logits that are not finite make the arm not evaluable (`Diverged`), a
tokenizer that is not the checkpoint's or an item without its one score is an error, and where too many prompts have
lost their beginning no rung is given. Programs that the model writes are judged in a sandbox (`programs.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.parquet
import torch
from tokenizers import Tokenizer

from sweeps.errors import RecordError
from sweeps.language.generation import generation_of
from sweeps.language.ladder import WRITTEN
from sweeps.language.plugins import ItemTask
from sweeps.store import files
from sweeps.store.space import writing
from workloads.contract import CorpusReader, StageContext, Stopped
from workloads.data.make_corpus import INDEX
from workloads.data.make_tokenizer import TOKENIZER, load_tokenizer, token_bytes
from workloads.downstream.items import ITEMS, Posed, read
from workloads.downstream.journal import Journal
from workloads.downstream.make_items import TASK, task_of
from workloads.downstream.programs import RECORDS as PROGRAMS
from workloads.downstream.programs import Author, Programs, programs
from workloads.downstream.programs import write_records as write_programs
from workloads.downstream.rungs import chance_rungs, guessed, means, rungs, uniform, unigram
from workloads.downstream.scoring import CHOICE_STEP, LENGTH_STEP, ROWS, Encoded, Encoding, Score, scores
from workloads.training.evaluation import load_model
from workloads.training.process import join, seed_globals
from workloads.training.runs import one, open_reader

JOURNAL, RECORDS = "items.jsonl", "items.parquet"
CHANCE = "chance"
Values = Sequence[Mapping[str, float]]


def run(context: StageContext) -> Mapping[str, float]:
    """Score every item; return `TASK.LEVEL.RUNG` with what chance and a unigram model get, and what was left out.

    Raises:
        Diverged: the model's logits are not finite.
        RecordError: an input is missing, damaged or does not fit the others.
        Stopped: asked to leave; the items scored so far are kept.
    """
    place = join(context.science["engine"].threads_per_rank)
    seed_globals(context.science["seed"].seed, place.rank)
    items = read(one(context, "items"))
    tokenizer = load_tokenizer(one(context, "tokenizer") / TOKENIZER)
    reader = _corpus(context, tokenizer)
    model, vocabulary = load_model(context, tokenizer.get_vocab_size())
    if vocabulary != tokenizer.get_vocab_size():
        raise RecordError(f"the checkpoint has {vocabulary} token ids, its tokenizer {tokenizer.get_vocab_size()}; "
                          "nothing is scored with another tokenizer: plan again")
    model.register_forward_pre_hook(lambda *_: context.pulse.beat())
    encoding = Encoding(tokenizer, context.science["model"].sequence_length)
    encoded = [encoding.item(item) for item in items]
    head = {"schema_version": files.SCHEMA_VERSION, "rows": ROWS, "length_step": LENGTH_STEP,
            "choice_step": CHOICE_STEP, "device": place.device.type, "threads": torch.get_num_threads(),
            "torch": str(torch.__version__), "items": files.sha256_file(one(context, "items") / ITEMS)}
    model = model.to(place.device).eval()
    found = _score(context, model, encoded, encoding.endings_V, head)
    written = _written(context, model, tokenizer, items, head)
    laws = {CHANCE: uniform(vocabulary)} | ({} if reader is None else {"unigram": unigram(reader)})
    return _results(context, encoded, {
        "": found, **{name: [guessed(e, law_V, encoding.endings_V) for e in encoded] for name, law_V in laws.items()}},
        written)


def _corpus(context: StageContext, tokenizer: Tokenizer) -> CorpusReader | None:
    """Return the corpus that the model was trained on; None for a twin, which has none.

    Raises:
        RecordError: it was encoded with another tokenizer.
    """
    if not context.inputs("corpus"):
        return None
    folder = one(context, "corpus")
    if files.read_json(folder / INDEX)["token_bytes"] != token_bytes(tokenizer):
        raise RecordError(f"{folder} was encoded with another tokenizer than the task is; plan again")
    return open_reader(folder, context)


def _score(context: StageContext, model: Any, encoded: Sequence[Encoded], endings_V: npt.NDArray[np.bool_],
           head: Mapping[str, Any]) -> list[Score]:
    """Return the score of every item, in their order; those of earlier attempts are taken over."""
    ids = [e.item.id for e in encoded]
    if len(set(ids)) < len(ids):
        raise RecordError("two items have one id; remove the folder of stage items to make them again")
    with closing(Journal(context.attempt, JOURNAL, head, ids, Score.of)) as journal:
        missing = [e for e in encoded if e.item.id not in journal.entries]
        for score in scores(model, missing, endings_V):
            journal.add(score)
            if context.should_stop():
                raise Stopped
        if journal.entries.keys() != set(ids):
            raise RecordError(f"{len(journal.entries)} of {len(ids)} items have a score; nothing is reported of a part")
        return [journal.entries[name] for name in ids]


def _written(context: StageContext, model: Any, tokenizer: Tokenizer, items: Sequence[Posed],
             head: Mapping[str, Any]) -> Programs | None:
    """Return what the model writes, judged; None where the task does not ask for it."""
    task = task_of(context)
    plugin, generation = context.plugin(TASK + task), generation_of(context.science[TASK + task])
    if not generation.samples:
        return None
    assert isinstance(plugin, ItemTask)
    return programs(context, Author(
        model=model, tokenizer=tokenizer, sequence_length=context.science["model"].sequence_length,
        seed=context.science["seed"].seed, generation=generation,
        **({"judge": plugin.load_judge(), "stops": plugin.stops} if plugin.judge else {})), items, head)


def _results(context: StageContext, encoded: Sequence[Encoded], by_model: Mapping[str, Sequence[Score]],
             written: Programs | None) -> dict[str, float]:
    """Write the records of all items and programs, and return the means."""
    task, science = task_of(context), context.science["scoring"]
    items, own = [e.item for e in encoded], by_model[""]
    values = _values(context, items, by_model, written)
    write_records(context.attempt.artifacts / RECORDS, items, own, values)
    truncated = sum(score.truncated for score in own)
    clean = [item.clean for item in items]
    results = {"items": float(len(items)), "truncated": float(truncated), "touched": float(clean.count(False))}
    results["not_evaluable"] = 0.0
    if truncated > science.truncated_limit.ratio * len(items):
        results["not_evaluable"] = float(len(items))
    else:
        for name, of_model in values.items():
            results |= {_name(key, name): value for key, value in means(items, of_model).items()}
        kept = [place for place, untouched in enumerate(clean) if untouched]
        if 0 < len(kept) < len(items):
            of_kept = means([items[i] for i in kept], [values[""][i] for i in kept])
            results |= {_name(key, "clean"): value for key, value in of_kept.items()}
    if written is not None:
        results |= written.scores(items)
        if written.written:
            write_programs(context.attempt.artifacts / PROGRAMS, written, generation_of(context.science[TASK + task]))
    return {f"{task}.{name}": value for name, value in results.items()}


def _values(context: StageContext, items: Sequence[Posed], by_model: Mapping[str, Sequence[Score]],
            written: Programs | None) -> dict[str, Values]:
    """Return the rungs of every item, for the model and for each guess beside it."""
    task = task_of(context)
    plugin, passes = context.plugin(TASK + task), context.science["scoring"].passes
    assert isinstance(plugin, ItemTask)
    own = of_guesses = plugin.rungs
    if written is not None:  # a guess's chance to write the item's own answer is known, so it need not write any
        of_guesses, passes = (*plugin.rungs, *WRITTEN), generation_of(context.science[TASK + task]).passes
        own = tuple(rung for rung in own if rung not in WRITTEN)  # likelihood must not answer for what is not judged
    values: dict[str, Values] = {
        name: [(chance_rungs if name == CHANCE else rungs)(
            item, score, names=of_guesses if name else own, passes=passes)
            for item, score in zip(items, found, strict=True)] for name, found in by_model.items()}
    if written is not None:
        values[""] = [{**row, **written.rungs(item, passes)} for item, row in zip(items, values[""], strict=True)]
    return values


def _name(key: str, of: str) -> str:
    return f"{key}.{of}" if of else key


def write_records(path: Path, items: Sequence[Posed], own: Sequence[Score], values: Mapping[str, Values]) -> None:
    """Write one row for each item: what it is, what the model says of every choice, and every rung."""
    columns: dict[str, list[Any]] = {
        "id": [i.id for i in items], "level": [i.level for i in items], "gold": [i.gold for i in items],
        "choices": [list(i.choices_C) for i in items], "nats": [list(s.nats_C) for s in own],
        "tokens": [list(s.tokens_C) for s in own], "ending_nats": [s.ending for s in own],
        "truncated": [s.truncated for s in own], "batch_rows": [ROWS] * len(items),
        "batch_length": [s.length for s in own], "grams": [i.grams for i in items],
        **{f"touched.{domain}": [i.touched[domain] for i in items] for domain in items[0].touched},
    }
    for model, of_model in values.items():
        for rung in dict.fromkeys(name for row in of_model for name in row):
            columns[_name(rung, model)] = [row.get(rung) for row in of_model]
    with writing(path):
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
