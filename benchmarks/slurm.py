"""No-op stages through the whole path on a private Slurm, against one bare submitit array of as many no-op jobs.

    python -m benchmarks.slurm [--json] [--stages 1000] [--runs 3] [--live 500]

Runs alternate: bare array, one stage a job, 20 stages a job (`pack: 20`). The path is the reconciler's (claims,
tickets, ledger, one array per batch, one process per job, attempt and result for each stage) without Ray Tune, whose
own cost benchmarks/controller.py has. `--live N` then holds N jobs in the queue (nodes drained) and measures calls of
Slurm per minute for 1 and for N of them, the controller's memory, adoption by the next controller, and how fast all
are cancelled. `to_dependant` is from a stage's result to the submission of the stage that waits for it,
`signal_to_checkpoint` from a signal to the checkpoint of a training job. Each node of the private Slurm has 8 CPUs
configured, whatever the machine has. Medians over runs, seconds unless said; those below `live` have the number of jobs
in their names and are left out by `--live 0`.

    stages, runs               measured
    bare_s                     the bare array
    one_a_job_s, packed_20_s   the same stages through the whole path
    ratio_one_a_job, ratio_packed_20   over the bare array
    on_top_s_per_stage         one a job, less the bare array
    controller_cpu_s_per_stage_pack_1, controller_cpu_s_per_stage_pack_20   processor time of the controller
    to_dependant_s, signal_to_checkpoint_s   see above
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.report import show, tell
from cluster import rehearsal
from cluster.clients import Clients
from cluster.executors.slurm import SlurmExecutor
from cluster.profiles import SlurmProfile
from cluster.rehearsal import Rehearsal, Shape, breaks
from orchestrator.plan import Planned, make_plan
from orchestrator.reconciler import Reconciler
from orchestrator.snapshot import with_snapshot
from sweeps.language.graph import Graph, Node
from sweeps.language.manifest import PathStep
from sweeps.language.spec import Overrides
from sweeps.language.stage import Input, Section, StageSpec
from sweeps.language.units import Pack
from sweeps.store import requests
from sweeps.store.ledger import begin_term
from sweeps.store.records import MANIFEST
from workloads.registry import load_registries

SWEEP = Path(__file__).parent.parent / "sweeps" / "smoke.yaml"
NODES, CPUS = 2, 8
PACKED = 20
SMALLEST = ("--stages", "2", "--runs", "1", "--live", "0")
PASS_SECONDS = 0.25
"""Distance of the reconciler's passes, as in orchestrator/controller.py."""
TRAINING = ("upstream=[none]", "seed=[0]", "pretrain.tokens=10x")
"""Changes to the sweep that make its training long enough to be signalled."""
PLUGIN = '''
from sweeps.language.plugins import Science, StageKind


class Nothing(Science):
    number: int = 0


def run(context):
    return {}


PLUGIN = StageKind(science=Nothing, revision=1, implementation=":run")
'''


def clients_of(slurm: Rehearsal) -> Clients:
    """Return the programs of a private Slurm."""
    return Clients(conf=str(slurm.conf))


def stage(number: int, before: StageSpec | None = None) -> StageSpec:
    """Return a stage that does nothing; `before` makes it wait for another one."""
    inputs = () if before is None else (Input(role="before", kind=before.kind, fingerprint=before.fingerprint),)
    return StageSpec(kind="noop", revisions={"stage:noop": 1}, inputs=inputs, sections={
        "noop": Section(plugin="stage:noop", values={"number": number}, changed={"number": number})})


