"""What a program's process is left with: resource limits, files by Landlock, system calls by seccomp.

These come on top of the namespaces that the sandbox's kind makes, need no privileges and cannot be taken off again.
Where the kernel has no Landlock, or the processor is none of `CALLS`, that layer is missing: `Confined` says so, and
the escape cases say whether what is left is enough. Imported inside the sandbox: standard library only. Linux only.

Numbers are those of linux/landlock.h, linux/seccomp.h, linux/filter.h and the system call tables of x86-64 and arm64.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MB = 1 << 20
LAYERS = ("rlimits", "landlock", "seccomp")
LIBC = ctypes.CDLL(None, use_errno=True)
NO_NEW_PRIVS, DUMPABLE, DEATH_SIGNAL, SECCOMP, FILTER = 38, 4, 1, 22, 2
"""prctl: PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE, PR_SET_PDEATHSIG, PR_SET_SECCOMP, SECCOMP_MODE_FILTER."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one program may use."""

    wall_s: float = 10.0
    """Seconds for the program and all its calls together; a new process is killed then, whatever it does."""
    cpu_s: int = 5
    """Processor seconds."""
    memory_mb: int = 512
    """Address space of the process."""
    processes: int = 16
    """Threads, the sandbox's own two included. New processes are refused altogether where seccomp works."""
    file_mb: int = 16
    """Size of one file."""
    scratch_mb: int = 64
    """Files of the scratch folder together; they lie in memory."""
    open_files: int = 64
    output_kb: int = 1024
    """Text of all values that it returns. What it prints is thrown away."""


@dataclass(frozen=True, kw_only=True)
class Confined:
    """Which layers the kernel has."""

    landlock: int
    """Version of its interface; 0: none."""
    seccomp: bool
    """Whether system calls are filtered."""


def prctl(option: int, *values: int) -> None:
    """Call prctl.

    Raises:
        OSError: the kernel refuses.
    """
    arguments = [ctypes.c_ulong(v) for v in (*values, 0, 0, 0, 0)[:4]]
    if LIBC.prctl(ctypes.c_int(option), *arguments) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def syscall(number: int, *values: object) -> int:
    """Make a system call; integers are passed as 64 bits.

    Raises:
        OSError: the kernel refuses.
    """
    found = LIBC.syscall(ctypes.c_long(number), *(ctypes.c_long(v) if isinstance(v, int) else v for v in values))
    if found < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}: {os.strerror(ctypes.get_errno())}")
    return int(found)


def available() -> Confined:
    """Return what this machine has."""
    return Confined(landlock=landlock_version(), seccomp=platform.machine() in CALLS)


def confine(limits: Limits, layers: Sequence[str], *, readable: Sequence[str], scratch: str) -> None:
    """Confine this process for good: it reads `readable`, writes below `scratch`, and starts nothing.

    Raises:
        OSError: a layer that the machine has could not be put on.
    """
    prctl(NO_NEW_PRIVS, 1)
    if "landlock" in layers and (version := landlock_version()):
        landlock(version, readable=readable, scratch=scratch)
    if "rlimits" in layers:
        rlimits(limits)
    if "seccomp" in layers and platform.machine() in CALLS:
        seccomp(platform.machine())


