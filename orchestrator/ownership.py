"""Whether a sweep's owner lives. Processes of this host are looked at; a controller's Slurm job is asked of Slurm."""

from __future__ import annotations

import time

from sweeps.store.layout import SweepFolder
from sweeps.store.ledger import Ledger, State, begin_term
from sweeps.store.owner import Owner, Standing

LOOK_S = 10.0
"""How long an answer of Slurm's does for whoever only watches."""
_SEEN: dict[Owner, tuple[float, Standing]] = {}


def standing(owner: Owner) -> Standing:
    """Return whether an owner lives (None: nobody can tell now), and who it is, in words."""
    if owner.job is None:
        return owner.standing()
    from cluster import controller_job  # pydantic: 0.2 s, which `status` does without elsewhere

    return controller_job.standing(owner)


def seen(owner: Owner) -> Standing:
    """Return the same for whoever looks again and again: Slurm is asked once in `LOOK_S`."""
    if owner.job is None:
        return owner.standing()
    now = time.monotonic()
    if owner not in _SEEN or now - _SEEN[owner][0] > LOOK_S:
        _SEEN[owner] = now, standing(owner)
    return _SEEN[owner][1]


def lives(state: State) -> bool:
    """Tell whether somebody controls a sweep, or may where nobody can tell."""
    return not state.released and state.owner is not None and seen(state.owner)[0] is not False


def begin(folder: SweepFolder, *, takeover: bool, me: Owner | None = None) -> tuple[Ledger, State]:
    """Take a sweep's next term; see `sweeps.store.ledger.begin_term`.

    Raises:
        OwnedError: another controller lives, or may live where nobody can tell, and `takeover` is False.
        StorageError: there is no space; who reigned still does.
    """
    return begin_term(folder, takeover=takeover, me=me, standing=standing)
