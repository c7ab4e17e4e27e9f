"""What made a result: versions of the libraries that matter and the commit of this code. Imports and runs nothing."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata
from pathlib import Path

from sweeps.store import files

PACKAGES = ("torch", "deepspeed", "transformers", "numpy")
SNAPSHOT = "snapshot.json"
"""Beside the packages where they are a copy that a sweep's controller made (orchestrator/snapshot.py)."""


@cache
def versions() -> dict[str, str]:
    """Return package -> installed version (empty: not installed), with `python`, `commit` and `code` (see `origin`)."""
    found = {"python": platform.python_version(), **origin(Path(__file__).resolve().parents[1])}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = ""
    return found


def origin(folder: Path) -> dict[str, str]:
    """Return the `commit` (empty: no checkout) and the `code`, the snapshot's name (empty: none), of what runs here."""
    try:
        return {"commit": str(files.read_json(folder / SNAPSHOT)["commit"]), "code": folder.name}
    except FileNotFoundError:
        return {"commit": commit(folder), "code": ""}


def commit(folder: Path) -> str:
    """Return the commit that is checked out in `folder`, read from .git; empty where there is none."""
    git = folder / ".git"
    try:
        if git.is_file():  # a work tree: `gitdir: PATH`
            git = (folder / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()).resolve()
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        shared = git / "commondir"
        common = (git / shared.read_text(encoding="utf-8").strip()) if shared.is_file() else git
        return _resolve(common, head.removeprefix("ref: "))
    except OSError:
        return ""


def _resolve(git: Path, name: str) -> str:
    loose = git / name
    if loose.is_file():
        return loose.read_text(encoding="utf-8").strip()
    for line in (git / "packed-refs").read_text(encoding="utf-8").splitlines():
        found, _, ref = line.partition(" ")
        if ref == name:
            return found
    return ""
