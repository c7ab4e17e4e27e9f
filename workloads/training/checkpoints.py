"""Checkpoints of a training stage: where to continue from, what is saved, what is deleted.

A checkpoint folder holds `engine/` (DeepSpeed's files), `rank_<r>.pt` (generators and unreported losses of a rank) and
`state.json` (tokens and layout). It counts once its manifest does (sweeps.store.records). At tiny size it has 3 MB.
One written by another number of ranks is continued too, and what was trained so says it (`Progress.relayouts`).
A damaged one is set aside (sweeps.store.integrity) and an earlier state continued, never silently the beginning. Where
there is no space, the half-written one is removed, the older ones stay, and `StorageError` says what to do.
"""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sweeps.errors import RecordError, StorageError, UsageError
from sweeps.language.science import SegmentScience
from sweeps.language.stage import Execution
from sweeps.store import files, integrity, records, space
from sweeps.store.layout import StageFolder
from sweeps.store.records import Attempt, Checkpoint
from workloads.contract import StageContext
from workloads.training.engine import TAG, Engine
from workloads.training.process import Place
from workloads.training.universal import to_universal

STATE = "state.json"
UNIVERSAL = "universal"
"""Folder inside an attempt that holds a converted checkpoint while it is loaded."""
GONE = ".gone"
"""What follows the token count in the name of a checkpoint that is being deleted."""
PARAMETER_BYTES = 16
"""Bytes of a checkpoint per parameter: weights, master copy and two moments of Adam."""
SPARE_BYTES = 16_000_000
"""Bytes that stay free for rows and other files."""

log = logging.getLogger("workloads.training.checkpoints")


@dataclass
class Progress:
    """Where a run is."""

    updates: int = 0
    """Optimiser updates since the beginning of the run."""
    loss: float = float("nan")
    """Last reported loss, nats per token."""
    pending: list[torch.Tensor] = field(default_factory=list)
    """This rank's parts of the losses since the last row, not yet synchronised."""
    norms: list[torch.Tensor] = field(default_factory=list)
    """Gradient norms of the updates since the last row, not yet synchronised; in no checkpoint, since none is written
    before they were looked at."""
    relayouts: list[dict[str, int]] = field(default_factory=list)
    """Where the run went on with another number of ranks: `tokens`, `ranks_before`, `ranks`. From there on its numbers
    are those of an uninterrupted run only within 1e-5 (fp32) or 3e-4 nats (bf16, autocast), as tested."""
    recent: list[float] = field(default_factory=list)
    """Losses of the updates before the last row, which a spike stands out from (workloads.training.incidents)."""
    spikes: int = 0
    """Rows of kind `spike` since the beginning of the run."""


def find_start(context: StageContext, segment: SegmentScience) -> Checkpoint | None:
    """Return the checkpoint to continue from; None: begin at the beginning.

    Order: the furthest sound checkpoint of any attempt of this stage; for a decay branch the trunk's final one, which
    must be sound; for a trunk the furthest sound one of the earlier stages of the same run. Damaged ones are set aside.

    Raises:
        RecordError: the trunk of a branch has no sound checkpoint where the branch leaves it; or there were
            checkpoints of this run, and none of them is sound: beginning again is for a person to decide.
    """
    branch = segment.decay_from is not None
    earlier = [] if branch else [s for s in context.continues() if _same_schedule(s, segment)]
    own = context.attempt.stage, *earlier
    found = [c for stage in own for c in records.checkpoints(stage)]
    lowest = segment.decay_from or 0
    sound = _first_sound(c for c in sorted(found, key=lambda c: -c.tokens) if lowest < c.tokens <= segment.end_tokens)
    if sound is None and branch:
        sound = _trunk(context, segment)
    if sound is None:
        _refuse_to_begin_again(own)
    return sound


def _same_schedule(stage: StageFolder, segment: SegmentScience) -> bool:
    """Return whether a stage's states can be earlier states of a run with this segment's schedule."""
    try:
        values = files.read_json(stage.spec)["sections"]["segment"]["values"]
        schedule = values["decay_from"], values["horizon_tokens"], values["warmup_tokens"]
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{stage.spec} is damaged ({error!r}); remove the folder {stage.path} and run the same "
                          "command again to make it anew") from error
    return schedule == (None, segment.horizon_tokens, segment.warmup_tokens)


