"""Writing facts where there is no space: whole or not at all, and a message that says where, why and what to do."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps.errors import NewerRecordError, PausedError, StorageError
from sweeps.store import claims, files, records, space
from sweeps.store.layout import Layout
from tests.sweeps.disk import fill, limited, small_disk


def refusing(number: int, after_bytes: int = 0) -> Callable[[int, bytes], int]:
    """An os.write that takes `after_bytes` and then fails as a full disk does."""
    left = after_bytes
    real = os.write

    def write(handle: int, data: bytes) -> int:
        nonlocal left
        if not left:
            raise OSError(number, os.strerror(number))
        taken = real(handle, data[:left])
        left -= taken
        return taken

    return write


@pytest.mark.parametrize(("number", "said"), [
    (errno.ENOSPC, "no space is left on"), (errno.EDQUOT, "quota on"), (errno.EFBIG, "ulimit -f unlimited"),
])
def test_want_of_space_is_a_pause_that_names_file_filesystem_and_remedy(
    tmp_path: Path, number: int, said: str
) -> None:
    path = tmp_path / "one" / "result.json"
    with pytest.raises(StorageError) as caught, space.writing(path):
        raise OSError(number, os.strerror(number))
    text = str(caught.value)
    assert str(path) in text and said in text and "free)" in text and "run the same command again" in text
    assert isinstance(caught.value, PausedError) and caught.value.exit_code == 6
    assert str(pickle.loads(pickle.dumps(caught.value))) == text, "it crosses to other ranks"


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), space.writing(tmp_path):
        raise PermissionError(errno.EACCES, "no")
    assert space.cause_of(ValueError("loss of space in the text"), tmp_path) is None
    assert space.cause_of(OSError(errno.EIO, "disk broke"), tmp_path / "not there yet") is None


def test_the_cause_is_found_through_a_chain_and_in_the_text_of_foreign_writers(tmp_path: Path) -> None:
    wrapped = RuntimeError("could not save")
    wrapped.__cause__ = OSError(errno.ENOSPC, "full", str(tmp_path / "weights"))
    assert str(tmp_path / "weights") in str(space.cause_of(wrapped, tmp_path))
    foreign = ValueError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert "no space is left" in str(space.cause_of(foreign, tmp_path))
    loop = RuntimeError("a"), RuntimeError("b")
    loop[0].__cause__, loop[1].__cause__ = loop[1], loop[0]
    assert space.cause_of(loop[0], tmp_path) is None


def test_the_mount_point_may_have_a_space_in_its_name(tmp_path: Path) -> None:
    with small_disk(tmp_path / "a disk", 1) as disk:
        said = space.filesystem(disk / "not" / "there")
        assert said.startswith(f"{disk} (small, tmpfs; 1.0 MB and ")
        assert not space.filesystem(tmp_path).startswith(str(disk))


def test_a_line_that_does_not_fit_leaves_no_half_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines.jsonl"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    lines = [files.encode_line(n, {"event": "x" * 40}) for n in range(3)]
    files.append(handle, path, lines[0], durable=True)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refusing(errno.ENOSPC, after_bytes=17))
        with pytest.raises(StorageError, match=r"lines\.jsonl"):
            files.append(handle, path, lines[1])
    assert path.read_text() == lines[0]
    files.append(handle, path, lines[1])
    assert [line["n"] for line in files.read_lines(path) if line] == [0, 1]
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refusing(errno.EDQUOT, after_bytes=10**6))
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EDQUOT, "quota")))
        with pytest.raises(StorageError, match="quota"):
            files.append(handle, path, lines[2], durable=True)
    os.close(handle)
    assert path.read_text() == lines[0] + lines[1]


def test_a_short_write_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = tmp_path / "lines", os.write
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    monkeypatch.setattr(os, "write", lambda h, data: real(h, data[:3]))
    files.append(handle, path, "a long line\n")
    os.close(handle)
    assert path.read_text() == "a long line\n"


def test_a_full_disk_leaves_every_file_whole(tmp_path: Path) -> None:
    """Every kind of writing on a disk without a byte left, and again when there is space."""
    with small_disk(tmp_path / "disk", 1) as disk:
        layout = Layout(disk)
        stage = layout.stage("toy", "f")
        attempt = records.open_attempt(stage, {})
        attempt.row(tokens=1, kind="train", values={"loss": 1.0})
        files.replace(disk / "plan.json", "{}")
        ballast = fill(disk)
        with pytest.raises(StorageError, match=rf"{disk} \(small, tmpfs; 0\.0 MB"):
            for n in range(2_000):  # the last page of the file still takes some rows
                attempt.row(tokens=2 + n, kind="train", values={"loss": 1.0})
        assert all(line is not None for line in files.read_lines(attempt.folder.metrics))
        rows = list(records.own_rows(attempt.folder))
        actions: list[Callable[[], object]] = [
            lambda: files.replace(disk / "plan.json", "x" * 9_000), lambda: files.create(disk / "new", "x" * 9_000),
            lambda: claims.take(stage, sweep="s", term=1, submission="b", after=0), lambda: attempt.commit({}),
        ]
        for action in actions:
            with pytest.raises(StorageError):
                action()
        assert (disk / "plan.json").read_text() == "{}" and not stage.result.exists()
        assert not [p for p in disk.rglob(".*")], "no temporary file is left"
        ballast.unlink()
        attempt.row(tokens=9_999, kind="train", values={"loss": 2.0})
        assert [r.tokens for r in records.own_rows(attempt.folder)] == [*(r.tokens for r in rows), 9_999]
        assert attempt.commit({}) and not records.damage_of_result(stage)
        attempt.close()


def test_a_file_size_limit_leaves_every_file_whole(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from sweeps.errors import StorageError
from sweeps.store import files, records
from sweeps.store.layout import Layout
attempt = records.open_attempt(Layout(Path(sys.argv[1])).stage("toy", "f"), {})
written = 0
try:
    while written < 1000:
        attempt.row(tokens=written, kind="train", values={"loss": 1.0})
        written += 1
except StorageError as full:
    print(written, full, sep="|")
try:
    files.create(Path(sys.argv[1]) / "large", "x" * 5000)
except StorageError as full:
    print("create", full, sep="|")
"""
    done = limited(code, [tmp_path], 4_000)
    first, second = done.stdout.splitlines()
    written, said = first.split("|")
    attempt = Layout(tmp_path).stage("toy", "f").attempt(1)
    assert "metrics.jsonl would grow beyond the file-size limit of this process, 0.0 MB" in said, done.stderr
    assert len(list(records.own_rows(attempt))) == int(written) > 10
    assert attempt.metrics.read_text().endswith("\n") and attempt.metrics.stat().st_size <= 4_000
    assert "large would grow" in second and not (tmp_path / "large").exists()


@pytest.mark.parametrize(("text", "wrong"), [
    ("[1]", ValueError), ("3", ValueError), ("{", ValueError), ('{"schema_version":2}', NewerRecordError),
    ('{"schema_version":1.5}', NewerRecordError), ('{"a":1,"crc":"00000000"}', ValueError),
])
def test_what_is_no_record_of_this_release_is_refused(tmp_path: Path, text: str, wrong: type[Exception]) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(wrong):
        files.read_json(path)


def test_a_sealed_record_is_read_and_any_edit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    fields = {"schema_version": 1, "scores": {"loss": 3.25}}
    text = files.seal(fields)
    path.write_text(text)
    assert files.read_json(path) == fields
    unnoticed = []
    for at in range(len(text)):
        path.write_text(text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :])
        try:
            found = files.read_json(path)
        except (ValueError, NewerRecordError):
            continue
        assert found.items() >= fields.items()
        unnoticed.append(text[at])
    assert "".join(unnoticed) == "crc", "only the name of the checksum itself, which changes no fact"
    path.write_text('{"a":1}')
    assert files.read_json(path) == {"a": 1}, "a record of version 0 states no version and has no checksum"
