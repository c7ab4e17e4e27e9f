"""The sandbox kind `namespaces`: user, PID, mount, network, IPC and UTS namespaces of one's own, by system calls.

Run as a program by `kinds.py`: it makes the namespaces, builds a root of tmpfs that shows nothing but what is named,
and becomes the server in it. There is no /proc, no /sys and no device but /dev/null. It needs no privileges, where the
kernel lets users make user namespaces, and Linux 5.12 for `mount_setattr`. Standard library only.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
from pathlib import Path

from workloads.sandbox.confine import DEATH_SIGNAL, LIBC, prctl, syscall

NAMESPACES = 0x10000000 | 0x20000000 | 0x00020000 | 0x40000000 | 0x08000000 | 0x04000000
"""CLONE_NEWUSER, NEWPID, NEWNS, NEWNET, NEWIPC, NEWUTS."""
BIND, RECURSIVE, PRIVATE, DETACH, READ_ONLY, REMOUNT, PLAIN = 4096, 16384, 1 << 18, 2, 1, 32, 2 | 4 | 8
"""MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH, MS_RDONLY, MS_REMOUNT, and MS_NOSUID | NODEV | NOEXEC."""
MOUNT_SETATTR, AT_RECURSIVE, FIXED = 442, 0x8000, struct.pack("=QQQQ", 1 | 2 | 4, 0, 0, 0)
"""MOUNT_ATTR_RDONLY, NOSUID and NODEV, on a mount and all below it."""
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
INSIDE_ID = 1000
"""User and group id inside. Not 0: so the server's exec drops all capabilities."""
STAGE = "/tmp"
"""Where the new root is built, in this process's own view; what lies there is seen below OLD."""
OLD = "/old"


def main() -> None:
    """Become `command` in a root of its own; the argument is JSON: shown, links, scratch, scratch_mb, command."""
    given = json.loads(sys.argv[1])
    user, group = os.getuid(), os.getgid()
    if LIBC.unshare(ctypes.c_int(NAMESPACES)) != 0:
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    maps = (("setgroups", "deny"), ("uid_map", f"{INSIDE_ID} {user} 1"), ("gid_map", f"{INSIDE_ID} {group} 1"))
    for file, text in maps:
        Path(f"/proc/self/{file}").write_text(text, encoding="ascii")
    prctl(DEATH_SIGNAL, signal.SIGKILL)
    child = os.fork()
    if child:
        os.close(0)
        os.close(1)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
    prctl(DEATH_SIGNAL, signal.SIGKILL)
    os.setsid()
    _root(given["shown"], given["links"])
    _scratch(given["scratch"], given["scratch_mb"])
    mount(None, "/", None, BIND | REMOUNT | READ_ONLY | PLAIN)
    command = given["command"]
    os.execve(command[0], command, given["environment"])


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """Mount.

    Raises:
        OSError: the kernel refuses.
    """
    given = (source.encode() if source else None, target.encode(), kind.encode() if kind else None)
    if LIBC.mount(*given, ctypes.c_ulong(flags), options.encode() or None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)


def _root(shown: list[str], links: dict[str, str]) -> None:
    """Make a root of tmpfs that has `shown` read-only, `links` and /dev/null, and let go of the old one."""
    mount(None, "/", None, RECURSIVE | PRIVATE)
    mount("root", STAGE, "tmpfs", 2, "size=1m,mode=755")
    Path(STAGE + OLD).mkdir()
    syscall(PIVOT_ROOT[os.uname().machine], STAGE.encode(), (STAGE + OLD).encode())
    os.chdir("/")
    for path in shown:
        source, target = Path(OLD + path), Path(path)
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            _file(target)
        mount(str(source), path, None, BIND | RECURSIVE)
        syscall(MOUNT_SETATTR, -100, path.encode(), AT_RECURSIVE, FIXED, len(FIXED))
    for path, to in links.items():
        Path(path).symlink_to(to)
    _file(Path(os.devnull))
    mount(OLD + os.devnull, os.devnull, None, BIND)
    if LIBC.umount2(OLD.encode(), ctypes.c_int(DETACH)) != 0:
        raise OSError(ctypes.get_errno(), "umount2")
    Path(OLD).rmdir()


def _file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def _scratch(path: str, megabytes: int) -> None:
    Path(path).mkdir()
    mount("scratch", path, "tmpfs", PLAIN, f"size={megabytes}m,nr_inodes=4096,mode=700")


if __name__ == "__main__":
    main()
