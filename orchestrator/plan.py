"""What will run, with costs and reasons. Reads the store, changes nothing, imports neither torch nor ray."""

from __future__ import annotations

import gc
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Literal

from cluster.registry import check_ranks
from orchestrator.choices import read_choices
from orchestrator.clusters import cluster, profile
from orchestrator.promotion import outranked, surplus
from orchestrator.targets import Plan, read_plan
from orchestrator.withheld import bars
from sweeps.errors import EnvironmentError_, Problem, SweepFileError, UsageError, nearest
from sweeps.language.asha import SELECT
from sweeps.language.checks import check_layout
from sweeps.language.graph import Graph, Node
from sweeps.language.grid import Trial, trials
from sweeps.language.logs import read_log
from sweeps.language.manifest import PlanChoice, PlanFile, PlanLog, PlanStage, PlanTrial
from sweeps.language.plugins import Registries
from sweeps.language.presets import SCALES
from sweeps.language.read import Source
from sweeps.language.resolve import Resolver
from sweeps.language.search import plan_search, select_stages, with_choices
from sweeps.language.spec import Overrides, SweepFile, load_draft
from sweeps.language.stage import AUTO, Execution
from sweeps.language.stages import GraphBuilder
from sweeps.store.files import sha256_file
from sweeps.store.integrity import how_to_remake
from sweeps.store.layout import Layout
from sweeps.store.records import damage_of_result
from workloads.registry import load_registries

