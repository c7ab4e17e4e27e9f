"""Print the completion script of a shell: verbs, flags, sweep files, and the names of sweeps and trials.

  bash  orchestrator completion bash > ~/.local/share/bash-completion/completions/orchestrator
  zsh   orchestrator completion zsh > a folder of $fpath, as _orchestrator
  fish  orchestrator completion fish > ~/.config/fish/completions/orchestrator.fish

Names of sweeps and trials are asked of this program at each use, from $ORCHESTRATOR_ROOT or ./store.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from orchestrator.arguments import add_json, add_root, layout, out, out_json, sweep_names
from sweeps.errors import EnvironmentError_, UsageError

EXAMPLES = """  source <(orchestrator completion bash)
  orchestrator completion fish > ~/.config/fish/completions/orchestrator.fish
  orchestrator completion --names trials"""

SHELLS = ("bash", "zsh", "fish")
FILES = "*.yaml"
SWEEPS, TRIALS = "orchestrator completion --names sweeps", "orchestrator completion --names trials"
KINDS = {"file": "sweep", "sweep": "both", "all": "both", "target": "trials", "trials": "trials", "root": "folder",
         "out": "folder", "files": "any", "curves": "any", "bundle": "any", "operands": "any"}
"""Name of an argument (in any verb) -> what completes it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("shell", nargs="?", choices=SHELLS, help="whose script to print")
    parser.add_argument("--names", choices=("sweeps", "trials"), help="print what completes such a name, one a line")
    add_root(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print."""
    if (arguments.shell is None) == (arguments.names is None):
        raise UsageError(f"name a shell ({', '.join(SHELLS)}) or give --names sweeps or --names trials")
    if arguments.names is not None:
        names = list(_names(arguments))
        if arguments.json:
            out_json({arguments.names: names})
        elif names:
            out("\n".join(names))
        return 0
    script = _script(arguments.shell)
    if arguments.json:
        out_json({"shell": arguments.shell, "script": script})
    else:
        out(script)
    return 0


def _names(arguments: argparse.Namespace) -> Iterator[str]:
    store = layout(arguments)
    if arguments.names == "sweeps":
        yield from sweep_names(store)
        return
    from orchestrator.targets import read_plan

    yield from dict.fromkeys(t for name in sweep_names(store) for t in read_plan(store, name).trials)


def _script(shell: str) -> str:
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise EnvironmentError_("the package shtab writes completion scripts and is not installed: "
                                "pip install 'shtab>=1.13,<2'") from error
    from orchestrator.__main__ import parser

    top = parser()
    _complete(top, shtab)
    return str(shtab.complete(top, shell))


def _complete(parser: argparse.ArgumentParser, shtab: Any) -> None:
    """Say of every argument below `parser` what completes it."""
    ways = {"sweep": shtab.glob(FILES), "both": shtab.cmd(SWEEPS), "trials": shtab.cmd(TRIALS),
            "folder": shtab.DIRECTORY, "any": shtab.FILE}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in dict.fromkeys(action.choices.values()):
                _complete(below, shtab)
        elif action.dest in KINDS and action.nargs != 0 and action.choices is None:
            action.complete = ways[KINDS[action.dest]]  # type: ignore[attr-defined]
