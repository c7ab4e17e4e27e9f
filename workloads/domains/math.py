"""Domain `math`: docstrings of SymPy and mpmath: definitions, formulas and worked examples."""

from __future__ import annotations

from collections.abc import Mapping

from sweeps.language.plugins import Domain, Science
from sweeps.language.science import Positive
from sweeps.language.text_size import TextSize, stated
from workloads.data.installed import versions


class MathScience(Science):
    """Which docstrings are read."""

    packages: tuple[str, ...] = ("sympy", "mpmath")
    """Installed packages."""
    min_chars: Positive = 80
    """Shorter docstrings are left out."""


def identity(science: MathScience) -> Mapping[str, str | None]:
    """Return package -> version."""
    return versions(science.packages)


PLUGIN = Domain(
    science=MathScience, revision=1, implementation="workloads.domains._math:read", identity=identity,
    size=stated(TextSize(bytes=5_118_495, documents=680), "packages"))  # measured with constraints.txt
