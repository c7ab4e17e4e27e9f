"""A process that kills itself (SIGKILL) at a chosen system call: which call, on what, the how-manieth, before or after.

Two ways to arm it. `arm` arms this process: for a forked child. `environment` arms processes that this one starts,
however deep below: it writes a folder with a `sitecustomize.py`, and returns the PYTHONPATH that puts it to use (jobs
inherit nothing else). There only the wished kind of process arms itself, and only one of all dies. Standard library
alone, nothing of the product: the calls are watched, not the functions that make them.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

DURABLE = ("fsync", "link", "rename", "replace")
"""The calls that make a fact durable or visible."""
CHANGES = (*DURABLE, "mkdir", "rmdir", "unlink")
"""Every change that a crash can fall between."""
BY_DESCRIPTOR = ("fsync", "write")
TWO_PATHS = ("link", "rename", "replace")
PROCESSES = {
    "controller": re.compile(r"(-m orchestrator|/orchestrator) sweep "),
    "job": re.compile(r"-m cluster\.launch |-m workloads\.run "),
}
"""Kind of process -> what its command line holds."""


@dataclass(frozen=True, kw_only=True)
class Crash:
    """Where to die: at the `at`-th call (from 1) that matches."""

    at: int = 1
    when: Literal["before", "after", "half"] = "before"
    """`half`: of a write, after its first half."""
    calls: tuple[str, ...] = DURABLE
    """Functions of `os` that count."""
    path: str = ""
    """Expression that the path (of two, the new one) must match."""
    says: str = ""
    """What the bytes of a write must hold."""


_LEDGER = Crash(calls=("write",), path=r"/ledger/\d+\.jsonl$")
POINTS = {
    "after the intent": replace(_LEDGER, when="after", says='"event":"intent"'),
    "after the submission": replace(_LEDGER, says='"event":"submitted"'),
    "before a term begins": Crash(calls=("link",), path=r"/ledger/\d+\.jsonl$"),
    "inside the line of the intent": replace(_LEDGER, when="half", says='"event":"intent"'),
    "inside the line of the submission": replace(_LEDGER, when="half", says='"event":"submitted"'),
    "between a result's files": Crash(calls=("link",), path=r"/pretrain/\w+/result\.json$"),
    "inside a checkpoint": Crash(calls=("link",), path=r"/pretrain/.*/MANIFEST\.json$"),
}
"""Points with a name."""


class Trigger:
    """Counts the calls that match, and dies at the chosen one."""

    def __init__(self, crash: Crash, once: Path | None = None) -> None:
        """`once`: the file that the first to die makes; where it exists, nobody dies."""
        self.crash = crash
        self.once = once
        self.count = 0
        self._lock = threading.Lock()
        self._process = os.getpid()

    def matches(self, call: str, arguments: tuple[Any, ...]) -> bool:
        """Count a call that matches; tell whether it is the chosen one."""
        crash = self.crash
        if os.getpid() != self._process:  # a child that was forked
            return False
        if crash.path and not re.search(crash.path, _path(call, arguments)):
            return False
        if crash.says and crash.says.encode() not in bytes(arguments[1]):
            return False
        with self._lock:
            self.count += 1
            return self.count == crash.at

    def die(self) -> None:
        """Kill this process, unless another one has died already."""
        if self.once is not None:
            try:
                os.close(os.open(self.once, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
        os.kill(self._process, signal.SIGKILL)


def _path(call: str, arguments: tuple[Any, ...]) -> str:
    if call in BY_DESCRIPTOR:
        return str(Path(f"/proc/self/fd/{arguments[0]}").readlink())
    return os.fspath(arguments[call in TWO_PATHS])


def arm(crash: Crash, once: Path | None = None) -> Trigger:
    """Make this process die at the chosen call; return what counts the calls."""
    trigger = Trigger(crash, once)
    for call in crash.calls:
        setattr(os, call, _wrapped(call, getattr(os, call), trigger))
    return trigger


def _wrapped(call: str, original: Callable[..., Any], trigger: Trigger) -> Callable[..., Any]:
    when = trigger.crash.when

    def watched(*arguments: Any, **options: Any) -> Any:
        due = trigger.matches(call, arguments)
        if due and when == "half":
            original(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
        if due and when != "after":
            trigger.die()
        answer = original(*arguments, **options)
        if due and when == "after":
            trigger.die()
        return answer

    return watched


# -- in processes that others start --------------------------------------------------------------------------------


def environment(folder: Path, process: str, crash: Crash) -> dict[str, str]:
    """Return variables that make one process of this kind, started with them at whatever depth, die.

    Args:
        folder: a new folder outside the store; afterwards `died(folder)` tells whether it happened.
        process: a key of `PROCESSES`.
        crash: where.
    """
    assert process in PROCESSES, process
    folder.mkdir(parents=True)
    (folder / "crash.json").write_text(json.dumps({"process": process, "crash": asdict(crash)}), encoding="utf-8")
    (folder / "sitecustomize.py").write_text(
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('armed_crash', {str(Path(__file__))!r})\n"
        "sys.modules['armed_crash'] = module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        f"module.arm_if_wished({str(folder)!r}, sys.orig_argv)\n", encoding="utf-8",
    )
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


def died(folder: Path) -> bool:
    """Tell whether a process armed through `folder` has died at its point."""
    return (folder / "died").exists()


def arm_if_wished(folder: str, command: list[str]) -> None:
    """Arm this process if it is of the wished kind and none has died yet; what `sitecustomize.py` calls."""
    wished: Mapping[str, Any] = json.loads((Path(folder) / "crash.json").read_text(encoding="utf-8"))
    once = Path(folder) / "died"
    if PROCESSES[wished["process"]].search(" ".join(command) + " ") and not once.exists():
        crash = wished["crash"]
        arm(Crash(**{**crash, "calls": tuple(crash["calls"])}), once)


# -- in forked children ---------------------------------------------------------------------------------------------


def in_child(action: Callable[[], int], log: Path, crash: Crash | None = None) -> int:
    """Fork; run `action` there, armed where a crash is given; return its exit code, negative for a signal.

    Costs some milliseconds: what this process has imported need not be imported again. Output goes to `log`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            if crash is not None:
                arm(crash)
            code = action()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
