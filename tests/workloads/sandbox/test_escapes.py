"""Every case is stopped in every kind of sandbox, and the cases do escape where nothing stops them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from workloads.sandbox.escapes import CASES, QUICK
from workloads.sandbox.examine import escapes_of
from workloads.sandbox.kinds import SOURCE, UNSAFE, Kind
from workloads.sandbox.ladder import examined

SYSTEM_PYTHON = "/usr/bin/python3"
UNCONFINED = {
    "environment of processes", "a file by its path", "a file by a system call", "a file through a link",
    "a file through a hard link", "a file by climbing", "a file through the root of a process", "a module from outside",
    "the list of users", "other processes", "a file beside the secret", "over the secret", "through a link",
    "removing the secret", "moving the secret", "modes of the secret", "times of the secret", "a connection",
    "a datagram",
    "a socket in the file system", "an abstract socket", "a port to listen on", "a fork bomb", "threads without end",
    "another program", "a signal to a process outside", "one large file", "descriptors",
}
"""Cases that do no harm, and that nothing but a layer of the sandbox stops."""


def test_there_are_cases_of_every_area_with_names_of_their_own() -> None:
    assert len(CASES) >= 40 and len({case.name for case in CASES}) == len(CASES)
    assert {case.area for case in CASES} == {
        "reading", "writing", "network", "processes", "resources", "time", "verdict"}
    assert {case.area for case in QUICK} >= {"reading", "writing", "network", "processes", "verdict"}
    for case in CASES:
        compile(case.source, case.name, "exec")


@pytest.mark.slow
def test_every_case_is_stopped(kind: Kind) -> None:
    found = examined(kind, CASES)
    assert not found.reason and found.escaped == () and len(found.tried) == len(CASES)


def test_the_quick_cases_are_stopped(kind: Kind) -> None:
    found = examined(kind, QUICK)
    assert not found.reason and found.escaped == () and found.holds


def test_cases_escape_where_nothing_stops_them() -> None:
    cases = [case for case in CASES if case.name in UNCONFINED]
    assert len(cases) == len(UNCONFINED)
    stopped = {tried.case.name: tried.seen for tried in escapes_of(UNSAFE, cases, layers=()) if tried.stopped}
    assert stopped == {}


@pytest.mark.parametrize("layer, names", [
    ("landlock", {"a file by its path", "a file through a link", "over the secret", "removing the secret",
                  "another program"}),
    ("seccomp", {"a connection", "an abstract socket", "a fork bomb", "another program",
                 "a signal to a process outside"}),
    ("rlimits", {"one large file", "descriptors"})])
def test_each_layer_stops_its_cases_without_any_namespace(layer: str, names: set[str]) -> None:
    cases = [case for case in CASES if case.name in names]
    assert len(cases) == len(names)
    assert [tried.case.name for tried in escapes_of(UNSAFE, cases, layers=(layer,)) if not tried.stopped] == []


def test_a_kind_without_walls_is_found_out() -> None:
    found = examined(UNSAFE, [case for case in CASES if case.name in ("the list of users", "modes of the secret")])
    assert "modes of the secret" in found.escaped and not found.holds  # Landlock knows nothing of modes


def test_an_ordinary_user_has_the_same_sandbox(kind: Kind) -> None:
    if os.getuid() != 0:
        pytest.skip("all of these tests ran as an ordinary user")
    if not Path(SYSTEM_PYTHON).exists():
        pytest.skip("no interpreter that other users can read")
    code = ("import json; from workloads.sandbox import kinds, ladder; from workloads.sandbox.escapes import QUICK; "
            f"found = ladder.examined(next(k for k in kinds.LADDER if k.name == {kind.name!r}), QUICK); "
            "print(json.dumps([found.reason, found.escaped, len(found.tried)]))")
    done = subprocess.run([SYSTEM_PYTHON, "-c", code], cwd="/", user=65534, group=65534, extra_groups=[],
                          env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCE, "PYTHONDONTWRITEBYTECODE": "1"},
                          capture_output=True, text=True, check=False)
    if "Permission denied" in done.stderr or "No module named 'workloads'" in done.stderr:
        pytest.skip("other users cannot read this checkout")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["", [], len(QUICK)]
