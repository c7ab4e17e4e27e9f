"""What holds for every verb: JSON alone on stdout, nothing changed by reading, any terminal, and known exit codes."""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.__main__ import parser, verbs
from orchestrator.commands.status import line
from orchestrator.plan import Planned
from orchestrator.watch import sweep_status
from sweeps.errors import UsageError
from sweeps.store.layout import Layout
from tests.orchestrator.plans import planned
from tests.orchestrator.verb_stores import SHIPPED, answer, called, content, run

ROOT = SHIPPED.parent
SMOKE = SHIPPED / "smoke.yaml"
READING = (["status"], ["status", "t"], ["status", "t", "--line"], ["table", "missing", "t"], ["compare", "t", "t"],
           ["why", "scratch-web-s0"], ["why", "tokenizer 1024"], ["logs", "scratch-web-s0"], ["gc"],
           ["gc", "--checkpoints", "--all"], ["retry", "--failed"], ["cancel", "--all", "t"],
           ["completion", "--names", "trials"], ["seeds", "+1", str(SMOKE), "--dry-run"],
           ["plan", str(SMOKE), "--no-pilot"])
"""Verbs that change nothing: they read, or what is asked for is so already."""
LIGHT = (["status"], ["status", "--line"], ["why", "scratch-web-s0"], ["logs", "scratch-web-s0"], ["gc"],
         ["cancel", "--all", "t"], ["retry", "--failed"], ["completion", "--names", "trials"], ["completion", "bash"])
HEAVY = ("torch", "ray", "pandas", "deepspeed", "numpy", "numba", "pydantic")


