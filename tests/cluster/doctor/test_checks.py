"""Each check on answers that real programs gave (Slurm 22.05.8 of a rehearsal), and on what else sites have."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from cluster.clients import Answer, NoAnswer, Why
from cluster.doctor import ask, control, limits, node, place
from cluster.doctor.ask import ASSOCIATIONS, NODES, QOS, Answers, minutes
from cluster.doctor.finding import Finding, Verdict
from cluster.doctor.job import Outcome
from cluster.profiles import SlurmProfile

CONFIG = """Configuration data as of 2025-11-21T11:20:09
AccountingStorageEnforce = none
AccountingStorageType   = accounting_storage/slurmdbd
ClusterName             = rehearsal
KillWait                = 5 sec
MaxArraySize            = 1001
PreemptMode             = REQUEUE
PreemptType             = preempt/partition_prio
SLURM_VERSION           = 22.05.8
SlurmctldParameters     = preempt_send_user_signal
"""
PARTITIONS = """\
PartitionName=main AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A GraceTime=5 \
MaxNodes=UNLIMITED MaxTime=UNLIMITED Nodes=n[1-2] PreemptMode=REQUEUE State=UP TotalCPUs=4 TotalNodes=2
PartitionName=urgent AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=NO QoS=N/A GraceTime=0 \
MaxNodes=UNLIMITED MaxTime=12:00:00 Nodes=n[1-2] PreemptMode=OFF State=UP TotalCPUs=4 TotalNodes=2
"""
MACHINES = "main|2|idle|2|8192|(null)\nurgent|2|idle|2|8192|(null)\n"
VERSIONS = {program: Answer(text="slurm-wlm 22.05.8\n") for program in (*ask.NEEDED, *ask.WANTED)}
SILENT = NoAnswer(why=Why.TIMEOUT, text="scontrol show config: no answer in 20 s")
DISABLED = NoAnswer(why=Why.DISABLED, text="sacctmgr: exit 1: accounting storage is disabled")


def answers(*, config: str = CONFIG, partitions: str = PARTITIONS, machines: str = MACHINES,
            associations: str = "root||normal|||\n", qos: str = "normal|||00:00:00|cluster\n") -> Answers:
    """What a rehearsal answers, with some of it replaced."""
    known = ask.settings(Answer(text=config))
    assert not isinstance(known, NoAnswer)
    return Answers(
        config=known, partitions=ask.fields(Answer(text=partitions)),
        nodes=ask.table(Answer(text=machines), NODES), qos=ask.table(Answer(text=qos), QOS),
        associations=ask.table(Answer(text=associations), ASSOCIATIONS), accounts=Answer(text=""),
    )


def changed(text: str, **values: str) -> str:
    """A configuration with other values."""
    kept = [line for line in text.splitlines() if line.partition("=")[0].strip() not in values]
    return "\n".join([*kept, *(f"{key} = {value}" for key, value in values.items())])


def profile(**options: object) -> SlurmProfile:
    """A profile."""
    return SlurmProfile.model_validate({"time_limit_min": 60, "lead_s": 10, **options})


def is_(finding: Finding, verdict: Verdict, *words: str) -> None:
    """See that a finding says this; what is not good says what it means and what to do."""
    text = f"{finding.seen} | {finding.means} | {finding.fix}"
    assert finding.verdict is verdict, finding
    assert all(word in text for word in words), finding
    assert finding.verdict is Verdict.OK or (finding.means and finding.fix)
    assert len(finding.check) <= 12


def test_a_rehearsal_is_found_to_be_good() -> None:
    told = answers()
    found = [place.clients(VERSIONS), place.controller(told.config), *place.checks(told, profile()),
             *limits.checks(told, profile()), control.job(told, profile())]
    assert [f.check for f in found if f.verdict is not Verdict.OK] == []


def test_a_cluster_that_does_not_answer_is_unknown_and_never_good() -> None:
    is_(place.clients(dict.fromkeys(ask.NEEDED, SILENT)), Verdict.FAILED, "sbatch", "login node")
    is_(place.controller(SILENT), Verdict.FAILED, "no answer in 20 s", "slurmctld")
    silent = Answers(config=answers().config, partitions=SILENT, nodes=SILENT, associations=SILENT, qos=SILENT,
                     accounts=SILENT)
    found = {f.check: f.verdict for f in (*place.checks(silent, profile()), *limits.checks(silent, profile()))}
    assert {check for check, verdict in found.items() if verdict is Verdict.OK} == {"array size"}


class TestControlJob:
    """The job of `--controller slurm`, which has a partition, a QOS and limits of its own."""

    @pytest.mark.parametrize("wanted, words", [
        ({"partition": "urgnt"}, ("partition: urgnt: does not exist", "'urgent'")),
        ({"partition": "urgent", "time_limit_min": 721}, ("urgent allows 720", "below `controller:`")),
        ({"partition": "urgent"}, ("time_limit_min = 1440", "time_limit_min: 720")),
        ({"memory_mb": 8193}, ("0 nodes have 2 CPUs, 8193 MB", "--controller slurm")),
        ({"cpus": 3}, ("0 nodes have 3 CPUs",)),
        ({"qos": "shrt"}, ("qos shrt is none of this user's",)),
    ])
    def test_what_it_may_not_have_is_a_warning(self, wanted: dict[str, object], words: tuple[str, ...]) -> None:
        is_(control.job(answers(), profile(controller=wanted)), Verdict.WARNING, *words)

    def test_what_other_jobs_ask_for_is_not_asked_of_it(self) -> None:
        large = profile(nodes=9, memory_mb=10**6, gpus_per_node=8, partition="main", time_limit_min=10**5,
                        controller={"partition": "urgent", "time_limit_min": 720})
        is_(control.job(answers(), large), Verdict.OK, "720 min on 2 CPUs, 4000 MB")

    def test_no_answer_is_unknown(self) -> None:
        silent = replace(answers(), partitions=SILENT, nodes=SILENT)
        is_(control.job(silent, profile()), Verdict.UNKNOWN, "no answer in 20 s")


class TestPrograms:
    """Slurm's programs."""

    def test_missing_accounts_are_a_warning_and_a_missing_sbatch_a_failure(self) -> None:
        for program, verdict in (("sacct", Verdict.WARNING), ("sbatch", Verdict.FAILED)):
            gone = {**VERSIONS, program: NoAnswer(why=Why.MISSING, text=f"{program}: No such file")}
            is_(place.clients(gone), verdict, program)

    @pytest.mark.parametrize("text, verdict", [("slurm 20.11.9", Verdict.WARNING), ("slurm 24.05.1", Verdict.OK)])
    def test_old_releases_do_not_know_command_lines(self, text: str, verdict: Verdict) -> None:
        is_(place.clients({p: Answer(text=text) for p in VERSIONS}), verdict, text.removeprefix("slurm "))

    def test_programs_of_two_installations_are_seen(self) -> None:
        versions = {**VERSIONS, "sacct": Answer(text="slurm 23.02.1")}
        is_(place.clients(versions), Verdict.WARNING, "22.05.8", "23.02.1")


