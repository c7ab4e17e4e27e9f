"""The process inside the sandbox: it forks a fresh process for every program, and kills all that is left of it.

It reads frames from stdin and answers on stdout. The forked process reads its program itself, so the server never sees
one: every program begins in the same state, with no trace of those before it. A program ends with its process, at the
wall-time limit, or when it has written too much; then everything in the PID namespace but this server is killed, and
its scratch folder is removed. With `Setup.alone` unset (no PID namespace) only the program's own session is killed.

What a program writes into its answer is its own affair: it can forge only the values that it returns anyway.

    frame      4 bytes of length, then so many bytes
    program    {"source": TEXT, "entry": NAME, "calls": [TEXT of (arguments, keyword arguments), ...]}
    answer     {"ended": HOW, "wall_s": S, "cpu_s": S}, a newline, then a line for each call, as far as it came:
               V and the text of a value, R and the name of an exception; E and a name if there is nothing to call

Imported inside the sandbox: standard library only.
"""

from __future__ import annotations

import builtins
import gc
import importlib
import json
import os
import random
import select
import shutil
import signal
import struct
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from workloads.sandbox import confine, values

PRELOADED = ("bisect", "collections", "copy", "datetime", "decimal", "fractions", "functools", "hashlib", "heapq",
             "itertools", "math", "operator", "re", "statistics", "string", "typing")
"""Imported once, before any program."""
ANSWER_FD, FIRST_FREE_FD, LAST_FD = 3, 4, 256
STARTED, NO_PROGRAM, NOT_CONFINED = b"s", 64, 70
"""First byte of a process that has its program and is confined; exit status of one without a program, and of one that
could not be confined."""
FINISHED, TIME, OUTPUT = "finished", "time", "output"
"""How a program ended; else `signal N` or `exit N`."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a server is told at its start."""

    limits: confine.Limits
    readable: tuple[str, ...]
    """Files and folders that programs may read, as far as Landlock is asked."""
    scratch: str
    """Folder of the programs' scratch folders."""
    alone: bool = True
    """The server is process 1 of its own PID namespace."""
    layers: tuple[str, ...] = confine.LAYERS
    """What is put on each program's process, where the machine has it. Fewer only to show what each is worth."""

    @staticmethod
    def of(text: bytes) -> Setup:
        """Return what `dumps` has written."""
        found = json.loads(text)
        return Setup(**{**found, "limits": confine.Limits(**found["limits"]), "readable": tuple(found["readable"]),
                        "layers": tuple(found["layers"])})

    def dumps(self) -> bytes:
        """Return it as text."""
        return json.dumps(asdict(self)).encode()


def read_frame(fd: int) -> bytes | None:
    """Return the next frame; None at the end."""
    header = _read(fd, 4)
    return None if header is None else _read(fd, struct.unpack("=I", header)[0])


def _read(fd: int, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        part = os.read(fd, count - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)


def write_frame(fd: int, text: bytes) -> None:
    """Write a frame.

    Raises:
        OSError: nobody reads it.
    """
    write_all(fd, struct.pack("=I", len(text)) + text)


def write_all(fd: int, text: bytes) -> None:
    """Write all of it."""
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(fd, rest):]


def main() -> None:
    """Serve until stdin ends."""
    given = read_frame(0)
    assert given is not None
    setup = Setup.of(given)
    if setup.alone and os.getpid() != 1:
        sys.exit(f"the sandbox's server is process {os.getpid()}, not 1: it has no PID namespace of its own")
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # process 1 is spared by every signal that it does not handle
    confine.prctl(confine.DUMPABLE, 0)  # its memory and descriptors are no other process's to open
    os.environ.clear()
    os.umask(0o077)
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    write_frame(1, json.dumps(asdict(confine.available())).encode())
    number = 0
    while _serve(setup, f"{setup.scratch}/{number}"):
        number += 1


