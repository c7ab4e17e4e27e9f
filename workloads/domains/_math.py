"""Documents of domain `math`: one per source file of SymPy and mpmath, its docstrings with their examples."""

from __future__ import annotations

import functools

from workloads.data.docstrings import docstring_candidates, joined
from workloads.data.documents import Documents
from workloads.domains.math import MathScience


def read(science: MathScience) -> Documents:
    """Return the documents of the installed packages."""
    extract = functools.partial(joined, min_chars=science.min_chars)
    return Documents(c for package in science.packages for c in docstring_candidates(package, extract))
