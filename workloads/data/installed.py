"""What is installed here, found without importing it: versions, folders and metadata of packages. Light.

An identity asks for dozens of versions at plan time (about 0.3 ms each), so nothing here reads a source file.
"""

from __future__ import annotations

import os
import platform
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata, util
from pathlib import Path

PYTHON = "python"
"""Name of the interpreter among the sources."""


def versions(packages: Iterable[str], *, python: bool = False) -> Mapping[str, str | None]:
    """Return package -> installed version, None where it is not installed; with `python` the interpreter's too."""
    found: dict[str, str | None] = {PYTHON: platform.python_version()} if python else {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def package_folder(package: str) -> Path | None:
    """Return the folder of an importable package, None where there is none (or it is a single module)."""
    spec = util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def python_files(folder: Path, left_out: frozenset[str]) -> Iterator[str]:
    """Yield the .py files below `folder` as paths inside it, `/` between parts; folders in `left_out` are not entered.

    Links to folders are not followed.
    """
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - left_out)
        inside = Path(parent).relative_to(folder).as_posix()
        for name in sorted(names):
            if name.endswith(".py"):
                yield name if inside == "." else f"{inside}/{name}"


def standard_library() -> Path:
    """Return the folder of the running interpreter's standard library."""
    return Path(sysconfig.get_path("stdlib"))
