"""Why an attempt ended without a result: evidence in, exactly one class out. Pure: reads no file, asks no cluster.

Evidence contradicts itself all the time: a job that was out of memory is FAILED, a preempted one may leave with exit 0,
a dead rank makes the others complain of their connections. So there is an order; the first that says something counts:

    1. that the cluster refused its job: nothing of it ran
    2. the reason that the job itself left (failure.json), unless it says no more than that another process is gone
    3. that this project's own controller asked the job to leave
    4. the memory killer's words in the log: Slurm's state is FAILED or CANCELLED then, as for anything else
    5. Slurm's own word for the end: TIMEOUT, PREEMPTED, NODE_FAIL, OUT_OF_MEMORY, CANCELLED
    6. other words in the last lines of the log
    7. that the job left in order, because somebody asked it to
    8. its signal or exit code; SIGKILL says nothing: whoever sends it leaves no name
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from enum import StrEnum

from sweeps.errors import StorageError


class Failure(StrEnum):
    """Why an attempt has no result."""

    TIMEOUT = "timeout"
    PREEMPTED = "preempted"
    NODE = "node"
    OOM_HOST = "oom_host"
    OOM_GPU = "oom_gpu"
    CODE = "code"
    DATA = "data"
    DIVERGED = "diverged"
    HANG = "hang"
    STORAGE = "storage"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


WORDS = {
    Failure.TIMEOUT: "met its time limit", Failure.PREEMPTED: "had to make room", Failure.NODE: "its node failed",
    Failure.OOM_HOST: "ran out of memory", Failure.OOM_GPU: "ran out of GPU memory", Failure.CODE: "raised an error",
    Failure.DATA: "could not use its data", Failure.DIVERGED: "diverged", Failure.HANG: "made no step any more",
    Failure.STORAGE: "found no space", Failure.CANCELLED: "was cancelled", Failure.UNKNOWN: "ended without a word",
}
"""What a person is told."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of an attempt's end; anything may be missing."""

    kind: str = ""
    """Kind of the stage: `text`, `pretrain`."""
    error: str = ""
    """Class of the exception in failure.json."""
    message: str = ""
    """Its message."""
    traceback: tuple[str, ...] = ()
    """Its last lines."""
    left: bool = False
    """The job noted that it left because it was asked to."""
    refused: bool = False
    """The cluster did not take its job, and would not take the same one again; `detail` has its words."""
    asked: bool = False
    """This project's own controller asked it to leave."""
    detail: str = ""
    """The executor's word (`cluster.job.JobReport.detail`): exit code, signal, Slurm's state and who cancelled it."""
    log: tuple[str, ...] = ()
    """Last lines of the log that belong to the attempt."""

    @property
    def last_words(self) -> str:
        """The line that says most: the traceback's last, else the log's last, else the executor's word."""
        lines = [line.strip() for line in (*self.log, *self.traceback) if line.strip()]
        return lines[-1] if lines else self.detail


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A class, and what it rests on."""

    failure: Failure
    evidence: tuple[str, ...]
    """The decisive fact first."""


ERRORS = {
    "HangError": Failure.HANG, "StorageError": Failure.STORAGE, "OutOfMemoryError": Failure.OOM_GPU,
    "MemoryError": Failure.OOM_HOST, "ArrayMemoryError": Failure.OOM_HOST, "_ArrayMemoryError": Failure.OOM_HOST,
    "RecordError": Failure.DATA, "NewerRecordError": Failure.DATA, "Diverged": Failure.DIVERGED,
    "LossSpike": Failure.DIVERGED,
}
"""Exceptions that name their class."""
DATA_KINDS = frozenset({"text", "tokenizer", "corpus", "body"})
"""Stages that do nothing but read what somebody else wrote."""
DATA_ERRORS = frozenset({"UsageError", "UnicodeDecodeError", "FileNotFoundError", "EOFError", "BadGzipFile"})
"""Exceptions of such a stage that are about what it read."""
PEERS = frozenset({"RuntimeError", "DistBackendError", "DistNetworkError", "DistStoreError", "TimeoutError"})
"""Exceptions of torch.distributed, whatever went wrong, and Python's of a connection."""


