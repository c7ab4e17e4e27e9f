"""Whole sweeps on a private Slurm, through the command line, disturbed: the tables are the local executor's, always."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.clients import Clients, needed
from cluster.executors._slurm_starts import TICKETS
from cluster.rehearsal import Preemption, Rehearsal, Shape, breaks, status
from cluster.rehearsal.describe import MAIN, URGENT
from cluster.rehearsal.scratch import mounted
from sweeps.store import claims
from sweeps.store.layout import Layout, StageFolder
from sweeps.store.ledger import Event, fold, read_events
from sweeps.store.records import MEASURED
from tests.cluster.slurm.conftest import rehearsed
from tests.faults import crash
from tests.faults.conftest import Undisturbed
from tests.faults.conftest import nothing_left as nothing_left
from tests.faults.conftest import undisturbed as undisturbed
from tests.faults.crash import Crash, died, environment
from tests.faults.live import SWEEP, Live, check_resumed, check_same, kill, wait_for
from tests.faults.points import records, stages, wrong_after

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

PROFILE = """executor: slurm
rehearsal: {name}
slots: 4
nodes: {nodes}
memory_mb: 3500
time_limit_min: {minutes}
lead_s: {lead}
interval_s: 0.5
grace_s: 20
"""
MOMENTS = 10
LONG = {"[none, shuffle_dyck]": "[none]", "pretrain.tokens: 0.2x": "pretrain.tokens: 6x",
        "checkpoint_every: 1 s": "checkpoint_every: 1 h"}
"""Changes that make one training stage of a minute and a half on one quiet core."""
SPREAD = {"slots: 1, ": "pack: 1 s, "}
"""A job for each stage, four at a time: arrays, jobs that wait for others' stages, one submission after another."""
OTHER = {"name: faults": "name: other"}
THIRD = 3
"""Of a spread sweep's submissions: the first is an array, the third waited for stages of the former two."""
_ID = Crash(calls=("link",), path=r"/jobs/[^/]+/job\.json$")
POINTS = {
    "after the intent": crash.POINTS["after the intent"],
    "before sbatch": Crash(calls=("link",), when="after", path=r"/jobs/[^/]+/intent\.json$"),
    "after sbatch, before the id is written": _ID,
    "after the id is written": replace(_ID, when="after"),
    "inside the line of the submission": crash.POINTS["inside the line of the submission"],
}


def on(  # noqa: PLR0913 - what a profile and a command may differ in
    slurm: Rehearsal, folder: Path, *, minutes: int = 60, lead: int = 30, nodes: int = 1, file: Path = SWEEP,
    variables: dict[str, str] | None = None,
) -> Live:
    """A sweep on the rehearsal, with a profile of its own."""
    profile = folder / "rehearsed.yaml"
    profile.write_text(PROFILE.format(name=slurm.name, minutes=minutes, lead=lead, nodes=nodes), encoding="utf-8")
    return Live(root=folder / "store", file=file, flags=("--cluster", str(profile)), variables=variables or {})


def changed(folder: Path, changes: Mapping[str, str], name: str = "sweep.yaml") -> Path:
    """Write the small sweep with changes into a folder; return the file."""
    text = SWEEP.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def ledger(live: Live, *kinds: str) -> list[Event]:
    """Return the sweep's events of these kinds."""
    return [e for e in read_events(Layout(live.root).sweep("faults")) if e["event"] in kinds]


@pytest.fixture
def mended(slurm: Rehearsal) -> Iterator[Rehearsal]:
    """The rehearsal, put right again after the test."""
    yield slurm
    breaks(slurm, "repair")


def first_then_proofs(cases: Sequence[object]) -> list[object]:
    """One case in CI, the others as proofs."""
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.proof if i else ())
            for i, case in enumerate(cases)]


def ended_well(controller: subprocess.Popen[str]) -> None:
    """Wait for a sweep's good end."""
    _, said = controller.communicate(timeout=1500)
    assert controller.returncode == 0, said


