"""The folder is the registry: the plug-ins of this package, and a person's own from outside it. Light to load.

A file or sub-folder `workloads/upstreams/nca` that exports `PLUGIN` is the upstream `nca`; names that begin with `_`
are helpers. A person's own plug-in is a .py file (or a folder of them) anywhere; its family follows from the class of
its PLUGIN, and an implementation written `:attribute` is in the same file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from sweeps.errors import OrchestratorError, Problem, SweepFileError, UsageError, nearest
from sweeps.language.plugins import Domain, ItemTask, Plugin, Registries, Registry, Science, StageKind, Task, Upstream
from sweeps.language.problems import given, shown, told
from sweeps.language.science import AUTHORED

FAMILIES: dict[str, type[Plugin]] = {"upstreams": Upstream, "domains": Domain, "tasks": Task, "stages": StageKind}
"""Folder -> the class of the PLUGIN in its files."""
PRIVATE = "_plugin_"
"""First part of the module name of a plug-in from outside the package."""
PREFIXED = ("upstreams", "domains", "tasks")
"""Families whose keys begin the names of fields (`KEY.field`), so that a key is taken once for all of them."""
RESERVED = {"scratch", "baseline", "best_band"}
"""Names that arms and claims have already."""


def load_registries(extra: Sequence[Path] = ()) -> Registries:
    """Return all plug-ins: those of this package and those of the files and folders `extra`.

    Raises:
        SweepFileError: with every path of `extra` that is missing or no sound plug-in, and every key that is taken.
    """
    found: dict[str, dict[str, Any]] = {family: _built_in(family) for family in FAMILIES}
    problems: list[Problem] = []
    for path in extra:
        try:
            files = _files(path)
        except SweepFileError as error:
            problems += error.problems
            continue
        for key, file in files.items():
            try:
                family, plugin = _checked(_load(key, file.resolve()), file)
                _check_free(key, family, file, found)
                found[family][key] = plugin
            except SweepFileError as error:
                problems += error.problems
    if problems:
        raise SweepFileError(problems)
    return Registries(**{family: Registry(family.removesuffix("s"), plugins) for family, plugins in found.items()})


def _built_in(family: str) -> dict[str, Callable[[], Plugin]]:
    return {key: functools.partial(_own, family, key, path)
            for key, path in _entries(Path(__file__).parent / family).items()}


def _own(family: str, key: str, path: Path) -> Plugin:
    """Import a plug-in of this package.

    Raises:
        UsageError: the file exports no PLUGIN of its family's class.
    """
    plugin = getattr(importlib.import_module(f"workloads.{family}.{key}"), "PLUGIN", None)
    if not isinstance(plugin, FAMILIES[family]):
        wanted = FAMILIES[family].__name__
        raise UsageError(f"{path}: PLUGIN is not a {wanted}; begin a helper's name with _")
    return plugin


def _entries(folder: Path) -> dict[str, Path]:
    """Return key -> file of the plug-ins of a folder: `key.py` and `key/__init__.py`, sorted."""
    found = {p.stem: p for p in folder.glob("*.py")} | {p.parent.name: p for p in folder.glob("*/__init__.py")}
    return {key: found[key] for key in sorted(found) if not key.startswith("_")}


def _bad(path: Path, line: int | None, message: str, value: object = None) -> SweepFileError:
    where = shown(str(path)) if line is None else f"{shown(str(path))}:{line}"
    return SweepFileError([told(where=where, key="plugins", given="" if value is None else given(value),
                                   message=message)])


def _check_free(key: str, family: str, path: Path, found: Mapping[str, Collection[str]]) -> None:
    for other in PREFIXED if family in PREFIXED else (family,):
        if key in found[other]:
            raise _bad(path, None, f"the key {key!r} is taken in {other}; rename the file")
    if family in PREFIXED and key in {*AUTHORED, *RESERVED}:
        raise _bad(path, None, f"the key {key!r} is taken by this language ({', '.join(sorted({*AUTHORED, *RESERVED}))}"
                               "); rename the file")


def _files(path: Path) -> dict[str, Path]:
    """Return key -> plug-in file of a path that the sweep file names."""
    try:
        if path.is_file() and path.suffix == ".py":
            return {path.stem: path}
        if (path / "__init__.py").is_file():
            return {path.resolve().name: path / "__init__.py"}
        if path.is_dir():
            entries = _entries(path)
            if not entries:
                raise _bad(path, None, "holds no .py file; give the path of a plug-in file")
            return entries
        here = sorted(p.name for p in path.parent.iterdir() if p.suffix == ".py") if path.parent.is_dir() else []
    except OSError as error:  # a folder without permission, a loop of links, a name that is too long
        raise _bad(path, None, f"cannot be read: {error.strerror}") from error
    raise _bad(path, None, f"is no .py file and no folder; give the path of a plug-in file; {nearest(path.name, here)}")


def _load(key: str, path: Path) -> ModuleType:
    """Run a plug-in file under a private name, made from path and content so that an edited file is loaded anew."""
    if not key.isidentifier():
        raise _bad(path, None, f"{key!r} cannot be a key; use letters, digits and _ in the file's name")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _bad(path, None, f"cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(f"{path}\0".encode(errors="surrogateescape") + content).hexdigest()[:12]
    name = f"{PRIVATE}{digest}_{key}"
    if name in sys.modules:
        return sys.modules[name]
    folders = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folders)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _blamed(path), contextlib.redirect_stdout(sys.stderr):  # stdout is for results, some of them JSON
            spec.loader.exec_module(module)
    except SweepFileError:
        sys.modules.pop(name, None)
        raise
    return module


@contextlib.contextmanager
def _blamed(path: Path) -> Iterator[None]:
    """Turn whatever a person's file raises into one problem that names the file, the line and the reason.

    The code is not ours, so any exception may come out of it, `sys.exit` included; each means the same: the file needs
    mending, at that line. KeyboardInterrupt passes, it comes from the keyboard; so do our own errors.
    """
    try:
        yield
    except OrchestratorError:
        raise
    except (Exception, SystemExit) as error:
        raise _bad(path, _line(error, path), f"{type(error).__name__}: {_reason(error)}") from error


def _line(error: BaseException, path: Path) -> int:
    """Return the line of `path` at which `error` arose."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 1
    lines = [f.lineno or 1 for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return lines[-1] if lines else 1


def _reason(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    if isinstance(error, SystemExit):
        return f"the file left the program ({text or 0}); a plug-in only states what it is"
    return shown(" ".join(text.split()))


def _checked(module: ModuleType, path: Path) -> tuple[str, Plugin]:
    """Return family and plug-in, its implementations resolved to this module.

    Raises:
        SweepFileError: there is no PLUGIN, it has the wrong class, or a part of it is of the wrong sort.
    """
    plugin = getattr(module, "PLUGIN", None)
    line = _assigned_at(path)
    if plugin is None:
        near = next((f" Did you mean {n!r}?" for n, v in vars(module).items() if isinstance(v, Plugin)), "")
        raise _bad(path, 1, "exports no PLUGIN; write PLUGIN = Upstream(...), Domain(...), Task(...) or "
                            f"StageKind(...), or begin the file's name with _.{near}")
    family = next((f for f, kind in FAMILIES.items() if isinstance(plugin, kind)), None)
    if family is None or not isinstance(plugin, Plugin):
        raise _bad(path, line, f"PLUGIN is a {type(plugin).__name__}; it must be an Upstream, Domain, Task or "
                               "StageKind of sweeps.language.plugins", plugin)
    if not (isinstance(plugin.science, type) and issubclass(plugin.science, Science)):
        raise _bad(path, line, "science must be a subclass of sweeps.language.plugins.Science", plugin.science)
    _check_parts(plugin, path, line)
    if not plugin.implementation and not (isinstance(plugin, Upstream) and not plugin.trains):
        raise _bad(path, line, "PLUGIN has no implementation; write \":function\" for one in this file")
    changes: dict[str, Any] = {"implementation": _resolved(plugin.implementation, module, path, line)}
    if isinstance(plugin, Upstream):
        changes |= {name: _resolved(getattr(plugin, name), module, path, line)
                    for name in ("bank_implementation", "frames_implementation")}
    if isinstance(plugin, Domain | Upstream | ItemTask):
        changes["fetch"] = _resolved(plugin.fetch, module, path, line)
    changes |= {f.name: _guarded(value, path.resolve()) for f in dataclasses.fields(plugin)
                if f.name not in ("science", "bank_science") and callable(value := getattr(plugin, f.name))}
    return family, dataclasses.replace(plugin, **changes)


_SORTS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("Callable", lambda v: v is None or callable(v), "a function"),
    ("Mapping", lambda v: isinstance(v, Mapping), "a mapping"),
    ("Overrides", lambda v: isinstance(v, Mapping) and all(isinstance(o, Mapping) for o in v.values()),
     "a mapping of presets to mappings"),
    ("bool", lambda v: isinstance(v, bool), "True or False"),
    ("int", lambda v: isinstance(v, int) and not isinstance(v, bool) and v > 0, "a whole number, 1 or above"),
    ("str", lambda v: isinstance(v, str), "text"),
)
"""How a field of a PLUGIN is declared -> what it may hold, and what a person is told."""


def _check_parts(plugin: Plugin, path: Path, line: int) -> None:
    """See that every part of a PLUGIN is of the sort that its class declares, and that its axes set its fields."""
    for field in dataclasses.fields(plugin):
        value = getattr(plugin, field.name)
        for sign, fits, wanted in _SORTS:
            if str(field.type).startswith(sign) and not fits(value):
                raise _bad(path, line, f"PLUGIN's {field.name} must be {wanted}", value)
    known = list(plugin.science.model_fields)
    corpus = getattr(plugin, "corpus", "")
    if corpus and corpus not in known:
        raise _bad(path, line, f"PLUGIN's corpus names no field of its; {nearest(corpus, known)}", corpus)
    for axis, target in getattr(plugin, "axes", {}).items():
        if str(target).partition(".")[0] not in known:
            raise _bad(path, line, f"PLUGIN's axis {axis!r} sets no field of its; {nearest(str(target), known)}",
                       target)


def _guarded(function: Callable[..., Any], path: Path) -> Callable[..., Any]:
    """Return a person's function such that whatever it raises names the file and the line."""
    @functools.wraps(function)
    def guarded(*positional: Any, **named: Any) -> Any:
        with _blamed(path):
            return function(*positional, **named)

    return guarded


def _resolved(implementation: str, module: ModuleType, path: Path, line: int) -> str:
    """Return `module:attribute`, where `:attribute` is in the plug-in itself and `.sub:attribute` in its folder."""
    if not implementation:
        return ""
    name, mark, attribute = implementation.partition(":")
    if not mark or not attribute:
        raise _bad(path, line, f"implementation {implementation!r} is not of the form module:attribute")
    if not name and not callable(getattr(module, attribute, None)):
        near = nearest(attribute, [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")])
        raise _bad(path, line, f"implementation {implementation!r} names nothing that can be called in this file; "
                               f"{near}")
    return module.__name__ + implementation if not name or name.startswith(".") else implementation


def _assigned_at(path: Path) -> int:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((n for n, text in enumerate(lines, 1) if text.startswith("PLUGIN")), 1)
