"""Who owns a sweep: a process, or a controller's Slurm job through all its starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.errors import OwnedError
from sweeps.store.layout import Layout
from sweeps.store.ledger import begin_term, fold, read_events
from sweeps.store.owner import JOB_VARIABLE, Owner, SlurmJob

JOB = SlurmJob(name="s-controller-ab", id="7", restart=0, conf="/etc/slurm.conf")


def on_another_host(job: SlurmJob | None) -> Owner:
    return Owner(host="elsewhere", boot="b", pid=1, start=2, job=job)


def test_a_process_knows_the_controllers_job_it_runs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert Owner.me().job is None, "any other Slurm job is none: it ends without its process's knowledge"
    monkeypatch.setenv(JOB_VARIABLE, JOB.name)
    monkeypatch.setenv("SLURM_CONF", JOB.conf)
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    assert Owner.me().job == JOB
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert Owner.me().job == replace(JOB, restart=2)


def test_an_owner_is_read_as_written_and_without_a_job_from_older_ledgers() -> None:
    owner = on_another_host(JOB)
    assert Owner.read(owner.fields()) == owner
    older = {k: v for k, v in owner.fields().items() if k != "job"}
    assert Owner.read(older) == on_another_host(None)


@pytest.mark.parametrize("later, allowed", [
    (replace(JOB, restart=1), True), (JOB, False), (replace(JOB, restart=-1), False),
    (replace(JOB, name="s-controller-cd", restart=1), False), (None, False),
])
def test_only_a_later_start_of_the_same_job_takes_over_without_asking(
    tmp_path: Path, later: SlurmJob | None, allowed: bool
) -> None:
    folder = Layout(tmp_path).sweep("s")
    begin_term(folder, me=on_another_host(JOB))
    if allowed:
        ledger, _ = begin_term(folder, me=on_another_host(later))
        assert ledger.term == 2
    else:
        with pytest.raises(OwnedError, match=r"controlled by Slurm job 7 .*only that host can tell"):
            begin_term(folder, me=on_another_host(later))


def test_the_job_that_a_submitter_names_later_owns_the_sweep_and_keeps_its_exit_code(tmp_path: Path) -> None:
    folder = Layout(tmp_path).sweep("s")
    submitted = replace(JOB, id="", restart=-1)
    ledger, _ = begin_term(folder, me=on_another_host(submitted))
    ledger.append("owner", owner=on_another_host(replace(submitted, id="7")).fields())
    ledger.close(release=False)
    state = fold(read_events(folder))
    assert state.owner is not None and state.owner.job == replace(JOB, restart=-1, conf=submitted.conf)
    assert not state.released and state.exit_code is None
    ledger, _ = begin_term(folder, me=on_another_host(JOB))
    ledger.close(exit_code=3)
    state = fold(read_events(folder))
    assert state.released and state.exit_code == 3
    begin_term(folder)
    assert fold(read_events(folder)).exit_code is None
