"""Domain `code`: the standard library's source, of the interpreter that runs the job."""

from __future__ import annotations

from collections.abc import Mapping

from sweeps.language.plugins import Domain, Science
from sweeps.language.science import Positive
from sweeps.language.text_size import TextSize, stated
from workloads.data.installed import versions


class CodeScience(Science):
    """Which source files are read."""

    left_out: tuple[str, ...] = ("encodings",)
    """Folders of the standard library besides its tests; `encodings` is nothing but tables of characters."""
    min_chars: Positive = 400
    """Shorter files are left out."""


def identity(science: CodeScience) -> Mapping[str, str | None]:
    """Return the interpreter's version."""
    del science
    return versions([], python=True)


PLUGIN = Domain(
    science=CodeScience, revision=1, implementation="workloads.domains._code:read", identity=identity,
    size=stated(TextSize(bytes=9_903_386, documents=570), "left_out"))  # measured with constraints.txt
