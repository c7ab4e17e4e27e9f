"""Send a sweep's records to TensorBoard or Weights & Biases: what is new since the last time.

From the files alone, also while the sweep runs and on a copy of a store; no training waits for it. A trial is one run,
its values at training tokens. Needs an optional package: pip install 'prepretraining-orchestrator[tensorboard]' or
[wandb]. Weights & Biases is offline unless WANDB_MODE says otherwise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.arguments import add_json, add_root, layout, out, out_json, sweep_name

EXAMPLES = """  orchestrator sink sweeps/smoke.yaml --to tensorboard
  orchestrator sink complexity_by_domain --to wandb --root /copied/store --out runs/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("sweep", type=Path, metavar="FILE|NAME", help="sweep file or name")
    parser.add_argument("--to", required=True, metavar="SINK", help="tensorboard or wandb")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: inside the store)")
    add_root(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Send."""
    from analysis.sinks import find

    sink = find(arguments.to)
    from analysis.load import read_plan
    from analysis.sink import send

    store = layout(arguments)
    name = sweep_name(store, arguments.sweep)
    folder = (arguments.out or store.sweep(name).sinks / arguments.to).resolve()
    sent = send(store.root, read_plan(store.root, name), sink, folder)
    if arguments.json:
        out_json({"name": name, "to": arguments.to, "out": str(folder), **sent.__dict__})
    else:
        out(f"{sent.values:,} new values of {sent.trials:,} trials: {folder}\n"
            f"look at them: {sink.hint.format(out=folder)}")
    return 0
