"""Jobs on a full disk or at a file-size limit: nothing failed, exit 6, and the same ticket goes on with space."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sweeps.language.stage import Section, StageSpec
from sweeps.store import claims, files, records
from tests.sweeps.disk import fill, limited, small_disk
from tests.workloads.test_run import run
from tests.workloads.tickets import make_ticket, spec, stage_folder, write_ticket

LIMIT = 60_000
HOG = '''
from sweeps.language.plugins import Science, StageKind


class HogScience(Science):
    act: str


def python(context):
    (context.attempt.artifacts / "large").write_bytes(bytes(1_000_000))


def opaque(context):
    try:
        python(context)
    except OSError:
        pass
    else:
        return
    raise RuntimeError("basic_ios::clear: iostream error")


def rust(context):
    import numpy
    from safetensors.numpy import save_file

    save_file({"x": numpy.zeros(1_000_000, numpy.uint8)}, str(context.attempt.artifacts / "large"))


def rows(context):
    for n in range(5_000):
        context.attempt.row(tokens=n, kind="train", values={"loss": 1.0})


def run(context):
    globals()[context.science["hog"].act](context)
    return {}


PLUGIN = StageKind(science=HogScience, revision=1, implementation=":run")
'''
JOB = "import sys\nfrom workloads.run import main\nsys.exit(main(sys.argv[1:]))\n"
ACTS = ("python", "opaque", "rust", "rows")


def hog(act: str) -> StageSpec:
    """A stage that needs about a megabyte."""
    return StageSpec(kind="hog", revisions={"stage:hog": 1}, sections={
        "hog": Section(plugin="stage:hog", values={"act": act}, changed={"act": act})})


def ticket(root: Path, stages: list[StageSpec]) -> Path:
    """A ticket of these stages, with both plug-ins."""
    made = make_ticket(root, stages)
    plugin = root / "plugins" / "hog.py"
    plugin.write_text(HOG)
    return write_ticket(made.model_copy(update={"plugins": (*made.plugins, str(plugin))}))


def job(path: Path) -> subprocess.CompletedProcess[str]:
    """Run a ticket as a job does."""
    return subprocess.run([sys.executable, "-c", JOB, str(path)], capture_output=True, text=True, timeout=110)


@pytest.mark.parametrize("act", ACTS)
def test_a_file_size_limit_pauses_the_job_and_counts_no_failure(tmp_path: Path, act: str) -> None:
    stage, later = hog(act), spec(salt=4)
    path = ticket(tmp_path, [stage, later])
    done = limited(JOB, [path], LIMIT)
    folder = stage_folder(tmp_path, stage)
    assert done.returncode == 6, done.stderr
    said = files.read_json(folder.attempt(1).failure)
    assert said["class"] == "StorageError"
    assert "file-size limit of this process, 0.1 MB" in said["message"] and "(`ulimit -f unlimited`)" in said["message"]
    assert said["message"] in done.stderr and "failed" not in done.stderr
    assert records.read_result(folder) is None
    assert not stage_folder(tmp_path, later).attempts.exists(), "the next stage would only meet the same"
    again = job(path)
    assert again.returncode == 0, again.stderr
    result = records.read_result(folder)
    assert result is not None and result.attempt == 2


@pytest.mark.parametrize("act", ACTS)
def test_a_full_disk_pauses_the_job_and_it_goes_on_with_space(tmp_path: Path, act: str) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        stage = hog(act)
        path = ticket(disk, [stage])
        ballast = fill(disk, leave_bytes=80_000)
        done = job(path)
        folder = stage_folder(disk, stage)
        assert done.returncode == 6, done.stderr
        assert f"no space is left on {disk} (small, tmpfs; 0." in done.stderr
        if folder.attempt(1).failure.exists():
            assert files.read_json(folder.attempt(1).failure)["class"] == "StorageError"
        ballast.unlink()
        again = job(path)
        assert again.returncode == 0, again.stderr
        assert not records.damage_of_result(folder)


def test_a_disk_without_a_byte_pauses_the_job_before_it_begins(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        path = ticket(disk, [spec()])
        fill(disk)
        done = job(path)
        assert done.returncode == 6 and "no space is left" in done.stderr, done.stderr


def test_logs_on_a_full_disk_harm_nothing(tmp_path: Path) -> None:
    path = ticket(tmp_path, [spec()])
    code = f"print('a line that stays in the buffer')\n{JOB}"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code, str(path)], stdout=full, stderr=full, timeout=110,
                              env={**os.environ, "PYTHONUNBUFFERED": ""})
    assert done.returncode == 0
    assert records.read_result(stage_folder(tmp_path, spec())) is not None


def test_a_running_job_that_is_superseded_leaves_no_further_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(records, "CLAIM_SECONDS", 0.0)
    caplog.set_level("INFO")
    stage = spec("wait")
    made = make_ticket(tmp_path, [stage, spec(salt=8)])
    folder = stage_folder(tmp_path, stage)

    def take_over() -> None:
        while not list(records.own_rows(folder.attempt(1))):
            time.sleep(0.01)
        claims.take(folder, sweep="t", term=1, submission="other", after=1)

    other = threading.Thread(target=take_over, daemon=True)
    other.start()
    assert run(made) == 0
    other.join()
    assert "left: claim 2 has superseded its claim 1" in caplog.text
    assert not (folder.attempt(1).path / "stopped.json").exists()
    assert records.read_result(folder) is None
    assert records.read_result(stage_folder(tmp_path, spec(salt=8))) is not None, "the others are its own"
