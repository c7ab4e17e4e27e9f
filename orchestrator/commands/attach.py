"""Watch a sweep until its controller ends; ends with the sweep's own exit code.

It reads the files, and asks squeue where the controller is a Slurm job (`sweep --controller slurm`), so it works
wherever the store can be read, also while that job waits in the queue. Ctrl-C leaves, and leaves the sweep alone (exit
code 0).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.arguments import add_json, add_root, layout, out_json, say, sweep_name
from orchestrator.commands.status import INTERVAL_SECONDS, draw, redraws, text
from sweeps.errors import EnvironmentError_

if TYPE_CHECKING:
    from orchestrator.watch import SweepStatus

EXAMPLES = """  orchestrator attach complexity_by_domain
  orchestrator attach sweeps/smoke.yaml --root ~/store && echo all done"""

ENDS = {0: "all done", 3: "some trials failed", 6: "paused; the same command goes on",
        130: "its controller left as asked; the same command goes on"}
"""What a controller's exit code means."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("sweep", type=Path, metavar="FILE|NAME", help="sweep file or name")
    add_root(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Watch; return the exit code of the controller that ended."""
    from orchestrator.watch import sweep_status

    store = layout(arguments)
    name = sweep_name(store, arguments.sweep)
    shown = ""
    try:
        while (status := sweep_status(store, name)).controlled:
            if redraws() or text(status) != shown:  # in a log file only what is new
                shown = text(status)
                _show(arguments, status)
            time.sleep(INTERVAL_SECONDS)
    except KeyboardInterrupt:
        say(f"left; the sweep goes on: orchestrator attach {name} watches it again")
        return 0
    _show(arguments, status)
    return _ended(status)


def _show(arguments: argparse.Namespace, status: SweepStatus) -> None:
    if arguments.json:
        out_json(status.__dict__, one_line=True)
    else:
        draw(text(status))


def _ended(status: SweepStatus) -> int:
    """Return the exit code, and say what it means.

    Raises:
        EnvironmentError_: the controller left no word.
    """
    if status.exit_code is None:
        raise EnvironmentError_(f"sweep {status.name!r} has no controller: none was started, or it was killed; the "
                                "sweep's command goes on where it was")
    say(f"ended with exit code {status.exit_code}: {ENDS.get(status.exit_code, 'an error, see what it printed')}")
    return status.exit_code