def test_slurm_gives_the_local_tables_and_no_secret_crosses(
    slurm: Rehearsal, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    secret = "xoxb-not-for-any-file-7f3a"
    live = on(slurm, tmp_path, variables={"MY_API_TOKEN": secret})
    live.finish("--quiet")
    check_same(live, undisturbed.live, interrupted=0)
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert any(p.name == TICKETS for p in files) and any(p.suffix == ".sh" for p in files)
    assert [p for p in files if secret.encode() in p.read_bytes()] == []


@pytest.mark.parametrize("moment, alone", first_then_proofs(
    [(MOMENTS // 2, False), *((moment, True) for moment in range(MOMENTS))]))
def test_a_controller_killed_at_any_moment_finds_its_jobs_again(
    slurm: Rehearsal, tmp_path: Path, undisturbed: Undisturbed, moment: int, alone: bool
) -> None:
    """At so many tenths of the stages, and a random while later; all stages in one job, or each `alone` in its own."""
    live = on(slurm, tmp_path, file=changed(tmp_path, SPREAD) if alone else SWEEP)
    controller = live.start("--quiet")
    done = moment * len(stages(undisturbed.live.root)) // MOMENTS
    wait_for(lambda: len(list(live.root.glob("stages/*/*/result.json"))) >= done, controller)
    time.sleep(random.Random(moment).uniform(0, 2))
    kill(controller)
    assert controller.returncode == -signal.SIGKILL
    check_resumed(live, undisturbed.live)
    intents = [intent["tickets"] for intent in ledger(live, "intent")]
    assert len(intents) >= THIRD and max(map(len, intents)) > 1 if alone else len(intents) == 1


@pytest.mark.parametrize("point", first_then_proofs([*reversed(POINTS)]))
def test_a_controller_killed_at_a_named_point_submits_nothing_twice(
    slurm: Rehearsal, tmp_path: Path, undisturbed: Undisturbed, point: str
) -> None:
    """At that point of its third submission: some of the sweep is done, some runs, and some waits."""
    armed = tmp_path / "armed"
    live = on(slurm, tmp_path, file=changed(tmp_path, SPREAD),
              variables=environment(armed, "controller", replace(POINTS[point], at=THIRD)))
    controller = live.start("--quiet")
    controller.communicate()
    assert controller.returncode == -signal.SIGKILL and died(armed)
    tickets = [len(intent["tickets"]) for intent in ledger(live, "intent")]
    assert len(tickets) == THIRD and tickets[0] > 1, "an array, and what became ready after it"
    check_resumed(live, undisturbed.live)


@pytest.mark.proof
@pytest.mark.parametrize("declared", [True, False], ids=["declared down", "by time-outs alone"])
def test_a_node_that_dies_under_a_job_costs_one_attempt(mended: Rehearsal, tmp_path: Path, declared: bool) -> None:
    """Slurm starts the job elsewhere while its old processes go on writing."""
    file = changed(tmp_path, LONG | {"pretrain.tokens: 0.2x": "pretrain.tokens: 3x"})
    whole = Live(root=tmp_path / "whole", file=file)
    ended_well(whole.start("--quiet"))
    live = on(mended, tmp_path, file=file)
    controller = live.start("--quiet")
    wait_for(live.training, controller)
    node = next(n.name for n in status(mended).nodes if n.state.lower().startswith(("alloc", "mix")))
    breaks(mended, "kill-slurmd", node)
    if declared:
        breaks(mended, "down", node)
    ended_well(controller)
    found = stages(live.root)
    twice, = (name for name, (attempts, _) in found.items() if attempts > 1)
    assert found[twice][0] == 2
    check_same(live, whole, interrupted=1)
    assert records(Layout(live.root), measured=MEASURED) == records(Layout(whole.root), measured=MEASURED)
    stage = Layout(live.root).stage(*twice.split("/"))
    second = next(Layout(live.root).sweep("faults").submissions.glob("*/0.1.json"))
    assert second.stat().st_mtime < stage.attempt(1).metrics.stat().st_mtime, "it wrote rows beside its successor"
    again, = ledger(live, "restarted")
    assert (again["class"], len(ledger(live, "intent"))) == ("node", 1)


@pytest.mark.proof
@pytest.mark.timeout(1800)
def test_time_limits_far_shorter_than_a_stage_change_no_bit_of_it(slurm: Rehearsal, tmp_path: Path) -> None:
    """Nothing is saved but at the limit's early signal, so that every job lives by it."""
    file = changed(tmp_path, LONG)
    whole = Live(root=tmp_path / "whole", file=file)
    ended_well(whole.start("--quiet"))
    live = on(slurm, tmp_path, minutes=1, lead=10, file=file)
    ended_well(live.start("--quiet"))
    assert live.tables() == whole.tables()
    assert records(Layout(live.root), measured=MEASURED) == records(Layout(whole.root), measured=MEASURED)
    ends = ledger(live, "interrupted", "failed")
    assert {(e["class"], e["action"]) for e in ends} == {("timeout", "resume")}
    cut = [e for e in ends if e["saved_tokens"]]
    assert len(cut) >= 2, "training met the limit again and again"
    assert {e["lost_tokens"] for e in cut} == {0}, "a job that is asked in time saves the very update at which it is"
    assert all(f"at {e['saved_tokens']:,} tokens; 0 are trained again" in e["text"] for e in cut)
    assert f"0 tokens trained twice in {len(cut)} interruptions" in live.says("status")
    assert "0 were trained again" in live.says("why", cut[0]["fingerprint"])


@pytest.mark.parametrize("preemption, user_signal", first_then_proofs(
    [(p, s) for p in Preemption for s in (False, True)]))
def test_a_preempted_job_goes_on_to_the_same_tables(
    tmp_path: Path, undisturbed: Undisturbed, preemption: Preemption, user_signal: bool
) -> None:
    """Slurm requeues or cancels it; before that it sends the user signal, or SIGTERM alone."""
    with rehearsed(Shape(cpus=4, preemption=preemption, user_signal=user_signal)) as slurm:
        live = on(slurm, tmp_path)
        controller = live.start("--quiet")
        wait_for(live.training, controller)
        running = needed(Clients(conf=str(slurm.conf)).query("squeue", "-h", "-r", "-t", "running", "-o", "%i"))
        breaks(slurm, "preempt", running.split()[0])
        ended_well(controller)
    assert live.tables() == undisturbed.live.tables()
    found = stages(live.root)
    assert all(result for _, result in found.values())
    assert sum(attempts > 1 for attempts, _ in found.values()) == 1, "one stage was interrupted"
    ends = ledger(live, "interrupted", "failed")
    assert {(e["class"], e["action"]) for e in ends} <= {("preempted", "resume")}
    again = ledger(live, "restarted")
    assert bool(ends) != bool(again), "either the policy went on with it, or Slurm started it again by itself"
    assert {e["class"] for e in again} <= {"preempted"}
    assert not again or "restart 1 of jobs by the cluster itself (1 preempted)" in live.says("status")


def test_stages_without_a_model_run_in_a_partition_of_their_own(
    slurm: Rehearsal, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    """A rehearsal's second partition stands for one without GPUs."""
    live = on(slurm, tmp_path)
    with (tmp_path / "rehearsed.yaml").open("a", encoding="utf-8") as profile:
        profile.write(f"partition: {MAIN}\ncpu_partition: {URGENT}\n")
    live.finish("--quiet")
    check_same(live, undisturbed.live, interrupted=0)
    accounts = needed(Clients(conf=str(slurm.conf)).query(
        "sacct", "-n", "-X", "-P", "-S", "now-1hours", "-o", "JobName,Partition,WorkDir")).splitlines()
    intents = ledger(live, "intent")
    kinds: dict[str, set[str]] = {MAIN: set(), URGENT: set()}
    folders = {path.name: path.parent.name for path in (live.root / "stages").glob("*/*")}
    for intent in intents:
        partition, = {line.split("|")[1] for line in accounts  # other tests' sweeps have the same names
                      if line.startswith(f"{intent['name']}|") and str(tmp_path) in line}
        kinds[partition] |= {folders[key] for ticket in intent["tickets"] for key in ticket}
    assert kinds == {URGENT: {"text", "tokenizer", "corpus"}, MAIN: {"prepretrain", "pretrain", "evaluate"}}


@pytest.mark.proof
@pytest.mark.parametrize("fault", ["stop-slurmdbd", "hang-sacct", ""])
def test_accounts_that_fail_or_do_not_exist_change_no_table(
    tmp_path: Path, undisturbed: Undisturbed, fault: str
) -> None:
    with rehearsed(Shape(cpus=4, accounting=bool(fault))) as slurm:
        if fault:
            breaks(slurm, fault)
        live = on(slurm, tmp_path)
        ended_well(live.start("--quiet"))
        check_same(live, undisturbed.live, interrupted=0)


@pytest.mark.proof
def test_a_full_disk_pauses_the_sweep_and_space_lets_it_go_on(tmp_path: Path, undisturbed: Undisturbed) -> None:
    with rehearsed(Shape(cpus=4, scratch_mb=400)) as slurm:
        if not mounted(slurm):
            pytest.skip("this machine does not allow mounting a small disk")
        live = replace(on(slurm, tmp_path), root=slurm.scratch / "store")
        controller = live.start("--quiet")
        wait_for(live.training, controller)
        breaks(slurm, "fill-scratch")
        _, said = controller.communicate(timeout=300)
        assert controller.returncode == 6 and "Traceback" not in said, said
        submitted = len(list(Layout(live.root).sweep("faults").submissions.iterdir()))
        breaks(slurm, "free-scratch")
        ended_well(live.start("--quiet"))
        assert submitted == 1, "nothing was submitted while there was no space"
        assert not fold(read_events(Layout(live.root).sweep("faults"))).failures
        check_same(live, undisturbed.live, interrupted=sum(n - 1 for n, _ in stages(live.root).values()))


@pytest.mark.proof
def test_of_two_sweeps_that_share_stages_one_is_cancelled_and_the_other_goes_on(
    slurm: Rehearsal, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    file = changed(tmp_path, OTHER, "other.yaml")
    one, two = on(slurm, tmp_path), on(slurm, tmp_path, file=file)
    owner = one.start("--quiet")
    wait_for(lambda: any(one.root.glob("stages/*/*/claims/1.json")), owner)
    follower = two.start("--quiet", "--slots", "4")
    wait_for(lambda: any(two.root.glob("stages/*/*/interest/other")), follower)
    wait_for(one.training, owner)
    one.says("cancel", "--all", "faults")
    owner.communicate(timeout=600)
    ended_well(follower)
    found = stages(one.root)
    assert all(attempts == 1 and result for attempts, result in found.values()), "no shared stage was disturbed"
    state = fold(read_events(Layout(one.root).sweep("faults")))
    assert state.cancelled and not state.failures and not state.asked, "no job was asked to leave"
    tables = one.root / "sweeps" / "other" / "report" / "tables"
    assert {n: (tables / n).read_bytes() for n in undisturbed.live.tables()} == undisturbed.live.tables()


def in_training(root: Path) -> StageFolder | None:
    """Return a pre-training stage that has rows and no result; None: no stage trains now."""
    found = (Layout(root).stage("pretrain", path.name) for path in root.glob("stages/pretrain/*"))
    return next((stage for stage in found if not stage.result.exists() and stage.attempt(1).metrics.exists()), None)


@pytest.mark.proof
def test_two_sweeps_on_one_root_share_and_take_over(
    slurm: Rehearsal, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    """The one whose job trains dies, with its jobs: the other finishes what it had begun, under claims of its own."""
    sweeps = {"faults": on(slurm, tmp_path, file=changed(tmp_path, SPREAD)),
              "other": on(slurm, tmp_path, file=changed(tmp_path, SPREAD | OTHER, "other.yaml"))}
    controllers = {name: live.start("--quiet") for name, live in sweeps.items()}
    root = sweeps["faults"].root
    wait_for(lambda: in_training(root), controllers["faults"])
    trained = in_training(root)
    held = claims.holder(trained) if trained else None
    assert trained is not None and held is not None
    heir, = sweeps.keys() - {held.sweep}
    wait_for(lambda: heir in claims.interested(trained), controllers[heir])
    kill(controllers[held.sweep])
    clients = Clients(conf=str(slurm.conf))
    jobs = [line.split() for line in needed(clients.query("squeue", "-h", "-r", "-o", "%i %j")).splitlines()]
    needed(clients.scancel(*(job for job, name in jobs if name.startswith(f"{held.sweep}-"))))
    ended_well(controllers[heir])
    before = stages(root)
    assert all(result for _, result in before.values())
    last = {path: claim for path in root.glob("stages/*/*")
            if (claim := claims.holder(Layout(root).stage(path.parent.name, path.name)))}
    taken = {path.name for path, claim in last.items() if claim.number > 1}
    assert trained.fingerprint in taken and {last[p].sweep for p in last if p.name in taken} == {heir}
    again = {stage.rpartition("/")[2] for stage, (attempts, _) in before.items() if attempts > 1}
    assert trained.fingerprint in again <= taken, "only what the dead sweep had begun was gone on with"
    sweeps[held.sweep].finish("--quiet")
    assert wrong_after(before, stages(root)) == [] and stages(root) == before
    for name in sweeps:
        tables = root / "sweeps" / name / "report" / "tables"
        assert {n: (tables / n).read_bytes() for n in undisturbed.live.tables()} == undisturbed.live.tables()
