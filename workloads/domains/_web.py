"""Documents of domain `web`: one per source file, pydoc topic, package description and licence."""

from __future__ import annotations

import ast
import functools
import platform
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from workloads.data.docstrings import docstring_candidates, docstrings
from workloads.data.documents import Candidate, Documents, read_text
from workloads.data.installed import PYTHON, standard_library
from workloads.domains.web import WebScience

_LICENCE = re.compile(r"(LICEN[CS]E|COPYING|NOTICE)", re.IGNORECASE)
_EXAMPLE = re.compile(r"^\s*(>>>|\.\.\.) ?", re.MULTILINE)


def read(science: WebScience) -> Documents:
    """Return the documents of what is installed here."""
    return Documents(_candidates(science))


def _candidates(science: WebScience) -> Iterator[Candidate]:
    extract = functools.partial(prose, min_chars=science.min_chars)
    for package in science.packages:
        yield from docstring_candidates(package, extract)
    for name in science.described:
        yield from _described(name)
    yield from _topics(standard_library() / "pydoc_data" / "topics.py")


def prose(source: str, min_chars: int) -> str:
    """Return the docstrings of a source text without the paragraphs that are interactive examples."""
    found = []
    for text in docstrings(source):
        kept = "\n\n".join(p for p in text.split("\n\n") if not _EXAMPLE.search(p))
        if len(kept) >= min_chars:
            found.append(kept)
    return "\n\n".join(found)


def _described(name: str) -> Iterator[Candidate]:
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return
    source = f"{name} {distribution.version}"
    yield Candidate(source=source, package=name, path="METADATA", read=functools.partial(_description, distribution))
    for file in distribution.files or ():
        if _LICENCE.match(file.name) and file.suffix not in (".py", ".pyc") and ".dist-info" in file.parts[0]:
            # the version is part of the folder's name, and must not be part of the order
            path = "/".join(("dist-info", *file.parts[1:]))
            yield Candidate(
                source=source, package=name, path=path, read=functools.partial(read_text, Path(str(file.locate())))
            )


def _description(distribution: metadata.Distribution) -> str:
    text = distribution.read_text("METADATA") or ""
    return text.replace("\r\n", "\n").partition("\n\n")[2]


def _topics(file: Path) -> Iterator[Candidate]:
    """Yield one candidate per topic of `help()`; none where the interpreter comes without them."""
    if not file.is_file():
        return
    for node in ast.parse(read_text(file)).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for topic, text in ast.literal_eval(node.value).items():
                yield Candidate(
                    source=f"{PYTHON} {platform.python_version()}", package=PYTHON,
                    path=f"pydoc_data/topics.py#{topic}", read=functools.partial(str, text),
                )
