"""What Slurm says of jobs, asked in batches: one call for all jobs of the user, whatever their number.

squeue asks the controller daemon, which alone knows what is live; sacct asks the accounting database, which remembers
what the daemon has forgotten (MinJobAge, 300 s) and may lag behind it; scontrol asks the daemon again. Every line ends
in a mark, so that an answer cut off in the middle is seen to be none.

Jobs of an array that were cancelled while they waited have no line of their own (measured, 22.05): the array's bare id
(`12`) stands for all of them where none waits any more; until then nothing at all speaks of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cluster.clients import Answer, Clients, NoAnswer, Why
from cluster.states import Reading, read

END = "."
"""Last field of every line of squeue."""
FORMAT = f"%i|%T|%r|{END}"
LONG_FORMAT = f"JobArrayID:0|,State:0|,RestartCnt:0|,Reason:0|{END}"
"""The same with how often Slurm has started the job again by itself, which -o does not have. 0: as wide as need be; a
release before 20.02 knows no `|` after it, so that its lines count as torn, and scontrol is asked."""
NAMED_FORMAT = f"%i|%T|%o|{END}"
"""With the script's path: two stores may have sweeps of one name, and one store may be made anew."""
SINCE = "now-90days"
"""How far back sacct looks; by default only to midnight."""
ACCOUNTS_FORMAT = "JobID,State,ExitCode"
STARTS_FORMAT = "JobID,State"
ID = re.compile(r"\d+(_\d+)?")
NO_INDEX = "4294967294"
"""scontrol's index of the line that stands for the rest of an array."""
_FIELD = re.compile(r"(\w+)=(\S*)")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One job."""

    reading: Reading
    detail: str = ""
    """Why it waits, or the exit code and who cancelled it, as Slurm says."""
    restarts: int = 0
    """How often Slurm has put it back into the queue."""


@dataclass(frozen=True, kw_only=True)
class Queue:
    """All jobs of the user that the controller daemon knows, finished ones of the last minutes included."""

    rows: dict[str, Row]
    """Slurm's id of an array's job (`12_3`, or `12` for the rest of an array) -> what it says."""
    taken: float
    """Clock before the question was asked: what was submitted later need not be in it."""

    def row(self, job: str) -> Row | None:
        """Return what is said of a job."""
        return of(self.rows, job)


def of(rows: Mapping[str, Row], job: str) -> Row | None:
    """Return what is said of a job, by its own line or by that of the rest of its array."""
    return rows.get(job) or rows.get(job.partition("_")[0])


def look(clients: Clients) -> Queue | NoAnswer:
    """Return the queue: from squeue, or from scontrol where that gives no answer."""
    taken = clients.clock()
    user = str(os.getuid())
    rows = _table(clients, clients.query("squeue", "-h", "-r", "-t", "all", "-u", user, "-O", LONG_FORMAT), columns=4)
    if isinstance(rows, NoAnswer):
        other = witness(clients)
        return Queue(rows=other, taken=taken) if not isinstance(other, NoAnswer) else rows
    return Queue(taken=taken, rows={job: Row(reading=read(state), detail=reason, restarts=_number(restarts))
                                    for job, state, restarts, reason in rows})


def of_name(clients: Clients, name: str) -> dict[str, Row] | NoAnswer:
    """Return the jobs of this name, whoever's they are, as the controller daemon knows them."""
    rows = _table(clients, clients.query("squeue", "-h", "-r", "-t", "all", "-n", name, "-o", FORMAT))
    if isinstance(rows, NoAnswer):
        return rows
    return {i: Row(reading=read(state), detail=reason) for i, state, reason in rows}


def named(clients: Clients, name: str, script: str) -> set[str] | NoAnswer:
    """Return the arrays of this name whose script has this file name, as the controller daemon knows them."""
    rows = _table(clients, clients.query("squeue", "-h", "-r", "-t", "all", "-u", str(os.getuid()), "-n", name,
                                         "-o", NAMED_FORMAT))
    if isinstance(rows, NoAnswer):
        return rows
    return {i.partition("_")[0] for i, _, path in rows if path.endswith(f"/{script}")}


def named_in_accounts(clients: Clients, name: str, script: str) -> set[str] | NoAnswer:
    """Return the arrays of this name whose script has this file name, as the accounts have them (Slurm 21.08)."""
    answer = clients.query("sacct", "-n", "-P", "-X", "-S", SINCE, "-u", str(os.getuid()), f"--name={name}",
                           "-o", "JobID,SubmitLine")
    if isinstance(answer, NoAnswer):
        return answer
    rows = (line.split("|", 1) for line in answer.text.splitlines() if "|" in line)
    return {i.partition("_")[0] for i, line in rows if line.endswith(f"/{script}")}


