"""Messages to hooks: what they say, when they are sent, and that no hook can harm a sweep."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from orchestrator import notify as hooks
from orchestrator import session
from orchestrator.notify import hook_of, notify, summary
from orchestrator.plan import Planned
from sweeps.errors import BreakerError, BudgetError, EnvironmentError_, OwnedError, StorageError, UsageError
from sweeps.store.layout import Layout
from tests.orchestrator.verb_stores import SHIPPED, called

TOKEN = "hunter2-hunter2"


class Server(HTTPServer):
    """Notes what is posted."""

    code = 200
    posted: list[tuple[str, dict[str, Any]]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{TOKEN}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.headers["Content-Type"], json.loads(body)))
        self.send_response(self.server.code)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    made.posted = []
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def told(plan: Planned) -> hooks.Message:
    return summary(plan.layout, "t", event="finished", exit_code=0)


def test_a_command_gets_the_summary_on_its_standard_input(finished_plan: Planned, tmp_path: Path) -> None:
    notify(f"cat > '{tmp_path}/message'", told(finished_plan))
    message = json.loads((tmp_path / "message").read_text(encoding="utf-8"))
    assert message["schema_version"] == 1 and message["sweep"] == "t" and message["event"] == "finished"
    assert message["exit_code"] == 0 and message["trials"] == {"done": 6} and set(message["stages"]) == {"done"}
    assert message["failed"] == [] and message["folder"] == str(finished_plan.layout.sweep("t").path)


def test_a_url_gets_it_as_a_post(finished_plan: Planned, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    notify(server.url, told(finished_plan))
    [(kind, message)] = server.posted
    assert kind == "application/json" and message["trials"] == {"done": 6}
    assert capsys.readouterr().err == ""


def failing(tmp_path: Path) -> hooks.Message:
    return summary(Layout(tmp_path), "absent", event="finished", exit_code=0)


@pytest.mark.parametrize("hook, problem", [
    (f"exit 3 # {TOKEN}", "exit 3"), (f"/nowhere/{TOKEN}", "exit 127"), (f"kill -9 $$ # {TOKEN}", "exit -9"),
    (f"http://127.0.0.1:1/{TOKEN}", "no connection"), (f"http://127.0.0.1:1/a b{TOKEN}", "InvalidURL"),
    (f"http://[{TOKEN}", "ValueError"),
])
def test_a_failing_hook_is_said_once_and_never_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], hook: str, problem: str
) -> None:
    notify(hook, failing(tmp_path))
    said = capfd.readouterr().err
    assert said.count("the notify hook failed") == 1 and problem in said
    assert TOKEN not in said.replace(f"/bin/sh: 1: /nowhere/{TOKEN}: not found", "")  # the shell's own word for it


def test_a_server_that_refuses_is_said_with_its_code(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.code = 403
    notify(server.url, failing(tmp_path))
    said = capsys.readouterr().err
    assert "HTTP 403" in said and TOKEN not in said


def test_a_hook_that_hangs_is_killed_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hooks, "TIMEOUT_S", 0.3)
    began = time.monotonic()
    notify(f"(sleep 1; touch '{tmp_path}/late') & sleep 60", failing(tmp_path))
    assert time.monotonic() - began < 5 and "not done after 0 s" in capsys.readouterr().err
    time.sleep(1.2)
    assert not (tmp_path / "late").exists()


def test_a_hook_that_does_not_read_has_not_failed(finished_plan: Planned, capsys: pytest.CaptureFixture[str]) -> None:
    notify("true", told(finished_plan))
    assert capsys.readouterr().err == ""


def test_a_file_holds_what_is_not_to_be_seen(tmp_path: Path) -> None:
    (tmp_path / "hook").write_text(f"https://example.org/{TOKEN}\n", encoding="utf-8")
    assert hook_of(f"@{tmp_path}/hook") == f"https://example.org/{TOKEN}"
    assert hook_of("mail -s done me") == "mail -s done me" and hook_of(None) == ""
    (tmp_path / "empty").touch()
    for wrong in (f"@{tmp_path}/absent", f"@{tmp_path}/empty", "@", " "):
        with pytest.raises(UsageError, match="notify"):
            hook_of(wrong)


@pytest.mark.parametrize(("error", "told"), [
    (BudgetError("4 of 4 GPU-hours are used"), ("budget", 6)), (StorageError("the disk is full"), ("storage", 6)),
    (BreakerError("the first three died alike"), ("breaker", 6)), (EnvironmentError_("no account"), ("stopped", 4)),
    (ValueError("a defect"), ("stopped", 1)),
])
@pytest.mark.parametrize("in_file", [False, True])
def test_a_pause_or_an_error_is_told_with_its_reason_and_keeps_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception,
    told: tuple[str, int], in_file: bool
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(session, "run_sweep", stop)
    hook = f"cat >> '{tmp_path}/messages'; exit 1"
    file, flags = SHIPPED / "smoke.yaml", ["--notify", hook]
    if in_file:
        file, flags = tmp_path / "smoke.yaml", []
        text = (SHIPPED / "smoke.yaml").read_text(encoding="utf-8")
        file.write_text(text.replace("run: {", f"run: {{notify: {json.dumps(hook)}, "), encoding="utf-8")
    code, _, err = called(capsys, "sweep", file, "--root", tmp_path / "store", *flags)
    message = json.loads((tmp_path / "messages").read_text(encoding="utf-8"))
    assert (message["event"], message["exit_code"], message["message"]) == (*told, str(error))
    assert code == told[1] and str(error) in err


def test_a_sweep_that_another_controller_owns_has_not_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def owned(*_: object, **__: object) -> None:
        raise OwnedError("another controller has it")

    monkeypatch.setattr(session, "run_sweep", owned)
    hook = f"touch '{tmp_path}/message'"
    code, _, _ = called(capsys, "sweep", SHIPPED / "smoke.yaml", "--root", tmp_path / "store", "--notify", hook)
    assert code == 5 and not (tmp_path / "message").exists()


def test_a_url_does_not_enter_the_script_of_a_controller_that_is_a_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = called(capsys, "sweep", SHIPPED / "smoke.yaml", "--root", tmp_path / "store",
                          "--cluster", "rehearsal", "--controller", "slurm", "--notify", f"https://example.org/{TOKEN}")
    assert code == 2 and "@FILE" in err and TOKEN not in err