class TestPartitions:
    """Partitions, time limits and nodes."""

    @pytest.mark.parametrize("options, verdict, words", [
        ({}, Verdict.OK, ("main", "default")), ({"partition": "main,urgent"}, Verdict.OK, ("main, urgent",)),
        ({"cpu_partition": "urgnt"}, Verdict.FAILED, ("urgnt: does not exist", "`cpu_partition`", "'urgent'")),
        ({"partition": "mian"}, Verdict.FAILED, ("mian: does not exist", "Did you mean 'main'")),
    ])
    def test_names(self, options: dict[str, object], verdict: Verdict, words: tuple[str, ...]) -> None:
        is_(place.partition(answers(), profile(**options)), verdict, *words)

    @pytest.mark.parametrize("old, new, options, verdict, word", [
        ("Default=YES", "Default=NO", {}, Verdict.FAILED, "no default"),
        ("State=UP", "State=DOWN", {}, Verdict.WARNING, "main is DOWN"),
        ("AllowAccounts=ALL", "AllowAccounts=a,b", {"account": "c"}, Verdict.FAILED, "AllowAccounts=a,b"),
        ("AllowAccounts=ALL", "AllowAccounts=a,b", {"account": "b"}, Verdict.OK, "main"),
        ("AllowQos=ALL", "AllowQos=long", {"qos": "short"}, Verdict.FAILED, "AllowQos=long"),
    ])
    def test_who_may_use_them(self, old: str, new: str, options: dict[str, object], verdict: Verdict,
                              word: str) -> None:
        is_(place.partition(answers(partitions=PARTITIONS.replace(old, new)), profile(**options)), verdict, word)

    @pytest.mark.parametrize("options, qos, verdict, word", [
        ({"partition": "urgent", "time_limit_min": 720}, "", Verdict.OK, "of 720 allowed"),
        ({"partition": "urgent", "time_limit_min": 721}, "", Verdict.FAILED, "time_limit_min: 720"),
        ({"qos": "short", "time_limit_min": 61}, "short||01:00:00||cluster\n", Verdict.FAILED, "short allows 60"),
        ({}, "", Verdict.OK, "there is no limit"),
    ])
    def test_time(self, options: dict[str, object], qos: str, verdict: Verdict, word: str) -> None:
        is_(place.time_limit(answers(qos=qos), profile(**options)), verdict, word)

    @pytest.mark.parametrize("text, expected", [
        ("UNLIMITED", math.inf), ("", math.inf), ("1-00:00:00", 1440), ("2-12", 3600), ("12:00:00", 720), ("30:00", 30),
        ("90", 90), ("00:00:30", 0.5),
    ])
    def test_slurms_spellings_of_time(self, text: str, expected: float) -> None:
        assert minutes(text) == expected

    @pytest.mark.parametrize("options, verdict, words", [
        ({"memory_mb": 8192, "cpus_per_task": 2}, Verdict.OK, ("2 nodes up with 2 CPUs, 8192 MB",)),
        ({"memory_mb": 8193}, Verdict.FAILED, ("0 nodes have 1 CPUs, 8193 MB", "2 CPUs, 8192 MB, GRES (null)")),
        ({"nodes": 3}, Verdict.FAILED, ("a job wants 3",)),
        ({"gpus_per_node": 1, "gpu_type": "a100"}, Verdict.FAILED, ("1 GPUs a100",)),
    ])
    def test_what_a_node_has(self, options: dict[str, object], verdict: Verdict, words: tuple[str, ...]) -> None:
        is_(place.nodes(answers(), profile(**options)), verdict, *words)

    @pytest.mark.parametrize("state, verdict", [
        ("idle", Verdict.OK), ("mixed", Verdict.OK), ("allocated", Verdict.OK), ("idle~", Verdict.OK),
        ("down*", Verdict.WARNING), ("drained", Verdict.WARNING), ("maint", Verdict.WARNING),
    ])
    def test_what_is_up(self, state: str, verdict: Verdict) -> None:
        is_(place.nodes(answers(machines=MACHINES.replace("idle", state)), profile()), verdict, "2 nodes")

    @pytest.mark.parametrize("gres, kind, expected", [
        ("(null)", None, 0), ("gpu:4", None, 4), ("gpu:a100:4(S:0-1)", None, 4), ("gpu:a100:4(S:0-1)", "a100", 4),
        ("gpu:a100:4", "v100", 0), ("gpu:a100:4,gpu:v100:2", None, 6), ("gpu:a100:4,gpu:v100:2", "v100", 2),
        ("shard:8,gpu:h100:8(S:0,1),nvme:1", None, 8), ("gpu", None, 1),
    ])
    def test_gpus_of_a_node(self, gres: str, kind: str | None, expected: int) -> None:
        assert place.gpus(gres, kind) == expected


