"""Programs in a sandbox: what comes back, how they end, and that none is touched by another."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

import pytest

from workloads.sandbox.box import LOST, Box, BrokenSandbox, Call, Program, Raised, Returned
from workloads.sandbox.confine import Limits
from workloads.sandbox.examine import branches
from workloads.sandbox.kinds import UNSAFE, Kind
from workloads.sandbox.ladder import NoSandbox, open_box


def program(source: str, *calls: Call, entry: str = "f") -> Program:
    return Program(source=source, entry=entry, calls=calls or (Call.of(),))


def test_a_program_answers_every_call(box: Box) -> None:
    [outcome] = box.run([program("def f(x, *, by=2): return x * by", Call.of(21), Call.of("a", by=3), Call.of(None))])
    assert outcome.ended == "finished" and outcome.returns == (Returned(42), Returned("aaa"), Raised("TypeError"))


def test_outcomes_come_in_the_order_of_the_programs(box: Box) -> None:
    found = box.run([program(f"import time\ndef f():\n    time.sleep({0.02 if n % 2 else 0})\n    return {n}")
                     for n in range(12)])
    assert [outcome.returns for outcome in found] == [(Returned(n),) for n in range(12)]
    assert box.run([]) == []


@pytest.mark.parametrize("source, error", [
    ("def f(:", "SyntaxError"), ("x = 1 / 0", "ZeroDivisionError"), ("def g(): pass", "KeyError"),
    ("import sys; sys.exit(0)", "SystemExit"), ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ("import socket; socket.socket()", "PermissionError"), ("import numpy", "ModuleNotFoundError")])
def test_a_source_that_fails_names_its_exception(box: Box, source: str, error: str) -> None:
    [outcome] = box.run([program(source)])
    assert outcome.error == error and outcome.returns == ()


def test_a_program_has_a_scratch_folder_and_the_standard_library_of_its_own(box: Box) -> None:
    source = """
import json, os, statistics, unicodedata, zoneinfo
def f():
    print("noise")
    with open("file", "w") as file:
        file.write("kept")
    return open("file").read(), os.listdir("."), dict(os.environ), statistics.mean([1, 3]), __name__
"""
    first, second = box.run([program(source), program(source)])
    assert first.returns == second.returns == (Returned(("kept", ["file"], {}, 2, "program")),)


def test_sets_and_random_numbers_are_the_same_in_every_run(box: Box) -> None:
    source = "import random\ndef f(): return [random.random(), list({'a', 'b', 'c', 'd', 'e', 'f'})]"
    found = {repr(outcome.returns) for outcome in box.run([program(source)] * 3)}
    assert len(found) == 1 and "Returned" in found.pop()


def test_what_came_before_the_end_is_kept(box: Box) -> None:
    source = "import os\ndef f(x):\n    if x == 2: os._exit(3)\n    return x"
    [outcome] = box.run([program(source, *map(Call.of, range(4)))])
    assert outcome.ended == "exit 3" and outcome.returns == (Returned(0), Returned(1))


def test_too_much_output_ends_a_program(box: Box) -> None:
    [outcome] = box.run([program("def f(): return 'x' * 1_000_000")])
    assert outcome.ended == "output" and outcome.returns == ()


def test_the_time_limits_end_a_program_and_nothing_else(kind: Kind) -> None:
    with Box(kind=kind, limits=Limits(wall_s=0.5, cpu_s=1), workers=1) as one:
        sleeping, after = one.run([program("import time\ndef f(): time.sleep(60)"), program("def f(): return 1")])
    assert sleeping.ended == "time" and 0.4 < sleeping.wall_s < 5.0 and after.returns == (Returned(1),)


def test_the_processor_limit_ends_a_program(kind: Kind) -> None:
    with Box(kind=kind, limits=Limits(wall_s=60.0, cpu_s=1), workers=1) as one:
        [outcome] = one.run([program("def f():\n    while True: pass")])
    assert outcome.ended == "time" and outcome.wall_s < 50.0


def test_a_sandbox_that_dies_is_lost_and_another_takes_its_place(kind: Kind) -> None:
    with Box(kind=kind, limits=Limits(), workers=1) as one:
        _kill_whole(one.pids[0])
        found = one.run([program("def f(): return 1")] * 2)
        assert [o.ended for o in found] == [LOST, "finished"] and found[1].returns == (Returned(1),)


def test_nothing_is_left_when_a_box_is_closed(kind: Kind) -> None:
    with Box(kind=kind, limits=Limits(), workers=2) as one:
        one.run([program("def f(): return 1")] * 2)
        assert not branches(one.pids)
        pids = one.pids
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_what_holds_a_sandbox_takes_all_of_it_along(kind: Kind) -> None:
    with Box(kind=kind, limits=Limits(), workers=1) as one:
        assert _deepest(one.pids[0]) != one.pids[0]
        _kill_whole(one.pids[0])


def _kill_whole(pid: int) -> None:
    """Kill what holds a sandbox, and wait until what is inside is dead too: the kernel takes its time."""
    inner = _deepest(pid)
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while _lives(inner):
        assert time.monotonic() < deadline, "what is inside lives on"
        time.sleep(0.02)


def _deepest(pid: int) -> int:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:  # noqa: PTH123
        children = file.read().split()
    return _deepest(int(children[0])) if children else pid


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_kind_that_does_not_start_says_why(kind: Kind) -> None:
    broken = replace(kind, command=lambda command, limits, folder: ["sh", "-c", "echo no such thing >&2; exit 1"])
    with pytest.raises(BrokenSandbox, match=f"{kind.name} does not start here: no such thing"):
        Box(kind=broken, limits=Limits(), workers=1).__enter__()
    with pytest.raises(BrokenSandbox, match="No such file"):
        Box(kind=replace(kind, command=lambda *_: ["/no/such/program"]), limits=Limits(), workers=1).__enter__()


def test_without_namespaces_no_kind_is_believed() -> None:
    pretender = replace(UNSAFE, name="pretender", alone=True)
    with pytest.raises(NoSandbox, match="pretender does not start here: the sandbox's server is process .*not 1"):
        open_box(ladder=(pretender,))


def test_a_kind_that_is_not_installed_is_passed_over(kind: Kind) -> None:
    missing = replace(kind, name="missing", program="no-such-program")
    assert open_box(ladder=(missing, kind)).kind is kind
    with pytest.raises(NoSandbox, match="missing: no-such-program is not installed") as caught:
        open_box(ladder=(missing,))
    assert caught.value.exit_code == 4


def test_unsafe_stands_on_no_rung_and_is_used_where_it_is_asked_for_and_none_holds(kind: Kind) -> None:
    assert open_box(ladder=(), unsafe=True).kind is UNSAFE
    assert open_box(ladder=(kind,), unsafe=True).kind is kind, "only where none holds"
    with open_box(ladder=(), unsafe=True, workers=1) as one:
        [outcome] = one.run([program("def f(): return 1")])
    assert outcome.returns == (Returned(1),)
