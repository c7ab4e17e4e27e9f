"""The code that jobs run: a copy in the sweep's folder, so that editing a checkout changes no arm that is running.

    <sweep>/code/<hash>/{cluster,sweeps,workloads}/   first in the jobs' PYTHONPATH
    <sweep>/code/<hash>/plugins/<n>/                  a person's own plug-ins: code copied, what lies beside it linked
    <sweep>/code/<hash>/snapshot.json                 commit, time, where the plug-ins came from
    <sweep>/code/<hash>/changes.diff                  what these packages differ in from that commit

Made once per content, whole under another name and then renamed. Jobs that an older reign submitted keep theirs, and
every attempt records the hash (execution.json). 0.7 MB; on a busy machine 0.3 s for new code, 0.07 s for known code.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import cluster
import sweeps
import workloads
from orchestrator import remotes
from orchestrator.plan import Planned
from sweeps.errors import UsageError
from sweeps.store import files
from sweeps.store.space import writing
from workloads.provenance import SNAPSHOT

CHANGES = "changes.diff"
HASH_CHARS = 16
"""Hex digits of SHA-256 kept in a snapshot's name."""
GIT_TIMEOUT_S = 20.0

Content = bytes | Path
"""What a file of a snapshot holds, or what it links to."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Code that jobs import."""

    path: Path
    plugins: tuple[Path, ...]
    """The copies of the person's own plug-ins, in their order."""


def packages() -> dict[str, Path]:
    """Return name -> folder of the packages that jobs import."""
    return {p.__name__: Path(p.__file__ or "").resolve().parent for p in (cluster, sweeps, workloads)}


def with_snapshot(planned: Planned) -> Planned:
    """Return the plan such that its jobs run a copy of the code as it is now.

    Raises:
        UsageError: the store's path cannot stand in a PYTHONPATH.
        StorageError: there is no space.
    """
    folder = planned.layout.sweep(planned.sweep.name).code
    if os.pathsep in str(folder):
        raise UsageError(f"{folder}: a path with {os.pathsep!r} cannot stand in PYTHONPATH, which leads jobs to "
                         "their code; use another --root")
    taken = take(folder, planned.plugins)
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(taken.path), *([inherited] if inherited else [])])
    return replace(planned, plugins=taken.plugins,
                   job_environment={"PYTHONPATH": path, **remotes.job_environment(planned)})


def take(folder: Path, plugins: Sequence[Path], sources: Mapping[str, Path] | None = None) -> Snapshot:
    """Copy the code into `folder`, where it is not there yet.

    Args:
        folder: of all snapshots of a sweep.
        plugins: files and folders of a person's own plug-ins, absolute.
        sources: packages to copy by name; None: those that jobs import.

    Raises:
        StorageError: there is no space.
    """
    sources = packages() if sources is None else sources
    content: dict[str, Content] = {}
    for name, source in sources.items():
        content |= {f"{name}/{k}": v for k, v in _package(source)}
    copies = [f"plugins/{number}/{plugin.name}" for number, plugin in enumerate(plugins)]
    for copy, plugin in zip(copies, plugins, strict=True):
        content |= {str(Path(copy).parent / k): v for k, v in _plugin(plugin)}
    path = folder / _digest(content)
    if path.exists() and not _is_whole(path, content):
        path.rename(tempfile.mkdtemp(prefix=f".{path.name}.", dir=folder))
    if not path.exists():
        _make(path, content, _origin(sources) | {"plugins": list(map(str, plugins))})
    return Snapshot(path=path, plugins=tuple(path / copy for copy in copies))


def _package(folder: Path) -> Iterator[tuple[str, Content]]:
    """Yield the files of a package by their path inside it."""
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and not any(_skipped(part) for part in inside.parts):
            yield str(inside), path.read_bytes()


def _plugin(path: Path) -> Iterator[tuple[str, Content]]:
    """Yield a plug-in by its path inside the folder in which it lies, and links to what lies beside a single file."""
    if path.is_dir():
        yield from _code_below(path, Path(path.name))
        return
    for entry in sorted(path.parent.iterdir()):
        if not _skipped(entry.name):
            yield entry.name, entry.read_bytes() if entry == path else entry


def _code_below(folder: Path, inside: Path) -> Iterator[tuple[str, Content]]:
    """Yield Python files, those of packages included; everything else, data for instance, as links."""
    for entry in sorted(folder.iterdir()):
        if _skipped(entry.name):
            continue
        if (entry / "__init__.py").is_file():
            yield from _code_below(entry, inside / entry.name)
        else:
            yield str(inside / entry.name), entry.read_bytes() if entry.suffix == ".py" else entry


def _skipped(name: str) -> bool:
    return name.startswith(".") or name == "__pycache__"


def _digest(content: Mapping[str, Content]) -> str:
    lines = [f"{name}\0{hashlib.sha256(c).hexdigest() if isinstance(c, bytes) else c}" for name, c in content.items()]
    return hashlib.sha256("\n".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest()[:HASH_CHARS]


def _is_whole(path: Path, content: Mapping[str, Content]) -> bool:
    """True where a snapshot holds what its name says: no crash and no person has changed it."""
    try:
        return all((path / name).read_bytes() == c for name, c in content.items() if isinstance(c, bytes))
    except OSError:
        return False


def _make(path: Path, content: Mapping[str, Content], origin: Mapping[str, object]) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))  # 0700
        try:
            for folder in sorted({(temporary / name).parent for name in content}):
                folder.mkdir(parents=True, exist_ok=True)
            for name, what in content.items():
                if isinstance(what, bytes):
                    (temporary / name).write_bytes(what)
                else:
                    (temporary / name).symlink_to(what)
            diff, fields = str(origin["changes"]), {k: v for k, v in origin.items() if k != "changes"}
            now = datetime.now(UTC).isoformat(timespec="seconds")
            if diff:
                (temporary / CHANGES).touch(mode=0o600)
                (temporary / CHANGES).write_text(diff, encoding="utf-8", errors="surrogateescape")
            files.create(temporary / SNAPSHOT, files.to_json(
                {"schema_version": files.SCHEMA_VERSION, "time": now, **fields}))
            temporary.rename(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _origin(sources: Mapping[str, Path]) -> dict[str, object]:
    """Return `commit` and `changes` of packages that a git checkout tracks; both empty for installed ones."""
    first = next(iter(sources.values()))
    names = [str(source) for source in sources.values()]
    if not _git(first, "ls-files", "--error-unmatch", "--", str(first / "__init__.py")):
        return {"commit": "", "changes": ""}
    return {"commit": _git(first, "rev-parse", "HEAD").strip(),
            "changes": _git(first, "diff", "--no-ext-diff", "--no-textconv", "HEAD", "--", *names)}


def _git(folder: Path, *words: str) -> str:
    """Return what git prints; empty where it fails or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, timeout=GIT_TIMEOUT_S,
                              check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="surrogateescape")