class TestLimits:
    """What the cluster allows this user."""

    def test_arrays(self) -> None:
        is_(limits.array(answers(), profile(limits={"array_tasks": 1001})), Verdict.OK, "1001")
        is_(limits.array(answers(), profile(limits={"array_tasks": 1002})), Verdict.FAILED, "array_tasks: 1001")

    @pytest.mark.parametrize("options, enforce, verdict, word", [
        ({}, "none", Verdict.OK, "not enforced"), ({"account": "rot"}, "none", Verdict.WARNING, "Did you mean 'root'"),
        ({"account": "rot"}, "associations,limits", Verdict.FAILED, "Did you mean 'root'"),
        ({"qos": "norml"}, "all", Verdict.FAILED, "Did you mean 'normal'"),
        ({"qos": "normal"}, "all", Verdict.OK, "root"),
    ])
    def test_accounts(self, options: dict[str, object], enforce: str, verdict: Verdict, word: str) -> None:
        config = changed(CONFIG, AccountingStorageEnforce=enforce)
        is_(limits.account(answers(config=config), profile(**options)), verdict, word)

    def test_a_user_without_any_account_is_refused_where_that_is_enforced(self) -> None:
        config = changed(CONFIG, AccountingStorageEnforce="associations")
        is_(limits.account(answers(config=config, associations=""), profile()), Verdict.FAILED, "no account")

    @pytest.mark.parametrize("associations, qos, slots, verdict, word", [
        ("a||normal|normal|50|\n", "", 100, Verdict.WARNING, "slots: 50"),
        ("a||normal|normal|50|\n", "", 50, Verdict.OK, "50"),
        ("a||normal|normal||\n", "normal|20||00:00:00|cluster\n", 30, Verdict.WARNING, "QOS normal allows 20"),
        ("a||normal|normal|50|\nb||normal|normal|5|\n", "", 50, Verdict.OK, "account a allows 50"),
        ("a||normal|normal||\n", "normal|||00:00:00|cluster\n", 9999, Verdict.OK, "no limit"),
    ])
    def test_jobs_in_the_queue(self, associations: str, qos: str, slots: int, verdict: Verdict, word: str) -> None:
        told = answers(config=changed(CONFIG, AccountingStorageEnforce="limits"), associations=associations, qos=qos)
        is_(limits.submit(told, profile(account="a", slots=slots)), verdict, word)

    def test_a_limit_that_is_not_enforced_is_none(self) -> None:
        is_(limits.submit(answers(associations="a|||normal|1|\n"), profile(slots=100)), Verdict.OK, "no limit")

    def test_without_accounts_there_is_nothing_to_obey(self) -> None:
        told = replace(answers(config=changed(CONFIG, AccountingStorageType="accounting_storage/none")),
                       associations=DISABLED, qos=DISABLED, accounts=DISABLED)
        is_(limits.account(told, profile()), Verdict.OK, "keeps no accounts")
        is_(limits.submit(told, profile()), Verdict.OK, "keeps no accounts")
        is_(limits.accounting(told), Verdict.WARNING, "who cancelled it", "slurmdbd")

    def test_accounts_that_do_not_answer_are_not_taken_for_none(self) -> None:
        told = replace(answers(), associations=SILENT, qos=SILENT, accounts=SILENT)
        is_(limits.account(told, profile()), Verdict.UNKNOWN, "no answer in 20 s")
        is_(limits.submit(told, profile()), Verdict.UNKNOWN, "how many jobs")
        is_(limits.accounting(told), Verdict.WARNING, "no answer in 20 s")


