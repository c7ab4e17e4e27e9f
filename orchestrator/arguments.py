"""Flags that several verbs share, and how they print."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.errors import EnvironmentError_, UsageError
from sweeps.store.files import SCHEMA_VERSION
from sweeps.store.layout import Layout
from sweeps.store.space import writing

if TYPE_CHECKING:
    from analysis.study import Study
    from sweeps.language.spec import Overrides

ROOT_VARIABLE = "ORCHESTRATOR_ROOT"
CURVES = (".csv", ".parquet", ".pq")
"""How files of loss curves end, where a sweep may stand as well."""
PROFILES = (": a path, a name in $XDG_CONFIG_HOME/orchestrator/clusters (~/.config/orchestrator/clusters), or a "
            "shipped one: apptainer, gpu, local, rehearsal")
"""Where `--cluster` looks, for its help."""


def _root(text: str) -> Path:
    if not text.strip():  # `--root "$UNSET"` would mean the current folder
        raise argparse.ArgumentTypeError("is empty; name a folder")
    return Path(text)


def positive(text: str) -> int:
    """Return a whole number above 0; the type of a flag.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not re.fullmatch("0*[1-9][0-9]{0,5}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def add_root(parser: argparse.ArgumentParser) -> None:
    """Add `--root`."""
    parser.add_argument("--root", type=_root, default=Path(os.environ.get(ROOT_VARIABLE, "store")),
                        help=f"the store (default: ${ROOT_VARIABLE}, else ./store)")


def add_roots(parser: argparse.ArgumentParser) -> None:
    """Add `--root`, which may be repeated."""
    parser.add_argument("--root", type=_root, action="append", metavar="ROOT",
                        help="the store; repeated, several are read as one, each stage from the first that has "
                        f"finished it (default: ${ROOT_VARIABLE}, else ./store)")


def add_mixed(parser: argparse.ArgumentParser) -> None:
    """Add what allows plans of several protocols beside each other."""
    parser.add_argument("--mixed-protocols", action="store_true",
                        help="put plans of several protocols or scales into one comparison")


def add_curves(parser: argparse.ArgumentParser) -> None:
    """Declare what a file of loss curves does not say of itself."""
    parser.add_argument("--baseline", metavar="NAME", help="of curves: the upstream that the others are compared with "
                        "(default: scratch)")
    parser.add_argument("--upstream-tokens", metavar="N", help="of curves: tokens of every upstream but the baseline's "
                        "(164M; 0: none) for which the file has no column upstream_tokens")


def curves_given(arguments: argparse.Namespace, path: Path) -> Study:
    """Return the study of a file of loss curves, and say what a reader should know of the file.

    Raises:
        UsageError: the file, or what was said of it, cannot be used.
    """
    from analysis.curve_file import parse_upstream_tokens
    from analysis.curves import BASELINE, study_of

    given = arguments.upstream_tokens
    try:
        tokens = None if given is None else parse_upstream_tokens(given)
    except ValueError as error:
        raise UsageError(f"--upstream-tokens {given}: {error}") from error
    found, notes = study_of(path, arguments.baseline or BASELINE, tokens)
    for note in notes:
        say(note)
    return found


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="JSON on stdout, messages on stderr")


def add_sweep(parser: argparse.ArgumentParser) -> None:
    """Add the sweep file and what may override it."""
    parser.add_argument("file", type=Path, metavar="FILE", help="sweep file (.yaml); to `report` also its name")
    add_overrides(parser)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add what may override a sweep file."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="sets",
                        help="an axis or dotted field, the value read as YAML; may be repeated")
    parser.add_argument("--scale", help="model size preset: tiny, 1m, 10m, 60m, 160m, 400m, 1.6b")
    parser.add_argument("--seeds", metavar="N|LIST", help="number of seeds, or a list such as 0,1,4")
    parser.add_argument("--cluster", metavar="NAME|FILE.yaml", help=f"cluster profile{PROFILES} (default: the file's, "
                                                                    "else local)")


