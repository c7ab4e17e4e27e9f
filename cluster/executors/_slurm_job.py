"""What srun starts, once per rank: `python -m cluster.executors._slurm_job FOLDER`.

First of all it holds back TERM and USR2, which would kill a process that has no handlers yet: `workloads.run` takes
them once it is imported (half a second to a second later). Then it names the ranks as torch wants them.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

FIRST_PORT, PORTS = 20_000, 10_000
"""Ports of rank 0, one a job by its id; below those that Linux gives to outgoing connections."""


def ranks(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of torch's process groups; none for a job of one process.

    Args:
        environment: of a task of srun. Rank 0 runs on the allocation's first node, where srun was called.
    """
    if int(environment.get("SLURM_NTASKS", "1")) == 1:
        return {}
    return {
        "RANK": environment["SLURM_PROCID"], "WORLD_SIZE": environment["SLURM_NTASKS"],
        "LOCAL_RANK": environment["SLURM_LOCALID"], "MASTER_ADDR": environment["SLURM_LAUNCH_NODE_IPADDR"],
        "MASTER_PORT": str(FIRST_PORT + int(environment["SLURM_JOB_ID"]) % PORTS),
    }


def scratch(environment: Mapping[str, str]) -> Path | None:
    """Return the job's own folder for temporary files, where the profile names a scratch disk."""
    path = Path(environment.get("TMPDIR", "/"))
    return path if path.name == f"orchestrator-{environment.get('SLURM_JOB_ID', '')}" else None


def main() -> int:
    """Prepare this process, then run the job's ticket; return its exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGUSR2))
    os.umask(0o077)
    os.environ.update(ranks(os.environ))
    temporary = scratch(os.environ)
    if temporary is not None:
        temporary.mkdir(parents=True, exist_ok=True)
    from cluster.executors._slurm_starts import run  # after the signals: it takes a moment

    try:
        return run(Path(sys.argv[1]))
    finally:
        if temporary is not None and os.environ.get("SLURM_LOCALID") == "0":
            shutil.rmtree(temporary, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