class TestPreemption:
    """What a preempted job gets."""

    @pytest.mark.parametrize("values", [{"PreemptType": "preempt/none"},
                                        {"PreemptMode": "OFF", "PreemptType": "(null)"}])
    def test_none(self, values: dict[str, str]) -> None:
        told = answers(config=changed(CONFIG, **values), partitions=PARTITIONS.replace("PreemptMode=REQUEUE", ""))
        is_(limits.preemption(told, profile()), Verdict.OK, "none")

    @pytest.mark.parametrize("values, signalled", [
        ({}, True), ({"SlurmctldParameters": "(null)"}, False),
        ({"SlurmctldParameters": "idle_on_node_suspend,preempt_send_user_signal"}, True),
        ({"SlurmctldParameters": "(null)", "PreemptParameters": "reorder_count=1,send_user_signal"}, True),
    ])
    def test_the_user_signal_in_both_spellings(self, values: dict[str, str], signalled: bool) -> None:
        found = limits.preemption(answers(config=changed(CONFIG, **values)), profile())
        is_(found, Verdict.OK, "the user signal" if signalled else "SIGTERM only", "REQUEUE", "10 s or more")

    def test_too_little_time_for_a_checkpoint(self) -> None:
        config = changed(CONFIG, SlurmctldParameters="(null)")
        is_(limits.preemption(answers(config=config), profile(lead_s=11)), Verdict.WARNING, "10 s or more",
            "lead_s = 11", "preempt_send_user_signal", "checkpoint_every")

    def test_the_partitions_mode_goes_before_the_clusters(self) -> None:
        is_(limits.preemption(answers(), profile(partition="urgent")), Verdict.OK, "none")

    def test_jobs_that_stand_still(self) -> None:
        config = changed(CONFIG, PreemptMode="GANG,SUSPEND")
        partitions = PARTITIONS.replace("PreemptMode=REQUEUE", "PreemptMode=GANG,SUSPEND")
        is_(limits.preemption(answers(config=config, partitions=partitions), profile()), Verdict.WARNING, "stand")

    def test_a_qos_has_grace_and_mode_of_its_own(self) -> None:
        told = answers(config=changed(CONFIG, PreemptType="preempt/qos"), qos="low|||00:02:00|cancel\n")
        is_(limits.preemption(told, profile(qos="low", lead_s=125)), Verdict.OK, "CANCEL", "125 s or more")


