"""`orchestrator VERB ...`: finds the verb's file, runs it, turns errors into a message and an exit code."""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from orchestrator import commands
from sweeps.errors import EnvironmentError_, OrchestratorError, PausedError
from sweeps.store.space import FULL, describe

EPILOG = """exit codes: 0 all done, 1 internal error, 2 usage, 3 some trials failed, 4 environment or cluster
unavailable, 5 another controller owns the sweep, 6 paused, 130 interrupted; Ctrl-C is the ordinary end of
`status --watch`, `attach` and `logs -f`: 0; `attach` ends with the exit code of the sweep's controller"""

OUTSIDE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
                     errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOTDIR, errno.ENAMETOOLONG,
                     errno.ELOOP})
"""What an operating system refuses for reasons that lie outside this program."""


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
    _print_anything()
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
    except Exception as error:  # noqa: BLE001 - the last resort: what nobody foresaw ends with one line and exit code 1
        return _unforeseen(arguments.verb, error)


def _print_anything() -> None:
    """Let no character that a terminal lacks end a verb: it is printed as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _unforeseen(verb: str, error: Exception) -> int:
    """Report an error that no verb expected; return the exit code."""
    if isinstance(error, OSError) and error.errno in FULL:
        sys.stderr.write(f"orchestrator {verb}: {describe(Path(error.filename or '.'), error.errno)}\n")
        return PausedError.exit_code
    if isinstance(error, OSError) and error.errno in OUTSIDE:
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"orchestrator {verb}: {where}{error.strerror}; put that right and run the command again\n")
        return EnvironmentError_.exit_code
    traceback.print_exc()
    sys.stderr.write(f"orchestrator {verb}: internal error, {type(error).__name__}: {error}; this is a defect of the "
                     "program, please report it with the traceback above\n")
    return OrchestratorError.exit_code


if __name__ == "__main__":
    sys.exit(main())
