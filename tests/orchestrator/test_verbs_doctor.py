"""`doctor` as a person or a script meets it: this machine, a cluster that is not there, tables and JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.doctor.finding import failed, ok
from orchestrator.commands.doctor import lines
from tests.orchestrator.verb_stores import answer, called

Captured = pytest.CaptureFixture[str]


def test_this_machine_is_good_and_nothing_is_left(tmp_path: Path, capsys: Captured) -> None:
    said = answer(capsys, "doctor", "--root", tmp_path / "store")
    assert said["cluster"] == "local"
    found = {f["check"]: f["verdict"] for f in said["findings"]}
    assert found.pop("space") in ("ok", "warning") and found.pop("temporary") in ("ok", "warning")
    assert found == dict.fromkeys(("test job", "store", "python", "versions"), "ok")
    assert not any(tmp_path.iterdir())


def test_a_cluster_without_slurm_fails_with_what_to_do(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, out, _ = called(capsys, "doctor", "--cluster", "gpu", "--root", tmp_path / "store")
    assert code == 4 and "clients      FAILED   without an answer: sbatch" in out
    assert "controller   FAILED   scontrol" in out and "2 failed" in out
    assert "nothing else was checked" in " ".join(out.split())
    assert max(map(len, out.replace(str(tmp_path), "/t").splitlines())) <= 80


def test_nothing_is_made_up_for_executors_that_use_no_machine(tmp_path: Path, capsys: Captured) -> None:
    code, _, err = called(capsys, "doctor", "--cluster", "memory", "--root", tmp_path / "store")
    assert code == 2 and "memory, uses no machine" in err and not (tmp_path / "store").exists()


def test_a_profile_that_is_wrong_is_refused_before_anything_is_asked(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "mine.yaml").write_text("executor: slurm\npartitoin: x\n")
    code, _, err = called(capsys, "doctor", "--cluster", tmp_path / "mine.yaml", "--root", tmp_path / "store")
    assert code == 2 and "mine.yaml:2: partitoin: unknown key" in err and not (tmp_path / "store").exists()


def test_a_finding_fits_a_terminal_of_80_columns() -> None:
    bad = list(lines(failed("shared disk", "seen " * 40, "means " * 20, "fix " * 30)))
    assert max(map(len, bad)) <= 80
    assert [line[13:19].strip() for line in bad if line[13:22].strip()] == ["FAILED", "means", "fix"]
    assert list(lines(ok("clock", "fine", "not shown"))) == ["clock        ok       fine"]
