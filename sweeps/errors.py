"""The error tree. Every message says what was given, what is allowed and what to do next.

    OrchestratorError
    |- UsageError            the person's input is wrong: exit 2
    |  `- SweepFileError     carries every problem of a sweep file, cluster profile or file of curves at once
    |- EnvironmentError_     something outside is missing or full: exit 4
    |- OwnedError            another controller owns the sweep: exit 5
    |- PausedError           the sweep paused itself (disk, budget, breaker): exit 6
    |  |- StorageError        a disk is full, a quota is used up, or a file-size limit is reached
    |  |- BudgetError         the cap on GPU-hours is reached
    |  `- BreakerError        the first stages all died alike
    `- RecordError           a record on disk is damaged or contradicts itself: exit 1
       `- NewerRecordError    it was written by a newer release
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class OrchestratorError(Exception):
    """Base of every error this project raises on purpose."""

    exit_code = 1


class UsageError(OrchestratorError):
    """The given input cannot be used; nothing was started."""

    exit_code = 2


class EnvironmentError_(OrchestratorError):  # noqa: N818 - the name without underscore is a builtin
    """A program, package, cluster or disk that is needed is not available."""

    exit_code = 4


class InDoubtError(EnvironmentError_):
    """Whether something was submitted cannot be told now; to be asked again."""


class OwnedError(OrchestratorError):
    """Another live controller owns this sweep."""

    exit_code = 5


class PausedError(OrchestratorError):
    """The sweep stopped on purpose and goes on when run again."""

    exit_code = 6
    event = "paused"
    """What a notify hook is told."""


class BudgetError(PausedError):
    """The cap on GPU-hours is reached."""

    event = "budget"


class BreakerError(PausedError):
    """The first stages all died alike: what is wrong is none of theirs."""

    event = "breaker"


class StorageError(PausedError):
    """Something could not be written: the disk is full, a quota is used up, or a file-size limit is reached.

    Nothing is wrong with the work itself: it is never counted as a failure, and goes on where there is space.
    """

    event = "storage"


class RecordError(OrchestratorError):
    """A record on disk is damaged."""


class NewerRecordError(RecordError):
    """A record was written by a newer release, so what it says cannot be known."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing wrong in a sweep file, or in another that people write."""

    where: str
    """`file:line` or the command-line flag it came from."""
    key: str
    """Dotted key, for instance `fields.pretrain.lr`."""
    given: str
    """The value as written."""
    message: str
    """What is wrong and what is allowed."""

    def __str__(self) -> str:
        """One line: where, key, value, reason."""
        given = f" = {self.given}" if self.given else ""
        return f"{self.where}: {self.key}{given}: {self.message}"


class SweepFileError(UsageError):
    """Every problem of a sweep file, of the cluster profile that it names, or of a file of curves."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Keep `problems`; the message lists them, one a line."""
        self.problems = tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


def nearest(given: str, known: Iterable[str]) -> str:
    """Return ` Known: a, b. Did you mean a?` for a look-up that failed."""
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"known: {', '.join(names) if names else 'none'}.{hint}"
