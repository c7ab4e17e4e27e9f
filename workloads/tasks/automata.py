"""Task `automata`: strings of deterministic automata that no upstream was trained on; which symbol follows?"""

from __future__ import annotations

from sweeps.language.plugins import ItemTask
from workloads.tasks._drawn import DrawnScience, training


class AutomataScience(DrawnScience):
    """The automaton has 2 states (level 1), 4 (level 2) or 6 (level 3), one of its own for each item."""


PLUGIN = ItemTask(science=AutomataScience, revision=1, implementation="workloads.tasks._automata:items",
                  training=training, count=lambda science: 3 * science.items)
