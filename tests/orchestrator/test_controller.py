"""Ray's processes come up, or a person is told what to do."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.controller import RAY_STARTS, _start_ray
from sweeps.errors import EnvironmentError_


class SlowRay:
    """Stands in for `ray.init`: comes up at the start with this number, and leaves processes of the ones before."""

    def __init__(self, comes_up: int) -> None:
        self.comes_up = comes_up
        self.left: list[subprocess.Popen[bytes]] = []

    def __call__(self, *, _temp_dir: str, **_: Any) -> None:
        if len(self.left) + 1 == self.comes_up:
            return
        left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", _temp_dir])
        while not Path(f"/proc/{left.pid}/cmdline").read_bytes():
            time.sleep(0.01)  # within exec, when it has no command line; Ray's processes are long past that
        self.left.append(left)
        raise Exception("The current node timed out during startup.")


def in_place_of_ray(monkeypatch: pytest.MonkeyPatch, slow: SlowRay) -> SlowRay:
    """Ray itself stays unloaded: it reads its token from the environment when it is imported, once in a process."""
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=slow))
    return slow


def test_ray_is_started_again_where_it_was_too_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = in_place_of_ray(monkeypatch, SlowRay(comes_up=2))
    _start_ray(tmp_path)
    assert "did not come up (The current node timed out during startup.); starting them once more" in (
        capsys.readouterr().err)
    assert [process.wait(10) for process in slow.left] == [-9]


def test_a_ray_that_never_comes_up_is_no_defect_of_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = in_place_of_ray(monkeypatch, SlowRay(comes_up=99))
    with pytest.raises(EnvironmentError_, match="too much to do, or too little memory.*run the same command again"):
        _start_ray(tmp_path)
    assert [process.wait(10) for process in slow.left] == [-9] * RAY_STARTS
