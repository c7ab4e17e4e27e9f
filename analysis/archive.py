"""A folder as one file (.tar.zst, .tar.gz, .tar.xz) with a manifest, the same bytes for the same files; and back.

What comes back is believed in nothing: a member is a plain file that the manifest lists, with its size and SHA-256, at
a path below the folder. Anything else, and any damage, is an error.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import lzma
import os
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from sweeps.errors import RecordError, UsageError
from sweeps.store import files
from sweeps.store.integrity import MANIFEST, manifest_of
from sweeps.store.space import see_room, writing

_CHUNK = 1 << 20
_COMPRESSED = 1024
"""Compressed bytes that zstd is given at once: they may become 32 MB, so that a bomb does not fill the memory."""
_MOST_MANIFEST = 1 << 28
_MOST_PADDING = 1 << 20
"""Bytes behind the last member; tar itself pads to 10 kB."""
_NAMES = (None, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL)
"""What an operating system says of names that `pack` does not write; None: a reader's own complaint."""
_DAMAGE = (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, OSError, ValueError)


class _Unzstd(io.RawIOBase):
    """The plain bytes of one zstd frame; a frame without its end is an error, which zstandard's own reader is not."""

    def __init__(self, raw: IO[bytes]) -> None:
        import zstandard

        self._raw, self._frame = raw, zstandard.ZstdDecompressor().decompressobj()
        self._error, self._ready = zstandard.ZstdError, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            data = self._raw.read(_COMPRESSED)
            if self._frame.eof:
                if data or self._frame.unused_data:
                    raise ValueError("something follows its end")
                return 0
            if not data:
                raise EOFError("it ends too early")
            try:
                self._ready = self._frame.decompress(data)
            except self._error as error:
                raise ValueError(str(error)) from error
        taken, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


def _zstd(raw: IO[bytes]) -> IO[bytes]:
    import zstandard

    made = zstandard.ZstdCompressor(level=10, write_checksum=True).stream_writer(raw, closefd=False)
    return cast("IO[bytes]", made)


def _gz(raw: IO[bytes]) -> IO[bytes]:
    return cast("IO[bytes]", gzip.GzipFile("", "wb", 9, raw, mtime=0))


def _xz(raw: IO[bytes]) -> IO[bytes]:
    return lzma.LZMAFile(raw, "wb", preset=6)  # noqa: SIM115 - whoever asks for it closes it


def _unxz(raw: IO[bytes]) -> IO[bytes]:
    return lzma.LZMAFile(raw)  # noqa: SIM115 - as above


_FORMS: Mapping[str, tuple[Callable[[IO[bytes]], IO[bytes]], Callable[[IO[bytes]], IO[bytes]]]] = {
    ".tar.zst": (_zstd, lambda raw: cast("IO[bytes]", io.BufferedReader(_Unzstd(raw), _CHUNK))),
    ".tar.gz": (_gz, lambda raw: cast("IO[bytes]", gzip.GzipFile(fileobj=raw, mode="rb"))),
    ".tar.xz": (_xz, _unxz),
}
SUFFIXES = tuple(_FORMS)


def is_archive(path: Path) -> bool:
    """True of a name that ends as a bundle's does."""
    return path.name.endswith(SUFFIXES)


def _form(path: Path) -> tuple[Callable[[IO[bytes]], IO[bytes]], Callable[[IO[bytes]], IO[bytes]]]:
    for suffix, form in _FORMS.items():
        if path.name.endswith(suffix):
            return form
    raise UsageError(f"{path}: a bundle's name ends in {', '.join(SUFFIXES)}")


# -- folder -> file ----------------------------------------------------------------------------------------------------


