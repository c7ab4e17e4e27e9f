"""A controller's Slurm job: its script, what the script does with signals, and what Slurm says of it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import controller_job
from cluster.controller_job import ControllerRequest, RefusedError, standing
from cluster.profiles import slurm_profile
from sweeps.errors import EnvironmentError_, UsageError
from sweeps.store.owner import JOB_VARIABLE, Owner, SlurmJob
from tests.cluster.slurm.fakes import Fakes
from tests.cluster.slurm.test_script import FULL, RECORDS

REQUEST = ControllerRequest(
    name="smoke-controller-ab12", command=("sweep", "/home/me/it's.yaml", "--root=/store", "--set=domain=[code, web]"),
    folder="/store/sweeps/smoke/controller", directory="/home/me")
OWN = {"controller": {"partition": "cpu", "qos": "long", "time_limit_min": 600, "lead_s": 60, "cpus": 1,
                      "memory_mb": 2000}}
GO = "trap 'exit 130' TERM; echo up; while :; do sleep 0.05; done"
"""A controller that leaves when it is asked to."""


def text(**options: object) -> str:
    """The script, with the interpreter's place left out."""
    made = controller_job.script(REQUEST, slurm_profile(options, "test"))
    return made.replace(shlex.quote(sys.executable), "PYTHON")


@pytest.mark.parametrize("name, options", [("controller", {}), ("controller_full", {**FULL, **OWN})])
def test_the_whole_script_is_as_recorded(name: str, options: dict[str, object]) -> None:
    assert text(**options) == (RECORDS / f"{name}.sh").read_text(encoding="utf-8")


def test_a_folder_that_slurm_would_change_is_refused() -> None:
    odd = REQUEST.model_copy(update={"directory": "/home/100%"})
    with pytest.raises(UsageError, match="run the command from another folder"):
        controller_job.script(odd, slurm_profile({}, "test"))


def test_a_lead_longer_than_the_limit_is_refused() -> None:
    with pytest.raises(UsageError, match="(?s)controller.*lead_s = 60.*time_limit_min = 1"):
        slurm_profile({"controller": {"time_limit_min": 1, "lead_s": 60}}, "test")


class Shell:
    """The script's shell with another program as its controller, and a scontrol that notes what it is asked."""

    def __init__(self, fakes: Fakes, program: str, scontrol: tuple[str, ...] = ("true",)) -> None:
        """Start it."""
        self.fakes = fakes
        fakes.does("scontrol", *scontrol)
        words = shlex.join(("PYTHON", "-P", "-u", "-m", "orchestrator", *REQUEST.command))
        wanted = text().replace("sleep 5", "sleep 0.1")
        assert words in wanted
        self.process = subprocess.Popen(
            ["bash", "-c", wanted.replace(words, shlex.join(["sh", "-c", program]))], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "SLURM_JOB_ID": "7"})

    def up(self) -> Shell:
        """Wait until the program has its handlers."""
        assert self.process.stdout is not None and self.process.stdout.readline() == "up\n"
        return self

    def told(self, *numbers: signal.Signals) -> tuple[int, list[str]]:
        """Send signals; return the exit code and what scontrol was asked."""
        for number in numbers:
            self.process.send_signal(number)
        self.process.communicate(timeout=10)
        return self.process.returncode, self.fakes.calls("scontrol")


def test_before_its_time_limit_the_controller_leaves_and_the_job_goes_back_into_the_queue(fakes: Fakes) -> None:
    assert Shell(fakes, GO).up().told(signal.SIGUSR2) == (130, ["requeue 7"])


def test_a_requeue_that_gets_no_answer_is_asked_again(fakes: Fakes) -> None:
    assert Shell(fakes, GO, ("exit 1", "exit 1", "true")).up().told(signal.SIGUSR2) == (130, ["requeue 7"] * 3)


def test_a_cancelled_job_does_not_come_back(fakes: Fakes) -> None:
    assert Shell(fakes, GO).up().told(signal.SIGTERM) == (130, [])


@pytest.mark.parametrize("code", [0, 3, 6])
def test_the_job_ends_with_the_sweeps_own_exit_code(fakes: Fakes, code: int) -> None:
    assert Shell(fakes, f"exit {code}").told() == (code, [])


