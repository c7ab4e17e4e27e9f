"""Names, shapes and descriptions: what is allowed, and that a description comes back as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.rehearsal.describe import (
    SOCKET_PATH_BYTES,
    Preemption,
    Shape,
    checked_name,
    from_fields,
    slug,
    to_fields,
)
from sweeps.errors import RecordError, UsageError
from sweeps.store.files import read_json, seal
from tests.cluster.rehearsal.samples import described

NAMES = st.text("abcXYZ019._-", min_size=1, max_size=64).filter(lambda n: n not in (".", ".."))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a\n", "ä", "x" * 65, "-$(id)", "a;b", "../up"])
def test_a_name_that_could_leave_its_folder_or_a_command_line_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="1 to 64 letters, digits"):
        checked_name(name)


@given(NAMES)
def test_node_names_are_host_names_and_short_enough_for_sockets(name: str) -> None:
    node = described(checked_name(name), Shape(nodes=64)).nodes[-1]
    assert all(c.isascii() and (c.isalnum() or c == "-") for c in node) and not node.startswith("-")
    longest = f"/tmp/rehearsal-4294967295/0a1b2c3d/spool/{node}/{node}_4294967295.4294967295"
    assert len(longest) <= SOCKET_PATH_BYTES


@given(NAMES, NAMES)
def test_two_rehearsals_never_share_node_names(one: str, other: str) -> None:
    assert one == other or slug(one) != slug(other)


def test_a_node_is_found_by_its_long_and_its_short_name() -> None:
    rehearsal = described("two")
    assert rehearsal.node("n2") == rehearsal.node("two-n2") == "two-n2"
    with pytest.raises(UsageError, match="its nodes: two-n1, two-n2"):
        rehearsal.node("n3")


@pytest.mark.parametrize("wrong", [{"nodes": 0}, {"nodes": 65}, {"cpus": 0}, {"cpus": 257}, {"scratch_mb": 0},
                                   {"min_job_age_s": -1}])
def test_impossible_shapes_are_refused_with_what_is_allowed(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="a rehearsal takes 1 to"):
        Shape(**wrong)


def test_a_description_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    before = described("a.b_C-1", Shape(nodes=3, preemption=Preemption.CANCEL, accounting=False))
    file = tmp_path / "rehearsal.json"
    file.write_text(seal(to_fields(before)))
    assert from_fields(read_json(file)) == before


def test_a_damaged_description_says_what_to_do() -> None:
    fields = to_fields(described())
    del fields["version"]
    with pytest.raises(RecordError, match="remove its folder"):
        from_fields(fields)


def test_clients_get_this_cluster_and_no_variable_of_another_job() -> None:
    inherited = {"PATH": "/bin", "SLURM_CONF": "/etc/other", "SLURM_MEM_PER_NODE": "7", "SBATCH_PARTITION": "x",
                 "SLURMD_NODENAME": "n", "SQUEUE_FORMAT": "%i", "HOME": "/h"}
    assert described().client_environment(inherited) == {
        "PATH": "/bin", "HOME": "/h", "SLURM_CONF": "/tmp/rehearsal-1000/0a1b2c3d/etc/slurm.conf"}