def _serve(setup: Setup, scratch: str) -> bool:
    """Run the next program; False if there is none."""
    Path(scratch).mkdir()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _program(setup, scratch, writing)
        finally:
            os._exit(NOT_CONFINED)
    os.close(writing)
    if os.read(reading, 1) != STARTED:  # nothing of the program has run until then
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return False if code == NO_PROGRAM else sys.exit(f"no program's process could be confined ({code})")
    header, answer = _watched(setup, child, reading)
    os.close(reading)
    _kill_all(setup, child)
    removed(scratch)
    write_frame(1, json.dumps(header).encode() + b"\n" + answer)
    return True


def _watched(setup: Setup, child: int, reading: int) -> tuple[dict[str, Any], bytes]:
    """Wait for the program's end; return how it ended, and what it wrote."""
    began = time.monotonic()
    answer, limit = bytearray(), setup.limits.output_kb << 10
    ended, gone = "", os.pidfd_open(child)
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    poll.register(gone, select.POLLIN)
    while not ended:
        left = began + setup.limits.wall_s - time.monotonic()
        ready = {fd for fd, _ in poll.poll(max(left, 0.0) * 1e3)}
        if reading in ready:
            part = os.read(reading, 1 << 16)
            answer += part
            ended = OUTPUT if len(answer) > limit else ended
            if not part:
                poll.unregister(reading)
        elif gone in ready:
            break
        elif left <= 0:
            ended = TIME
    os.close(gone)
    if ended:
        os.kill(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    cpu_s = used.ru_utime + used.ru_stime
    header = {"ended": ended or _how(status, cpu_s, setup.limits), "wall_s": time.monotonic() - began, "cpu_s": cpu_s}
    return header, bytes(answer[:limit])


def _how(status: int, cpu_s: float, limits: confine.Limits) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and cpu_s >= limits.cpu_s):
        return TIME
    return FINISHED if code == 0 else f"signal {-code}" if code < 0 else f"exit {code}"


def _kill_all(setup: Setup, child: int) -> None:
    """Kill what the program has started, and wait until it is gone."""
    with suppress(ProcessLookupError):
        os.kill(-1 if setup.alone else -child, signal.SIGKILL)
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def removed(folder: str) -> None:
    """Remove a folder, whatever the modes in it."""
    with suppress(OSError):  # most programs leave nothing
        return os.rmdir(folder)  # noqa: PTH106 - pathlib costs a third of a program's time here
    os.chmod(folder, 0o700)  # noqa: PTH101
    for above, names, _ in os.walk(folder):
        for name in names:
            if not os.path.islink(path := f"{above}/{name}"):  # noqa: PTH114
                os.chmod(path, 0o700)  # noqa: PTH101
    shutil.rmtree(folder)


def _program(setup: Setup, scratch: str, writing: int) -> NoReturn:
    """Be the program's process, to its end."""
    frame = read_frame(0)
    if frame is None:
        os._exit(NO_PROGRAM)
    if not setup.alone:
        os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(writing, ANSWER_FD)  # over the pipe's other end: `null` came later, and is above
    given = json.loads(frame)
    os.chdir(scratch)
    confine.confine(setup.limits, setup.layers, readable=setup.readable, scratch=scratch)
    for fd in range(ANSWER_FD):
        os.dup2(null, fd)
    os.closerange(FIRST_FREE_FD, LAST_FD)
    random.seed(0)  # the fork has seeded it anew
    os.write(ANSWER_FD, STARTED)
    _run(given["source"], given["entry"], given["calls"])
    os._exit(0)


def _run(source: str, entry: str, calls: list[str]) -> None:
    """Run the program and its calls; write a line for each."""
    namespace: dict[str, Any] = {"__name__": "program", "__builtins__": builtins}
    try:
        exec(compile(source, "<program>", "exec", dont_inherit=True), namespace)
        function = namespace[entry]
    except BaseException as error:  # noqa: BLE001 - whatever the program raises, SystemExit too
        return _say("E", type(error).__name__)
    for call in calls:
        arguments, keywords = values.decode(call)
        try:
            _say("V", values.encode(function(*arguments, **keywords)))
        except BaseException as error:  # noqa: BLE001
            _say("R", type(error).__name__)
    return None


def _say(kind: str, text: str) -> None:
    write_all(ANSWER_FD, f"{kind}{text}\n".encode("utf-8", "replace"))
