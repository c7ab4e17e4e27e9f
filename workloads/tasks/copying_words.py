"""Task `copying_words`: words, then the first of them again; how does the repetition go on?

Beside the probe `copying` (`evaluate.tasks`), which measures the loss on repeated random tokens: this one has items, a
ladder and a twin (`downstream.tasks`).
"""

from __future__ import annotations

from sweeps.language.plugins import ItemTask
from workloads.tasks._drawn import DrawnScience, training


class CopyingWordsScience(DrawnScience):
    """Level 0: a phrase of English; then words in any order, of which 2, 6 or 18 are to be copied (levels 1 to 3)."""


PLUGIN = ItemTask(science=CopyingWordsScience, revision=2, implementation="workloads.tasks._copying_words:items",
                  training=training, count=lambda science: 4 * science.items)
