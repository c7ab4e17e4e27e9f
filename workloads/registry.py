"""The folder is the registry: the plug-ins of this package, and a person's own from outside it. Light to load.

A file or sub-folder `workloads/upstreams/nca` that exports `PLUGIN` is the upstream `nca`; names that begin with `_`
are helpers. A person's own plug-in is a .py file (or a folder of them) anywhere; its family follows from the class of
its PLUGIN, and an implementation written `:attribute` is in the same file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from sweeps.errors import UsageError
from sweeps.language.plugins import Domain, Plugin, Registries, Registry, Science, StageKind, Task, Upstream

FAMILIES: dict[str, type[Plugin]] = {"upstreams": Upstream, "domains": Domain, "tasks": Task, "stages": StageKind}
"""Folder -> the class of the PLUGIN in its files."""
PRIVATE = "_plugin_"
"""First part of the module name of a plug-in from outside the package."""


def load_registries(extra: Sequence[Path] = ()) -> Registries:
    """Return all plug-ins: those of this package and those of the files and folders `extra`.

    Raises:
        UsageError: a path in `extra` is missing or no sound plug-in, or its key is taken.
    """
    found: dict[str, dict[str, Plugin]] = {family: dict(_built_in(family)) for family in FAMILIES}
    for path in extra:
        for key, file in _files(path).items():
            family, plugin = _checked(_load(key, file.resolve()), file)
            if key in found[family]:
                raise UsageError(f"{file}: the key {key!r} is taken in {family}; rename the file")
            found[family][key] = plugin
    return Registries(
        upstreams=Registry("upstream", {k: v for k, v in found["upstreams"].items() if isinstance(v, Upstream)}),
        domains=Registry("domain", {k: v for k, v in found["domains"].items() if isinstance(v, Domain)}),
        tasks=Registry("task", {k: v for k, v in found["tasks"].items() if isinstance(v, Task)}),
        stages=Registry("stage", {k: v for k, v in found["stages"].items() if isinstance(v, StageKind)}),
    )


def _built_in(family: str) -> Iterator[tuple[str, Plugin]]:
    for key, path in _entries(Path(__file__).parent / family).items():
        plugin = getattr(importlib.import_module(f"workloads.{family}.{key}"), "PLUGIN", None)
        if not isinstance(plugin, FAMILIES[family]):
            wanted = FAMILIES[family].__name__
            raise UsageError(f"{path}: PLUGIN is not a {wanted}; begin a helper's name with _")
        yield key, plugin


def _entries(folder: Path) -> dict[str, Path]:
    """Return key -> file of the plug-ins of a folder: `key.py` and `key/__init__.py`, sorted."""
    found = {p.stem: p for p in folder.glob("*.py")} | {p.parent.name: p for p in folder.glob("*/__init__.py")}
    return {key: found[key] for key in sorted(found) if not key.startswith("_")}


def _files(path: Path) -> dict[str, Path]:
    """Return key -> plug-in file of a path that the sweep file names."""
    if path.is_file() and path.suffix == ".py":
        return {path.stem: path}
    if (path / "__init__.py").is_file():
        return {path.resolve().name: path / "__init__.py"}
    if not path.is_dir():
        raise UsageError(f"plugins: {path} is no .py file and no folder; give the path of a plug-in file")
    entries = _entries(path)
    if not entries:
        raise UsageError(f"plugins: {path} holds no .py file; give the path of a plug-in file")
    return entries


def _load(key: str, path: Path) -> ModuleType:
    """Run a plug-in file under a private name, made from path and content so that an edited file is loaded anew."""
    if not key.isidentifier():
        raise UsageError(f"{path}: {key!r} cannot be a key; use letters, digits and _ in the file's name")
    digest = hashlib.sha256(f"{path}\0".encode() + path.read_bytes()).hexdigest()[:12]
    name = f"{PRIVATE}{digest}_{key}"
    if name in sys.modules:
        return sys.modules[name]
    folders = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folders)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a person's file may raise anything; it becomes one line that names it
        del sys.modules[name]
        raise UsageError(f"{path}:{_line(error, path)}: {type(error).__name__}: {_reason(error)}") from error
    return module


def _line(error: Exception, path: Path) -> int:
    """Return the line of `path` at which `error` arose."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 1
    lines = [f.lineno or 1 for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return lines[-1] if lines else 1


def _reason(error: Exception) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(text.split())


def _checked(module: ModuleType, path: Path) -> tuple[str, Plugin]:
    """Return family and plug-in, its implementations resolved to this module.

    Raises:
        UsageError: there is no PLUGIN, it has the wrong class, or an implementation is missing.
    """
    plugin = getattr(module, "PLUGIN", None)
    line = _assigned_at(path)
    if plugin is None:
        raise UsageError(f"{path}:1: exports no PLUGIN; write PLUGIN = Upstream(...), Domain(...), Task(...) or "
                         "StageKind(...), or begin the file's name with _")
    family = next((f for f, kind in FAMILIES.items() if isinstance(plugin, kind)), None)
    if family is None or not isinstance(plugin, Plugin):
        raise UsageError(f"{path}:{line}: PLUGIN is a {type(plugin).__name__}; it must be an Upstream, Domain, Task or "
                         "StageKind of sweeps.language.plugins")
    if not (isinstance(plugin.science, type) and issubclass(plugin.science, Science)):
        raise UsageError(f"{path}:{line}: science must be a subclass of sweeps.language.plugins.Science")
    if not plugin.implementation and not (isinstance(plugin, Upstream) and not plugin.trains):
        raise UsageError(f"{path}:{line}: PLUGIN has no implementation; write \":function\" for one in this file")
    changes = {"implementation": _resolved(plugin.implementation, module, path, line)}
    if isinstance(plugin, Upstream):
        changes["bank_implementation"] = _resolved(plugin.bank_implementation, module, path, line)
    return family, dataclasses.replace(plugin, **changes)  # type: ignore[arg-type]


def _resolved(implementation: str, module: ModuleType, path: Path, line: int) -> str:
    """Return `module:attribute`, where `:attribute` is in the plug-in itself and `.sub:attribute` in its folder."""
    if not implementation:
        return ""
    name, mark, attribute = implementation.partition(":")
    if not mark or not attribute:
        raise UsageError(f"{path}:{line}: implementation {implementation!r} is not of the form module:attribute")
    if not name and not callable(getattr(module, attribute, None)):
        raise UsageError(f"{path}:{line}: implementation {implementation!r} names nothing that can be called in this "
                         "file")
    return module.__name__ + implementation if not name or name.startswith(".") else implementation


def _assigned_at(path: Path) -> int:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((n for n, text in enumerate(lines, 1) if text.startswith("PLUGIN")), 1)
