"""Executors by the name of their file, and cluster profiles. Light: only the executor that is used is imported.

A profile is a short YAML file: `executor: local` and that executor's options. `local` comes with this package; a
person's own is a path.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cluster.job import Executor
from sweeps.errors import UsageError, nearest


def names() -> list[str]:
    """Return the keys of all executors, sorted."""
    folder = Path(__file__).parent / "executors"
    return sorted(p.stem for p in folder.glob("*.py") if not p.name.startswith("_"))


def profiles() -> dict[str, Path]:
    """Return name -> file of the profiles that come with this package."""
    return {p.stem: p for p in sorted((Path(__file__).parent / "profiles").glob("*.yaml"))}


def profile_path(given: str) -> Path:
    """Return the file of a profile, given by name or by path.

    Raises:
        UsageError: there is neither.
    """
    shipped = profiles()
    if given in shipped:
        return shipped[given]
    path = Path(given)
    if path.suffix != ".yaml" or not path.is_file():
        raise UsageError(f"no cluster profile {given!r}; give the path of a .yaml file, or one of these: "
                         f"{nearest(given, shipped)}")
    return path


def make(name: str, *, folder: Path, options: Mapping[str, Any]) -> Executor:
    """Return the executor `name`, which keeps its notes in `folder`.

    Raises:
        UsageError: the executor or an option is unknown, or a value is impossible.
    """
    if name not in names():
        raise UsageError(f"unknown executor {name!r}; {nearest(name, names())}")
    module = importlib.import_module(f"cluster.executors.{name}")
    known = module.Options.model_fields
    for key in options:
        if key not in known:
            raise UsageError(f"executor {name}: unknown option {key!r}; {nearest(key, known)}")
    try:
        checked = module.Options.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"executor {name}: {where} = {first['input']!r}: {first['msg']}") from error
    made: Executor = module.make(folder, checked)
    return made
