"""Tickets of a toy stage kind, given as a person's own plug-in file, so that tests of jobs need no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeps.language.stage import Execution, Input, Section, StageSpec, Ticket, TicketStage
from sweeps.store import claims, files
from sweeps.store.layout import Layout, StageFolder

PLUGIN_TEXT = '''
import os
import signal
import time

from sweeps.language.plugins import Science, StageKind


class ToyScience(Science):
    act: str = "succeed"
    salt: int = 0


def run(context):
    from sweeps.store.records import checkpoints
    from workloads.contract import Diverged, Stopped

    science = context.science["toy"]
    found = checkpoints(context.attempt.stage)
    context.attempt.row(tokens=1, kind="train", values={"loss": 1.0})
    if science.act == "fail":
        raise ValueError("no such thing: \\udce9")
    if science.act == "diverge":
        raise Diverged("loss is nan")
    if science.act == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    hoard = bytearray(400_000_000) if science.act == "hoard" else b""
    while science.act == "hoard":
        hoard[::4096] = bytes(len(hoard[::4096]))
        time.sleep(0.05)
    while science.act == "ignore":
        time.sleep(0.05)
    while science.act == "wait" and not found:
        if context.should_stop():
            (context.attempt.checkpoint_folder(7) / "state").write_text("7")
            context.attempt.commit_checkpoint(7)
            raise Stopped
        time.sleep(0.02)
    while science.act == "hold" and not (context.attempt.stage.path / "go").exists():
        if context.should_stop():
            raise Stopped
        time.sleep(0.02)
    if science.act == "write":
        (context.attempt.artifacts / "much").write_bytes(bytes(20_000_000))
    (context.attempt.artifacts / "text").write_text("hello")
    return {"resumed_from": float(found[0].tokens) if found else 0.0, "inputs": float(len(context.inputs("before"))),
            "loss": float(science.salt)}


PLUGIN = StageKind(science=ToyScience, revision=1, implementation=":run")
'''


def spec(act: str = "succeed", salt: int = 0, inputs: Sequence[StageSpec] = (), revision: int = 1) -> StageSpec:
    """A stage of the toy kind."""
    return StageSpec(
        kind="toy", revisions={"stage:toy": revision},
        sections={"toy": Section(plugin="stage:toy", values={"act": act, "salt": salt}, changed={"a": act, "s": salt})},
        inputs=tuple(Input(role="before", kind=i.kind, fingerprint=i.fingerprint) for i in inputs),
    )


def stage_folder(root: Path, stage: StageSpec) -> StageFolder:
    """Where a stage's records lie."""
    return Layout(root).stage(stage.kind, stage.fingerprint)


def make_ticket(root: Path, stages: Sequence[StageSpec], *, submission: str = "batch-1", claim: bool = True) -> Ticket:
    """A ticket whose stages are claimed by its submission."""
    plugin = root / "plugins" / "toy.py"
    plugin.parent.mkdir(parents=True, exist_ok=True)
    plugin.write_text(PLUGIN_TEXT)
    numbers = []
    for stage in stages:
        folder = stage_folder(root, stage)
        held = claims.holder(folder)
        after = held.number if held else 0
        if claim:
            claims.take(folder, sweep="s", term=1, submission=submission, after=after)
        numbers.append(after + 1)
    return Ticket(
        root=str(root), sweep="s", submission=submission, plugins=(str(plugin),), execution=Execution(),
        stages=tuple(TicketStage(spec=s, claim=n) for s, n in zip(stages, numbers, strict=True)),
    )


def write_ticket(ticket: Ticket, name: str = "0.ticket.json") -> Path:
    """Write a ticket into its submission's folder."""
    path = Layout(Path(ticket.root)).sweep(ticket.sweep).submissions / ticket.submission / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(files.to_json(ticket.model_dump()))
    return path


def anything(**values: Any) -> Section:
    """A section without a model, for records that nobody validates."""
    return Section(values=values, changed=values)
