"""Task `copying_words`: words, then the first of them again; how does the repetition go on?

Beside the probe `copying` (`evaluate.tasks`), which measures the loss on repeated random tokens: this one has items, a
ladder and a twin (`downstream.tasks`).
"""

from __future__ import annotations

from sweeps.language.plugins import ItemTask
from workloads.tasks._drawn import DrawnScience, training


class CopyingWordsScience(DrawnScience):
    """Two words are repeated in the prompt; 2 more (level 1), 6 (level 2) or 18 (level 3) are to be copied."""


PLUGIN = ItemTask(science=CopyingWordsScience, revision=1, implementation="workloads.tasks._copying_words:items",
                  training=training, count=lambda science: 3 * science.items)
