"""Task `python_functions`: a Python function with its docstring; which body does what it says?

With `python_functions.generation.samples` a model also writes bodies of its own, which are run.
"""

from __future__ import annotations

from sweeps.language.generation import GenerationScience
from sweeps.language.ladder import CHOSEN
from sweeps.language.plugins import ItemTask
from workloads.tasks._drawn import DrawnScience, training


class PythonFunctionsScience(DrawnScience):
    """Level 0: one operation in the right order; 1: one operation; 2: a comprehension; 3: a loop with a state."""

    items: int = 40
    """Items of each level: its templates do not make many more."""
    generation: GenerationScience = GenerationScience()
    """Bodies that a model writes."""


PLUGIN = ItemTask(
    science=PythonFunctionsScience, revision=3, implementation="workloads.tasks._python_functions:items",
    training=training, count=lambda science: 4 * science.items,
    rungs=CHOSEN,  # another body than the item's may be right: whether one is, only running it can tell
)