def plan(root: Path, stages: Sequence[StageSpec], pack: str | int) -> Planned:
    """Return a plan of these stages, one a trial."""
    plugin = root / "noop.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    planned = make_plan(SWEEP, Overrides(), root / "store")
    run = planned.sweep.run.model_copy(update={"pack": Pack(pack)})
    nodes = {s.fingerprint: Node(spec=s, label=f"no-op {i}", trials=1, priority=i) for i, s in enumerate(stages)}
    paths: dict[str, tuple[PathStep, ...]] = {
        f"t{i}": (PathStep(role="noop", kind=s.kind, fingerprint=s.fingerprint),) for i, s in enumerate(stages)}
    return with_snapshot(replace(planned, sweep=planned.sweep.model_copy(update={"run": run}), plugins=(plugin,),
                                 registries=load_registries((plugin,)), graph=Graph(nodes=nodes, paths=paths)))


def profile(slots: int, memory_mb: int) -> SlurmProfile:
    """Return the rehearsal's profile: an interval of 5 s, as real clusters have it."""
    return SlurmProfile(slots=slots, memory_mb=memory_mb, time_limit_min=60, lead_s=30, interval_s=5.0)


@contextmanager
def reign(planned: Planned, clients: Clients, slots: int, memory_mb: int = 200) -> Iterator[Reconciler]:
    """A controller of the plan, without Ray Tune."""
    folder = planned.layout.sweep(planned.sweep.name)
    ledger, state = begin_term(folder)
    executor = SlurmExecutor(planned.layout.jobs, profile(slots, memory_mb), clients)
    try:
        yield Reconciler(planned, executor, ledger, state, lambda notice: None)
    finally:
        ledger.close()


def until(done: Callable[[], object], step: Callable[[], None] = lambda: None) -> float:
    """Go on in passes until `done`; return the seconds."""
    began = time.monotonic()
    while not done():
        step()
        time.sleep(PASS_SECONDS)
    return time.monotonic() - began


CONTROLLER: dict[str, list[float]] = {}
"""Processor seconds of the controller itself, per stage."""


def ours(root: Path, slurm: Rehearsal, count: int, pack: str | int) -> float:
    """Return seconds from the first submission until every stage is known to be complete."""
    planned = plan(root, [stage(i) for i in range(count)], pack)
    with reign(planned, clients_of(slurm), count) as reconciler:
        began = time.process_time()
        seconds = until(lambda: len(reconciler.board.done) == count, reconciler.step)
        CONTROLLER.setdefault(f"controller_cpu_s_per_stage_pack_{pack}", []).append(
            (time.process_time() - began) / count)
        until(lambda: reconciler.finished, reconciler.step)  # the next run is to have the cluster for itself
    return seconds


def bare(root: Path, slurm: Rehearsal, count: int) -> float:
    """Return seconds from submission until submitit's last result file is there; nothing polls Slurm meanwhile."""
    from submitit import SlurmExecutor as Submitit

    os.environ.update(slurm.environment())
    executor = Submitit(folder=root)
    executor.update_parameters(time=60, mem="200M", cpus_per_task=1, array_parallelism=count)
    began = time.monotonic()
    executor.map_array(nothing, list(range(count)))
    until(lambda: len(list(root.glob("*_result.pkl"))) == count)
    return time.monotonic() - began


def nothing(number: int) -> None:
    """Do nothing."""


def chain(root: Path, slurm: Rehearsal) -> float:
    """Return seconds from a stage's result to its dependant's submission, by file dates."""
    first = stage(0)
    second = stage(1, before=first)
    planned = plan(root, [first, second], 1)
    with reign(planned, clients_of(slurm), 1) as reconciler:
        until(lambda: reconciler.finished, reconciler.step)
    result = planned.layout.stage(first.kind, first.fingerprint).result
    intents = sorted(p.stat().st_mtime for p in planned.layout.jobs.glob("*/intent.json"))
    return intents[-1] - result.stat().st_mtime