LAPTOP = ("tiny", "1m")
"""Scales at which a rank's whole share of a batch is one forward pass, unless a GPU is to be filled."""
VERSIONED = ("torch", "deepspeed", "ray", "transformers", "tokenizers", "numpy", "pandas")


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A sweep, resolved."""

    sweep: SweepFile
    text: str
    """The sweep file as given."""
    source: Source
    """Where each of its values was written."""
    overrides: Overrides
    plugins: tuple[Path, ...]
    """The user's own plug-ins, absolute."""
    registries: Registries
    trials: tuple[Trial, ...]
    graph: Graph
    layout: Layout
    file: PlanFile
    job_environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the jobs beyond those of the cluster profile (`orchestrator.snapshot`)."""
    unsafe_exec: bool = False
    """A person has typed `--unsafe-exec`; no file can say so."""

    def execution(self, kind: str) -> Execution:
        """Return layout and intervals of the stages of a kind."""
        run, ranks = self.sweep.run, self.sweep.run.ranks if self.registries.stages[kind].distributed else 1
        zero = SCALES[self.sweep.scale].zero_stage if run.zero_stage is None else run.zero_stage
        return Execution(
            checkpoint_seconds=run.checkpoint_every.seconds, checkpoint_share=run.checkpoint_share.ratio,
            checkpoint_async=run.checkpoint_async, keep_checkpoints=run.keep_checkpoints,
            keep_at_tokens=tuple(a.tokens() for a in run.keep_at), ranks=ranks, zero_stage=zero,
            micro_batch=run.micro_batch or self._micro_batch,
            activation_checkpointing=run.activation_checkpointing, offload=run.offload,
            hang_floor_seconds=run.hang_floor.seconds, on_spike=run.on_spike, unsafe_exec=self.unsafe_exec,
        )

    def on_gpus(self, key: str) -> bool:
        """Return whether a stage's job asks for GPUs where the cluster has some; all do, unless the profile says
        where those without a model run."""
        return "model" in self.graph.nodes[key].spec.sections or not self._data_apart

    @cached_property
    def cores(self) -> int:
        """Cores of a job of one process; stages `text` and `corpus` use them all."""
        threads: int = self.trials[0].core["engine"].threads_per_rank
        return profile(self.sweep.run).get("cpus_per_task") or threads

    @cached_property
    def _micro_batch(self) -> Literal["auto"] | None:
        """What holds where the sweep says nothing: a GPU's room is found by a search, a laptop's scales need none."""
        return AUTO if self.sweep.scale not in LAPTOP or profile(self.sweep.run).get("gpus_per_node") else None

    @cached_property  # asked for every stage of every pass
    def _data_apart(self) -> bool:
        return profile(self.sweep.run).get("cpu_partition") is not None

    def with_slots(self, slots: int) -> Planned:
        """Return the plan with another number of local slots (execution only)."""
        run = self.sweep.run.model_copy(update={"slots": slots})
        return replace(self, sweep=self.sweep.model_copy(update={"run": run}))


def make_plan(path: Path, overrides: Overrides, root: Path) -> Planned:
    """Resolve a sweep file into trials and stages.

    Raises:
        SweepFileError: with every problem of the file.
    """
    draft = load_draft(path, overrides)
    sweep, source = draft.sweep, draft.source
    plugins = tuple((path.parent / p).resolve() for p in sweep.plugins)
    try:
        registries = load_registries(plugins)
    except SweepFileError as error:
        raise SweepFileError([*draft.problems, *error.problems]) from error
    bare = Planned(
        sweep=sweep, text=path.read_text(encoding="utf-8"), source=source, overrides=overrides, plugins=plugins,
        registries=registries, layout=Layout(root.resolve()), trials=(), graph=Graph(nodes={}, paths={}),
        file=PlanFile(name=sweep.name, question=sweep.question, protocol=sweep.protocol, scale=sweep.scale, trials=(),
                      stages=()),
    )
    collecting = gc.isenabled()
    gc.disable()  # hundreds of thousands of small objects, no cycles: collections would double the time
    try:
        return resolve(bare, draft.problems)
    finally:
        gc.freeze()
        if collecting:
            gc.enable()


def resolve(bare: Planned, problems: Sequence[Problem] = ()) -> Planned:
    """Return the plan with its trials, stages and plan.json filled in; `problems` join those found here.

    Raises:
        SweepFileError: with every problem of the file.
    """
    sweep, registries = bare.sweep, bare.registries
    resolver = Resolver(sweep, bare.source, registries, problems)
    if "run" not in resolver.assumed:
        _check_cluster(resolver)
    found, choices = _chosen(resolver, bare.layout, trials(resolver))
    check_layout(resolver, [t.core for t in found])
    logs = _logs(resolver)
    resolver.raise_problems()
    try:
        graph = GraphBuilder(registries, sweep.scale, gate_required=sweep.gate == "require",
                             search=sweep.search is not None).build(found)
    except (ValueError, UsageError) as error:
        resolver.problem("fields", None, str(error))
        resolver.raise_problems()
        raise
    search = sweep.search and plan_search(sweep.search, found, graph.paths, registries, sweep.scale)
    file = bare.file.model_copy(update={
        "overrides": bare.overrides.texts(), "departures": resolver.departures(choices),
        "search": search, "searched": choices, "logs": logs,
        "claims": {k: c.model_dump() for k, c in sweep.claims.items()}, "gate": sweep.gate,
        "controls": {u: registries.upstreams[u].inherits for u in map(str, sweep.axes["upstream"])
                     if registries.upstreams[u].control},
        "body_parameters": found[0].core["model"].body_parameters,
        "trials": tuple(_plan_trial(t, graph) for t in found),
        "stages": (*map(_plan_stage, graph.nodes.values()), *select_stages(search or None, choices, found)),
        "versions": versions(),
    })
    return replace(bare, trials=tuple(found), graph=graph, file=file)


def _chosen(resolver: Resolver, layout: Layout, found: list[Trial]) -> tuple[list[Trial], tuple[PlanChoice, ...]]:
    """Return the trials with what the search that the sweep names has chosen for them."""
    sweep = resolver.sweep
    if sweep.searched is None:
        return found, ()
    try:
        choices = read_choices(layout, sweep.searched)
    except UsageError as error:
        resolver.problem("searched", sweep.searched, str(error))
        resolver.raise_problems()
        raise
    found, taken = with_choices(resolver, found, choices)
    before = {c["cell"]: (c["values"], c.get("search_share")) for c in read_plan(layout, sweep.name).searched}
    for choice in taken:
        now = (choice.values, choice.search_share)
        if (was := before.get(choice.cell, now)) != now:
            then, later = (f"{values} on {f'files of its own, {share}' if share else 'shared files'}"
                           for values, share in (was, now))
            resolver.problem("searched", sweep.searched,
                             f"chose {then} for {choice.cell} when this sweep was run first, and now {later}; "
                             "to compare with the new choice, give the sweep another name")
    return found, taken


def _logs(resolver: Resolver) -> dict[str, PlanLog]:
    """Return what plan.json says of the sweep's logs; notes what is wrong with them."""
    domains = [str(d) for d in resolver.sweep.axes["domain"]]
    found = {}
    for name, log in resolver.sweep.logs.items():
        path = (Path(resolver.source.name).parent / Path(log.file).expanduser()).resolve()
        if log.domain not in domains:
            resolver.problem(f"logs.{name}.domain", log.domain, f"is not on the axis domain; "
                                                                f"{nearest(log.domain, domains)}",
                             path=("logs", name, "domain"))
        try:
            read_log(path)
        except SweepFileError as error:
            resolver.problems.update({(p.where, p.message): p for p in error.problems})
            continue
        try:
            tokens = log.upstream_tokens.tokens() if log.upstream_tokens else 0
        except ValueError as error:
            resolver.problem(f"logs.{name}.upstream_tokens", str(log.upstream_tokens), str(error),
                             path=("logs", name, "upstream_tokens"))
            continue
        found[name] = PlanLog(file=str(path), sha256=sha256_file(path), domain=log.domain, upstream_tokens=tokens)
    return found


