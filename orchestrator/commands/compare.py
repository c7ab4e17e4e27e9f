"""Compare two sweeps, stores, bundles or files of curves: what agrees, what differs, and why.

Each of A and B is a sweep's name or file (in --root), the folder of a sweep (STORE/sweeps/NAME), a store that has one
sweep, a bundle of `orchestrator export`, or loss curves (.csv, .parquet). Exit code 0, also where they differ.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.arguments import CURVES, add_json, add_mixed, add_roots, layouts, out, out_json
from sweeps.errors import UsageError

if TYPE_CHECKING:
    from analysis.compare import Side

EXAMPLES = """  orchestrator compare before/store after/store
  orchestrator compare smoke complexity_by_domain --root store
  orchestrator compare bundle.tar.zst store/sweeps/complexity_by_domain --json
  orchestrator compare ours.csv theirs.csv --baseline scratch --upstream-tokens 164M"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("operands", nargs=2, metavar="A|B", help="sweep, store, bundle or curves")
    parser.add_argument("--baseline", metavar="NAME", help="of curves: the baseline (default: scratch)")
    parser.add_argument("--upstream-tokens", metavar="N", help="of curves: tokens of every upstream but the baseline's "
                        "(default: 0; gains do not depend on it)")
    add_mixed(parser)
    add_roots(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compare, and print what was found."""
    from analysis.compare import compare
    from analysis.compare_text import raw, text_of
    from analysis.stores import refuse_mixed

    with ExitStack() as kept:
        a, b = (_side(arguments, text, kept) for text in arguments.operands)
        refuse_mixed((a.name, a.plan), (b.name, b.plan), mixed=arguments.mixed_protocols)
        found = compare(a, b)
        if arguments.json:
            out_json(raw(found))
        else:
            out(text_of(found))
    return 0


def _side(arguments: argparse.Namespace, text: str, kept: ExitStack) -> Side:
    from analysis.archive import is_archive
    from analysis.compare import Side
    from analysis.curve_file import parse_upstream_tokens
    from analysis.curves import BASELINE, study_of
    from analysis.notebook import open_bundle, sweep_in
    from analysis.stores import stores
    from analysis.study import study

    path = Path(text)
    if is_archive(path):
        root, plan = open_bundle(path, kept)
        return Side(name=text, study=study(root, plan.name, plan), layout=stores(root))
    if path.suffix.lower() in CURVES:
        try:
            tokens = parse_upstream_tokens(arguments.upstream_tokens or 0)
        except ValueError as error:
            raise UsageError(f"--upstream-tokens {arguments.upstream_tokens}: {error}") from error
        return Side(name=text, study=study_of(path, arguments.baseline or BASELINE, tokens)[0])
    if (path / "sweeps").is_dir():
        roots, name = [path.resolve()], sweep_in([path], "")
    elif (path / "plan.json").is_file():
        roots, name = [path.resolve().parent.parent], path.resolve().name
    else:
        from orchestrator.arguments import sweep_name

        found = layouts(arguments)
        roots, name = [s.root for s in found], sweep_name(found, path)
    made = study(roots, name)
    where = " and ".join(map(str, roots))
    return Side(name=f"{name} in {where}", study=made, layout=stores(roots))