def _pattern(*parts: str) -> re.Pattern[str]:
    return re.compile("|".join(parts), re.IGNORECASE)


PEER_GONE = _pattern(r"connection (was )?(reset|closed|refused)", "broken pipe", "communicator was aborted",
                     "remote process exited", "failed to recv", "socket closed", "eaddrinuse", "address already in use",
                     r"timed out after \d+ seconds waiting for clients", "client socket has timed out",
                     "no route to host", "connection timed out")
"""All that a rank knows when another one died, or never came; the other's end says why. A port that somebody else owns
on a shared node is no verdict either: the next job has another port."""
MEMORY_KILLER = _pattern("oom[-_ ]?kill", "exceeded (job |step )?memory limit", "out of memory: killed process",
                         "memory cgroup out of memory")
TOLD = (
    (Failure.OOM_GPU, _pattern("(cuda|hip) out of memory", "(cuda|hip) error: out of memory",
                               r"cuda failure( \d+)? 'out of memory'", "cublas_status_alloc_failed")),
    (Failure.OOM_HOST, _pattern("defaultcpuallocator", "cannot allocate memory", r"^memoryerror\b", "std::bad_alloc",
                                "insufficient shared memory")),
    (Failure.NODE, _pattern("uncorrectable ecc", "fallen off the bus", r"\bxid\b.*\d", "hardware failure",
                            "device.s. is/are busy or unavailable", "no cuda-capable device", "stale file handle",
                            "transport endpoint is not connected", "input/output error", "remote i/o error",
                            "uncorrectable nvlink error")),
    (Failure.HANG, _pattern("collective operation timeout", r"timed out waiting \d+ ?ms for (send|recv)",
                            r"wait timeout after \d+ ?ms", "timed out in monitoredbarrier")),
    (Failure.STORAGE, _pattern("no space left on device", "disk quota exceeded")),
)
"""What libraries write, in exceptions and in logs alike."""
LOGGED = (
    (Failure.TIMEOUT, _pattern("due to time limit")),
    (Failure.PREEMPTED, _pattern("due to preemption")),
    (Failure.NODE, _pattern("due to node failure", r"\bbus error\b")),
    (Failure.CANCELLED, re.compile(r"\*\*\* JOB \S+ ON \S+ CANCELLED AT \S+ \*\*\*")),
    *TOLD,
    (Failure.CODE, _pattern("segmentation fault", r"\baborted\b.*core dumped", "terminate called after", "fatal python",
                            "illegal instruction")),
)
"""What the log says, slurmstepd's lines and srun's among them."""
STATES = {
    "TIMEOUT": Failure.TIMEOUT, "DEADLINE": Failure.TIMEOUT, "PREEMPTED": Failure.PREEMPTED,
    "NODE_FAIL": Failure.NODE, "BOOT_FAIL": Failure.NODE, "OUT_OF_MEMORY": Failure.OOM_HOST,
    "CANCELLED": Failure.CANCELLED,
}
"""Slurm's words that say why; FAILED and COMPLETED do not."""
NEAR_LIMIT = "near its time limit"
"""What an executor adds where a job left in order so late that its time limit's early signal must have been why."""
SIGNALS: dict[int, Failure] = {
    signal.SIGBUS: Failure.NODE, signal.SIGSEGV: Failure.CODE, signal.SIGABRT: Failure.CODE,
    signal.SIGILL: Failure.CODE, signal.SIGFPE: Failure.CODE,
    signal.SIGTERM: Failure.PREEMPTED, signal.SIGUSR2: Failure.PREEMPTED,
}
"""SIGTERM and SIGUSR2 ask a job to leave; they kill one that does not listen yet."""
SHELL_SIGNAL = 128
"""Shells add this to the number of the signal that ended a command; srun gives the bare number."""