def _check_cluster(resolver: Resolver) -> None:
    run = resolver.sweep.run
    try:
        found = cluster(run)
    except SweepFileError as error:
        resolver.problems.update({(p.where, p.key): p for p in error.problems})
        return
    except UsageError as error:
        resolver.problem("run.cluster", run.cluster, str(error))
        return
    try:
        check_ranks(found, run.ranks)
    except UsageError as error:
        resolver.problem("run.ranks", run.ranks, str(error))


def run_pilots(planned: Planned) -> None:
    """Refuse what no data can be made with, before any job exists.

    Raises:
        SweepFileError: with every impossible upstream, its ceiling in the message.
    """
    problems: list[Problem] = []
    seen: set[int] = set()
    for trial, name, part in ((t, *named) for t in planned.trials for named in t.trained.streams.items()):
        pilot = planned.registries.upstreams[part.upstream].pilot
        if pilot is None or id(part.science) in seen:
            continue
        seen.add(id(part.science))
        of = f"part {name}: " if name else ""
        problems += [_pilot_problem(planned, trial, of + reason) for reason in pilot(part.science)]
    if problems:
        raise SweepFileError(problems)


def _pilot_problem(planned: Planned, trial: Trial, reason: str) -> Problem:
    bands = [str(band) for band in planned.sweep.axes.get("complexity", ())]
    path = ("complexity", str(bands.index(trial.complexity))) if trial.complexity in bands else ("upstream",)
    return Problem(where=planned.source.where("axes", *path), key=f"axes.{path[0]}", given=trial.complexity,
                   message=f"{trial.arm}: {reason}")


def _plan_trial(trial: Trial, graph: Graph) -> PlanTrial:
    return PlanTrial(
        id=trial.id, arm=trial.arm, cell=trial.cell, upstream=trial.upstream, complexity=trial.complexity,
        note=trial.note, token_budget=trial.token_budget, upstream_tokens=trial.upstream_tokens,
        requested_upstream_tokens=trial.requested_upstream_tokens, brought_flops=trial.brought_flops,
        domain=trial.domain, seed=trial.seed, pretrain_tokens=trial.pretrain_tokens, baseline=trial.baseline,
        fields=dict(trial.extras), path=graph.paths[trial.id],
    )


def _plan_stage(node: Node) -> PlanStage:
    return PlanStage(kind=node.spec.kind, fingerprint=node.spec.fingerprint, label=node.label, trials=node.trials,
                     tokens=node.tokens, flops=node.tokens * node.flops_per_token, choices=tuple(sorted(node.choices)))