def pack(folder: Path, out: Path, about: Mapping[str, Any]) -> None:
    """Write every file of a folder into `out`, the manifest first; `about`: what else the manifest states.

    The bytes depend on the files' paths and contents alone (and on the compressor's version): no time, owner or mode.

    Raises:
        UsageError: `out` has no known suffix.
        StorageError: there is no space.
    """
    opened, listed = _form(out)[0], manifest_of(folder)
    manifest = files.seal({"schema_version": files.SCHEMA_VERSION, **about, "files": listed})
    out.parent.mkdir(parents=True, exist_ok=True)
    with writing(out):
        handle, name = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
        try:
            with os.fdopen(handle, "wb") as raw:
                with opened(raw) as stream, tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                    _add(tar, MANIFEST, io.BytesIO(manifest.encode()), len(manifest.encode()))
                    for path, stated in listed.items():
                        with (folder / path).open("rb") as data:
                            _add(tar, path, data, int(stated["size"]))
                raw.flush()
                os.fsync(raw.fileno())
            Path(name).replace(out)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _add(tar: tarfile.TarFile, name: str, data: IO[bytes], size: int) -> None:
    member = tarfile.TarInfo(PurePosixPath(name).as_posix())
    member.size, member.mode = size, 0o644
    tar.addfile(member, data)


# -- file -> folder ----------------------------------------------------------------------------------------------------


def unpack(archive: Path, folder: Path) -> dict[str, Any]:
    """Write the members of an archive below an empty folder, each verified; return the manifest.

    Raises:
        UsageError: there is no such file, or it has no known suffix.
        RecordError: it is damaged, cut short, or holds what its manifest does not list.
        EnvironmentError_: its files do not fit on the disk.
    """
    opened = _form(archive)[1]
    try:
        raw = archive.open("rb")
    except OSError as error:
        raise UsageError(f"{archive}: {error.strerror}; name a bundle that `orchestrator export` made") from error
    with raw, _told(archive), opened(raw) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        members = iter(tar)
        manifest = _manifest(archive, tar, next(members, None))
        missing = dict(manifest["files"])
        see_room(folder, sum(stated["size"] for stated in missing.values()), f"unpacking {archive}")
        for member in members:
            stated = missing.pop(member.name, None)
            if stated is None or not member.isreg() or member.size != stated["size"]:
                raise RecordError(f"{archive} holds {member.name!r}, which is not as its manifest lists it (plain "
                                  "files of the listed size, each once); nothing of it is believed")
            _extract(archive, tar, member, folder / member.name, stated["sha256"])
        if missing:
            raise RecordError(f"{archive} lacks {len(missing)} of its files, the first of them {min(missing)!r}; "
                              "get it again")
        if len(stream.read(_MOST_PADDING + 1)) > _MOST_PADDING:
            raise RecordError(f"{archive} goes on behind its last file; get it again")
    return manifest


@contextmanager
def _told(archive: Path) -> Iterator[None]:
    """Say of everything that tells damage which file is damaged."""
    try:
        yield
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno not in _NAMES:
            raise
        reason = str(error) or type(error).__name__
        raise RecordError(f"{archive} is damaged or cut short ({reason}); get it again") from error


def _manifest(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> dict[str, Any]:
    if member is None or member.name != MANIFEST or not member.isreg() or member.size > _MOST_MANIFEST:
        raise RecordError(f"{archive} does not begin with {MANIFEST}; it is no bundle of `orchestrator export`")
    stream = tar.extractfile(member)
    assert stream is not None, "a plain file has content"
    found = files.unseal(stream.read().decode(errors="replace"))
    if found is None:
        raise RecordError(f"{archive}: {MANIFEST} is not what its own checksum says; get it again")
    files.refuse_newer(found, archive)
    listed = found.get("files")
    if not isinstance(listed, dict) or not all(_plain(name) and _stated(entry) for name, entry in listed.items()):
        raise RecordError(f"{archive}: {MANIFEST} lists paths or sizes that no bundle has; nothing of it is believed")
    return found


def _plain(name: str) -> bool:
    """True of a relative path below the folder, written in the one way in which `pack` writes it."""
    path = PurePosixPath(name)
    return (bool(name) and not path.is_absolute() and ".." not in path.parts and str(path) == name
            and name.isprintable() and "\\" not in name and name != MANIFEST)


def _stated(entry: Any) -> bool:
    return (isinstance(entry, dict) and type(entry.get("size")) is int and entry["size"] >= 0
            and isinstance(entry.get("sha256"), str))


def _extract(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, sha256: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data, digest = tar.extractfile(member), hashlib.sha256()
    assert data is not None, "a plain file has content"
    with writing(path), path.open("xb") as out:
        while part := data.read(_CHUNK):
            digest.update(part)
            out.write(part)
    if digest.hexdigest() != sha256:
        raise RecordError(f"{archive}: {member.name} does not have the SHA-256 of its manifest; get it again")
