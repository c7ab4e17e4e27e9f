"""Write a commented sweep file to start from; never overwrites one without --force."""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.arguments import add_json, out, out_json
from sweeps.errors import EnvironmentError_, UsageError, nearest

EXAMPLES = """  orchestrator init
  orchestrator init questions/my_first.yaml
  orchestrator init mine.yaml --from complexity_by_domain"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("file", nargs="?", type=Path, default=Path("sweep.yaml"), metavar="FILE",
                        help="where to write (default: sweep.yaml); its name becomes the sweep's")
    parser.add_argument("--from", dest="source", metavar="NAME", help="copy a shipped sweep under the new name")
    parser.add_argument("--force", action="store_true", help="overwrite FILE")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the file."""
    from orchestrator.starter import copy_of, name_for, shipped_names, starter

    file: Path = arguments.file
    if file.suffix not in (".yaml", ".yml"):
        raise UsageError(f"{file}: a sweep file ends in .yaml; try {file}.yaml")
    name = name_for(file)
    if arguments.source is None:
        text = starter(file, name)
    elif arguments.source in shipped_names():
        text = copy_of(arguments.source, file, name)
    else:
        raise UsageError(f"--from {arguments.source}: no shipped sweep; {nearest(arguments.source, shipped_names())}")
    _write(file, text, force=arguments.force)
    if arguments.json:
        out_json({"file": str(file), "name": name, "from": arguments.source})
    else:
        out(f"{file}: sweep {name!r}\nnext: orchestrator plan {file}, then orchestrator sweep {file}")
    return 0


def _write(file: Path, text: str, *, force: bool) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w" if force else "x", encoding="utf-8") as handle:
            handle.write(text)
    except FileExistsError as error:
        raise UsageError(f"{file} exists already; name another file, or overwrite it with --force") from error
    except IsADirectoryError as error:
        raise UsageError(f"{file} is a folder; name a file in it") from error
    except OSError as error:
        raise EnvironmentError_(f"{file}: cannot be written ({error.strerror}); name a file elsewhere") from error
