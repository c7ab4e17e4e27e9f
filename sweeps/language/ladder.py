"""The ladder of a downstream task: what is measured of an item, from what moves first to what people ask for.

A small model answers nothing, so accuracy says nothing about it; the lower rungs move earlier (OLMES, arXiv 2406.08446;
DataDecide, arXiv 2504.11393). Every rung has a value for each item; a score is the mean over items.

    bits_per_byte  of a domain's held-out text: below all items, measured by task `domain_loss`
    answer_bits    bits per byte of the right answer, given the prompt
    probability    p(right) / sum of p over the choices
    margin         log p(right) - log p(most likely wrong choice), nats
    cloze          1 / t where the right choice is one of the t most likely, else 0: a tie shares the point
    exact          1 where greedy decoding writes the right answer and ends it there
    pass@k         chance that one of k samples at temperature 1 does, 1 - (1 - p)^k with the model's own p

Where a model writes (`generation`), many texts are right: programs are run and judged by tests, of a worked solution
the number at its end is read. In the place of the two above:

    exact          1 where what is written greedily is right
    pass@k         chance that one of k drawn texts is, by the unbiased estimate of n >= k of them
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

DOWNSTREAM, DOWNSTREAM_TWIN, DOWNSTREAM_UNTUNED = "downstream", "downstream_twin", "downstream_untuned"
"""Roles on a trial's path of a task's scores: on the final model, which is the fine-tuned one where the task is
fine-tuned; on the untrained one; and on the final model before its fine-tuning."""
FINETUNE = "finetune"
"""Role of the steps that fine-tune."""
EXACT, PASS = "exact", "pass@"
CHOSEN = ("answer_bits", "probability", "margin", "cloze")
"""Rungs that read log-probabilities of given texts alone."""
WRITTEN = (EXACT, PASS)
"""Rungs where the model writes the answer; `pass@` stands for every k."""
ANSWERED = (*CHOSEN, *WRITTEN)
"""All rungs."""
SANDBOX, NO_SANDBOX, UNSAFE = "sandbox", "none", "unsafe"
"""A score `TASK.sandbox.KIND` says what a model's programs ran in; `none`: no kind holds there, so none was run;
`unsafe`: in no sandbox, as a person has typed --unsafe-exec."""
CHOICES = ("probability", "margin", "cloze")
"""Rungs that need wrong choices."""
TEXT = "bits_per_byte"
"""The lowest rung, of no item: bits per byte of a domain's held-out text, which `TEXT_TASK` measures."""
TEXT_TASK = "domain_loss"
SHARE = "share"
"""Unit of what lies between 0 and 1."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """What a rung's numbers are."""

    unit: str
    higher_is_better: bool = True

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return 1 if self.higher_is_better else -1


LADDER: Mapping[str, Rung] = {
    "answer_bits": Rung(unit="bits/byte", higher_is_better=False), "probability": Rung(unit=SHARE),
    "margin": Rung(unit="nats"), "cloze": Rung(unit=SHARE), EXACT: Rung(unit=SHARE), PASS: Rung(unit=SHARE),
}
"""Of items, in the order of the ladder."""
TEXT_RUNG = Rung(unit="bits/byte", higher_is_better=False)


def rung_of(name: str) -> Rung | None:
    """Return what `cloze` or `pass@10` is, None for what is no rung."""
    return LADDER.get(re.sub(r"^pass@[1-9]\d*$", PASS, name)) if name != PASS else None
