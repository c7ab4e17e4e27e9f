"""Programs that a model writes for the items of a task, and what came of running them.

A greedy program for each item, and as many drawn ones as its science says. All are written first, then judged in the
best sandbox that holds here. Each program, and each item's verdicts, are kept as they come, so that a stage that is
killed goes on after the last one. Where no sandbox holds, or too many prompts would lose their beginning, nothing is
written, and the rungs of programs have no value.

A task with a judge of its own (`ItemTask.judge`) has answers that are read, not run: it needs no sandbox, and all else
is the same.

Shape suffix: N programs of an item, the greedy one first.
"""

from __future__ import annotations

import logging
import platform
import string
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import torch

from sweeps.language.generation import GenerationScience
from sweeps.language.ladder import EXACT, NO_SANDBOX, PASS, SANDBOX
from sweeps.store import files
from sweeps.store.space import writing
from workloads.contract import StageContext, Stopped
from workloads.downstream.items import Posed
from workloads.downstream.journal import Journal
from workloads.downstream.rungs import pass_at_k
from workloads.downstream.sampling import Ask, Sample, Sampler, Sampling
from workloads.downstream.scoring import ROWS
from workloads.sandbox.box import Box
from workloads.sandbox.confine import Limits
from workloads.sandbox.judge import FAILED, PASSED, body_of, verdicts
from workloads.sandbox.ladder import NoSandbox, open_box

SAMPLES, VERDICTS, RECORDS = "samples.jsonl", "verdicts.jsonl", "samples.parquet"
"""Journals of an attempt, and the file among its artifacts: one row for each program."""
GREEDY = 0
"""Number of an item's greedy program; drawn ones count from 1."""
STOPS = tuple(f"\n{sign}" for sign in string.printable if not sign.isspace())
"""A line that is not indented ends a function (`judge.body_of`)."""
LIMITS = Limits(wall_s=10.0, cpu_s=3)
"""Of each program. Processor time decides, as far as it can: a verdict is not to depend on how busy a machine is."""

Judge = Callable[[str, str], bool]
"""`ItemTask.judge`."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Written:
    """A program."""

    id: str
    """Of its item."""
    number: int
    text: str
    """What follows the prompt."""
    ended: str
    """What ended it (`Sample.ended`)."""
    tokens: int
    margin: float
    """The smallest of its tokens' margins (`Sample.margins`)."""
    length: int
    """Places of the prompt in its batch, padding included."""
    truncated: bool
    """The prompt has lost its beginning."""

    @property
    def key(self) -> tuple[str, int]:
        """Its item and number."""
        return self.id, self.number

    @staticmethod
    def by(sample: Sample) -> Written:
        """Return what is kept of a sample."""
        return Written(id=sample.id, number=sample.number, text=sample.text, ended=sample.ended, length=sample.length,
                       tokens=len(sample.tokens), margin=min(sample.margins), truncated=sample.truncated)

    @staticmethod
    def of(fields: dict[str, Any]) -> Written:
        """Return the program that JSON has kept."""
        return Written(**{**fields, "margin": files.number(fields["margin"])})


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The verdicts on an item's programs."""

    id: str
    passed_N: tuple[bool | None, ...]
    """None: the item's tests cannot be judged with what it returned."""
    how_N: tuple[str, ...]
    """`passed`, `failed`, or what became of it (`Verdict.how`)."""

    @property
    def key(self) -> str:
        """The item's id."""
        return self.id

    @staticmethod
    def of(fields: dict[str, Any]) -> Judged:
        """Return the verdicts that JSON has kept."""
        return Judged(id=fields["id"], passed_N=tuple(fields["passed_N"]), how_N=tuple(fields["how_N"]))

    def rungs(self, passes: Sequence[int]) -> dict[str, float]:
        """Return `exact` and `pass@k` of the item; nothing where one of its programs has no verdict."""
        if None in self.passed_N:
            return {}
        greedy, *drawn = map(bool, self.passed_N)
        return {EXACT: float(greedy), **{f"{PASS}{k}": pass_at_k(len(drawn), sum(drawn), k) for k in passes}}


@dataclass(frozen=True, kw_only=True)
class Programs:
    """What a model has written for a task, and what came of it."""

    truncated: int
    """Prompts that lose their beginning."""
    sandbox: str = ""
    """Its kind; `NO_SANDBOX`; empty: none was needed, or nothing was written."""
    written: Sequence[Written] = ()
    judged: Mapping[str, Judged] = field(default_factory=dict)
    """By the item's id."""

    def rungs(self, item: Posed, passes: Sequence[int]) -> dict[str, float]:
        """Return `exact` and `pass@k` of an item; nothing where they cannot be told."""
        return self.judged[item.id].rungs(passes) if item.id in self.judged else {}

    def scores(self, items: Sequence[Posed]) -> dict[str, float]:
        """Return what the stage's result says of the programs beside their rungs."""
        return {"programs.truncated": float(self.truncated),
                "programs.not_evaluable": float(sum(not self.rungs(item, ()) for item in items)),
                **({f"{SANDBOX}.{self.sandbox}": 1.0} if self.sandbox else {})}