def test_a_sweep_that_ends_though_it_was_asked_to_leave_is_not_requeued(fakes: Fakes) -> None:
    shell = Shell(fakes, "trap 'sleep 0.3; exit 3' TERM; echo up; while :; do sleep 0.05; done").up()
    assert shell.told(signal.SIGUSR2) == (3, [])


def test_a_controller_killed_by_the_signal_before_it_could_take_it_is_requeued(fakes: Fakes) -> None:
    code, asked = Shell(fakes, "echo up; exec sleep 10").up().told(signal.SIGUSR2)
    assert code > 6 and asked == ["requeue 7"]


def test_the_controller_gets_its_name_and_its_children_do_not(fakes: Fakes, tmp_path: Path) -> None:
    fakes.says("sbatch", "7\n")
    here = REQUEST.model_copy(update={"folder": str(tmp_path), "directory": str(tmp_path)})
    assert controller_job.submit(here, slurm_profile({}, "test")) == "7"
    assert f"export {JOB_VARIABLE}={REQUEST.name}" in here.script.read_text(encoding="utf-8")
    assert JOB_VARIABLE not in fakes.environment("sbatch")
    assert fakes.calls("sbatch") == [f"--parsable {here.script}"]


@pytest.mark.parametrize("printed, expected, words", [
    ("sbatch: error: invalid partition specified: x", RefusedError, "refused.*invalid partition"),
    ("sbatch: error: Socket timed out", EnvironmentError_, "may have been submitted all the same"),
])
def test_a_refusal_is_told_from_a_doubt(
    fakes: Fakes, tmp_path: Path, printed: str, expected: type[Exception], words: str
) -> None:
    fakes.fails("sbatch", printed)
    here = REQUEST.model_copy(update={"folder": str(tmp_path), "directory": str(tmp_path)})
    with pytest.raises(EnvironmentError_, match=words) as raised:
        controller_job.submit(here, slurm_profile({}, "test"))
    assert type(raised.value) is expected


JOB = SlurmJob(name=REQUEST.name, id="7", restart=0)
ELSEWHERE = Owner(host="n1", boot="b", pid=1, start=2, job=JOB)


@pytest.mark.parametrize("printed, expected", [
    ("7|RUNNING|None|.\n", (True, "Slurm job 7 (RUNNING)")),
    ("7|PENDING|BeginTime|.\n", (True, "Slurm job 7 (PENDING, BeginTime)")),
    ("7|A_NEW_STATE|None|.\n", (True, "Slurm job 7 (A_NEW_STATE)")),
    ("7|COMPLETED|None|.\n", (False, "Slurm job 7 (squeue does not have it any more)")),
    ("", (False, "Slurm job 7 (squeue does not have it any more)")),
])
def test_a_job_owns_its_sweep_as_long_as_slurm_has_it(
    fakes: Fakes, printed: str, expected: tuple[bool, str]
) -> None:
    fakes.says("squeue", printed)
    assert standing(ELSEWHERE) == expected
    assert f"-n {JOB.name} " in fakes.calls("squeue")[0]


def test_without_an_answer_nobody_can_tell(fakes: Fakes) -> None:
    fakes.fails("squeue", "slurm_load_jobs error: Unable to contact slurm controller")
    alive, who = standing(ELSEWHERE)
    assert alive is None and who.startswith("Slurm job 7 (Slurm does not say whether it lives: squeue")
    assert standing(replace(Owner.me(), job=JOB))[0] is True, "its process is here, and lives"


def test_a_job_on_its_way_to_slurm_is_not_taken_for_gone(fakes: Fakes) -> None:
    fakes.says("squeue", "")
    assert standing(replace(Owner.me(), job=replace(JOB, id="")))[0] is True
    assert standing(replace(ELSEWHERE, job=replace(JOB, id="")))[0] is False


def test_a_queue_is_asked_within_its_time(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_job, "LOOK_TIMEOUT_S", 0.2)
    fakes.does("squeue", "sleep 5")
    began = time.monotonic()
    assert standing(ELSEWHERE)[0] is None
    assert time.monotonic() - began < 3
