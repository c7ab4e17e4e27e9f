"""Programs that a rehearsal needs, and the line that installs them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from sweeps.errors import EnvironmentError_

PACKAGES = ("slurm-wlm", "slurmctld", "slurmd", "slurm-client", "munge", "slurmdbd", "mariadb-server")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
ACCOUNTING_PROGRAMS = ("slurmdbd", "sacctmgr", "sacct", "mariadbd")
SYSTEM_TABLES = (Path("/usr/share/mysql/mysql_system_tables.sql"), Path("/usr/share/mariadb/mariadb_system_tables.sql"),
                 Path("/usr/share/mariadb/mysql_system_tables.sql"))
"""Where MariaDB's packages put the statements that make its own tables."""
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")
"""Looked at after PATH: an ordinary user's PATH lacks the daemons' folders."""


def search_path() -> str:
    """Return PATH with the folders of daemons at its end."""
    return os.pathsep.join([os.environ.get("PATH", ""), *SYSTEM_FOLDERS]).lstrip(os.pathsep)


def program(name: str) -> str:
    """Return the path of a program.

    Raises:
        EnvironmentError_: it is not installed.
    """
    found = shutil.which(name, path=search_path())
    if found is None:
        raise missing([name])
    return found


def require(*, accounting: bool, which: Callable[[str], str | None] | None = None) -> None:
    """See that every program is there.

    Raises:
        EnvironmentError_: some are not; names them, and the line that installs them.
    """
    look = which or (lambda name: shutil.which(name, path=search_path()))
    absent = [p for p in (*PROGRAMS, *(ACCOUNTING_PROGRAMS if accounting else ())) if look(p) is None]
    if absent:
        raise missing(absent)
    if accounting:
        system_tables()


def slurm_version() -> str:
    """Return the release of the installed Slurm, such as 22.05.8.

    Raises:
        EnvironmentError_: it does not say.
    """
    try:
        said = subprocess.run([program("slurmctld"), "-V"], capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired as error:
        raise EnvironmentError_("`slurmctld -V` gave no answer in 20 s") from error
    found = re.search(r"\d+\.\d+(?:\.\d+)?", said.stdout)
    if found is None:
        raise EnvironmentError_(f"`slurmctld -V` says {(said.stdout + said.stderr).strip()!r}, which has no version")
    return found[0]


def system_tables() -> str:
    """Return the statements that make MariaDB's own tables.

    Raises:
        EnvironmentError_: no installed file has them.
    """
    for path in SYSTEM_TABLES:
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise missing([f"MariaDB's table definitions ({', '.join(map(str, SYSTEM_TABLES))})"])


def missing(absent: list[str]) -> EnvironmentError_:
    """Return the error that names what is absent and the line that installs it."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    return EnvironmentError_(
        f"not installed: {', '.join(absent)}. A rehearsal runs Debian's or Ubuntu's own Slurm; install it:\n"
        f"  {sudo}apt-get update && {sudo}apt-get install -y {' '.join(PACKAGES)}\n"
        "It needs none of the services that these packages start; they may be disabled.")
