"""The command line's reference, made from the parser: `python -m orchestrator.reference > docs/cli.md`.

Written from the parser's actions and not by argparse's own formatter, whose wording and line breaks change with the
version of Python and the width of the terminal. A test compares `docs/cli.md` with what this prints.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.__main__ import parser

WIDTH = 100
"""Columns of a usage line."""

HEAD = """# Command line

<!-- Made by `python -m orchestrator.reference > docs/cli.md`; edit the verbs' files, not this one. -->

`orchestrator VERB ...`. What a person reads goes to stderr while something runs; results go to stdout, as JSON with
`--json`. Verbs that only read work on a copied or read-only store, and while a controller runs.
"""

ENVIRONMENT = """## Environment

| variable | what it does |
|---|---|
| `ORCHESTRATOR_ROOT` | the store, where `--root` is not given |
| `NO_COLOR` | set to anything: no colour |
| `TERM` | empty or `dumb`: plain lines instead of a live table, as where stderr is no terminal |
"""


def subparsers(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return verb -> its parser; empty for a verb without verbs of its own."""
    return {name: one for action in top._actions if isinstance(action, argparse._SubParsersAction)
            for name, one in action.choices.items()}


def help_of(top: argparse.ArgumentParser) -> dict[str, str]:
    """Return verb -> its line in the help of the parser above it."""
    return {each.dest: _text(each.help) for action in top._actions if isinstance(action, argparse._SubParsersAction)
            for each in action._choices_actions}


def arguments_of(one: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return what a verb takes, positional arguments first; `--help`, which every verb has, left out."""
    actions = [a for a in one._actions if not isinstance(a, (argparse._HelpAction, argparse._SubParsersAction))
               and a.help is not argparse.SUPPRESS]
    return sorted(actions, key=lambda a: bool(a.option_strings))


def reference(top: argparse.ArgumentParser) -> str:
    """Return the reference as Markdown."""
    verbs = subparsers(top)
    parts = [HEAD, _exit_codes(top), ENVIRONMENT, _contents(verbs)]
    parts += [_verb(name, one) for name, one in sorted(verbs.items())]
    return "\n".join(parts)


def _contents(verbs: dict[str, argparse.ArgumentParser]) -> str:
    rows = [f"| [`{name}`](#{name}) | {_cell(_text(one.description).splitlines()[0])} |"
            for name, one in sorted(verbs.items())]
    return "\n".join(["## Verbs", "", "| verb | what it does |", "|---|---|", *rows, ""])


def _exit_codes(top: argparse.ArgumentParser) -> str:
    """Return the exit codes that the parser's epilog lists: `exit codes: 0 all done, 1 ...; remark`."""
    listed, _, remark = " ".join(_text(top.epilog).split()).partition(";")
    rows = re.findall(r"(\d+) ([^,]+?)(?:, (?=\d)|$)", listed.removeprefix("exit codes: "))
    lines = ["## Exit codes", "", "| code | meaning |", "|---|---|", *(f"| {code} | {text} |" for code, text in rows)]
    return "\n".join([*lines, *(["", f"{remark.strip()}."] if remark else []), ""])


def _verb(name: str, one: argparse.ArgumentParser) -> str:
    lines = [f"## {name}", "", _paragraphs(_text(one.description)), ""]
    below, texts = subparsers(one), help_of(one)
    for inner, each in below.items():
        lines += [f"**{name} {inner}**: {texts[inner]}", "", *_arguments(each)]
    if not below:
        lines += _arguments(one)
    examples = textwrap.dedent(_text(one.epilog).removeprefix("examples:").strip("\n"))
    return "\n".join([*lines, "```sh", examples, "```", ""])


def _arguments(one: argparse.ArgumentParser) -> list[str]:
    """Return usage and arguments."""
    lines = ["```text", *_usage(one), "```", ""]
    if actions := arguments_of(one):
        lines += ["| argument | what it is |", "|---|---|"]
        lines += [f"| {_names(a)} | {_cell(_help(a))} |" for a in actions]
        lines.append("")
    return lines


def _paragraphs(text: str) -> str:
    """Return a docstring as Markdown: indented paragraphs are set as they stand."""
    parts = text.split("\n\n")
    return "\n\n".join(f"```text\n{textwrap.dedent(p)}\n```" if p.startswith("  ") else p for p in parts)


def _usage(one: argparse.ArgumentParser) -> list[str]:
    """Return the usage in lines; a flag and its value stay together."""
    lines, line = [], one.prog
    for part in map(_usage_part, arguments_of(one)):
        if len(line) + 1 + len(part) > WIDTH:
            lines.append(line)
            line = "   "
        line += " " + part
    return [*lines, line]


def _usage_part(action: argparse.Action) -> str:
    value = _value(action)
    if not action.option_strings:
        return value
    part = f"{action.option_strings[-1]} {value}".strip()
    part = part if action.required else f"[{part}]"
    return part + "..." if isinstance(action, argparse._AppendAction) else part


def _value(action: argparse.Action) -> str:
    """Return what stands for the argument's value: `FILE`, `[TRIAL ...]`; empty for a switch."""
    if action.nargs == 0:
        return ""
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices is not None else ""
    name = str(action.metavar or choices or action.dest.upper())
    return {"?": "[{}]", "*": "[{} ...]", "+": "{} [{} ...]"}.get(str(action.nargs), "{}").replace("{}", name)


def _names(action: argparse.Action) -> str:
    value = _value(action)
    names = [f"{o} {value}".strip() for o in action.option_strings] or [value]
    return ", ".join(f"`{_cell(n)}`" for n in names)


def _help(action: argparse.Action) -> str:
    text = " ".join(_text(action.help).split())
    return text % {"default": action.default, "prog": "orchestrator"} if "%" in text else text


def _text(text: str | None) -> str:
    return (text or "").strip("\n")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _drift(path: Path, text: str) -> Iterator[str]:
    """Yield what to say where the file is not what the parser says."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        yield f"{path} is not what the parser says; make it again: python -m orchestrator.reference > {path}\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the reference, or compare it with a file (exit 1 where they differ)."""
    own = argparse.ArgumentParser(prog="python -m orchestrator.reference", description="Print the CLI reference.")
    own.add_argument("--check", type=Path, metavar="FILE", help="compare with this file instead")
    arguments = own.parse_args(argv)
    text = reference(parser())
    if arguments.check is None:
        sys.stdout.write(text)
        return 0
    found = list(_drift(arguments.check, text))
    sys.stderr.writelines(found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