def fresh(argv: list[str], root: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a verb in a fresh process."""
    variables = {"PATH": os.environ["PATH"], "ORCHESTRATOR_ROOT": str(root), **environment}
    return subprocess.run([sys.executable, "-m", "orchestrator", *argv], cwd=ROOT, env=variables, capture_output=True,
                          check=False)


def names(arguments: tuple[list[str], ...]) -> list[str]:
    return [" ".join(Path(a).name for a in argv) for argv in arguments]


@pytest.mark.parametrize("argv", READING, ids=names(READING))
def test_a_reading_verb_changes_no_file_and_its_json_stands_alone_on_stdout(
    argv: list[str], finished_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(finished_store)
    assert called(capsys, *argv, "--root", finished_store)[0] == 0
    answer(capsys, *argv, "--root", finished_store)
    assert content(finished_store) == before


@pytest.fixture
def read_only(finished_store: Path, tmp_path: Path) -> Iterator[Path]:
    """The store on a file system that refuses every write, root's too; skipped where mounting is not allowed."""
    place = tmp_path / "read only"
    place.mkdir()
    for argv in (["mount", "--bind", str(finished_store), str(place)], ["mount", "-o", "remount,bind,ro", str(place)]):
        try:
            done = subprocess.run(argv, capture_output=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount here")
        if done.returncode:
            subprocess.run(["umount", str(place)], capture_output=True, check=False)
            pytest.skip("mounting is not allowed here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_reading_works_on_a_read_only_file_system_and_writing_says_so(
    read_only: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for argv in READING:
        assert called(capsys, *argv, "--root", read_only)[0] == 0, argv
    code, _, err = called(capsys, "sweep", SMOKE, "--cluster", "memory", "--root", read_only)
    assert code == 4 and "Read-only file system" in err and "Traceback" not in err


def test_reading_verbs_work_while_a_controller_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(planned(tmp_path), steps=2, release=False)
    for argv in (["status"], ["why", "scratch-web-s0"], ["logs", "scratch-web-s0"], ["gc"]):
        assert called(capsys, *argv, "--root", tmp_path)[0] == 0, argv
    controlled = answer(capsys, "status", "--root", tmp_path)["sweeps"][0]["controlled"]
    assert controlled.startswith(f"pid {os.getpid()} on ")


@pytest.mark.parametrize("argv", LIGHT, ids=names(LIGHT))
def test_light_verbs_load_nothing_heavy(argv: list[str], finished_store: Path) -> None:
    code = (f"import sys\nfrom orchestrator.__main__ import main\nmain({[*argv, '--root', str(finished_store)]!r})\n"
            f"sys.stderr.write(repr([m for m in {HEAVY!r} if m in sys.modules]))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.endswith("[]"), done.stderr


@pytest.mark.parametrize("environment", [
    {"PYTHONIOENCODING": "ascii"}, {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "POSIX", "NO_COLOR": "1", "TERM": "dumb"},
], ids=["ascii", "C", "POSIX"])
def test_no_terminal_is_too_poor_for_a_verb(environment: dict[str, str], tmp_path: Path) -> None:
    plan = planned(tmp_path / "störe")
    plan = replace(plan, file=plan.file.model_copy(update={"question": "Wie hilft ∇L der Schätzung?"}))
    run(plan, lambda spec, attempt: "Überlauf∞" if spec.kind == "prepretrain" else "")
    failed = next(s.fingerprint for s in plan.graph.paths["nca_30-45-web-s0"] if s.kind == "prepretrain")
    for argv in (["status"], ["why", failed], ["why", "nca_30-45-web-s0"], ["gc"], ["logs", failed]):
        done = fresh(argv, tmp_path / "störe", **environment)
        assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
        assert b"\x1b" not in done.stdout
        assert done.stdout.isascii() or "NO_COLOR" in environment, "Python takes POSIX for UTF-8"
    unknown = fresh(["why", "näme"], tmp_path / "störe", **environment)
    assert unknown.returncode == 2 and b"Traceback" not in unknown.stderr
    told = json.loads(fresh(["status", "--json"], tmp_path / "störe", **environment).stdout)
    assert told["sweeps"][0]["question"] == plan.file.question


def test_status_and_the_head_of_why_fit_80_columns(
    finished_plan: Planned, capsys: pytest.CaptureFixture[str]
) -> None:
    root = finished_plan.layout.root
    for argv in (["status"], ["why", "nca_30-45-web-s0"]):
        text = called(capsys, *argv, "--root", root)[1].split("\n\n")[0]
        assert all(len(line) <= 80 for line in text.splitlines())


def test_an_unforeseen_error_ends_with_exit_1_one_line_and_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def boom(*_: object) -> None:
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr("orchestrator.commands.status._look", boom)
    code, out, err = called(capsys, "status", "--root", tmp_path)
    assert code == 1 and out == "" and "Traceback" in err
    assert err.splitlines()[-1].startswith("orchestrator status: internal error, ZeroDivisionError: nobody thought")


@pytest.mark.parametrize(("error", "code", "said"), [
    (OSError(28, "No space left on device", "/store/x"), 6, "/store/x cannot be written: no space is left on"),
    (PermissionError(13, "Permission denied", "/store/x"), 4, "/store/x: Permission denied"),
    (UsageError("write it so"), 2, "write it so"),
    (KeyboardInterrupt(), 130, "interrupted"),
])
def test_what_lies_outside_the_program_is_no_traceback(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("orchestrator.commands.gc.layout", fail)
    got, _, err = called(capsys, "gc", "--root", tmp_path)
    assert got == code and said in err and "Traceback" not in err


@pytest.mark.parametrize("name", verbs())
def test_every_verb_can_answer_in_json(name: str) -> None:
    def below(one: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
        nested = [a for a in one._actions if isinstance(a, argparse._SubParsersAction)]
        return [p for action in nested for p in action.choices.values()]

    [top] = [p for p in below(parser()) if p.prog.endswith(f" {name}")]
    assert all("--json" in p.format_help() for p in below(top) or [top])


@pytest.mark.parametrize("argv", [["status", "--watch"], ["logs", "scratch-web-s0", "-f"]], ids=["watch", "follow"])
def test_ctrl_c_is_the_ordinary_end_of_what_never_ends_by_itself(
    argv: list[str], finished_store: Path
) -> None:
    process = subprocess.Popen([sys.executable, "-m", "orchestrator", *argv, "--root", str(finished_store)], cwd=ROOT,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    (process.stdout if argv[0] == "status" else process.stderr).readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0 and b"Traceback" not in err


def test_watch_redraws_in_place_on_a_terminal_and_prints_plain_text_elsewhere(finished_store: Path) -> None:
    argv = [sys.executable, "-m", "orchestrator", "status", "--watch", "--root", str(finished_store)]
    leader, follower = pty.openpty()
    for environment, redraws in (({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False)):
        process = subprocess.Popen(argv, cwd=ROOT, stdout=follower, stderr=follower,
                                   env={"PATH": os.environ["PATH"], **environment})
        text, deadline = b"", time.monotonic() + 20
        while text.count(b"stages") < 1 and time.monotonic() < deadline:
            text += os.read(leader, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert (b"\x1b[H\x1b[J" in text) is redraws
        plain = re.sub(rb"\x1b\[[HJ]", b"", text)
        assert b"\x1b" not in plain and all(len(line.rstrip()) <= 80 for line in plain.splitlines())
    os.close(leader)
    os.close(follower)


def test_watched_json_is_one_document_a_line(finished_store: Path) -> None:
    process = subprocess.Popen([sys.executable, "-m", "orchestrator", "status", "--watch", "--json", "--root",
                                str(finished_store)], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["sweeps"][0]["name"] == "t"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_a_reader_that_goes_away_is_no_error(finished_store: Path) -> None:
    done = subprocess.run(["bash", "-c", f"set -o pipefail; '{sys.executable}' -m orchestrator gc --all --root "
                           f"'{finished_store}' | true"], cwd=ROOT, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr and b"internal error" not in done.stderr


def test_a_status_of_one_line_names_the_worst_first_and_no_host_or_path(
    finished_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = called(capsys, "status", "--line", "--root", finished_store)
    assert code == 0 and re.fullmatch(r"t: (\d+) of \1 trials done, (\d+) of \2 stages\n", out)
    [found] = [sweep_status(Layout(finished_store), "t")]
    going = replace(found, trials={"done": 3, "running": 2, "failed": 1, "waiting": 4}, controlled="pid 7 on node12",
                    budget={"used_gpu_hours": 2.125, "gpu_hours": 10, "source": "file", "at_cap": "drain"})
    assert line(going).startswith("t: 3 of 10 trials done, 1 failed, 2 running, 4 waiting, ")
    assert line(going).endswith(" stages, 2.12 of 10 GPU-hours, controller alive") and "node12" not in line(going)
    assert line(replace(going, controlled="")).endswith("no controller alive")
