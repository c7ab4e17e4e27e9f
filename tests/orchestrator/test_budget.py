"""The cap on GPU-hours: what was used comes from the records alone, and no estimate, however wrong, gets round it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.__main__ import main
from orchestrator.board import Status
from orchestrator.budget import cap_of, rest, round_up
from orchestrator.meter import SILENT_S, gpu_seconds, spent, store_time
from orchestrator.plan import Planned
from orchestrator.reconciler import Notice, Reconciler
from sweeps.errors import PausedError
from sweeps.language.graph import Node
from sweeps.store import files
from sweeps.store.layout import Layout, StageFolder
from sweeps.store.ledger import Ledger, State, Submission, begin_term, fold, read_events
from sweeps.store.records import MANIFEST, Attempt, open_attempt, read_result
from tests.orchestrator.plans import AXES, planned
from tests.orchestrator.simulated_time import Timed, date
from tests.orchestrator.test_resume import ROOT, attempts, command, tables
from tests.orchestrator.verb_stores import answer, called

MEMORY = Path("/dev/shm")
INTERVAL_S = 20.0
"""Distance of the passes; a stage takes up to 300 s."""
SMOKE = ROOT / "sweeps" / "smoke.yaml"


# -- what was used -------------------------------------------------------------------------------------------------


def attempt_of(root: Path, *, at: float, sweep: str = "t", submission: str = "t-t1-0001", ranks: int = 1) -> Attempt:
    """Return a new attempt that began at a time."""
    attempt = open_attempt(stage_of(root), {"sweep": sweep, "submission": submission, "ranks": ranks})
    date(attempt, at)
    return attempt


def stage_of(root: Path) -> StageFolder:
    return Layout(root).stage("pretrain", "a" * 32)


def end(attempt: Attempt, path: Path, at: float) -> None:
    files.create(path, "{}")
    os.utime(path, (at, at))
    attempt.close()


def test_every_attempt_counts_by_its_ranks_however_it_ended(tmp_path: Path) -> None:
    stage = stage_of(tmp_path)
    assert gpu_seconds(stage, "t") == 0
    failed = attempt_of(tmp_path, at=1000)
    end(failed, failed.folder.failure, 1010)
    left = attempt_of(tmp_path, at=2000, ranks=4)
    end(left, left.folder.stopped, 2020)
    killed = attempt_of(tmp_path, at=3000)
    killed.row(tokens=1, kind="train", values={})
    killed.checkpoint_folder(1)
    killed.commit_checkpoint(1)
    date(killed, 3200, began=False)
    os.utime(killed.folder.checkpoint(1) / MANIFEST, (3300, 3300))
    killed.close()
    assert gpu_seconds(stage, "t") == 10 + 4 * 20 + 300
    done = attempt_of(tmp_path, at=4000, ranks=2)
    done.commit({}, seconds=7.5)
    done.close()
    assert gpu_seconds(stage, "t") == 10 + 4 * 20 + 300 + 2 * 7.5


def test_what_another_sweep_submitted_counts_for_that_one(tmp_path: Path) -> None:
    attempt = attempt_of(tmp_path, at=0, sweep="other", submission="other-t1-0001")
    attempt.commit({}, seconds=50)
    attempt.close()
    assert gpu_seconds(stage_of(tmp_path), "t") == 0
    assert gpu_seconds(stage_of(tmp_path), "other") == 50


def test_a_running_attempt_counts_up_to_now_and_no_other(tmp_path: Path) -> None:
    stage = stage_of(tmp_path)
    attempt_of(tmp_path, at=1000, submission="t-t1-0001").close()
    assert gpu_seconds(stage, "t", submission="t-t2-0001", now=1500) == 0, "its job waits; this is an older one"
    attempt_of(tmp_path, at=1400, submission="t-t2-0001").close()
    assert gpu_seconds(stage, "t", submission="t-t2-0001", now=1500) == 100
    assert gpu_seconds(stage, "t") == 0, "no job runs it any more, and it left no row"


def test_an_attempt_that_is_silent_for_long_is_not_counted_on(tmp_path: Path) -> None:
    """Its job may have been requeued by Slurm, and wait for hours."""
    attempt_of(tmp_path, at=1000).close()
    assert gpu_seconds(stage_of(tmp_path), "t", submission="t-t1-0001", now=90_000) == SILENT_S


def test_an_attempt_without_a_beginning_and_a_damaged_result_count_for_nothing(tmp_path: Path) -> None:
    attempt = attempt_of(tmp_path, at=1000)
    attempt.close()
    attempt.folder.execution.unlink()
    stage_of(tmp_path).result.write_text("{")
    assert gpu_seconds(stage_of(tmp_path), "t", submission="t-t1-0001", now=2000) == 0


def test_for_status_a_job_whose_end_nobody_has_recorded_counts_up_to_now(tmp_path: Path) -> None:
    attempt_of(tmp_path, at=1000).close()
    key = stage_of(tmp_path).fingerprint
    running = State(submissions={"t-t1-0001": Submission(name="t-t1-0001", tickets=(("b" * 32,), (key,)))})
    assert spent(Layout(tmp_path), "t", running, now=1030) == {key: 30}
    running.submissions["t-t1-0001"].ended[1] = "killed"
    assert spent(Layout(tmp_path), "t", running, now=1030) == {key: 0}


def test_the_stores_clock_is_that_of_its_files(tmp_path: Path) -> None:
    before = store_time(tmp_path)
    (tmp_path / "new").touch()
    assert before <= (tmp_path / "new").stat().st_mtime <= store_time(tmp_path)


# -- the cap -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given_h, limit_h, smallest_h, source", [
    (3, None, 3, "run.max_gpu_hours, t.yaml"), (None, 2, 2, "limits.gpu_hours of cluster profile"),
    (3, 2, 2, "limits.gpu_hours of cluster profile"), (1.5, 2, 1.5, "run.max_gpu_hours, t.yaml"),
])
def test_the_smallest_cap_counts_and_names_where_it_comes_from(
    given_h: float | None, limit_h: float | None, smallest_h: float, source: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    limits = f"limits: {{gpu_hours: {limit_h}}}\n" if limit_h else ""
    (tmp_path / "mine.yaml").write_text(f"executor: slurm\n{limits}")
    cap = cap_of(planned(tmp_path, run={"cluster": "mine.yaml", "max_gpu_hours": given_h}))
    assert cap is not None and cap.gpu_hours == smallest_h and cap.source.startswith(source)
    assert cap_of(planned(tmp_path, run={"cluster": "memory"})) is None


def test_a_stage_needs_the_rest_of_its_estimate_but_never_nothing() -> None:
    assert rest(100, 30) == 70
    assert rest(100, 0) == 100
    assert rest(100, 250) == 10, "the estimate was too small"


@pytest.mark.parametrize("hours, shown", [(0.0341, 0.035), (3.0, 3.0), (3.01, 3.1), (99.5, 100.0), (1234.0, 1300.0)])
def test_the_cap_that_is_proposed_is_short_and_large_enough(hours: float, shown: float) -> None:
    assert round_up(hours) == pytest.approx(shown) and round_up(hours) >= hours


# -- held under a cap ----------------------------------------------------------------------------------------------


@cache
def plan_without_a_store() -> Planned:
    return planned(Path("/nowhere"), axes={**AXES, "complexity": ["30-45"]})


class Simulation:
    """A sweep under caps, one reign after another, with wrong estimates."""

    def __init__(self, root: Path, *, seed: int, wrong: tuple[float, float], slots: int, grace_s: float = 0.0) -> None:
        """Stages take 1 to 300 s; the estimates are that times a factor between the two of `wrong`."""
        chance = random.Random(seed)
        self.root = root
        nodes = plan_without_a_store().graph.nodes
        self.true_s = {key: chance.uniform(1, 300) for key in nodes}
        self.estimate_s = {key: s * chance.uniform(*wrong) for key, s in self.true_s.items()}
        self.executor = Timed(slots=slots, duration=self.true_s.__getitem__, grace_s=grace_s)
        self.said: list[Notice] = []

    def begin(self, gpu_hours: float | None, at_cap: str) -> tuple[Planned, Reconciler, Ledger]:
        base = plan_without_a_store()
        run = base.sweep.run.model_copy(update={"max_gpu_hours": gpu_hours, "at_cap": at_cap})
        plan = replace(base, layout=Layout(self.root), sweep=base.sweep.model_copy(update={"run": run}))
        ledger, state = begin_term(plan.layout.sweep("t"))
        reconciler = Reconciler(plan, self.executor, ledger, state, self.said.append)
        reconciler.budget.clock = lambda: self.executor.time  # type: ignore[assignment]

        def seconds(node: Node) -> float:
            return self.estimate_s[node.spec.fingerprint]

        reconciler.board.seconds = reconciler.board.packer.seconds = seconds  # type: ignore[method-assign]
        return plan, reconciler, ledger

    def reign(self, gpu_hours: float | None, at_cap: str = "drain") -> str:
        """Run until everything has ended or the sweep pauses; return the pause's message."""
        plan, reconciler, ledger = self.begin(gpu_hours, at_cap)
        try:
            for _ in range(5000):
                reconciler.step()
                if reconciler.finished:
                    assert reconciler.board.counts()[Status.DONE] == len(plan.graph.nodes)
                    return ""
                self.executor.time += INTERVAL_S
        except PausedError as error:
            self.executor.cancel(self.executor.running())  # as the controller does for whoever pauses
            return str(error)
        finally:
            ledger.close()
        raise AssertionError("neither finished nor paused")

    def metered_s(self) -> float:
        """Return what a new controller reads."""
        plan, reconciler, ledger = self.begin(1e6, "drain")
        ledger.close()
        return reconciler.budget.used * 3600


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Durability cannot be seen by a process that lives on."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**6), share=st.floats(0.02, 1.1), slots=st.integers(1, 4), stop=st.booleans(),
       wrong=st.sampled_from([(1.0, 1.0), (1.0, 3.0), (0.05, 1.0), (0.01, 100.0)]), grace_s=st.floats(0, 60))
