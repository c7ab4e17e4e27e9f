"""A client may hang, fail, be missing or print rubbish; none of it is ever an answer."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path

import pytest

from cluster.clients import Answer, Clients, NoAnswer, Why, needed
from sweeps.errors import EnvironmentError_
from tests.cluster.slurm.fakes import DISABLED, Clock, Fakes


def why(answer: Answer | NoAnswer) -> Why | None:
    """Why there is no answer; None where there is one."""
    return answer.why if isinstance(answer, NoAnswer) else None


def test_an_empty_output_with_success_is_an_answer(fakes: Fakes) -> None:
    assert Clients().query("squeue") == Answer(text="")


def test_failure_is_no_answer_whatever_was_printed(fakes: Fakes) -> None:
    fakes.does("squeue", "echo '1_0|RUNNING|None|.'; echo 'Socket timed out' >&2; exit 1")
    answer = Clients().query("squeue", "-h")
    assert isinstance(answer, NoAnswer) and answer.why is Why.FAILED
    assert answer.text == "squeue -h: exit 1: Socket timed out"


def test_a_missing_program_is_no_answer(fakes: Fakes) -> None:
    (fakes.folder / "squeue").unlink()
    assert why(Clients().query("squeue", "--nothing-of-this-name")) in (Why.MISSING, Why.FAILED)
    assert why(Clients().query("no-such-client")) is Why.MISSING


def test_no_accounts_is_told_from_no_answer(fakes: Fakes) -> None:
    fakes.fails("sacct", DISABLED)
    assert why(Clients().query("sacct")) is Why.DISABLED


def test_a_client_that_hangs_is_killed_with_all_it_started(fakes: Fakes) -> None:
    mark = fakes.folder / "child"
    fakes.does("squeue", f"sleep 1000 & echo $! > {shlex.quote(str(mark))}; wait")
    started = time.monotonic()
    answer = Clients(timeout_s=0.5).query("squeue")
    assert isinstance(answer, NoAnswer) and answer.why is Why.TIMEOUT and "no answer in" in answer.text
    assert time.monotonic() - started < 5
    child = Path(f"/proc/{mark.read_text().strip()}/stat")
    while _runs(child) and time.monotonic() - started < 10:  # what is killed has to be scheduled to die
        time.sleep(0.01)
    assert not _runs(child)


def _runs(stat: Path) -> bool:
    try:
        return stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_client_that_gave_no_answer_is_asked_less_and_less_often(fakes: Fakes, clock: Clock) -> None:
    fakes.fails("squeue", "Unable to contact slurm controller")
    clients = Clients(clock=clock, jitter=lambda: 1.0)
    for _ in range(600):
        clients.query("squeue")
        clock.sleep(1)
    assert clients.calls["squeue"] == len(fakes.calls("squeue")) == 10  # after 2, 4, ... 64, then 120 s
    fakes.says("squeue", "")
    clock.sleep(120)
    assert why(clients.query("squeue")) is None and why(clients.query("squeue")) is None


def test_one_silent_client_does_not_silence_the_others(fakes: Fakes, clock: Clock) -> None:
    fakes.fails("sacct", "slurmdbd is down")
    clients = Clients(clock=clock)
    assert why(clients.query("sacct")) is Why.FAILED
    assert why(clients.query("sacct")) is Why.WAITING
    assert why(clients.query("squeue")) is None


def test_waits_differ_between_controllers(fakes: Fakes, clock: Clock) -> None:
    fakes.fails("squeue", "no")
    waits = set()
    for jitter in (0.0, 0.5, 0.9):
        clients = Clients(clock=clock, jitter=lambda jitter=jitter: jitter)  # type: ignore[misc]
        clients.query("squeue")
        waits.add(clients.resumes_s("squeue"))
    assert len(waits) == 3 and min(waits) >= 1.0 and max(waits) <= 2.0


def test_queries_do_not_see_what_would_change_their_output(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SQUEUE_FORMAT", "SQUEUE_STATES", "SACCT_FORMAT",
                 "SLURM_CLUSTERS", "SBATCH_PARTITION", "SCANCEL_INTERACTIVE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_CONF", "/shells.conf")
    monkeypatch.setenv("KRB5CCNAME", "kept")
    Clients(conf="/profiles.conf").query("squeue")
    seen = fakes.environment("squeue")
    assert [k for k in seen if k.startswith(("SLURM", "SQUEUE", "SACCT", "SBATCH", "SCANCEL"))] == ["SLURM_CONF"]
    assert (seen["SLURM_CONF"], seen["KRB5CCNAME"], seen["LC_ALL"]) == ("/profiles.conf", "kept", "C")
    Clients().query("squeue")
    assert fakes.environment("squeue")["SLURM_CONF"] == "/shells.conf"


def test_sbatch_sees_what_it_is_given_and_nothing_else(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", "secret")
    Clients(conf="/c").sbatch("script.sh", {"PATH": os.environ["PATH"], "A": "b"})
    seen = fakes.environment("sbatch")
    assert set(seen) - {"PWD", "SHLVL", "_", "OLDPWD"} == {"PATH", "A", "SLURM_CONF"}
    assert fakes.calls("sbatch") == ["--parsable script.sh"]


def test_output_that_is_no_text_does_no_harm(fakes: Fakes) -> None:
    fakes.does("squeue", r"printf '\377\376|x\n'")
    assert isinstance(Clients().query("squeue"), Answer)


def test_an_answer_that_there_must_be(fakes: Fakes) -> None:
    fakes.fails("squeue", "no")
    with pytest.raises(EnvironmentError_, match="exit 1: no; is this a login node"):
        needed(Clients().query("squeue"))
