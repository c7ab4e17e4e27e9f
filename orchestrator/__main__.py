"""`orchestrator VERB ...`: finds the verb's file, runs it, turns known errors into a message and an exit code."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from orchestrator import commands
from sweeps.errors import OrchestratorError

EPILOG = """exit codes: 0 all done, 1 internal error, 2 usage, 3 some trials failed, 4 environment or cluster
unavailable, 5 another controller owns the sweep, 6 paused, 130 interrupted"""


class Verb(Protocol):
    """What a file in `orchestrator/commands` exports. The module's docstring is the help text."""

    __doc__: str | None
    EXAMPLES: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's arguments."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it; return the exit code."""
        ...


def verbs() -> dict[str, Verb]:
    """Return every verb; the folder is the registry."""
    names = sorted(m.name for m in pkgutil.iter_modules(commands.__path__) if not m.name.startswith("_"))
    return {name: cast(Verb, importlib.import_module(f"orchestrator.commands.{name}")) for name in names}


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    top = argparse.ArgumentParser(
        prog="orchestrator", description="Sweeps that ask whether pre-pre-training on synthetic data helps.",
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    below = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, verb in verbs().items():
        text = (verb.__doc__ or "").strip()
        one = below.add_parser(
            name, help=text.split("\n")[0].rstrip("."), description=text,
            epilog=f"examples:\n{verb.EXAMPLES}", formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.add_arguments(one)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    os.umask(0o077)
    arguments = parser().parse_args(argv)
    try:
        return verbs()[arguments.verb].run(arguments)
    except OrchestratorError as error:
        sys.stderr.write(f"orchestrator {arguments.verb}: {error}\n")
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
