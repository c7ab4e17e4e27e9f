"""Task `induction`: a list of words with a number each, then one of the words again: which number was it?"""

from __future__ import annotations

from sweeps.language.plugins import ItemTask
from workloads.tasks._drawn import DrawnScience, training


class InductionScience(DrawnScience):
    """Level 1 has 2 pairs, level 2 has 4, level 3 has 8; the wrong choices are the other pairs' numbers."""


PLUGIN = ItemTask(science=InductionScience, revision=1, implementation="workloads.tasks._induction:items",
                  training=training, count=lambda science: 3 * science.items)