def live(root: Path, slurm: Rehearsal, count: int) -> dict[str, Any]:
    """Hold jobs in the queue, and measure what that costs."""
    for node in range(1, NODES + 1):
        breaks(slurm, "drain", f"n{node}")
    figures: dict[str, Any] = {}
    for jobs in (1, count):
        folder = root / str(jobs)
        folder.mkdir()
        planned = plan(folder, [stage(i) for i in range(jobs)], 1)
        clients = clients_of(slurm)
        with reign(planned, clients, jobs) as reconciler:
            reconciler.step()
            clients.calls.clear()
            began = time.monotonic()
            until(lambda since=began: time.monotonic() - since > 60, reconciler.step)  # type: ignore[misc]
            figures[f"calls_per_minute_{jobs}"] = dict(clients.calls)
        began = time.monotonic()
        with reign(planned, clients_of(slurm), jobs) as reconciler:
            figures[f"adopt_{jobs}_s"] = time.monotonic() - began
            assert len(reconciler._jobs) == jobs
            requests.ask(reconciler.folder, requests.Wish.CANCEL, planned.graph.paths)
            figures[f"cancel_{jobs}_s"] = until(lambda r=reconciler: r.finished, reconciler.step)  # type: ignore[misc]
    figures["controller_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    breaks(slurm, "repair")
    return figures


def checkpoint(root: Path, slurm: Rehearsal) -> float:
    """Return seconds from a person's or Slurm's signal to the committed checkpoint of a training job (3 MB)."""
    planned = with_snapshot(make_plan(SWEEP, Overrides(sets=TRAINING), root / "store"))
    trunks = planned.layout.stages / "pretrain"
    clients = clients_of(slurm)
    with reign(planned, clients, 1, memory_mb=3500) as reconciler:
        until(lambda: any(p.stat().st_size for p in trunks.glob("*/attempts/1/metrics.jsonl")), reconciler.step)
        signalled = time.time()
        clients.scancel("--signal=USR2", reconciler._jobs[0].handle.job_id)
        until(lambda: any(trunks.glob("*/attempts/1/stopped.json")))
        reconciler.stop(30.0, threading.Event())
    saved = trunks.glob(f"*/attempts/1/checkpoints/*/{MANIFEST}")
    return max(path.stat().st_mtime for path in saved) - signalled


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--stages", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--live", type=int, default=500)
    arguments = parser.parse_args()
    count = arguments.stages
    measures: dict[str, Callable[[Path, Rehearsal], float]] = {
        "bare": lambda root, slurm: bare(root, slurm, count),
        "one_a_job": lambda root, slurm: ours(root, slurm, count, 1),
        f"packed_{PACKED}": lambda root, slurm: ours(root, slurm, count, PACKED),
        "to_dependant": chain,
        "signal_to_checkpoint": checkpoint,
    }
    measured: dict[str, list[float]] = {name: [] for name in measures}
    slurm = rehearsal.up(f"bench-{uuid.uuid4().hex[:8]}", Shape(nodes=NODES, cpus=CPUS))
    try:
        for run in range(1, arguments.runs + 1):
            for name, measure in measures.items():
                with tempfile.TemporaryDirectory() as root:
                    measured[name].append(measure(Path(root), slurm))
                tell(f"run {run} of {arguments.runs}: {name} {measured[name][-1]:.2f} s")
        with tempfile.TemporaryDirectory() as root:
            held = {"live": live(Path(root), slurm, arguments.live)} if arguments.live else {}
    finally:
        rehearsal.down(slurm.name)
    medians = {f"{name}_s": statistics.median(values) for name, values in measured.items()}
    show({
        "stages": count, "runs": arguments.runs, **medians,
        **{name: statistics.median(values) for name, values in CONTROLLER.items()},
        "on_top_s_per_stage": (medians["one_a_job_s"] - medians["bare_s"]) / count,
        "ratio_one_a_job": medians["one_a_job_s"] / medians["bare_s"],
        f"ratio_packed_{PACKED}": medians[f"packed_{PACKED}_s"] / medians["bare_s"], **held,
    }, as_json=arguments.json)


if __name__ == "__main__":
    main()
