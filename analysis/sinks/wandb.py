"""Weights & Biases: a run a trial, in a project named after the sweep; offline unless WANDB_MODE says otherwise.

Offline, nothing leaves this machine: each part is a folder `wandb/offline-run-*`. Parts of a trial have one id and
resume it, so `wandb sync` uploads them in the order in which they were made. About a second a part.
"""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import Path

from analysis.sink import Batch, Sink


def _write(batch: Batch, folder: Path) -> Path:
    import wandb

    run = wandb.init(
        mode=os.environ.get("WANDB_MODE") or "offline", project=batch.sweep, id=batch.run, name=batch.trial,
        group=batch.arm, config=dict(batch.config), dir=str(folder), resume="allow",
        settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True,
                                x_disable_meta=True),
    )
    run.define_metric("tokens")
    run.define_metric("*", step_metric="tokens")
    for tokens, points in groupby(batch.points, key=lambda point: point.tokens):
        run.log({"tokens": tokens, **{point.name: point.value for point in points}})
    run.finish()
    return next((folder / "wandb").glob(f"*run-*-{batch.run}"))


PLUGIN = Sink(
    package="wandb", extra="wandb", write=_write, place=lambda batch, name: f"wandb/{name}",
    hint="cd {out} && wandb sync wandb/offline-run-*",
)
