"""Write a sweep as one file that others can check: sweep file, plan, records, tables, environment, checksums.

The file is made from the records alone, also while the sweep runs, and is the same bytes for the same records. Weights
and texts are not in it. `orchestrator verify` checks it; unpacked, its folder store/ is a store.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.arguments import add_json, add_root, layout, out, out_json, size, sweep_name

EXAMPLES = """  orchestrator export sweeps/complexity_by_domain.yaml -o bundle.tar.zst
  orchestrator export complexity_by_domain --root /copied/store -o results/bundle.tar.gz"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("sweep", type=Path, metavar="FILE|NAME", help="sweep file or name")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="what to write; its end says how it is "
                        "compressed: .tar.zst, .tar.gz or .tar.xz (default: NAME.tar.zst)")
    add_root(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the bundle."""
    from analysis.bundle import export
    from sweeps.store.files import sha256_file

    store = layout(arguments)
    name = sweep_name(store, arguments.sweep)
    path = arguments.out or Path(f"{name}.tar.zst")
    about = export(store.root, name, path)
    digest, count = sha256_file(path), path.stat().st_size
    if arguments.json:
        out_json({"name": name, "file": str(path), "bytes": count, "sha256": digest,
                  "environment": about["environment"]})
    else:
        out(f"{path}: {size(count)}, SHA-256 {digest}\ncheck it: orchestrator verify {path}")
    return 0