def _first_sound(found: Iterable[Checkpoint]) -> Checkpoint | None:
    """Return the first sound one, setting aside the damaged ones before it."""
    for checkpoint in found:
        wrong = records.damage(checkpoint)
        if not wrong:
            return checkpoint
        if (checkpoint.folder / integrity.MANIFEST).exists():  # else its owner is deleting it as one of its older ones
            integrity.quarantine(checkpoint.folder, wrong)
    return None


def _refuse_to_begin_again(stages: Iterable[StageFolder]) -> None:
    for stage in stages:
        aside = records.quarantined(stage) or [c.folder for c in records.checkpoints(stage) if records.damage(c)]
        if aside:
            raise RecordError(
                f"every checkpoint of {stage.kind}/{stage.fingerprint} is damaged ({aside[-1]}: see "
                f"{integrity.REASON}) and no earlier state of the run is sound; to train it from the beginning, remove "
                f"the folder {stage.path} and run the same command again"
            )


def _trunk(context: StageContext, segment: SegmentScience) -> Checkpoint | None:
    if segment.decay_from == 0:
        return None
    stages = context.stages("trunk")
    if len(stages) != 1:
        raise RecordError(f"a decay branch continues one trunk stage, {len(stages)} were given")
    final = records.final_checkpoint(stages[0])
    if final.tokens != segment.decay_from:
        raise RecordError(f"{final.folder} holds {final.tokens} tokens; the branch leaves the trunk at "
                          f"{segment.decay_from}")
    return final


def require_space(folder: Path, parameters: int) -> None:
    """See that a checkpoint of so many parameters fits beside what lies in `folder`.

    Raises:
        StorageError: it does not.
    """
    free, needed = shutil.disk_usage(folder).free, parameters * PARAMETER_BYTES + SPARE_BYTES
    if free < needed:
        raise StorageError(
            f"{folder}: {free / 1e6:,.0f} MB are free, a checkpoint needs {needed / 1e6:,.0f} MB on "
            f"{space.filesystem(folder)}; free some space, then run the same command again"
        )


def load(engine: Engine, found: Checkpoint, execution: Execution, attempt: Attempt) -> Progress:
    """Put a checkpoint's state into the engine and the global generators; every rank must call it.

    Args:
        engine: takes the state.
        found: the checkpoint.
        execution: this job's layout.
        attempt: whose folder takes what has to be converted; it is removed again.

    Raises:
        UsageError: it was written with another layout that cannot be converted into this one.
        RecordError: what it holds contradicts itself.
        StorageError: there is no space to convert it.
    """
    state = files.read_json(found.folder / STATE)
    written, own = state["layout"], layout_of(execution)
    if written | {"ranks": 0} != own | {"ranks": 0}:
        raise UsageError(f"{found.folder} was written with layout {written}, this job has {own}; the number of ranks "
                         "may change, the rest not: run it with the same ZeRO stage and off-loading")
    if state["tokens"] != found.tokens:
        raise RecordError(f"{found.folder / STATE} says {state['tokens']} tokens")
    if written == own or not execution.zero_stage:  # ZeRO 0: all is on every rank
        engine.load(found.folder)
    else:
        _load_converted(engine, found, attempt)
    progress = Progress(updates=int(state["updates"]), loss=files.number(state["loss"]),
                        relayouts=list(state.get("relayouts", [])),
                        recent=[float(loss) for loss in state.get("recent", ())],  # older ones have none
                        spikes=int(state.get("spikes", 0)))
    if engine.adam_steps() != progress.updates:
        raise RecordError(f"{found.folder}: Adam counts {engine.adam_steps()} steps, the record {progress.updates}")
    if written == own:
        saved = _read_rank(found, engine.place.rank)
        _restore_generators(saved)
        progress.pending = list(saved["pending"].to(engine.place.device))
    else:
        progress.relayouts.append(
            {"tokens": found.tokens, "ranks_before": written["ranks"], "ranks": own["ranks"]})
        progress.pending = _redistribute(found, written["ranks"], engine.place)
    return progress


