"""Domain `web`: English prose about software: docstrings, language reference topics, package descriptions, licences."""

from __future__ import annotations

from collections.abc import Mapping

from sweeps.language.plugins import Domain, Science
from sweeps.language.science import Positive
from sweeps.language.text_size import TextSize, stated
from workloads.data.installed import versions


class WebScience(Science):
    """Which prose is read."""

    packages: tuple[str, ...] = ("torch", "transformers", "pandas", "ray")
    """Installed packages whose docstrings are read."""
    described: tuple[str, ...] = (
        "deepspeed", "einops", "fonttools", "jinja2", "matplotlib", "mpmath", "networkx",
        "numba", "numpy", "pandas", "pillow", "psutil", "pyarrow", "pydantic", "ray", "regex", "rich",
        "safetensors", "scipy", "submitit", "sympy", "tokenizers", "torch", "tqdm", "transformers",
    )
    """Installed distributions whose description and licences are read. A fixed list: installing something else
    changes nothing."""
    min_chars: Positive = 120
    """Shorter docstrings are left out."""


def identity(science: WebScience) -> Mapping[str, str | None]:
    """Return package -> version, and the interpreter's (its pydoc topics are read)."""
    return versions(dict.fromkeys((*science.packages, *science.described)), python=True)


PLUGIN = Domain(
    science=WebScience, revision=1, implementation="workloads.domains._web:read", identity=identity,
    size=stated(TextSize(bytes=21_109_000, documents=5_442), "packages", "described"))  # measured with constraints.txt
