"""Every class is found from what really is left behind, and whatever is left behind has exactly one class."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.failures import DATA_ERRORS, ERRORS, LOGGED, PEERS, STATES, WORDS, Evidence, Failure, classify

F = Failure
OOM_LOG = "slurmstepd: error: StepId=7.0 exceeded memory limit (416352 > 204800), being killed"
KILLER_LOG = "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks have been OOM Killed."
RESET = "[enforce fail at ...] Connection reset by peer [10.0.0.2]:29500"

IN_USE = ("The server socket has failed to listen on any local network address. port: 29500, useIpv6: false, "
          "code: -98, name: EADDRINUSE, message: address already in use")  # vllm-project/vllm#39015
NO_ROUTE = ("NCCL error in: ProcessGroupNCCL.cpp:1691, unhandled system error, NCCL version 2.19.3\nncclSystemError: "
            "System call (e.g. socket, malloc) or external library call failed or device error.\nLast error:\n"
            "socketStartConnect: Connect to 10.0.0.2<4567> failed : No route to host")
GPU_FULL = ("NCCL error in: NCCLUtils.cpp:93, unhandled cuda error, NCCL version 2.21.5\nncclUnhandledCudaError: Call "
            "to CUDA function failed.\nLast error:\nCuda failure 2 'out of memory'")
NEVER_CAME = "Timed out after 1801 seconds waiting for clients. 3/4 clients joined."
NOBODY = "The client socket has timed out after 1800000ms while trying to connect to (10.0.0.2, 29500)."

CASES = [
    # the job's own reason
    (F.HANG, Evidence(error="HangError", message="rank 1 made no step for 600 s")),
    (F.STORAGE, Evidence(error="StorageError", message="the disk is full")),
    (F.OOM_GPU, Evidence(error="OutOfMemoryError", message="CUDA out of memory. Tried to allocate 2.00 GiB")),
    (F.OOM_GPU, Evidence(error="RuntimeError", message="CUDA error: out of memory")),
    (F.OOM_GPU, Evidence(error="RuntimeError", message="CUDA error: CUBLAS_STATUS_ALLOC_FAILED")),
    (F.OOM_HOST, Evidence(error="MemoryError")),
    (F.OOM_HOST, Evidence(error="RuntimeError", message="DefaultCPUAllocator: can't allocate memory: you tried ...")),
    (F.OOM_HOST, Evidence(error="OSError", message="[Errno 12] Cannot allocate memory")),
    (F.DATA, Evidence(error="RecordError", message="bank.json cannot be read")),
    (F.DATA, Evidence(kind="text", error="UsageError", message="the domain gave no text")),
    (F.DATA, Evidence(kind="corpus", error="UnicodeDecodeError", message="invalid start byte")),
    (F.CODE, Evidence(kind="pretrain", error="UsageError", message="micro_batch 3 does not divide")),
    (F.CODE, Evidence(error="ValueError", message="no such thing")),
    (F.CODE, Evidence(error="ConnectionResetError", message=RESET)),
    (F.NODE, Evidence(error="RuntimeError", message="CUDA error: uncorrectable ECC error encountered")),
    (F.HANG, Evidence(error="RuntimeError", message="Timed out waiting 1800000ms for recv operation to complete")),
    (F.DIVERGED, Evidence(error="Diverged", message="loss is nan")),
    # ... outranks what Slurm, the log and the exit code say
    (F.CODE, Evidence(error="ValueError", detail="TIMEOUT, signal 9")),
    (F.OOM_GPU, Evidence(error="OutOfMemoryError", detail="CANCELLED by 0, exit 1", asked=True)),
    (F.CODE, Evidence(error="ValueError", log=(OOM_LOG,))),
    # ... unless it only says that another rank is gone: then the other's end counts
    (F.TIMEOUT, Evidence(error="RuntimeError", message=RESET, detail="TIMEOUT")),
    (F.OOM_HOST, Evidence(error="DistBackendError", message=RESET, detail="FAILED, exit 1", log=(KILLER_LOG,))),
    (F.UNKNOWN, Evidence(error="RuntimeError", message=RESET, detail="FAILED, signal 9")),
    (F.UNKNOWN, Evidence(error="RuntimeError", message=RESET, detail="exit 1")),
    # ... or that it found none, or a port that another job on a shared node owns
    *((F.UNKNOWN, Evidence(error=error, message=text, detail="FAILED, exit 1")) for error, text in (
        ("DistNetworkError", IN_USE), ("DistStoreError", NEVER_CAME), ("DistNetworkError", NOBODY),
        ("DistBackendError", NO_ROUTE), ("TimeoutError", "[Errno 110] Connection timed out"))),
    (F.OOM_GPU, Evidence(error="DistBackendError", message=GPU_FULL)),
    (F.OOM_GPU, Evidence(detail="FAILED, exit 1", log=("include/alloc.h:178 NCCL WARN Cuda failure 'out of memory'",))),
    (F.NODE, Evidence(error="RuntimeError", message="CUDA error: uncorrectable NVLink error detected during the")),
    (F.NODE, Evidence(error="OSError", message="[Errno 121] Remote I/O error: '/scratch/a'")),
    # this sweep asked
    (F.CANCELLED, Evidence(asked=True, left=True, detail="exit 0")),
    # the cluster did not take the job: what it says is no end of Slurm's
    (F.CODE, Evidence(refused=True, detail="Slurm refused it: sbatch: error: invalid partition specified: TIMEOUT")),
    (F.CANCELLED, Evidence(asked=True, detail="killed by signal 9")),
    # Slurm's word
    (F.TIMEOUT, Evidence(detail="TIMEOUT")),
    (F.TIMEOUT, Evidence(detail="DEADLINE, exit 0", left=True)),
    (F.PREEMPTED, Evidence(detail="PREEMPTED, exit 0", left=True)),
    (F.NODE, Evidence(detail="NODE_FAIL, exit 1")),
    (F.OOM_HOST, Evidence(detail="OUT_OF_MEMORY, signal 125")),
    (F.CANCELLED, Evidence(detail="CANCELLED by 1000, exit 0", left=True)),
    (F.CANCELLED, Evidence(detail="CANCELLED before it began")),
    (F.TIMEOUT, Evidence(detail="TIMEOUT", log=("*** JOB 7 ON n1 CANCELLED AT 2026-01-01 DUE TO JOB REQUEUE ***",))),
    # the memory killer writes beside any state
    (F.OOM_HOST, Evidence(detail="FAILED, exit 9", log=(OOM_LOG,))),
    (F.OOM_HOST, Evidence(detail="CANCELLED by 0, signal 9", log=(OOM_LOG,))),
    (F.OOM_HOST, Evidence(detail="FAILED, signal 9", log=(KILLER_LOG,))),
    # the log
    (F.TIMEOUT, Evidence(detail="gone", log=("*** JOB 7 ON n1 CANCELLED AT 2026-01-01 DUE TO TIME LIMIT ***",))),
    (F.PREEMPTED, Evidence(detail="gone", log=("*** STEP 7.0 ON n1 CANCELLED AT 2026-01-01 DUE TO PREEMPTION ***",))),
    (F.NODE, Evidence(detail="gone", log=("*** JOB 7 ON n1 CANCELLED AT 2026-01-01 DUE TO NODE FAILURE, SEE ...",))),
    (F.CANCELLED, Evidence(detail="gone", log=("*** JOB 7 ON n1 CANCELLED AT 2026-01-01T10:00:00 ***",))),
    (F.UNKNOWN, Evidence(detail="FAILED, exit 9", log=("*** STEP 7.0 ON n1 CANCELLED AT 2026-01-01T10:00:00 ***",))),
    (F.HANG, Evidence(detail="FAILED, exit 6", log=("Watchdog caught collective operation timeout: WorkNCCL(",))),
    (F.STORAGE, Evidence(detail="exit 1", log=("OSError: [Errno 28] No space left on device",))),
    (F.CODE, Evidence(detail="FAILED, exit 139", log=("srun: error: n1: task 0: Segmentation fault",))),
    (F.NODE, Evidence(detail="FAILED, exit 7", log=("srun: error: n1: task 0: Bus error (core dumped)",))),
    # it left in order
    (F.PREEMPTED, Evidence(left=True, detail="exit 0")),
    (F.TIMEOUT, Evidence(left=True, detail="exit 0, near its time limit")),
    # signals and exit codes
    (F.UNKNOWN, Evidence(detail="killed by signal 9")),
    (F.UNKNOWN, Evidence(detail="FAILED, exit 9")),
    (F.UNKNOWN, Evidence(detail="FAILED, exit 137")),
    (F.CODE, Evidence(detail="killed by signal 11")),
    (F.CODE, Evidence(detail="FAILED, exit 134")),
    (F.CODE, Evidence(detail="exit 11")),
    (F.PREEMPTED, Evidence(detail="killed by signal 15")),
    (F.PREEMPTED, Evidence(detail="FAILED, exit 140")),
    (F.NODE, Evidence(detail="killed by signal 7")),
    (F.STORAGE, Evidence(detail="exit 6")),
    (F.STORAGE, Evidence(detail="FAILED, exit 6")),
    (F.CODE, Evidence(detail="exit 1")),
    (F.CODE, Evidence(detail="FAILED, exit 127")),
    (F.UNKNOWN, Evidence(detail="exit 0")),
    (F.UNKNOWN, Evidence(detail="gone: neither the queue nor the accounts have it")),
    (F.UNKNOWN, Evidence()),
]


@pytest.mark.parametrize(("failure", "evidence"), CASES, ids=[f"{f}-{i}" for i, (f, _) in enumerate(CASES)])
def test_what_is_left_behind_has_its_class(failure: Failure, evidence: Evidence) -> None:
    verdict = classify(evidence)
    assert verdict.failure is failure, verdict.evidence


def test_every_class_has_a_case_and_words() -> None:
    assert {f for f, _ in CASES} == set(Failure) == set(WORDS)


WORD = st.one_of(st.text(max_size=20), st.sampled_from([
    *STATES, "FAILED", "COMPLETED", "exit 1", "exit 6", "signal 9", "exit 137", "by 1000", OOM_LOG, KILLER_LOG, RESET,
    *(words.pattern for _, words in LOGGED)]))
LINE = st.lists(WORD, max_size=4).map(", ".join)


@given(st.builds(
    Evidence, kind=st.sampled_from(["text", "pretrain", ""]), message=LINE, detail=LINE, left=st.booleans(),
    error=st.one_of(st.just(""), st.sampled_from([*ERRORS, *sorted(PEERS), *sorted(DATA_ERRORS)]), st.text(max_size=9)),
    asked=st.booleans(), log=st.lists(LINE, max_size=4).map(tuple), traceback=st.lists(LINE, max_size=2).map(tuple)))
def test_whatever_is_left_behind_has_exactly_one_class_and_the_evidence_for_it(evidence: Evidence) -> None:
    verdict = classify(evidence)
    assert verdict == classify(evidence)
    assert isinstance(verdict.failure, Failure)
    assert verdict.evidence and all(verdict.evidence)
    if not evidence.error and evidence.asked:
        assert verdict.failure is Failure.CANCELLED