def add_cap(parser: argparse.ArgumentParser) -> None:
    """Add what a sweep may use, and what happens then."""
    parser.add_argument("--max-gpu-hours", metavar="H", help="pause once the sweep, all its runs together, has used "
                        "this; a rank counts as one GPU, also where there are none (default: the file's)")
    parser.add_argument("--at-cap", metavar="drain|stop", help="at that limit let running jobs end (drain, the "
                        "default), or ask them to checkpoint and leave (stop)")


def overrides(arguments: argparse.Namespace) -> Overrides:
    """Return what the command line overrides."""
    from sweeps.language.spec import Overrides  # pydantic costs 0.2 s, which `status` and `--help` do without

    return Overrides(sets=tuple(arguments.sets), scale=arguments.scale, seeds=arguments.seeds,
                     cluster=arguments.cluster, max_gpu_hours=getattr(arguments, "max_gpu_hours", None),
                     at_cap=getattr(arguments, "at_cap", None))


def layout(arguments: argparse.Namespace) -> Layout:
    """Return the store that was named.

    Raises:
        UsageError: nothing was named, or what leads nowhere or to something that is no folder.
    """
    return _layout(arguments.root)


def layouts(arguments: argparse.Namespace) -> list[Layout]:
    """Return the stores that were named, at least one.

    Raises:
        UsageError: as `layout` does.
    """
    return [_layout(root) for root in arguments.root or [Path(os.environ.get(ROOT_VARIABLE, "store"))]]


def _layout(named: Path) -> Layout:
    try:
        root = named.expanduser().resolve()
        wrong = root.exists() and not root.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links is a RuntimeError, a NUL a ValueError
        reason = getattr(error, "strerror", None) or str(error).split(" from ")[0]
        raise UsageError(f"--root {named}: {reason}; name a folder") from error
    if wrong:
        raise UsageError(f"--root {named}: is no folder; name one, or a new one")
    return Layout(root)


def writable(root: Path) -> None:
    """Make the root and see that it can be written.

    Raises:
        StorageError: there is no space.
        EnvironmentError_: it cannot for another reason.
    """
    probe = root / f".probe-{os.getpid()}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        try:
            with writing(probe):
                probe.write_bytes(bytes(4096))  # an empty file fits on a full disk
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentError_(f"--root {root}: cannot be written ({error.strerror}); name another folder") from error


def say(text: str) -> None:
    """Write a message for a person to stderr."""
    with suppress(OSError):  # the terminal may have been closed: work goes on, or leaves in order, without it
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def out(text: str) -> None:
    """Write a result to stdout."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def out_json(value: Mapping[str, Any], *, one_line: bool = False) -> None:
    """Write a JSON result to stdout, with the schema version; `one_line` where several follow each other."""
    out(json.dumps({"schema_version": SCHEMA_VERSION, **value}, indent=None if one_line else 2, default=str))


def sweep_names(store: Layout) -> list[str]:
    """Return the names of the sweeps in the store."""
    try:
        return sorted(p.name for p in store.sweeps.iterdir() if p.is_dir())
    except FileNotFoundError:
        return []


def sweep_name(store: Layout | Sequence[Layout], given: Path) -> str:
    """Return the name of a sweep given as its file or as its name.

    Raises:
        UsageError: the store (none of the stores) has such a sweep.
    """
    stores = [store] if isinstance(store, Layout) else store
    names = sorted({name for each in stores for name in sweep_names(each)})
    if given.suffix in (".yaml", ".yml") and given.is_file():
        from sweeps.language.read import parse, read_text

        name = str(parse(read_text(given), str(given)).values.get("name", ""))
    else:
        name = str(given)
    if name not in names:
        where = " or ".join(str(each.root) for each in stores)
        raise UsageError(f"{given}: no such sweep in {where}; it has: {', '.join(names) or 'none yet'}")
    return name


def duration(seconds: float) -> str:
    """Return seconds as people read them: 45 s, 12 min, 3.5 h, 2.1 d. See `seconds_of` for the way back."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"


def seconds_of(text: str) -> float:
    """Return the seconds of an age such as 90s, 30 min, 12h or 7d; the type of a flag.

    Raises:
        argparse.ArgumentTypeError: it is no age.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(s|min|h|d|w)\s*", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age; write a number and s, min, h, d or w, such as 7d")
    return float(match[1]) * {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}[match[2]]


def size(count: float) -> str:
    """Return bytes as people read them."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} PB"