def test_no_estimate_gets_round_the_cap(seed: int, share: float, slots: int, stop: bool, wrong: tuple[float, float],
                                        grace_s: float) -> None:
    root = Path(tempfile.mkdtemp(prefix="budget-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        simulation = Simulation(root, seed=seed, wrong=wrong, slots=slots, grace_s=grace_s)
        executor, at_cap = simulation.executor, "stop" if stop else "drain"
        cap_s = share * sum(simulation.true_s.values())
        paused = simulation.reign(cap_s / 3600, at_cap)
        # What a new controller reads is what was used, so the bounds below are of what it meters.
        assert simulation.metered_s() == pytest.approx(executor.used())
        assert all(used < cap_s for used in executor.used_at_submit), "something was submitted beyond the cap"
        if wrong[0] >= 1:
            assert executor.used() <= cap_s * (1 + 1e-9), "estimates that are no smaller than the truth keep the cap"
        elif stop:
            assert executor.used() <= cap_s + slots * (INTERVAL_S + grace_s) + 1e-6
        before = len(executor.used_at_submit)
        if paused and executor.used() >= cap_s:
            assert simulation.reign(cap_s / 3600, at_cap) and len(executor.used_at_submit) == before
        assert simulation.reign(1e6, at_cap) == "", "a larger cap goes on to the end"
        for key, node in plan_without_a_store().graph.nodes.items():
            stage = Layout(root).stage(node.spec.kind, key)
            assert read_result(stage) is not None
            assert len(list(stage.attempts.iterdir())) == 1 or stop, "a drained sweep runs nothing twice"
    finally:
        shutil.rmtree(root)


def test_a_drained_sweep_says_what_is_left_and_pauses_again_at_once_under_the_same_cap(tmp_path: Path) -> None:
    simulation = Simulation(tmp_path, seed=1, wrong=(1, 1), slots=2)
    cap_h = sum(simulation.true_s.values()) / 2 / 3600
    paused = simulation.reign(cap_h)
    assert "run.max_gpu_hours, t.yaml" in paused and "of 4 trials are not complete" in paused
    assert "Nothing is lost: to go on, run the same command with --max-gpu-hours" in paused
    assert [n.kind for n in simulation.said].count("budget") == 1
    assert 0 < simulation.executor.used() <= 3600 * cap_h, "what runs is reckoned with"
    before = len(simulation.executor.used_at_submit)
    assert simulation.reign(cap_h) == paused and len(simulation.executor.used_at_submit) == before
    proposed = float(paused.rpartition(" ")[2])
    assert simulation.reign(proposed) == "", "the cap that the message proposes is enough where estimates are right"


def test_at_stop_running_jobs_leave_and_a_larger_cap_goes_on(tmp_path: Path) -> None:
    simulation = Simulation(tmp_path, seed=2, wrong=(0.01, 0.01), slots=2, grace_s=10)
    cap_s = sum(simulation.true_s.values()) / 2
    assert simulation.reign(cap_s / 3600, "stop")
    stopped = list(tmp_path.glob("stages/*/*/attempts/*/stopped.json"))
    assert stopped and not simulation.executor.running()
    assert cap_s <= simulation.executor.used() <= cap_s + 2 * (INTERVAL_S + 10)
    assert simulation.reign(1e6, "stop") == ""


def test_a_stage_that_alone_needs_more_than_the_cap_is_never_begun(tmp_path: Path) -> None:
    simulation = Simulation(tmp_path, seed=3, wrong=(1, 1), slots=2)
    paused = simulation.reign(0.5 / 3600)
    assert paused.startswith("0 of 0.000138889 GPU-hours used") and "what is next needs more than the rest" in paused
    assert simulation.executor.submissions == 0


def test_without_a_cap_nothing_is_metered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.budget.gpu_seconds", lambda *a, **k: pytest.fail("records were read"))
    simulation = Simulation(tmp_path, seed=4, wrong=(1, 1), slots=2)
    assert simulation.reign(None) == ""


# -- what a person sees --------------------------------------------------------------------------------------------


def test_plan_says_what_the_cap_cuts_and_what_the_whole_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = ["plan", SMOKE, "--root", tmp_path, "--no-pilot"]
    free = answer(capsys, *plan)
    assert free["cap"] is None and free["gpu_hours"] > 0 and free["gpu_hours_used"] == 0
    all_of_it = answer(capsys, *plan, "--max-gpu-hours", free["gpu_hours"] * 1.001)["cap"]
    assert len(all_of_it["complete"]) == 6 and not all_of_it["cut"]
    some = answer(capsys, *plan, "--max-gpu-hours", free["gpu_hours"] * 0.6, "--at-cap", "stop")["cap"]
    assert some["at_cap"] == "stop" and some["source"] == "--max-gpu-hours"
    assert 0 < len(some["complete"]) < 6 and sorted(some["complete"] + some["cut"]) == sorted(all_of_it["complete"])
    _, text, _ = called(capsys, *plan, "--max-gpu-hours", 0.0001)
    assert "about 0 of 6 trials complete" in text and "complete  none" in text


def test_status_shows_what_was_used_and_the_cap_of_the_newest_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulation = Simulation(tmp_path, seed=5, wrong=(1, 1), slots=2)
    simulation.reign(None)
    assert answer(capsys, "status", "t", "--root", tmp_path)["sweeps"][0]["budget"] is None
    simulation.reign(2.5)
    budget = answer(capsys, "status", "t", "--root", tmp_path)["sweeps"][0]["budget"]
    assert budget["gpu_hours"] == 2.5 and budget["used_gpu_hours"] == pytest.approx(simulation.metered_s() / 3600)
    simulation.reign(2.5)
    _, text, _ = called(capsys, "status", "t", "--root", tmp_path)
    assert f"budget  {budget['used_gpu_hours']:.3g} of 2.5 GPU-hours used, then drain" in text
    simulation.reign(None)
    assert answer(capsys, "status", "t", "--root", tmp_path)["sweeps"][0]["budget"] is None


def test_a_flag_that_is_no_cap_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(SMOKE), "--root", str(tmp_path), "--max-gpu-hours", "many", "--at-cap", "explode"]) == 2
    said = capsys.readouterr().err
    assert "--max-gpu-hours many: run.max_gpu_hours = 'many': must be a number" in said
    assert "--at-cap explode: run.at_cap = 'explode': unknown value; known: drain, stop" in said


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_capped_sweep_goes_on_to_the_tables_of_an_undisturbed_one(tmp_path: Path) -> None:
    whole, capped = tmp_path / "whole", tmp_path / "capped"
    subprocess.run(command(whole), cwd=ROOT, check=True, capture_output=True)
    used_h = sum(spent(Layout(whole), "smoke", fold(read_events(Layout(whole).sweep("smoke")))).values()) / 3600
    small = [*command(capped), "--max-gpu-hours", f"{used_h / 2:.6f}", "--at-cap", "stop"]
    done = subprocess.run(small, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 6 and "GPU-hours used (--max-gpu-hours)" in done.stderr, done.stderr
    before = attempts(capped)
    assert subprocess.run(small, cwd=ROOT, capture_output=True).returncode == 6 and attempts(capped) == before
    larger = [*command(capped), "--max-gpu-hours", f"{used_h * 10:.6f}"]
    subprocess.run(larger, cwd=ROOT, check=True, capture_output=True)
    assert tables(capped) == tables(whole)
