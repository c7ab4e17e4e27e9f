"""What would be submitted: shown by `plan --show-sbatch`, the same that the reconciler submits."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.executors._slurm_script import parameters
from cluster.executors.memory import MemoryExecutor
from cluster.job import JobHandle, JobRequest
from cluster.profiles import slurm_profile
from orchestrator import batch
from orchestrator.__main__ import main
from orchestrator.clusters import profile
from orchestrator.estimate import summary
from orchestrator.memory import BASE_MB, FLOOR_MB, job_mb, process_mb
from orchestrator.plan import Planned, make_plan, resolve, stage_states
from orchestrator.reconciler import Reconciler
from sweeps.language.presets import SCALES
from sweeps.language.spec import Overrides, Run
from sweeps.language.stage import SEARCHED_ON_CPU, Ticket
from sweeps.store.ledger import begin_term
from tests.orchestrator.test_cli import SMOKE

RECORDS = Path(__file__).parent.parent / "records"
Captured = pytest.CaptureFixture[str]


def planned(root: Path, *sets: str, scale: str = "tiny") -> Planned:
    """The smoke sweep."""
    return make_plan(Path(SMOKE), Overrides(sets=sets, scale=scale), root)


def shown(root: Path, capsys: Captured, *flags: str) -> str:
    """What `plan --show-sbatch` prints."""
    capsys.readouterr()
    assert main(["plan", SMOKE, "--root", str(root), "--no-pilot", "--show-sbatch", *flags]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("cluster", ["gpu", "apptainer", "rehearsal"])
def test_the_script_of_each_shipped_profile_is_as_recorded(cluster: str, tmp_path: Path, capsys: Captured) -> None:
    text = shown(tmp_path, capsys, "--cluster", cluster)
    plain = text.replace(str(tmp_path), "/store").replace(shlex.quote(sys.executable), "PYTHON")
    assert plain == (RECORDS / f"sbatch_{cluster}.sh").read_text(encoding="utf-8")
    assert not any(tmp_path.iterdir()), "plan changes nothing"


def test_what_is_shown_is_what_is_submitted(tmp_path: Path, capsys: Captured) -> None:
    """The reconciler submits the request that `plan` shows, and its tickets are there by then."""
    class Executor:
        asked: JobRequest | None = None

        def slots_free(self) -> int:
            return 4

        def submit(self, request: JobRequest) -> list[JobHandle]:
            self.asked = request
            assert all(Path(ticket).exists() for ticket in request.tickets)
            return [JobHandle(submission=request.name, index=i, job_id=str(i)) for i in range(len(request.tickets))]

        def poll(self, handles: object) -> list[object]:
            return []

        def cancel(self, handles: object) -> None:
            pass

    plan, executor = planned(tmp_path), Executor()
    expected = batch.first(plan, 4)
    ledger, state = begin_term(plan.layout.sweep(plan.sweep.name))
    Reconciler(plan, executor, ledger, state, lambda notice: None).step()  # type: ignore[arg-type]
    ledger.close()
    assert executor.asked == expected
    after = batch.first(plan, 4)
    assert after is not None and after.name == "smoke-t2-0001", "the next controller reigns in the next term"


def test_only_stages_that_train_get_several_ranks(tmp_path: Path) -> None:
    """The other kinds would do their work, and write their files, once in every rank."""
    class Executor(MemoryExecutor):
        asked: list[JobRequest] = []

        def submit(self, request: JobRequest) -> list[JobHandle]:
            self.asked.append(request)
            return super().submit(request)

    plan, executor = planned(tmp_path), Executor(slots=4)
    run = plan.sweep.run.model_copy(update={"ranks": 2})
    plan = replace(plan, sweep=plan.sweep.model_copy(update={"run": run}))
    ledger, state = begin_term(plan.layout.sweep(plan.sweep.name))
    reconciler = Reconciler(plan, executor, ledger, state, lambda notice: None)
    while not reconciler.finished:
        reconciler.step()
    ledger.close()
    assert not reconciler.board.waiting
    for request in executor.asked:
        for path in request.tickets:
            ticket = Ticket.model_validate_json(Path(path).read_text(encoding="utf-8"))
            trains = {stage.spec.kind in ("prepretrain", "pretrain") for stage in ticket.stages}
            assert trains == {request.ranks == 2} and ticket.execution.ranks == request.ranks
    assert {request.ranks for request in executor.asked} == {1, 2}


def test_a_profile_of_ones_own_is_taken_by_path_and_its_array_limit_kept(tmp_path: Path, capsys: Captured) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("executor: slurm\npartition: night\nlimits: {array_tasks: 1}\n")
    said = json.loads(shown(tmp_path / "store", capsys, "--cluster", str(mine), "--json"))
    assert said["submission"] == "smoke-t1-0001" and "--array=0-0%1" in said["script"]
    assert "#SBATCH --partition=night" in said["script"]


def test_what_will_ask_for_other_resources_than_the_first_submission_is_shown_too(tmp_path: Path, capsys: Captured
                                                                                  ) -> None:
    mine, file = tmp_path / "mine.yaml", tmp_path / "ranks.yaml"
    mine.write_text("executor: slurm\npartition: night\ncpu_partition: day\ngpus_per_node: 4\n")
    file.write_text(Path(SMOKE).read_text(encoding="utf-8").replace("run: {", "run: {ranks: 2, "))
    flags = [str(file), "--no-pilot", "--show-sbatch", "--root", str(tmp_path / "store"), "--cluster", str(mine)]
    assert main(["plan", *flags, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    shown = {(): said["script"], **{tuple(other["kinds"]): other["script"] for other in said["later"]}}
    asked = {kinds: ("--partition=day" in text, "--gpus-per-node=1" in text, "--gpus-per-node=2" in text)
             for kinds, text in shown.items()}
    assert asked == {(): (True, False, False), ("evaluate",): (False, True, False),
                     ("prepretrain", "pretrain"): (False, False, True)}
    assert main(["plan", *flags]) == 0
    text = capsys.readouterr().out
    assert text.count("#!/bin/bash") == 3 and "# Later, with other resources, for prepretrain, pretrain:\n" in text


@pytest.mark.parametrize(("profile", "ranks", "words"), [
    ("executor: local\n", 2, "the local executor runs jobs of one process, not of 2"),
    ("executor: slurm\nnodes: 2\n", 3, "3 ranks cannot be spread evenly over nodes = 2"),
    ("executor: slurm\ngpus_per_node: 1\n", 2, "2 ranks a node, but gpus_per_node = 1"),
])
def test_ranks_that_a_cluster_does_not_run_are_refused_before_any_job_exists(
    profile: str, ranks: int, words: str, tmp_path: Path, capsys: Captured
) -> None:
    """Else texts and corpora would be made first."""
    mine, file = tmp_path / "mine.yaml", tmp_path / "ranks.yaml"
    mine.write_text(profile)
    file.write_text(Path(SMOKE).read_text(encoding="utf-8").replace("run: {", f"run: {{ranks: {ranks}, "))
    for verb in ("plan", "sweep"):
        assert main([verb, str(file), "--cluster", str(mine), "--root", str(tmp_path / "store")]) == 2
        said = capsys.readouterr().err
        assert f"run.ranks = {ranks}: {words}" in said and str(file) in said, said
    assert not (tmp_path / "store").exists()


def test_stages_without_a_model_get_jobs_and_a_partition_of_their_own_and_no_gpu(tmp_path: Path) -> None:
    """Else a corpus of billions of tokens would be made on a GPU that does nothing."""
    asked: list[JobRequest] = []

    class Executor(MemoryExecutor):
        def submit(self, request: JobRequest) -> list[JobHandle]:
            asked.append(request)
            return super().submit(request)

    mine = tmp_path / "mine.yaml"
    mine.write_text("executor: slurm\npartition: night\ngpus_per_node: 4\ncpu_partition: day\nconstraint: a100\n"
                    "sbatch: {gpu-bind: closest, reservation: r}\n")
    plan = make_plan(Path(SMOKE), Overrides(cluster=str(mine)), tmp_path / "store")
    ledger, state = begin_term(plan.layout.sweep(plan.sweep.name))
    reconciler = Reconciler(plan, Executor(slots=4), ledger, state, lambda notice: None)
    while not reconciler.finished:
        reconciler.step()
    ledger.close()
    assert not reconciler.board.waiting
    kinds = {True: set[str](), False: set[str]()}
    options = slurm_profile({key: value for key, value in profile(plan.sweep.run).items() if key != "executor"}, "mine")
    for request in asked:
        for path in request.tickets:
            ticket = Ticket.model_validate_json(Path(path).read_text(encoding="utf-8"))
            kinds[request.gpus] |= {stage.spec.kind for stage in ticket.stages}
        chosen = parameters(request, options)
        asked_for = chosen["partition"], chosen["gpus_per_node"], chosen["constraint"]
        assert asked_for == (("night", 1, "a100") if request.gpus else ("day", None, None))
        further = chosen["additional_parameters"]
        assert ("gpu-bind" in further) == request.gpus and further["reservation"] == "r"
    assert kinds == {True: {"prepretrain", "pretrain", "evaluate"}, False: {"text", "tokenizer", "corpus", "rules"}}


def test_a_sweep_file_names_a_profile_relative_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                         capsys: Captured) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text("executor: slurm\npartition: beside\n")
    (tmp_path / "mine.yaml").write_text("executor: slurm\npartition: here\n")
    file = tmp_path / "sweeps" / "a.yaml"
    file.write_text(Path(SMOKE).read_text(encoding="utf-8").replace("cluster: local", "cluster: mine.yaml"))
    monkeypatch.chdir(tmp_path)
    for flags, partition in (([], "beside"), (["--cluster", "mine.yaml"], "here")):
        assert main(["plan", str(file), "--no-pilot", "--show-sbatch", "--root", "store", *flags]) == 0
        assert f"#SBATCH --partition={partition}" in capsys.readouterr().out


def test_executors_without_scripts_are_refused_with_those_that_have_one(tmp_path: Path, capsys: Captured) -> None:
    assert main(["plan", SMOKE, "--root", str(tmp_path), "--no-pilot", "--show-sbatch"]) == 2
    assert "local, submits no script; name a Slurm profile with --cluster: apptainer, gpu, rehearsal" in \
        capsys.readouterr().err


def test_problems_of_the_profile_join_those_of_the_sweep_file(tmp_path: Path, capsys: Captured) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("executor: slurm\npartitoin: night\nslots: 0\n")
    assert main(["plan", SMOKE, "--root", str(tmp_path), "--cluster", str(mine), "--set", "domain=[wbe]"]) == 2
    said = capsys.readouterr().err
    assert f"{mine}:2: partitoin: unknown key" in said and f"{mine}:3: slots = 0" in said and "'wbe'" in said


class TestMemory:
    """The estimate grows with what costs memory, and never falls below what any job needs."""

    def test_a_tiny_job_asks_for_the_floor(self, tmp_path: Path) -> None:
        plan = planned(tmp_path)
        host, activations = job_mb(plan, list(plan.graph.nodes))
        assert host == FLOOR_MB and 0 < activations < 500

    def test_parameters_optimiser_and_embeddings_count(self, tmp_path: Path) -> None:
        plan = planned(tmp_path, scale="400m")
        node = next(n for n in plan.graph.nodes.values() if n.spec.kind == "pretrain")
        parameters = plan.file.body_parameters + 2 * 16_384 * 1_024
        assert process_mb(plan, node)[0] == pytest.approx(BASE_MB + 40 * parameters / 1e6)
        waiting = running(plan, checkpoint_async=False)
        assert process_mb(waiting, node)[0] == pytest.approx(BASE_MB + 24 * parameters / 1e6), "no copy"

    def test_the_micro_batch_bounds_activations_and_ranks_multiply_the_rest(self, tmp_path: Path) -> None:
        plan = running(planned(tmp_path, scale="400m"), micro_batch=512)
        key = next(k for k, n in plan.graph.nodes.items() if n.spec.kind == "pretrain")
        run = plan.sweep.run.model_copy(update={"ranks": 2, "micro_batch": 8})
        small = replace(plan, sweep=plan.sweep.model_copy(update={"run": run}))
        host, activations = job_mb(plan, [key])
        assert job_mb(small, [key]) == (pytest.approx(2 * host, abs=2), pytest.approx(activations * 2 * 8 / 512, abs=2))

    def test_computing_again_saves_layers_and_a_chunked_loss_saves_logits(self, tmp_path: Path) -> None:
        def activations(plan: Planned) -> float:
            return process_mb(plan, next(n for n in plan.graph.nodes.values() if n.spec.kind == "pretrain"))[1]

        whole, chunked = (running(planned(tmp_path, *sets, scale="400m"), micro_batch=512)
                          for sets in ((), ("engine.loss_chunk=1024",)))
        tokens, logits, layer = 512 * 1_024, 4 * 16_384, 16 * 1_024 + 6 * 4_096
        assert activations(whole) == pytest.approx(4e-6 * tokens * (24 * layer + logits))
        assert activations(chunked) == pytest.approx(4e-6 * (tokens * 24 * layer + 1_024 * logits))
        assert activations(running(whole, micro_batch=512, activation_checkpointing=True)) == pytest.approx(
            4e-6 * tokens * (24 * 1_024 + layer + logits))


    def test_before_a_search_the_most_counts_that_it_may_find_on_a_cpu(self, tmp_path: Path) -> None:
        searched = planned(tmp_path, scale="400m")
        key = next(k for k, n in searched.graph.nodes.items() if n.spec.kind == "pretrain")
        assert job_mb(searched, [key]) == job_mb(running(searched, micro_batch=SEARCHED_ON_CPU), [key])


def test_a_gpu_is_filled_by_a_search_unless_the_sweep_says_how(tmp_path: Path) -> None:
    def found(scale: str, **run: object) -> object:
        return running(planned(tmp_path, scale=scale), **run).execution("pretrain").micro_batch

    assert [found(scale) for scale in SCALES] == [None, None, *["auto"] * 5], "a laptop's scales fit whole"
    assert [found(scale, cluster="gpu") for scale in SCALES] == ["auto"] * 7
    assert found("1.6b", cluster="gpu", micro_batch=4) == 4
    plain, told = planned(tmp_path, scale="10m"), running(planned(tmp_path, scale="10m"), micro_batch=4)
    assert plain.graph.nodes.keys() == resolve(told).graph.nodes.keys(), "execution moves no fingerprint"


def test_plan_warns_of_a_micro_batch_that_a_gpu_has_no_room_for(tmp_path: Path) -> None:
    card = tmp_path / "card.yaml"
    card.write_text("executor: slurm\ngpus_per_node: 1\ngpu_memory_mb: 80000\n", encoding="utf-8")

    def warnings(**run: object) -> list[str]:
        plan = running(planned(tmp_path, scale="1.6b"), **run)
        return [w for w in summary(plan, stage_states(plan, {}))["warnings"] if "micro_batch" in w]

    [upstream, domain] = sorted(warnings(cluster=str(card), micro_batch=32))
    assert "prepretrain" in upstream and "80,000 MB" in domain and "leave it out" in domain
    assert not warnings(cluster=str(card), micro_batch=1) and not warnings(cluster=str(card)), "a search finds its own"
    assert not warnings(cluster="gpu", micro_batch=512), "its profile does not say what a GPU has"


def running(plan: Planned, **run: object) -> Planned:
    """The plan with other values of `run`."""
    return replace(plan, sweep=plan.sweep.model_copy(update={"run": Run.model_validate(run)}))


def test_what_a_sweep_file_says_about_running_reaches_the_jobs(tmp_path: Path) -> None:
    told = running(planned(tmp_path), checkpoint_share="10%", checkpoint_async=False, keep_checkpoints=3,
                   keep_at=["10k", "1M"], zero_stage=3, activation_checkpointing=True,
                   offload="optimizer+parameters").execution("pretrain")
    assert (told.checkpoint_share, told.keep_checkpoints, told.keep_at_tokens) == (0.1, 3, (10_000, 1_000_000))
    assert not told.checkpoint_async
    assert (told.activation_checkpointing, told.offload) == (True, "optimizer+parameters")


def test_a_plan_says_that_the_sweep_file_leaves_a_cluster_idle(tmp_path: Path) -> None:
    few = make_plan(Path(SMOKE), Overrides(cluster="gpu"), tmp_path).with_slots(2)

    def idle(plan: Planned) -> list[str]:
        return [w for w in summary(plan, stage_states(plan, {}))["warnings"] if "slots" in w]

    told, = idle(few)
    assert "run.slots: 2 jobs at once" in told and "gpu allows 100" in told
    assert not idle(few.with_slots(100))
    assert not idle(make_plan(Path(SMOKE), Overrides(), tmp_path).with_slots(1))