def _load_converted(engine: Engine, found: Checkpoint, attempt: Attempt) -> None:
    folder = attempt.folder.path / UNIVERSAL

    def convert() -> None:
        require_space(attempt.folder.path, 2 * engine.parameters)
        to_universal(found.folder / TAG, folder / TAG)

    try:
        engine.place.decide(convert)
        engine.load(folder, universal=True)
        engine.place.barrier()
    finally:
        if engine.place.first:
            shutil.rmtree(folder, ignore_errors=True)


def _read_rank(found: Checkpoint, rank: int) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(found.folder / f"rank_{rank}.pt", weights_only=True)
    return saved


def _redistribute(found: Checkpoint, ranks: int, place: Place) -> list[torch.Tensor]:
    """Give the losses of all `ranks` earlier ranks to the first one, and a generator to each that had one.

    A rank that was not there before goes on with its own seed.
    """
    saved = [_read_rank(found, rank) for rank in range(ranks)]
    if place.rank < ranks:
        _restore_generators(saved[place.rank])
    total = torch.stack([s["pending"] for s in saved]).sum(0)
    return list((total if place.first else torch.zeros_like(total)).to(place.device))


def layout_of(execution: Execution) -> dict[str, Any]:
    """Return the part of the layout that a checkpoint's files depend on."""
    layout: dict[str, Any] = {"ranks": execution.ranks, "zero_stage": execution.zero_stage}
    return layout if execution.offload == "none" else layout | {"offload": execution.offload}


def prune(attempt: Attempt, keep: int, points: Collection[int]) -> None:
    """Delete a stage's checkpoints but its newest `keep`, this attempt's newest `keep`, and those at `points` (tokens).

    Those of earlier attempts go by the same rule, with what they left half written or half deleted; later attempts are
    not ours to touch. Nothing goes where somebody else may be reading: beside a later attempt, which began with the
    furthest it found, or once the stage has a result, whose checkpoint branches and longer budgets go on from. What is
    read elsewhere was the furthest when it was chosen, so it stays for `keep` further saves.
    """
    stage, own = attempt.stage, attempt.folder.number
    if stage.result.exists() or records.newest_attempt(stage) > own:
        return
    counting = records.checkpoints(stage)
    mine = [c for c in counting if c.owner.attempt == own]
    staying = {c.folder for c in (*counting[:keep], *mine[:keep])} | {c.folder for c in counting if c.tokens in points}
    for number in range(1, own + 1):
        for folder in stage.attempt(number).checkpoints.glob("*"):
            if folder not in staying and (folder.name.isdecimal() or folder.name.endswith(GONE)):
                _remove(folder)


def _remove(folder: Path) -> None:
    """Delete a checkpoint: the manifest first, then its name, so that no half of one counts, nor is committed later.

    What somebody else's rights or an earlier deletion hold up is left to the next save.
    """
    gone = folder.with_name(folder.name.removesuffix(GONE) + GONE)
    with suppress(OSError):
        (folder / integrity.MANIFEST).unlink(missing_ok=True)
        folder.rename(gone)  # who finds it damaged meanwhile sets it aside
    shutil.rmtree(gone, ignore_errors=True)


def rank_state(progress: Progress) -> dict[str, Any]:
    """Return what a rank has of its own: generators, and its parts of the unreported losses; all of it copied."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    state = {
        "torch": torch.get_rng_state(),
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss),
                  float(gauss)],
        "python": random.getstate(),
        "pending": torch.stack(progress.pending).cpu() if progress.pending else torch.zeros(0),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _restore_generators(saved: dict[str, Any]) -> None:
    torch.set_rng_state(saved["torch"])
    name, keys, position, has_gauss, gauss = saved["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    random.setstate(saved["python"])
    if "cuda" in saved and torch.cuda.is_available():
        torch.cuda.set_rng_state(saved["cuda"])