def accounts(clients: Clients, jobs: Iterable[str]) -> dict[str, Row] | NoAnswer:
    """Return what the accounts have of arrays' jobs; only for jobs that the daemon does not run any more."""
    arrays = sorted({job.partition("_")[0] for job in jobs}, key=int)
    answer = clients.query("sacct", "-n", "-P", "-X", "-S", SINCE, "-j", ",".join(arrays), "-o", ACCOUNTS_FORMAT)
    if isinstance(answer, NoAnswer):
        return answer
    found = {}
    for line in answer.text.splitlines():
        fields = line.split("|")
        if len(fields) == ACCOUNTS_FORMAT.count(",") + 1 and ID.fullmatch(fields[0]):
            found[fields[0]] = Row(reading=read(fields[1]), detail=ended_by(fields[1], fields[2]))
    return found


def starts(clients: Clients, jobs: Iterable[str]) -> dict[str, list[str]] | NoAnswer:
    """Return Slurm's word for each start of arrays' jobs, in their order: the accounts keep a record of every one."""
    arrays = sorted({job.partition("_")[0] for job in jobs}, key=int)
    answer = clients.query("sacct", "-n", "-P", "-X", "-D", "-S", SINCE, "-j", ",".join(arrays), "-o", STARTS_FORMAT)
    if isinstance(answer, NoAnswer):
        return answer
    found: dict[str, list[str]] = {}
    for line in answer.text.splitlines():
        fields = line.split("|")
        if len(fields) == STARTS_FORMAT.count(",") + 1 and ID.fullmatch(fields[0]):
            found.setdefault(fields[0], []).append(fields[1])
    return found


def ended_by(state: str, code: str) -> str:
    """Return an ended job's state for people: `CANCELLED by 1000`, `FAILED, exit 2`, `FAILED, signal 9`."""
    status, _, number = code.partition(":")
    if number not in ("", "0"):
        return f"{state}, signal {number}"
    return f"{state}, exit {status}" if status not in ("", "0") else state


def witness(clients: Clients) -> dict[str, Row] | NoAnswer:
    """Return all jobs of the user from scontrol: the same daemon as squeue's, by another program."""
    answer = clients.query("scontrol", "-o", "show", "jobs")
    if isinstance(answer, NoAnswer):
        return answer
    found: dict[str, Row] = {}
    for line in answer.text.splitlines():
        fields = dict(_FIELD.findall(line))
        if f"({os.getuid()})" not in fields.get("UserId", "") or "ArrayJobId" not in fields:
            continue
        if "JobState" not in fields:
            clients.judge("scontrol", good=False)
            return NoAnswer(why=Why.TORN, text="scontrol: its output ends in the middle of a job")
        row = Row(reading=read(fields["JobState"]), detail=fields.get("Reason", ""),
                  restarts=_number(fields.get("Restarts", "")))
        array, indices = fields["ArrayJobId"], fields.get("ArrayTaskId", "")
        found.update({array: row} if indices == NO_INDEX else {f"{array}_{i}": row for i in expand(indices)})
    return found


def expand(indices: str) -> Iterator[int]:
    """Yield the numbers of `1,3-5%2`."""
    for part in indices.partition("%")[0].split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            yield from range(int(first), int(last or first) + 1)


def compact(jobs: Sequence[str]) -> list[str]:
    """Return ids of arrays' jobs as scancel takes them, one word an array: `12_[0-3,7]`."""
    arrays: dict[str, list[int]] = {}
    for job in jobs:
        array, _, index = job.partition("_")
        arrays.setdefault(array, []).append(int(index))
    return [f"{array}_[{','.join(_runs(sorted(set(indices))))}]" for array, indices in arrays.items()]


def _runs(numbers: Sequence[int]) -> Iterator[str]:
    first = last = numbers[0]
    for number in (*numbers[1:], None):
        if number is not None and number == last + 1:
            last = number
            continue
        yield str(first) if first == last else f"{first}-{last}"
        if number is not None:
            first = last = number


def settings(clients: Clients) -> dict[str, str] | NoAnswer:
    """Return the cluster's configuration: MaxArraySize, MessageTimeout, ..."""
    answer = clients.query("scontrol", "show", "config")
    if isinstance(answer, NoAnswer):
        return answer
    pairs = (line.partition("=") for line in answer.text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs if value}


def _table(clients: Clients, answer: Answer | NoAnswer, columns: int = 3) -> list[list[str]] | NoAnswer:
    """Split squeue's lines into so many fields each; the last one may hold anything."""
    if isinstance(answer, NoAnswer):
        return answer
    rows = []
    for line in answer.text.splitlines():
        *fields, rest = line.split("|", columns - 1)
        last, _, end = rest.rpartition("|")
        if len(fields) < columns - 1 or end != END:
            clients.judge("squeue", good=False)
            return NoAnswer(why=Why.TORN, text=f"squeue: its output has a line that is cut off: {line[:80]!r}")
        rows.append([*fields, last])
    return rows


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0
