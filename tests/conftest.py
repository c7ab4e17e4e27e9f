"""What every test needs of the process that runs it."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

FIGURE = "figure"
# How long an example takes says something of what else the machine does, and nothing of the property.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
# A shell that runs the tests in the background, or nohup, has them ignore Ctrl-C or a hang-up, and so would every
# program that they start. What is caught here is at its default there.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else lambda *_: None)


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Say a figure that the test is run for: all of them stand at the end of the output, whoever passed."""
    return lambda text: record_property(FIGURE, text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests told."""
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.getreports(kind)]
    told = [(r.nodeid, text) for r in reports if r.when == "call" for name, text in r.user_properties if name == FIGURE]
    if told:
        terminalreporter.section("figures")
    for node, text in told:
        terminalreporter.line(f"{node.rpartition('::')[2]}: {text}")
