"""What a test job runs: `python -m cluster.doctor.probe FOLDER`. It imports only the standard library by itself.

It reads `ask.json` from the folder and leaves `began.json` (where it runs, what it sees of the folder) and
`answer.json` (what can be imported there). In two files, because an import may kill the process. Several ranks would
write the same: the first one does.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ASK, BEGAN, ANSWER = "ask.json", "began.json", "answer.json"
IMPORTED = ("torch", "deepspeed", "transformers", "workloads.run")
"""What jobs import; the last is this package's own door."""
VERSIONED = ("torch", "deepspeed", "transformers", "tokenizers", "numpy", "pydantic")
OWN = ("cluster", "sweeps", "workloads")
"""Packages of this project that a job runs."""


def write(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file whose name appears when it is whole."""
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(value), encoding="utf-8")
    beside.replace(path)


def began(folder: Path) -> dict[str, Any]:
    """Return where this runs and what it sees of the folder."""
    try:
        nonce = json.loads((folder / ASK).read_text(encoding="utf-8"))["nonce"]
    except (OSError, ValueError, KeyError) as error:
        nonce = f"{type(error).__name__}: {error}"
    return {"nonce": nonce, "host": socket.gethostname(), "clock": time.time(), "links": links(folder),
            "space": space(folder), "scratch": scratch()}


def links(folder: Path) -> str:
    """Return why a file cannot be made under a name that only one process gets, as results are; empty: it can."""
    first, second = folder / "link-1", folder / "link-2"
    try:
        first.touch()
        os.link(first, second)
        try:
            os.link(first, second)
        except FileExistsError:
            return ""
        return "a name was given twice"
    except OSError as error:
        return str(error.strerror or error)
    finally:
        first.unlink(missing_ok=True)
        second.unlink(missing_ok=True)


def space(folder: Path) -> dict[str, int]:
    """Return a disk's free bytes and file names, and how many of the latter there are at all."""
    seen = os.statvfs(folder)
    return {"bytes": seen.f_bavail * seen.f_frsize, "inodes": seen.f_favail, "all_inodes": seen.f_files}


def scratch() -> dict[str, Any]:
    """Return the folder for temporary files, its free bytes, and why it cannot be written (empty: it can)."""
    folder = Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108 - the default that every program takes
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
        return {"folder": str(folder), "bytes": shutil.disk_usage(folder).free, "wrong": ""}
    except OSError as error:
        return {"folder": str(folder), "bytes": 0, "wrong": str(error.strerror or error)}


def versions() -> dict[str, str]:
    """Return what is installed, without importing it, and a digest of this project's own code."""
    found = {"python": platform.python_version(), "this package": code()}
    for name in VERSIONED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def code() -> str:
    """Return a digest of the code of this project that a job runs."""
    home, digest = Path(__file__).parent.parent.parent, hashlib.sha256()
    for path in sorted(p for package in OWN for p in (home / package).rglob("*.py")):
        digest.update(f"{path.relative_to(home)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def imports() -> dict[str, str]:
    """Return module -> why it cannot be imported; empty: it can."""
    found = {}
    for name in IMPORTED:
        try:
            importlib.import_module(name)
            found[name] = ""
        except Exception as error:  # noqa: BLE001 - whatever a broken installation raises is the answer
            found[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return found


def gpus() -> int | None:
    """Return how many GPUs torch sees; None: there is no torch to ask."""
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.cuda.device_count())


def main() -> None:
    """Answer."""
    folder = Path(sys.argv[1])
    try:
        write(folder / BEGAN, began(folder))
        start = time.monotonic()
        failures = imports()
        write(folder / ANSWER, {"versions": versions(), "imports": failures, "seconds": time.monotonic() - start,
                                "gpus": gpus(), "executable": sys.executable})
    finally:
        temporary = Path(os.environ.get("TMPDIR", "/"))
        if temporary.name == f"orchestrator-{os.environ.get('SLURM_JOB_ID', '')}":  # made by this job, on its scratch
            shutil.rmtree(temporary, ignore_errors=True)


if __name__ == "__main__":
    main()