def classify(evidence: Evidence) -> Verdict:
    """Return the one class of an attempt's end, by the order above."""
    for look in (_refused, _own_reason, _own_wish, _memory_killer, _slurm_word, _log, _left, _code):
        found = look(evidence)
        if found is not None:
            return _verdict(evidence, *found)
    return _verdict(evidence, Failure.UNKNOWN, _reason(evidence) or evidence.detail or "nothing is known of its end")


Found = tuple[Failure, str] | None


def _verdict(evidence: Evidence, failure: Failure, fact: str) -> Verdict:
    facts = (fact, _reason(evidence), evidence.detail, evidence.last_words)
    return Verdict(failure=failure, evidence=tuple(dict.fromkeys(filter(None, facts))))


def _reason(evidence: Evidence) -> str:
    return f"{evidence.error}: {evidence.message}" if evidence.error else ""


def _refused(evidence: Evidence) -> Found:
    return (Failure.CODE, evidence.detail) if evidence.refused else None


def _own_reason(evidence: Evidence) -> Found:
    error, text = evidence.error, _reason(evidence)
    if not error:
        return None
    named = ERRORS.get(error) or next((failure for failure, words in TOLD if words.search(text)), None)
    if named is not None:
        return named, text
    if _complains_of_a_peer(evidence):
        return None
    if evidence.kind in DATA_KINDS and error in DATA_ERRORS:
        return Failure.DATA, text
    return Failure.CODE, text


def _complains_of_a_peer(evidence: Evidence) -> bool:
    return evidence.error in PEERS and bool(PEER_GONE.search(_reason(evidence)))


def _own_wish(evidence: Evidence) -> Found:
    return (Failure.CANCELLED, "this sweep asked it to leave") if evidence.asked else None


def _memory_killer(evidence: Evidence) -> Found:
    line = _line(evidence, MEMORY_KILLER)
    return (Failure.OOM_HOST, line) if line else None


def _slurm_word(evidence: Evidence) -> Found:
    words = re.findall(r"\b[A-Z_]{5,}\b", evidence.detail)
    return next(((STATES[word], evidence.detail) for word in words if word in STATES), None)


def _log(evidence: Evidence) -> Found:
    found = ((failure, _line(evidence, words)) for failure, words in LOGGED)
    return next(((failure, line) for failure, line in found if line), None)


def _line(evidence: Evidence, words: re.Pattern[str]) -> str:
    return next((line.strip() for line in reversed(evidence.log) if words.search(line)), "")


def _left(evidence: Evidence) -> Found:
    if NEAR_LIMIT in evidence.detail:
        return Failure.TIMEOUT, evidence.detail
    return (Failure.PREEMPTED, f"it left as it was asked to ({evidence.detail})") if evidence.left else None


def _code(evidence: Evidence) -> Found:
    killed = re.search(r"\bsignal (\d{1,3})\b", evidence.detail)
    code = re.search(r"\bexit (\d{1,3})\b", evidence.detail)
    number = int(killed[1]) if killed else _signal_in(evidence.detail, int(code[1])) if code else 0
    if number:
        return (SIGNALS[number], evidence.detail) if number in SIGNALS else None
    if code is None or code[1] == "0" or _complains_of_a_peer(evidence):  # exit 1 is what its complaint ended with
        return None
    return (Failure.STORAGE if int(code[1]) == StorageError.exit_code else Failure.CODE), evidence.detail


def _signal_in(detail: str, code: int) -> int:
    """Return the signal that an exit code stands for, 0: none. Slurm's word before it: the job noted none itself."""
    if not detail.startswith("FAILED") or code == StorageError.exit_code:
        return 0
    number = code - SHELL_SIGNAL if code > SHELL_SIGNAL else code
    return number if number in SIGNALS or number == signal.SIGKILL else 0