def versions() -> dict[str, str]:
    """Return the versions that a report names, and the commit where the code is a git checkout."""
    found = {}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    here = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "-C", str(here), "rev-parse", "--short=12", "HEAD"], capture_output=True,
                                text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return found
    return {**found, "commit": commit}


@dataclass(frozen=True, kw_only=True)
class StageState:
    """What will happen to a stage, and why."""

    state: str
    """`run`, `reuse`, `live`, `withheld` or `blocked`."""
    reason: str


def complete(layout: Layout, nodes: Iterable[Node]) -> set[str]:
    """Return the fingerprints that have a result; one directory listing per kind."""
    by_kind: dict[str, list[str]] = {}
    for node in nodes:
        by_kind.setdefault(node.spec.kind, []).append(node.spec.fingerprint)
    done: set[str] = set()
    for kind, wanted in by_kind.items():
        try:
            present = {p.name for p in (layout.stages / kind).iterdir()}
        except FileNotFoundError:
            continue
        done |= {f for f in wanted if f in present and layout.stage(kind, f).result.exists()}
    return done


def stage_states(planned: Planned, live: Mapping[str, str]) -> dict[str, StageState]:
    """Return each stage's state; `live` maps fingerprints that a running controller has to its name."""
    done = complete(planned.layout, planned.graph.nodes.values())
    damaged = {key: wrong for key in planned.graph.banks_to_read(done)
               if (wrong := damage_of_result(planned.layout.stage("rules", key)))}
    gates = {node.gate for node in planned.graph.nodes.values() if node.gate in done}
    closed = {gate for gate in gates if gate is not None and bars(planned.layout, gate)}
    plan = Plan.of(planned.file.model_dump(mode="json")) if planned.file.search else Plan(name=planned.sweep.name)
    lost, spare = outranked(planned.layout, plan), surplus(planned.layout, plan)
    states: dict[str, StageState] = {}
    for key, node in planned.graph.nodes.items():
        missing = _missing_sources(node)
        if key in damaged:
            remake = how_to_remake(planned.layout.stage("rules", key))
            states[key] = StageState(state="blocked", reason=f"changed after it was complete: {damaged[key]}; {remake}")
        elif key in done:
            states[key] = StageState(state="reuse", reason="complete in the store")
        elif key in live:
            states[key] = StageState(state="live", reason=f"sweep {live[key]} is running it")
        elif node.gate in closed:
            states[key] = StageState(state="withheld", reason="their upstream was not learned (gate: require)")
        elif key in lost or key in spare:
            reason = "their candidates have lost" if key in lost else "as many candidates will lose (search.eta)"
            states[key] = StageState(state="withheld", reason=reason)
        elif missing:
            states[key] = StageState(state="blocked", reason=f"not installed: {', '.join(missing)}; "
                                                             "install the extra [run]")
        else:
            blocked = next((i for i in node.spec.inputs
                            if i.fingerprint in states and states[i.fingerprint].state == "blocked"), None)
            states[key] = StageState(
                state="blocked" if blocked else "run",
                reason=f"needs {blocked.kind} {blocked.fingerprint[:8]}, blocked" if blocked else "no result yet",
            )
    for stage in planned.file.stages:
        if stage.kind == SELECT:
            made = planned.layout.stage(SELECT, stage.fingerprint).result.exists()
            states[stage.fingerprint] = StageState(state="reuse" if made else "run",
                                                   reason="complete in the store" if made else "no result yet")
    return states


def refuse_blocked(planned: Planned) -> None:
    """Refuse a sweep that reads something that is not installed.

    Raises:
        EnvironmentError_: names what is missing.
    """
    missing = {name for node in planned.graph.nodes.values() for name in _missing_sources(node)}
    if missing:
        raise EnvironmentError_(f"not installed: {', '.join(sorted(missing))}; the text of a domain is read from them: "
                                "install the extra [run], as make sweep does")


def _missing_sources(node: Node) -> list[str]:
    identity = node.spec.sections.get("identity")
    return sorted(k for k, v in identity.values["sources"].items() if v is None) if identity else []
