"""The text that is submitted, whole; and what a profile may put into it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import registry
from cluster.executors import _slurm_script
from cluster.executors._slurm_job import ranks, scratch
from cluster.job import JobRequest
from cluster.profiles import SBATCH_KEYS, SlurmProfile, slurm_profile
from sweeps.errors import SweepFileError, UsageError

RECORDS = Path(__file__).parent / "records"
REQUEST = JobRequest(name="smoke-t1-0001", tickets=("/store/t/0.json", "/store/t/1.json"), cores=8, memory_mb=64_000,
                     folder="/store/sweeps/smoke/submissions/it's smoke-t1-0001", ranks=8, environment={"RUN": "x"})
FULL = {
    "partition": "gpu,gpu_short", "account": "my_project", "qos": "normal", "constraint": "a100&nvlink", "nodes": 2,
    "gpus_per_node": 4, "gpu_type": "a100", "cpus_per_task": 8, "memory_mb": 64_000, "time_limit_min": 240,
    "lead_s": 180, "modules": ["cuda/12.4", "apptainer"], "setup": ["export NCCL_DEBUG=WARN"],
    "container": "/shared/images/orchestrator.sif", "container_options": ["--nv", "--bind=/shared data"],
    "environment": ["HF_HOME"], "scratch": "/scratch/$USER",
    "sbatch": {"reservation": "night shift", "exclusive": True},
}


def profile(**options: object) -> SlurmProfile:
    """A profile."""
    return slurm_profile(options, "test")


def text(options: dict[str, object]) -> str:
    """The script, with the interpreter's place left out."""
    return _slurm_script.script(REQUEST, profile(**options)).replace(shlex.quote(sys.executable), "PYTHON") + "\n"


@pytest.mark.parametrize("name, options", [("plain", {}), ("full", FULL)])
def test_the_whole_script_is_as_recorded(name: str, options: dict[str, object]) -> None:
    assert text(options) == (RECORDS / f"{name}.sh").read_text(encoding="utf-8")


