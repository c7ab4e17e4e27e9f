"""Task `brackets`: nested brackets of four kinds; which one closes now?"""

from __future__ import annotations

from sweeps.language.plugins import ItemTask
from workloads.tasks._drawn import DrawnScience, training


class BracketsScience(DrawnScience):
    """The bracket to be closed was opened 2 (level 1), 6 (level 2) or 16 (level 3) brackets before the last."""


PLUGIN = ItemTask(science=BracketsScience, revision=1, implementation="workloads.tasks._brackets:items",
                  training=training, count=lambda science: 3 * science.items)
