"""One message where a sweep ends, pauses or stops at an error: JSON to a command's standard input, or posted to a URL.

A hook is a courtesy: whatever becomes of it, the sweep and its exit code stay as they are. What it is may hold a token,
so it is never printed.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from orchestrator.arguments import say
from orchestrator.watch import sweep_status
from sweeps.errors import UsageError
from sweeps.store.files import SCHEMA_VERSION, to_json
from sweeps.store.layout import Layout

TIMEOUT_S = 20.0
"""For the whole of a hook."""
URLS = ("http://", "https://")
HELP = ("gets a message when the sweep ends, pauses or stops at an error: a shell command (JSON on its stdin), a URL "
        "(POST), or @FILE that holds one of them (a URL with a token belongs there: everyone on the machine sees "
        "arguments)")
Message = Callable[[], str]
"""Makes the text: it reads records, and whatever goes wrong there is no worse than a hook that fails."""


def hook_of(given: str | None) -> str:
    """Return the command or URL that `--notify` or `run.notify` means; empty: none.

    Raises:
        UsageError: it is empty, or its file cannot be read.
    """
    if given is None:
        return ""
    text = given
    if given.startswith("@"):
        try:
            text = Path(given[1:]).expanduser().read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "is no text"
            raise UsageError(f"notify {given}: {reason}; name a file that holds a command or a URL") from error
    if not text.strip():
        raise UsageError(f"notify {given!r} is empty; give a command, a URL, or @FILE that holds one of them")
    return text.strip()


def summary(store: Layout, name: str, *, event: str, exit_code: int, message: str = "") -> Message:
    """Return what makes the text that a hook is told of a sweep, from its records.

    Args:
        store: the store.
        name: the sweep.
        event: `finished`; why it paused: `storage`, `budget`, `breaker`; or `stopped`, by an error.
        exit_code: the controller's.
        message: why, where it paused or stopped.
    """
    def make() -> str:
        status = sweep_status(store, name)
        return to_json({
            "schema_version": SCHEMA_VERSION, "sweep": name, "event": event, "exit_code": exit_code, "message": message,
            "question": status.question, "trials": dict(status.trials), "stages": dict(status.stages),
            "failed": [f["stage"] for f in status.failed], "folder": str(store.sweep(name).path)})

    return make


def notify(hook: str, message: Message) -> None:
    """Send a message to a hook, if there is one; say in a line where that, or making it, fails."""
    if not hook:
        return
    try:
        text = message().encode()
        problem = _post(hook, text) if hook.startswith(URLS) else _run(hook, text)
    except Exception as error:  # noqa: BLE001 - nothing about a hook may touch the sweep; the text may hold its URL
        problem = type(error).__name__
    if problem:
        say(f"the notify hook failed ({problem}); the sweep is as it would be without")


def _post(url: str, text: bytes) -> str:
    """Return what went wrong, without the URL."""
    import urllib.error  # here: every verb's help is asked for with this module loaded
    import urllib.request

    request = urllib.request.Request(url, data=text, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"HTTP {error.code}"
    except urllib.error.URLError as error:
        return f"no connection: {getattr(error.reason, 'strerror', None) or type(error.reason).__name__}"


def _run(command: str, text: bytes) -> str:
    """Return what went wrong. What the command prints goes to stderr, beside our own messages."""
    child = subprocess.Popen(["/bin/sh", "-c", command], stdin=subprocess.PIPE, stdout=2, start_new_session=True)
    try:
        child.communicate(text, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"not done after {TIMEOUT_S:.0f} s"
    finally:
        with suppress(ProcessLookupError):  # also what it left in the background
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    return f"exit {child.returncode}" if child.returncode else ""