@pytest.mark.parametrize("options", [{}, FULL])
def test_the_script_is_a_shell_program(options: dict[str, object]) -> None:
    done = subprocess.run(["bash", "-n"], input=text(options), text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_activations_are_asked_for_where_there_is_no_gpu_to_hold_them() -> None:
    wanted = REQUEST.model_copy(update={"memory_mb": 8_000, "activations_mb": 1_000})
    for options, mem in (({"nodes": 2}, 4_500), ({"nodes": 2, "gpus_per_node": 4}, 4_000), ({"memory_mb": 7}, 7)):
        assert f"#SBATCH --mem={mem}M" in _slurm_script.script(wanted, profile(**options)).splitlines()


def test_nodes_that_failed_are_avoided_beside_those_that_the_profile_excludes() -> None:
    wanted = REQUEST.model_copy(update={"exclude": ("n7", "n8")})
    assert "--exclude=n7,n8" in _slurm_script.script(wanted, profile())
    assert "--exclude=n1,n7,n8" in _slurm_script.script(wanted, profile(sbatch={"exclude": "n1"})).replace("'", "")
    with pytest.raises(UsageError, match="no node has such a name"):
        _slurm_script.script(REQUEST.model_copy(update={"exclude": ("n7\n#SBATCH --wrap=x",)}), profile())


def test_no_value_of_the_environment_is_in_the_script() -> None:
    wanted = REQUEST.model_copy(update={"environment": {"API_TOKEN": "hunter2"}})
    assert "hunter2" not in _slurm_script.script(wanted, profile())
    assert "API_TOKEN" in _slurm_script.script(wanted, profile())


def test_the_environment_is_an_allow_list() -> None:
    given = {"PATH": "/bin", "API_TOKEN": "secret", "LC_ALL": "C", "HF_HOME": "/hf", "SLURM_JOB_ID": "1"}
    found = _slurm_script.environment(REQUEST, profile(environment=["HF_HOME"]), given)
    assert found == {"PATH": "/bin", "LC_ALL": "C", "HF_HOME": "/hf", "OMP_NUM_THREADS": "1", "RUN": "x"}


def test_a_rank_has_a_thread_for_each_of_its_cores() -> None:
    wanted = REQUEST.model_copy(update={"cores": 8, "ranks": 4})
    assert _slurm_script.environment(wanted, profile(), {})["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize("name", ["rehearsal", "gpu", "apptainer"])
def test_shipped_profiles_are_valid_and_commented(name: str) -> None:
    path = registry.profiles()[name]
    assert isinstance(registry.load(name).options, SlurmProfile)
    assert path.read_text().count("#") >= 4


@pytest.mark.parametrize("options, message", [
    ({"partitoin": "gpu"}, "partitoin: unknown key.*Did you mean 'partition'"),
    ({"limits": {"gpu_hour": 3}}, "limits.gpu_hour: unknown key.*Did you mean 'gpu_hours'"),
    ({"sbatch": {"reservatoin": "x"}}, "sbatch.reservatoin = 'x'.*may not be set.*Did you mean 'reservation'"),
    ({"sbatch": {"comment": "a\nrm -rf ~"}}, r"character U\+000A is not allowed"),
    ({"sbatch": {"comment": "a\u2028b"}}, r"character U\+2028"),
    ({"sbatch": {"nice": False}}, "sbatch.nice = false: give a value, or leave"),
    ({"sbatch": {"nice": True}}, "sbatch.nice = true: give a value, or leave"),
    ({"sbatch": {"exclusive": False}}, "sbatch.exclusive = false: give a value or true, or leave"),
    ({"sbatch": {"comment": ["a"]}}, "sbatch.comment.*give a value"),
    ({"sbatch": {"comment": ""}}, "sbatch.comment = '': give a value"),
    ({"sbatch": "x"}, "sbatch = 'x': must be a mapping"),
    ({"partition": "gpu; rm"}, "partition = 'gpu; rm': write one name of 1 to 64 letters"),
    ({"partition": "gpu\n"}, "partition = "), ({"qos": "x" * 65}, "qos = "),
    ({"account": "-x y"}, "account = "), ({"constraint": "a b"}, "constraint = "),
    ({"modules": ["a; rm"]}, "modules.0 = "),
    ({"setup": ["a\nb"]}, r"U\+000A"), ({"setup": ["a\rb"]}, r"U\+000D"),
    ({"setup": "a"}, "setup = 'a': must be a list"),
    ({"container": "relative.sif"}, "container = 'relative.sif': write an absolute path"),
    ({"container": "/a\nb"}, r"U\+000A"), ({"environment": ["A B"]}, "environment.0"),
    ({"environment": ["A=b"]}, "without a value"), ({"scratch": "/a$(b)"}, "scratch = "),
    ({"scratch": '/a"b'}, "scratch = "),
    ({"slots": 0}, "slots = 0"), ({"time_limit_min": 0}, "time_limit_min = 0"), ({"nodes": 0}, "nodes = 0"),
    ({"time_limit_min": 1, "lead_s": 60}, "lead_s = 60.*before it begins"),
    ({"gpu_type": "a100"}, "gpu_type = 'a100'.*without GPUs"),
    ({"rehearsal": "a", "slurm_conf": "/b"}, "slurm_conf = '/b'.*leave one of the two out"),
])
def test_what_a_profile_may_not_say(options: dict[str, object], message: str) -> None:
    with pytest.raises(SweepFileError, match=f"(?s)^test: .*{message}") as error:
        profile(**options)
    assert len(error.value.problems) == 1


def test_all_problems_of_a_profile_are_told_at_once_each_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("executor: slurm\npartitoin: gpu\naccount: a b\nsbatch: {hold: 1, nice: true}\nlead_s: soon\n"
                    "limits:\n  gpu_hour: 3\n")
    with pytest.raises(SweepFileError) as error:
        registry.load(str(file))
    assert [(p.where, p.key, p.given) for p in error.value.problems] == [
        (f"{file}:2", "partitoin", ""), (f"{file}:3", "account", "'a b'"), (f"{file}:4", "sbatch.hold", "1"),
        (f"{file}:4", "sbatch.nice", "true"), (f"{file}:5", "lead_s", "'soon'"), (f"{file}:7", "limits.gpu_hour", "")]


def test_problems_between_keys_are_told_at_once() -> None:
    with pytest.raises(SweepFileError) as error:
        profile(lead_s=60, time_limit_min=1, gpu_type="a100")
    assert [p.key for p in error.value.problems] == ["lead_s", "gpu_type"]


@pytest.mark.parametrize("key", [
    "array", "chdir", "job-name", "output", "error", "export", "export-file", "dependency", "hold", "signal", "requeue",
    "no-requeue", "wrap", "test-only", "wait", "time", "uid", "get-user-env", "clusters", "batch", "parsable",
])
def test_options_that_would_break_the_bookkeeping_cannot_be_set(key: str) -> None:
    assert key not in SBATCH_KEYS
    with pytest.raises(UsageError, match="may not be set here"):
        profile(sbatch={key: "x"})


@pytest.mark.parametrize("ranks_, options, expected", [
    (1, {}, (1, 1)), (4, {}, (1, 4)), (4, {"nodes": 2}, (2, 2)), (1, {"nodes": 4}, (1, 1)),
    (8, {"nodes": 2, "gpus_per_node": 4}, (2, 4)),
])
def test_ranks_are_spread_evenly(ranks_: int, options: dict[str, object], expected: tuple[int, int]) -> None:
    assert _slurm_script.spread(ranks_, profile(**options)) == expected


@pytest.mark.parametrize("ranks_, options, message", [
    (3, {"nodes": 2}, "use a multiple of 2"), (8, {"gpus_per_node": 4}, "gpus_per_node = 4"),
])
def test_ranks_that_do_not_fit_are_refused(ranks_: int, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _slurm_script.spread(ranks_, profile(**options))


def test_a_job_of_one_process_has_no_process_group() -> None:
    assert ranks({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}) == {}


def test_ports_of_jobs_differ_and_leave_outgoing_connections_alone() -> None:
    task = {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1"}
    ports = [int(ranks({**task, "SLURM_JOB_ID": str(job)})["MASTER_PORT"]) for job in range(67_000_000, 67_000_100)]
    assert len(set(ports)) == 100 and min(ports) >= 20_000 and max(ports) < 32_768


def test_only_the_jobs_own_scratch_folder_is_removed() -> None:
    assert scratch({"TMPDIR": "/scratch/me/orchestrator-7", "SLURM_JOB_ID": "7"}) == Path("/scratch/me/orchestrator-7")
    assert scratch({"TMPDIR": "/scratch/me", "SLURM_JOB_ID": "7"}) is None
    assert scratch({"TMPDIR": "/scratch/me/orchestrator-8", "SLURM_JOB_ID": "7"}) is None
    assert scratch({}) is None