@dataclass(frozen=True, kw_only=True)
class Author:
    """Writes programs with a model."""

    model: Any
    tokenizer: Any
    sequence_length: int
    seed: int
    generation: GenerationScience
    judge: Judge | None = None
    """What reads the answers; None: they are programs, and are run."""
    stops: tuple[str, ...] = STOPS

    def sampler(self, temperature: float) -> Sampler:
        """Return what writes at this temperature."""
        return Sampler(self.model, self.tokenizer, self.sequence_length, Sampling(
            seed=self.seed, temperature=temperature, longest=self.generation.max_new_tokens, stops=self.stops))


def programs(context: StageContext, author: Author, items: Sequence[Posed], head: Mapping[str, Any]) -> Programs:
    """Write the programs and judge them.

    Args:
        context: the stage; its records are kept, and what earlier attempts have left is taken over.
        author: what writes.
        items: with tests, where they are run.
        head: what makes log-probabilities comparable bit by bit.

    Raises:
        Diverged: the model's logits are not finite.
        BrokenSandbox: the sandbox died, and could not be started again.
        Stopped: asked to leave; what was found so far is kept.
    """
    asked = author.generation
    greedy, drawing = author.sampler(0.0), author.sampler(asked.temperature)
    truncated = sum(greedy.truncates(item.prompt) for item in items)
    if truncated > context.science["scoring"].truncated_limit.ratio * len(items):
        return Programs(truncated=truncated)
    head = {**head, "longest": asked.max_new_tokens}
    samplers = ((range(GREEDY, 1), greedy), (range(1, 1 + asked.samples), drawing))
    if author.judge is not None:
        written = _written(context, samplers, items, head)
        return Programs(truncated=truncated, written=written, judged=_read(author.judge, items, written))
    try:
        box = open_box(LIMITS, workers=torch.get_num_threads(), unsafe=context.execution.unsafe_exec)
    except NoSandbox as reason:
        log.warning("no program is written or run: %s", reason)
        return Programs(truncated=truncated, sandbox=NO_SANDBOX)
    written = _written(context, samplers, items, head)
    judged = _judged(context, box, items, written, {
        **head, "sandbox": box.kind.name, "limits": asdict(LIMITS), "python": platform.python_version()})
    return Programs(truncated=truncated, sandbox=box.kind.name, written=written, judged=judged)


def _written(context: StageContext, samplers: Sequence[tuple[range, Sampler]], items: Sequence[Posed],
             head: Mapping[str, Any]) -> list[Written]:
    """Return the programs of each item, in order; each sampler writes those with its numbers."""
    keys = [(item.id, number) for item in items for numbers, _ in samplers for number in numbers]
    with closing(Journal(context.attempt, SAMPLES, head, keys, Written.of)) as journal:
        for numbers, sampler in samplers:
            missing = [Ask(id=item.id, prompt=item.prompt,
                           numbers=[n for n in numbers if (item.id, n) not in journal.entries]) for item in items]
            for sample in sampler([ask for ask in missing if ask.numbers]):
                journal.add(Written.by(sample))
                if context.should_stop():
                    raise Stopped
        return [journal.entries[key] for key in keys]


def _read(judge: Judge, items: Sequence[Posed], written: Sequence[Written]) -> dict[str, Judged]:
    """Return the verdicts of a task's own judge."""
    passed: dict[str, list[bool]] = {item.id: [] for item in items}
    answer = {item.id: item.choices_C[item.gold] for item in items}
    for one in written:
        passed[one.id].append(judge(one.text, answer[one.id]))
    return {name: Judged(id=name, passed_N=tuple(of_item), how_N=tuple(PASSED if p else FAILED for p in of_item))
            for name, of_item in passed.items()}


def _judged(context: StageContext, box: Box, items: Sequence[Posed], written: Sequence[Written],
            head: Mapping[str, Any]) -> dict[str, Judged]:
    """Return the verdicts on each item's programs; equal programs are run once."""
    of_item: dict[str, list[str]] = {}
    for one in written:
        of_item.setdefault(one.id, []).append(body_of(one.text))
    with closing(Journal(context.attempt, VERDICTS, head, of_item, Judged.of)) as journal, box:
        for item in items:
            if item.id in journal.entries:
                continue
            texts = of_item[item.id]
            distinct = list(dict.fromkeys(texts))
            found = dict(zip(distinct, verdicts(box, [item], [distinct])[0], strict=True))
            journal.add(Judged(id=item.id, passed_N=tuple(found[text].passed for text in texts),
                               how_N=tuple(found[text].how for text in texts)))
            if context.should_stop():
                raise Stopped
        return {item.id: journal.entries[item.id] for item in items}


def write_records(path: Path, found: Programs, generation: GenerationScience) -> None:
    """Write one row for each program: what it is, how it was drawn, what came of it, and where."""
    verdict = {(j.id, n): (j.passed_N[n], j.how_N[n]) for j in found.judged.values() for n in range(len(j.how_N))}
    columns = {name: [getattr(one, name) for one in found.written]
               for name in ("id", "number", "text", "ended", "tokens", "margin", "truncated")}
    columns |= {
        "temperature": [generation.temperature if one.number else 0.0 for one in found.written],
        "passed": [verdict[one.key][0] for one in found.written], "how": [verdict[one.key][1] for one in found.written],
        "sandbox": [found.sandbox] * len(found.written), "batch_rows": [ROWS] * len(found.written),
        "batch_length": [one.length for one in found.written],
    }
    with writing(path):
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
