"""Folders, links and ports: nothing of anybody else is touched, and two `up` never meet."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster.rehearsal import places as place
from cluster.rehearsal.describe import FILE, Shape
from sweeps.errors import EnvironmentError_, UsageError

QUIET = Shape(accounting=False)


@pytest.fixture(autouse=True)
def _some_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Describing a cluster asks the installed Slurm for its release; these tests need none."""
    monkeypatch.setattr(place, "slurm_version", lambda: "22.05.8")


def test_a_port_that_is_bound_or_taken_is_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        bound = holder.getsockname()[1]
        monkeypatch.setattr(place, "PORTS", range(bound, bound + 1))
        with pytest.raises(EnvironmentError_, match="1 free ports were asked for, 0 of"):
            place.free_ports(1, [])
    assert place.free_ports(1, []) == (bound,)
    with pytest.raises(EnvironmentError_, match="ask for fewer nodes"):
        place.free_ports(1, [bound])


def test_rehearsals_that_are_described_at_once_share_no_port(places: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: place.reserve(f"r{i}", Shape(nodes=8), None), range(8)))
    ports = [port for rehearsal in made for port in rehearsal.ports.values()]
    assert len(set(ports)) == len(ports) == 8 * 10
    assert [r.name for r in place.rehearsals()] == [f"r{i}" for i in range(8)]


def test_the_ports_of_a_rehearsal_whose_daemons_were_killed_stay_its_own(
    places: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = place.reserve("first", QUIET, None)
    ports = [first.controller_port, first.accounting_port, *first.node_ports]
    monkeypatch.setattr(place, "PORTS", range(min(ports), max(ports) + 1))
    with pytest.raises(EnvironmentError_, match="free ports"):
        place.reserve("second", QUIET, None)


@pytest.mark.parametrize("folder", ["deep/" * 40 + "end", "with space", "hash # and % and \"quotes\"", "ü", "-n"])
def test_whatever_a_folder_is_called_sockets_and_configuration_get_a_short_plain_path(
    places: Path, tmp_path: Path, folder: str,
) -> None:
    made = place.reserve("odd", QUIET, tmp_path / folder)
    assert made.folder == tmp_path / folder and made.home.resolve() == made.folder
    assert len(str(made.home)) < 40 and str(made.home).replace("/", "").replace("-", "").replace("_", "").isalnum()
    place.forget(made, keep=False)
    assert not made.folder.exists() and not made.home.is_symlink()


def test_a_base_too_long_for_sockets_is_refused_with_the_limit(
    places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(place.VARIABLE, str(tmp_path / ("x" * 60)))
    with pytest.raises(EnvironmentError_, match="Linux takes 107; name a shorter"):
        place.reserve("r", QUIET, None)


def test_a_path_beyond_what_slurm_takes_is_refused(places: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="may have at most 924"):
        place.reserve("r", QUIET, tmp_path / "/".join(["x" * 100] * 9))


def test_a_folder_with_something_else_inside_is_left_alone(places: Path, tmp_path: Path) -> None:
    precious = tmp_path / "thesis" / "chapter.tex"
    precious.parent.mkdir()
    precious.write_text("words")
    with pytest.raises(UsageError, match="holds something that is no rehearsal"):
        place.reserve("r", QUIET, precious.parent)
    assert precious.read_text() == "words"


def test_a_folder_of_another_rehearsal_is_left_alone(places: Path, tmp_path: Path) -> None:
    place.reserve("one", QUIET, tmp_path / "f")
    with pytest.raises(UsageError, match="belongs to rehearsal one"):
        place.reserve("two", QUIET, tmp_path / "f")


def test_what_down_keep_left_is_emptied_by_the_next_up(places: Path) -> None:
    made = place.reserve("r", QUIET, None)
    (made.folder / "log" / "old.log").write_text("old")
    place.forget(made, keep=True)
    assert (made.folder / "log" / "old.log").exists() and place.rehearsals() == []
    place.reserve("r", QUIET, None)
    assert not (made.folder / "log" / "old.log").exists()


def test_a_base_that_others_can_write_is_refused(places: Path) -> None:
    places.chmod(0o777)
    with pytest.raises(EnvironmentError_, match="nobody else may write"):
        place.base()


def test_a_base_that_is_a_link_is_refused(places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = places / "link"
    link.symlink_to(tmp_path)
    monkeypatch.setenv(place.VARIABLE, str(link))
    with pytest.raises(EnvironmentError_, match="must be a folder that is yours"):
        place.base()


def test_an_unknown_rehearsal_is_answered_with_those_there_are_and_how_to_start_it(places: Path) -> None:
    place.reserve("one", QUIET, None)
    with pytest.raises(EnvironmentError_, match=r"no rehearsal 'two' .*there are: one.*up --name two"):
        place.find("two")


def test_a_damaged_description_names_its_file(places: Path) -> None:
    made = place.reserve("one", QUIET, None)
    (made.folder / FILE).write_text("{")
    with pytest.raises(EnvironmentError_, match=FILE):
        place.rehearsals()


def test_a_lock_that_is_held_ends_in_a_message(places: Path) -> None:
    with place.locked("r", timeout_s=0), pytest.raises(EnvironmentError_, match="another command has been busy"), \
            place.locked("r", timeout_s=0.1):
        pass
