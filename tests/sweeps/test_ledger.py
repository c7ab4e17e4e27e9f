"""The ledger: a pure fold, prefix-closed, that survives torn lines and fenced writers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import OwnedError, StorageError
from sweeps.store.files import decode_line, encode_line
from sweeps.store.layout import Layout, SweepFolder
from sweeps.store.ledger import begin_term, fold, read_events, refuse_fenced
from tests.sweeps.disk import fill, small_disk

NAMES = st.sampled_from(["a", "b", "c"])
EVENTS = st.one_of(
    st.builds(lambda n: {"event": "intent", "name": n, "tickets": [["x"], ["y", "z"]]}, NAMES),
    st.builds(lambda n: {"event": "submitted", "name": n, "handles": [{"index": 0}]}, NAMES),
    st.builds(lambda n, i: {"event": "ended", "name": n, "index": i, "detail": "exit 0"}, NAMES, st.integers(0, 1)),
    st.builds(lambda n: {"event": "failed", "fingerprint": n}, NAMES),
    st.just({"event": "of-a-later-version", "x": 1}),
)


@given(st.lists(EVENTS, max_size=20))
def test_the_fold_is_deterministic_and_no_submission_is_known_without_an_intent(events: list[dict[str, Any]]) -> None:
    assert fold(events) == fold(events)
    intended: set[str] = set()
    for length in range(len(events) + 1):
        state = fold(events[:length])
        intended |= {e["name"] for e in events[:length] if e["event"] == "intent"}
        assert set(state.submissions) <= intended


@given(st.dictionaries(st.text(max_size=8), st.one_of(st.integers(), st.text(max_size=20), st.floats(allow_nan=False,
       allow_infinity=False)), max_size=5), st.integers(0, 10**6))
def test_a_line_survives_and_any_damage_is_noticed(fields: dict[str, Any], sequence: int) -> None:
    fields.pop("n", None)
    fields.pop("crc", None)
    line = encode_line(sequence, fields)
    assert decode_line(line) == {**fields, "n": sequence}
    assert decode_line(line[: len(line) // 2]) is None
    assert decode_line(line.rstrip("\n") + line) is None
    middle = len(line) // 2
    altered = line[:middle] + ("0" if line[middle] != "0" else "1") + line[middle + 1 :]
    assert decode_line(altered) is None


def _folder(root: Path) -> SweepFolder:
    return Layout(root).sweep("s")


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    ledger, _ = begin_term(folder)
    ledger.append("intent", name="a", tickets=[["x"]])
    path = folder.ledger / "1.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + '{"event":"intent","na', encoding="utf-8")
    assert set(fold(read_events(folder)).submissions) == {"a"}


@given(st.lists(st.booleans(), min_size=1, max_size=12))
@settings(max_examples=25)
def test_only_what_a_term_wrote_before_its_successor_counts(before: list[bool]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as root:
        folder = _folder(Path(root))
        old, _ = begin_term(folder)
        expected = set()
        fenced = False
        for number, early in enumerate(sorted(before, reverse=True)):
            if not early and not fenced:
                begin_term(folder, takeover=True)[0].close()
                fenced = True
            old.append("intent", name=str(number), tickets=[["x"]])
            if early:
                expected.add(str(number))
        assert set(fold(read_events(folder)).submissions) == expected


def test_a_takeover_without_space_leaves_the_living_controller_alone(tmp_path: Path) -> None:
    with small_disk(tmp_path, 1) as disk:
        folder = _folder(disk)
        living, _ = begin_term(folder)
        ballast = fill(disk)
        with pytest.raises(StorageError):
            begin_term(folder, takeover=True)
        refuse_fenced(folder, living.term)
        assert [p.name for p in folder.ledger.iterdir()] == ["1.jsonl"]
        ballast.unlink()
        begin_term(folder, takeover=True)
        with pytest.raises(OwnedError):
            refuse_fenced(folder, living.term)


def test_a_closed_ledger_takes_no_more_events_and_may_leave_without_releasing(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    ledger, _ = begin_term(folder)
    ledger.close(release=False)
    with pytest.raises(OwnedError, match="is leaving"):
        ledger.append("submitted", name="a", handles=[])
    state = fold(read_events(folder))
    assert not state.released and state.owner is not None and state.owner.alive()
