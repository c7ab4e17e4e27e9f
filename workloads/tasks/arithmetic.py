"""Task `arithmetic`: word problems with numeric answers, in the shape of GSM8K's, of one to three steps."""

from __future__ import annotations

from sweeps.language.plugins import ItemTask
from workloads.tasks._drawn import DrawnScience, training


class ArithmeticScience(DrawnScience):
    """Level n has n steps: level 1 with numbers up to 9, level 2 up to 20, level 3 up to 50."""


PLUGIN = ItemTask(science=ArithmeticScience, revision=2, implementation="workloads.tasks._arithmetic:items",
                  training=training, count=lambda science: 3 * science.items)
