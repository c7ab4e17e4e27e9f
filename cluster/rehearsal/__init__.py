"""A private, real Slurm on this machine: Debian's own daemons, as the caller, with all state under one folder.

    describe.py    Rehearsal: the frozen description of one cluster   (describe)
    conf.py        the text of its configuration files, pure          (show)
    places.py      where it lies, which ports it has, who else is here
    daemons.py     its processes: started, stopped, signalled          (do)
    up.py down.py look.py faults.py    the four things one does with it

It holds no truth about jobs: that is Slurm's. A rehearsal belongs to this machine and this boot; it costs about 150 MB
of memory and 30 MB of disk, and starts in a few seconds.
"""

from cluster.rehearsal.describe import Preemption, Rehearsal, Shape
from cluster.rehearsal.down import down
from cluster.rehearsal.faults import FAULTS, breaks
from cluster.rehearsal.look import Status, status
from cluster.rehearsal.places import find, rehearsals
from cluster.rehearsal.up import up

__all__ = ["FAULTS", "Preemption", "Rehearsal", "Shape", "Status", "breaks", "down", "find", "rehearsals", "status",
           "up"]
