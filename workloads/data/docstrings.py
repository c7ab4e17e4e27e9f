"""Docstrings of Python source text, by a pattern. Light: standard library only.

A pattern and not `ast.parse`: torch, transformers and pandas hold 120 MB of source, which ast reads at 2-4 MB/s on one
core and this pattern at 30. A docstring is a triple-quoted string that begins a file or follows a line that ends in a
colon. Against ast (a test compares them) nothing is added and 0-2 % is missed: docstrings between single quotes.
"""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from workloads.data.documents import Candidate, read_text
from workloads.data.installed import package_folder, python_files, versions

_BLANK = r"(?:[ \t]*(?:#[^\n]*)?\n)*"
_DOCSTRING = re.compile(
    rf"(?:\A{_BLANK}|:[ \t]*(?:#[^\n]*)?\n{_BLANK})[ \t]*([rRuU]?)(\"\"\"|''')(.*?)(?<!\\)\2", re.DOTALL
)
LEFT_OUT = frozenset({
    "test", "tests", "testing", "benchmarks", "vendor", "_vendor", "third_party", "thirdparty_files", "site-packages",
    "dist-packages", "__pycache__",
})
"""Folders without text of their own: tests, and copies of other packages."""


def docstrings(source: str) -> Iterator[str]:
    """Yield the docstrings of a source text in order, indentation removed, escapes resolved."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        for match in _DOCSTRING.finditer(source.replace("\r\n", "\n")):
            prefix, quotes, text = match.groups()
            if "\\" in text and prefix not in ("r", "R"):
                try:
                    text = ast.literal_eval(quotes + text + quotes)
                except (SyntaxError, ValueError):
                    continue
            yield inspect.cleandoc(text)


def docstring_candidates(package: str, extract: Callable[[str], str]) -> Iterator[Candidate]:
    """Yield one candidate per source file of an installed package; none where it is not installed.

    Args:
        package: import name and distribution name.
        extract: source text of a file -> document text.
    """
    folder = package_folder(package)
    version = versions([package])[package]
    if folder is None or version is None:
        return
    for path in python_files(folder, LEFT_OUT):
        yield Candidate(
            source=f"{package} {version}", package=package, path=path, read=_reader(folder / path, extract)
        )


def _reader(file: Path, extract: Callable[[str], str]) -> Callable[[], str]:
    return lambda: extract(read_text(file))


def joined(source: str, min_chars: int) -> str:
    """Return the docstrings of at least `min_chars` characters, a blank line between them."""
    return "\n\n".join(text for text in docstrings(source) if len(text) >= min_chars)
