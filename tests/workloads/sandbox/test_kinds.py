"""What each kind of sandbox starts: everything shown is read-only, and nothing else is shown."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from workloads.sandbox.confine import CALLS, NEWEST, Limits, filter_of
from workloads.sandbox.kinds import CODE, LADDER, interpreter, server, view

KINDS = {kind.name: kind for kind in LADDER}


def test_the_view_is_the_interpreter_the_libraries_and_this_package() -> None:
    here = view()
    for needed in (CODE, interpreter(), sys.base_prefix):
        assert any(Path(needed).is_relative_to(shown) for shown in here.shown)
    home = Path.home().resolve()
    assert not any(home.is_relative_to(shown) or shown in ("/", "/etc", "/tmp", "/var") for shown in here.shown)
    assert all(not Path(a).is_relative_to(b) for a in here.shown for b in here.shown if a != b)


def test_apptainer_runs_in_an_empty_image_into_which_everything_is_bound_read_only(tmp_path: Path) -> None:
    command = KINDS["apptainer"].command(server(), Limits(), tmp_path)
    image = tmp_path / "image"
    assert command[-len(server()):] == server() and command[-len(server()) - 1] == str(image)
    assert {"--containall", "--cleanenv", "--no-home", "--no-privs", "--pid", "--no-init", "--net"} < set(command)
    assert command[command.index("--network") + 1] == "none"
    binds = [after for word, after in zip(command, command[1:], strict=False) if word == "--bind"]
    assert binds == [f"{path}:{path}:ro" for path in view().shown]
    for path in view().shown:
        assert (image / path.lstrip("/")).is_dir() == Path(path).is_dir() and (image / path.lstrip("/")).exists()
    assert all(not path.is_file() or path.stat().st_size == 0 for path in image.rglob("*"))


def test_bubblewrap_shows_only_what_is_named_and_limits_the_scratch_folder(tmp_path: Path) -> None:
    command = KINDS["bubblewrap"].command(server(), Limits(scratch_mb=3), tmp_path)
    text = " ".join(command)
    for path in view().shown:
        assert f"--ro-bind {path} {path}" in text
    assert "--unshare-all" in command and "--as-pid-1" in command and "--die-with-parent" in command
    assert f"--size {3 << 20} --tmpfs /scratch" in text and " --bind " not in text and "--proc" not in command


def test_plain_namespaces_are_told_the_same_view(tmp_path: Path) -> None:
    given = json.loads(KINDS["namespaces"].command(server(), Limits(scratch_mb=3), tmp_path)[-1])
    assert tuple(given["shown"]) == view().shown and given["command"] == server() and given["scratch_mb"] == 3


@pytest.mark.parametrize("machine", CALLS)
def test_the_filter_answers_as_it_should(machine: str) -> None:
    calls = CALLS[machine]
    refused, missing, allowed, killed = 0x00050001, 0x00050026, 0x7FFF0000, 0x80000000
    for number in range(600):
        expected = (missing if number == 435 else refused if number > NEWEST or number in calls.refused
                    or number in (*range(424, 435), 438, 440) or number == calls.clone else allowed)
        assert interpreted(filter_of(calls), number, calls.architecture) == expected, number
    assert interpreted(filter_of(calls), calls.clone, calls.architecture, flags=0x3D0F00) == allowed  # a thread
    assert interpreted(filter_of(calls), 0x40000000, calls.architecture) == refused  # x32
    assert interpreted(filter_of(calls), 1, 0x40000003) == killed  # 32 bits


def interpreted(program: bytes, number: int, architecture: int, flags: int = 17) -> int:
    """Return what a classic BPF program answers: the five instructions that are used, as linux/filter.h has them."""
    data = {0: number, 4: architecture, 16: flags}
    place = held = 0
    while True:
        code = int.from_bytes(program[place:place + 2], sys.byteorder)
        yes, no = program[place + 2], program[place + 3]
        operand = int.from_bytes(program[place + 4:place + 8], sys.byteorder)
        place += 8
        if code == 0x06:
            return operand
        if code == 0x20:
            held = data[operand]
        else:
            true = {0x15: held == operand, 0x25: held > operand, 0x45: bool(held & operand)}[code]
            place += 8 * (yes if true else no)
