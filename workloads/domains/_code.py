"""Documents of domain `code`: one per source file of the standard library."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from pathlib import Path

from workloads.data.docstrings import LEFT_OUT
from workloads.data.documents import Candidate, Documents, read_text
from workloads.data.installed import PYTHON, python_files, standard_library
from workloads.domains.code import CodeScience

NOT_CODE = frozenset({"idle_test", "pydoc_data"})
"""Tests by another name, and prose (which is read by domain `web`)."""


def read(science: CodeScience) -> Documents:
    """Return the documents of the running interpreter's standard library."""
    return Documents(_candidates(standard_library(), science))


def _candidates(folder: Path, science: CodeScience) -> Iterator[Candidate]:
    for path in python_files(folder, LEFT_OUT | NOT_CODE | frozenset(science.left_out)):
        if not path.startswith("_sysconfigdata"):  # paths and flags of one build
            yield Candidate(
                source=f"{PYTHON} {platform.python_version()}", package=PYTHON, path=path,
                read=_reader(folder / path, science.min_chars),
            )


def _reader(file: Path, min_chars: int) -> Callable[[], str]:
    def read_long() -> str:
        text = read_text(file)
        return text if len(text) >= min_chars else ""

    return read_long