def rlimits(limits: Limits) -> None:
    """Set the resource limits, hard ones: they cannot be raised again."""
    for which, value in (
        (resource.RLIMIT_AS, limits.memory_mb * MB), (resource.RLIMIT_FSIZE, limits.file_mb * MB),
        (resource.RLIMIT_NOFILE, limits.open_files), (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_CORE, 0), (resource.RLIMIT_MEMLOCK, 0), (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(which, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + 1))  # SIGXCPU, then SIGKILL


# Landlock ------------------------------------------------------------------------------------------------------------

CREATE, ADD, RESTRICT = 444, 445, 446
EXECUTE, WRITE, READ, LIST, CHARACTER, SOCKET, BLOCK, TRUNCATE, DEVICE = (
    1 << n for n in (0, 1, 2, 3, 6, 9, 11, 14, 15))
FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
"""Version -> kinds of access to files that it knows; from 5 on also ioctl on devices."""
NETWORK, SCOPES = 0b11, 0b11
"""TCP bind and connect (from version 4); abstract sockets and signals to processes outside (from 6)."""


def landlock_version() -> int:
    """Return the version of the kernel's Landlock; 0 where it is not built in, or off."""
    try:
        return syscall(CREATE, None, 0, 1)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            return 0
        raise


def landlock(version: int, *, readable: Iterable[str], scratch: str) -> None:
    """Allow reading below `readable` and making files below `scratch`; nothing else, no TCP, no signals outside."""
    known = FILES.get(version, (1 << 16) - 1)
    fields = struct.pack("=QQQ", known, NETWORK if version >= 4 else 0, SCOPES if version >= 6 else 0)
    fields = fields[:8 if version < 4 else 16 if version < 6 else 24]
    ruleset = syscall(CREATE, fields, len(fields), 0)
    below = known & ~(EXECUTE | CHARACTER | SOCKET | BLOCK | DEVICE)
    allowed = [*((path, READ | LIST) for path in readable), (scratch, below), (os.devnull, READ | WRITE)]
    for path, access in allowed:
        try:
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        if not os.path.isdir(path):  # noqa: PTH112 - pathlib costs a third of a program's time here
            access &= EXECUTE | WRITE | READ | TRUNCATE
        syscall(ADD, ruleset, 1, struct.pack("=Qi", access & known, opened), 0)
        os.close(opened)
    syscall(RESTRICT, ruleset, 0)
    os.close(ruleset)


# seccomp -------------------------------------------------------------------------------------------------------------

NEWEST = 441
"""epoll_pwait2. What is newer (mount_setattr, landlock, memfd_secret, ...) is refused: nothing here needs it."""
CLONE3, THREAD = 435, 0x10000
SINCE_V5 = (*range(424, 435), 438, 440)
"""The same on all processors: pidfd_*, io_uring_*, open_tree, move_mount, fs*, process_madvise."""


@dataclass(frozen=True, kw_only=True)
class Calls:
    """A processor's numbers."""

    architecture: int
    """AUDIT_ARCH_*."""
    clone: int
    refused: tuple[int, ...]


CALLS = {
    "x86_64": Calls(architecture=0xC000003E, clone=56, refused=(
        29, 30, 31, 64, 65, 66, 68, 69, 70, 71, 220,  # System V memory, semaphores, queues: no rlimit counts them
        *range(41, 56), 288, 299, 307,  # sockets
        57, 58, 59, 322,  # fork, vfork, execve, execveat
        62, 129, 200, 234, 297, 103,  # kill, tkill, tgkill, *sigqueueinfo; syslog
        101, 310, 311, 312,  # ptrace, process_vm_*, kcmp
        133, 259, 303, 304,  # mknod, mknodat, *_handle_at
        135, 154, 172, 173,  # personality, modify_ldt, iopl, ioperm
        155, 161, 165, 166, 272, 308,  # pivot_root, chroot, mount, umount2, unshare, setns
        159, 163, 164, 167, 168, 169, 170, 171, 179, 227, 305,  # clocks, acct, swap, reboot, names, quota
        175, 176, 246, 313, 320, 321,  # modules, kexec, bpf
        240, 241, 248, 249, 250, 298, 300, 319, 323)),  # mq_*, keys, perf, fanotify, memfd_create, userfaultfd
    "aarch64": Calls(architecture=0xC00000B7, clone=220, refused=(
        *range(186, 198), *range(198, 213), 242, 243, 269,  # System V, sockets
        221, 281, 129, 130, 131, 138, 240, 116,  # execve*, kill, tkill, tgkill, *sigqueueinfo; syslog
        117, 270, 271, 272, 33, 264, 265, 92,  # ptrace, process_vm_*, kcmp, mknodat, *_handle_at, personality
        41, 51, 40, 39, 97, 268,  # pivot_root, chroot, mount, umount2, unshare, setns
        171, 89, 170, 224, 225, 142, 161, 162, 60, 112, 266,  # clocks, acct, swap, reboot, names, quota
        105, 106, 104, 273, 294, 280,  # modules, kexec, bpf
        180, 181, 217, 218, 219, 241, 262, 279, 282)),  # mq_*, keys, perf, fanotify, memfd_create, userfaultfd
}
"""What only starts processes, reaches others, or holds memory that no limit counts. Refused with EPERM."""
LOAD, EQUAL, ABOVE, HAS, ANSWER = 0x20, 0x15, 0x25, 0x45, 0x06
ALLOW, REFUSE, MISSING, KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS, 0x80000000


def filter_of(calls: Calls) -> bytes:
    """Return the classic BPF program: 8 bytes an instruction (code, skip if true, skip if false, operand)."""
    def instruction(code: int, operand: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("=HBBI", code, yes, no, operand)

    program = [
        instruction(LOAD, 4), instruction(EQUAL, calls.architecture, yes=1), instruction(ANSWER, KILL),
        instruction(LOAD, 0),
        instruction(EQUAL, CLONE3, no=1), instruction(ANSWER, MISSING),  # glibc then uses clone: its flags can be seen
        instruction(ABOVE, NEWEST, no=1), instruction(ANSWER, REFUSE),  # x32 calls too: theirs begin at 2**30
        instruction(EQUAL, calls.clone, no=4), instruction(LOAD, 16), instruction(HAS, THREAD, no=1),
        instruction(ANSWER, ALLOW), instruction(ANSWER, REFUSE),
    ]
    for number in sorted({*calls.refused, *SINCE_V5}):
        program += [instruction(EQUAL, number, no=1), instruction(ANSWER, REFUSE)]
    return b"".join([*program, instruction(ANSWER, ALLOW)])


def seccomp(machine: str) -> None:
    """Filter this process's system calls from now on."""
    program = ctypes.create_string_buffer(filter_of(CALLS[machine]))
    header = ctypes.create_string_buffer(struct.pack("@HP", (len(program) - 1) // 8, ctypes.addressof(program)))
    prctl(SECCOMP, FILTER, ctypes.addressof(header))
