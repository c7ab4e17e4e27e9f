"""Executors by the name of their file, and cluster profiles. Light: only the executor that is used is imported.

A profile is a short YAML file: `executor: slurm` and that executor's options. It is named by its path, by its name in
the person's own folder, or by that of one which comes with this package, in this order; an executor's own name is a
profile without options.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.job import Executor, JobRequest
from sweeps.errors import SweepFileError, UsageError, nearest
from sweeps.language.problems import given, shown, told
from sweeps.language.read import Source, parse, read_text

if TYPE_CHECKING:
    from pydantic import BaseModel

SHIPPED = Path(__file__).parent / "profiles"
EXTENSION = ".yaml"


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A cluster, as far as sweeps need to know it; checked."""

    place: str
    """Its file; for an executor without options, the executor's name."""
    executor: str
    values: dict[str, Any]
    """What the file says, the key `executor` included."""
    options: Any
    """The same as the executor's Options, its defaults filled in."""


def names() -> list[str]:
    """Return the keys of all executors, sorted."""
    folder = Path(__file__).parent / "executors"
    return sorted(p.stem for p in folder.glob("*.py") if not p.name.startswith("_"))


def own_folder() -> Path:
    """Return the folder of the person's own profiles: $XDG_CONFIG_HOME (or ~/.config)/orchestrator/clusters."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".config") / "orchestrator" / "clusters"


def profiles() -> dict[str, Path]:
    """Return name -> file of all profiles that have a name; a person's own goes before a shipped one."""
    return {p.stem: p for folder in (SHIPPED, own_folder()) for p in sorted(folder.glob(f"*{EXTENSION}"))}


def is_path(name: str) -> bool:
    """Tell whether a profile is given by its path."""
    return name.endswith(EXTENSION)


def profile_path(name: str) -> Path:
    """Return the file of a profile, given by name or by path.

    Raises:
        UsageError: there is neither; says where it looked.
    """
    known = profiles()
    if not is_path(name) and name in known:
        return known[name]
    path = Path(name).expanduser()
    if is_path(name) and path.is_file():
        return path
    if is_path(name):
        raise UsageError(f"no cluster profile {shown(name)!r}: {shown(str(path.absolute()))} is no file; give another "
                         f"path, or a name; {nearest(path.stem, {*known, *names()})}")
    raise UsageError(f"no cluster profile {shown(name)!r}: there is no {shown(name)}{EXTENSION} in {own_folder()} and "
                     f"none is shipped; put it there, give the path of a {EXTENSION} file, or one of these; "
                     f"{nearest(name, {*known, *names()})}")


def load(name: str, changes: Mapping[str, Any] | None = None) -> Profile:
    """Return a profile, given by name or by path; an executor's own name is a profile without options.

    Args:
        name: which.
        changes: what a sweep says in place of the file.

    Raises:
        UsageError: there is none of that name.
        SweepFileError: the file is wrong; with every problem of it.
    """
    if name not in profiles() and name in names():
        source = Source(name=name, values={"executor": name})
    else:
        path = profile_path(name)
        source = parse(read_text(path, "a cluster profile has at least the key executor"), str(path))
    source = replace(source, values={**source.values, **(changes or {})})
    executor = source.values.get("executor")
    if executor not in names():
        reason = nearest(str(executor), names()) if "executor" in source.values else \
            f"this key is missing; write the name of an executor: {', '.join(names())}"
        raise SweepFileError([told(where=source.where("executor"), key="executor", message=reason,
                                   given=given(executor) if "executor" in source.values else "")])
    return Profile(place=source.name, executor=str(executor), values=source.values, options=_options(executor, source))


def make(name: str, *, folder: Path, options: Mapping[str, Any]) -> Executor:
    """Return the executor `name`, which keeps its notes in `folder`.

    Raises:
        UsageError: the executor is unknown.
        SweepFileError: an option is unknown, or a value is impossible; with every problem.
    """
    if name not in names():
        raise UsageError(f"unknown executor {name!r}; {nearest(name, names())}")
    made: Executor = _module(name).make(folder, _options(name, Source(name=f"executor {name}", values=dict(options))))
    return made


def check_ranks(profile: Profile, ranks: int) -> None:
    """See that a profile's executor runs jobs of so many processes.

    Raises:
        UsageError: it does not.
    """
    _module(profile.executor).check_ranks(profile.options, ranks)


def script(profile: Profile, request: JobRequest) -> str:
    """Return the whole text that will be submitted.

    Raises:
        UsageError: the profile's executor submits no script, or the request cannot run with the profile.
    """
    from cluster.profiles import SlurmProfile

    if not isinstance(profile.options, SlurmProfile):
        scripted = ", ".join(_slurm())
        raise UsageError(f"cluster {profile.place}: its executor, {profile.executor}, submits no script; name a Slurm "
                         f"profile with --cluster: {scripted}, or a file of yours")
    from cluster.executors import _slurm_script  # loads submitit

    return _slurm_script.script(request, profile.options)


def _slurm() -> Iterator[str]:
    """Yield the names of the shipped Slurm profiles."""
    for path in sorted(SHIPPED.glob(f"*{EXTENSION}")):
        if "executor: slurm" in path.read_text(encoding="utf-8").splitlines():
            yield path.stem


def _options(executor: str, source: Source) -> BaseModel:
    from cluster.profiles import checked

    model: type[BaseModel] = _module(executor).Options
    return checked(model, source)


def _module(executor: str) -> Any:
    return importlib.import_module(f"cluster.executors.{executor}")
