"""The ladder of sandboxes: what starts the server behind namespaces. Which of them holds is for `examine.py` to say.

All show the same: the interpreter, the system's libraries and this package, read-only; an empty scratch folder in
memory; /dev/null; no network, no other process, no environment. The limits, Landlock and seccomp of `confine.py` come
on top in all of them. `UNSAFE` has no namespaces, and stands on no rung: a person has to ask for it by name.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workloads.sandbox.confine import Limits

CODE = str(Path(__file__).resolve().parent)
SOURCE = str(Path(__file__).resolve().parents[2])
"""This package, and the folder that it is imported from."""
LIBRARIES = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache")
ENVIRONMENT = {"PYTHONHASHSEED": "0"}
"""Of the server, which empties it: the order of sets is the same in every run."""
SCRATCH = "/scratch"


@dataclass(frozen=True, kw_only=True)
class View:
    """What a sandbox shows of this machine."""

    shown: tuple[str, ...]
    """Files and folders, at their own places, read-only."""
    links: dict[str, str]
    """Symbolic links: /lib to usr/lib, where the system has merged them."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A way to start the server."""

    name: str
    command: Callable[[list[str], Limits, Path], list[str]]
    """(the server's command, limits, a private folder of the box) -> what to start."""
    program: str = ""
    """What has to be installed."""
    alone: bool = True
    """The server is process 1 of a PID namespace."""

    def missing(self) -> str:
        """Return why it cannot be tried; empty where it can."""
        if not sys.platform.startswith("linux"):
            return "it needs Linux"
        return f"{self.program} is not installed" if self.program and not shutil.which(self.program) else ""


def interpreter() -> str:
    """Return the interpreter that a virtual environment was made from."""
    return str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())


def server(module: str = "workloads.sandbox.server") -> list[str]:
    """Return the command that runs a module of this package without site-packages."""
    start = f"import sys; sys.path.insert(0, {SOURCE!r}); from {module} import main; main()"
    return [interpreter(), "-s", "-S", "-P", "-B", "-c", start]


def view() -> View:
    """Return what is shown here."""
    links: dict[str, str] = {}
    shown: list[str] = []
    for path in (*LIBRARIES, sys.base_prefix, sys.base_exec_prefix, str(Path(interpreter()).parent), CODE):
        if Path(path).is_symlink() and path in LIBRARIES:
            links[path] = str(Path(path).readlink())
        elif Path(path).exists() and not any(Path(path).is_relative_to(above) for above in shown):
            shown.append(path)
    return View(shown=tuple(shown), links=links)


def _apptainer(command: list[str], limits: Limits, folder: Path) -> list[str]:
    """Return the command for an image that is an empty folder: all it has is bound into it."""
    here, image = view(), folder / "image"
    for path in ("proc", "sys", "dev", "tmp", "etc", *(p.lstrip("/") for p in here.shown)):
        target = image / path
        if Path("/", path).is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        else:
            target.mkdir(parents=True, exist_ok=True)
    for path, to in here.links.items():
        (image / path.lstrip("/")).symlink_to(to)
    (image / SCRATCH.lstrip("/")).mkdir()
    binds = [word for path in here.shown for word in ("--bind", f"{path}:{path}:ro")]
    return ["apptainer", "--silent", "exec", "--containall", "--cleanenv", "--no-home", "--no-privs", "--pid",
            "--no-init", "--ipc", "--uts", "--net", "--network", "none", "--scratch", SCRATCH,
            *(word for key, value in ENVIRONMENT.items() for word in ("--env", f"{key}={value}")),
            *binds, str(image), *command]


def _bubblewrap(command: list[str], limits: Limits, folder: Path) -> list[str]:
    here = view()
    return ["bwrap", "--unshare-all", "--unshare-user", "--uid", "1000", "--gid", "1000", "--die-with-parent",
            "--as-pid-1", "--new-session", "--cap-drop", "ALL",
            *(word for path in here.shown for word in ("--ro-bind", path, path)),
            *(word for path, to in here.links.items() for word in ("--symlink", to, path)),
            "--dev-bind", "/dev/null", "/dev/null", "--size", str(limits.scratch_mb << 20), "--tmpfs", SCRATCH,
            "--remount-ro", "/", "--chdir", "/", *command]


def _namespaces(command: list[str], limits: Limits, folder: Path) -> list[str]:
    here = view()
    given = {"shown": here.shown, "links": here.links, "scratch": SCRATCH, "scratch_mb": limits.scratch_mb,
             "command": command, "environment": ENVIRONMENT}
    return [*server("workloads.sandbox.jail"), json.dumps(given)]


LADDER = (Kind(name="apptainer", program="apptainer", command=_apptainer),
          Kind(name="bubblewrap", program="bwrap", command=_bubblewrap),
          Kind(name="namespaces", command=_namespaces))
"""The first that holds is used."""
UNSAFE = Kind(name="unsafe", command=lambda command, limits, folder: command, alone=False)
