"""The executor contract, kept by the local executor and by the fake alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.executors.local import LocalExecutor
from cluster.executors.memory import MemoryExecutor
from cluster.job import Executor, JobHandle, JobState
from sweeps.errors import EnvironmentError_
from sweeps.language.stage import StageSpec
from sweeps.store.files import read_json
from sweeps.store.records import read_result
from tests.cluster.jobs import ended, request, until
from tests.workloads.tickets import spec, stage_folder

Make = Callable[[int], Executor]


def fail(stage: StageSpec, attempt: int) -> str:
    """Do in the fake what the toy stage does."""
    return "ValueError" if stage.sections["toy"].values["act"] == "fail" else ""


@pytest.fixture(params=["local", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """slots -> an executor."""
    if request.param == "local":
        return lambda slots: LocalExecutor(tmp_path / "jobs", slots, grace_seconds=0.3)
    return lambda slots: MemoryExecutor(slots, seconds=0.5, fail=fail)


class TestContract:
    """What every executor promises."""

    def test_jobs_run_and_leave_results(self, make: Make, tmp_path: Path) -> None:
        first, second = spec(), spec(salt=1)
        executor = make(2)
        handles = executor.submit(request(tmp_path, [[first], [second, spec(salt=2, inputs=[second])]]))
        assert [(h.submission, h.index) for h in handles] == [("batch-1", 0), ("batch-1", 1)]
        assert executor.find("batch-1") == handles
        assert [r.handle for r in executor.poll(handles[::-1])] == handles[::-1]
        assert [r.detail for r in ended(executor, handles)] == ["exit 0", "exit 0"]
        assert executor.slots_free() == 2
        for stage in (first, second, spec(salt=2, inputs=[second])):
            assert read_result(stage_folder(tmp_path, stage)) is not None

    def test_a_failure_is_an_exit_code_and_a_record(self, make: Make, tmp_path: Path) -> None:
        executor = make(1)
        handles = executor.submit(request(tmp_path, [[spec("fail"), spec()]]))
        assert [r.detail for r in ended(executor, handles)] == ["exit 1"]
        assert read_json(stage_folder(tmp_path, spec("fail")).attempt(1).failure)["class"] == "ValueError"
        assert read_result(stage_folder(tmp_path, spec())) is not None

    def test_slots_are_counted_and_not_exceeded(self, make: Make, tmp_path: Path) -> None:
        executor = make(2)
        first = executor.submit(request(tmp_path, [[spec("wait")]], "one"))
        assert executor.slots_free() == 1
        with pytest.raises(EnvironmentError_, match="1 of 2 slots free"):
            executor.submit(request(tmp_path, [[spec(salt=1)], [spec(salt=2)]], "two"))
        assert executor.find("two") == []
        executor.cancel(first)
        ended(executor, first)

    def test_a_name_is_used_once(self, make: Make, tmp_path: Path) -> None:
        executor = make(4)
        wanted = request(tmp_path, [[spec()]])
        handles = executor.submit(wanted)
        with pytest.raises(EnvironmentError_, match="exists already"):
            executor.submit(wanted)
        ended(executor, handles)

    def test_what_is_not_there(self, make: Make) -> None:
        executor = make(1)
        nobody = JobHandle(submission="none", index=0, job_id="1")
        assert executor.find("none") == []
        assert [r.state for r in executor.poll([nobody])] == [JobState.ENDED]
        assert executor.poll([]) == []
        assert executor.logs(nobody) == {}
        executor.cancel([nobody])

    def test_cancelled_jobs_end_without_a_result(self, make: Make, tmp_path: Path) -> None:
        executor = make(1)
        stage = spec("wait")
        handles = executor.submit(request(tmp_path, [[stage]]))
        until(lambda: executor.poll(handles)[0].state is JobState.RUNNING)
        executor.cancel(handles)
        executor.cancel(handles)
        ended(executor, handles)
        assert read_result(stage_folder(tmp_path, stage)) is None
        assert executor.slots_free() == 1

    def test_logs_lie_in_the_requests_folder(self, make: Make, tmp_path: Path) -> None:
        executor = make(1)
        handles = executor.submit(request(tmp_path, [[spec()]]))
        logs = executor.logs(handles[0])
        assert {k: p.parent for k, p in logs.items()} == dict.fromkeys(("out", "err"), tmp_path / "jobs" / "batch-1")
        ended(executor, handles)