HERE = {"python": "3.11.7", "this package": "abc", "torch": "2.13.0", "deepspeed": "0.19.8", "transformers": "5"}
GOOD = Outcome(
    began={"nonce": "x", "host": "n1", "clock": 0.0, "links": "",
           "scratch": {"folder": "/tmp", "bytes": 9e9, "wrong": ""}},
    answer={"versions": HERE, "imports": {"torch": "", "deepspeed": ""}, "seconds": 5.0, "gpus": 1,
            "executable": "/py"},
    nonce="x", job="7", waited_s=3.0, skew_s=(-0.2, 0.4))
DISK = {"bytes": 20_000_000_000, "inodes": 10_000_000, "all_inodes": 20_000_000}


def of_node(outcome: Outcome, check: str, **options: object) -> Finding:
    """One finding of a test job."""
    found = node.checks(outcome, HERE, DISK, "/store", profile(**options))
    return next(f for f in found if f.check == check)


class TestNode:
    """What the test job found."""

    def test_a_good_node(self) -> None:
        found = list(node.checks(GOOD, HERE, DISK, "/store", profile(gpus_per_node=4)))
        assert {f.verdict for f in found} == {Verdict.OK}
        assert [f.check for f in found] == ["space", "test job", "shared disk", "clock", "python", "versions", "GPU",
                                            "temporary"]

    @pytest.mark.parametrize("disk, verdict", [
        ({"bytes": 400_000_000}, Verdict.FAILED), ({"bytes": 9_000_000_000}, Verdict.WARNING),
        ({"inodes": 1_000}, Verdict.FAILED), ({"inodes": 50_000}, Verdict.WARNING),
        ({"inodes": 0, "all_inodes": 0}, Verdict.OK),
    ])
    def test_space_and_file_names(self, disk: dict[str, int], verdict: Verdict) -> None:
        is_(node.space({**DISK, **disk}, "/store"), verdict, "GB")

    def test_a_refused_job(self) -> None:
        refused = Outcome(refused="invalid partition specified: x")
        is_(of_node(refused, "test job"), Verdict.FAILED, "invalid partition")
        is_(of_node(refused, "python"), Verdict.UNKNOWN, "see the test job")

    def test_a_job_that_waited_too_long_leaves_everything_unknown(self) -> None:
        waiting = Outcome(job="7", state="PENDING (Priority)", waited_s=300.0)
        found = {f.check: f for f in node.checks(waiting, HERE, DISK, "/store", profile(gpus_per_node=1))}
        is_(found["test job"], Verdict.UNKNOWN, "PENDING (Priority) for 300 s", "--timeout")
        assert {f.verdict for c, f in found.items() if c not in ("space", "test job")} == {Verdict.UNKNOWN}

    def test_a_job_that_died_before_python_shows_its_log(self) -> None:
        dead = Outcome(job="7", over=True, state="FAILED (NonZeroExitCode)", log="module: command not found")
        is_(of_node(dead, "test job"), Verdict.FAILED, "module: command not found", "modules")
        is_(of_node(dead, "shared disk"), Verdict.UNKNOWN, "test job")

    def test_a_disk_that_is_not_shared(self) -> None:
        is_(of_node(Outcome(job="7", over=True, state="FAILED"), "shared disk"), Verdict.FAILED, "/store", "--root")
        other = replace(GOOD, began={**GOOD.began, "nonce": "FileNotFoundError: ask.json"})  # type: ignore[dict-item]
        is_(of_node(other, "shared disk"), Verdict.FAILED, "did not read", "FileNotFoundError")

    def test_a_filesystem_without_hard_links_completes_no_stage(self) -> None:
        without = replace(GOOD, began={**GOOD.began, "links": "Operation not permitted"})  # type: ignore[dict-item]
        is_(of_node(without, "shared disk"), Verdict.FAILED, "Operation not permitted", "no stage could be completed")

    @pytest.mark.parametrize("skew, verdict", [
        ((-0.5, 0.5), Verdict.OK), ((-90.0, 3.0), Verdict.OK), ((6.0, 7.0), Verdict.WARNING),
        ((-70.0, -60.0), Verdict.WARNING),
    ])
    def test_clocks(self, skew: tuple[float, float], verdict: Verdict) -> None:
        is_(of_node(replace(GOOD, skew_s=skew), "clock"), verdict,
            "no difference seen" if verdict is Verdict.OK else "differs")

    def test_python_that_cannot_import(self) -> None:
        assert GOOD.answer is not None
        broken = {**GOOD.answer, "imports": {"torch": "", "deepspeed": "No module named 'deepspeed'"}}
        is_(of_node(replace(GOOD, answer=broken), "python"), Verdict.FAILED, "No module named 'deepspeed'", "[run]")
        is_(of_node(replace(GOOD, answer={**GOOD.answer, "seconds": 90.0}), "python"), Verdict.WARNING, "90 s")
        killed = replace(GOOD, answer=None, over=True, log="Illegal instruction")
        is_(of_node(killed, "python"), Verdict.FAILED, "Illegal instruction")

    def test_other_versions_or_other_code(self) -> None:
        assert GOOD.answer is not None
        other = {**GOOD.answer, "versions": {**HERE, "torch": "2.12.0", "this package": "old"}}
        is_(of_node(replace(GOOD, answer=other), "versions"), Verdict.WARNING, "torch 2.12.0 (here 2.13.0)",
            "this package old (here abc)")

    def test_a_node_whose_gpus_torch_does_not_see(self) -> None:
        assert GOOD.answer is not None
        is_(of_node(replace(GOOD, answer={**GOOD.answer, "gpus": 0}), "GPU", gpus_per_node=4), Verdict.FAILED, "--nv")

    def test_a_scratch_disk_that_cannot_be_written(self) -> None:
        wrong = {"folder": "/scratch/me", "bytes": 0, "wrong": "Read-only file system"}
        bad = replace(GOOD, began={**GOOD.began, "scratch": wrong})  # type: ignore[dict-item]
        is_(of_node(bad, "temporary"), Verdict.FAILED, "/scratch/me: Read-only file system", "`scratch`")

    def test_a_scratch_folder_that_slurm_could_not_make(self) -> None:
        """Slurm then takes /tmp without a word to the job."""
        is_(of_node(GOOD, "temporary", scratch="/scratch/$USER"), Verdict.WARNING, "/tmp, not below /scratch/$USER")
        there = {"folder": "/scratch/me/orchestrator-7", "bytes": 9e9, "wrong": ""}
        good = replace(GOOD, began={**GOOD.began, "scratch": there})  # type: ignore[dict-item]
        is_(of_node(good, "temporary", scratch="/scratch/$USER"), Verdict.OK, "/scratch/me")
