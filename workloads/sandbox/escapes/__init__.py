"""Attempts to get out of the sandbox, as data: `case.py` says what a case is."""

from __future__ import annotations

from workloads.sandbox.escapes.outside import NETWORK, READING, WRITING
from workloads.sandbox.escapes.within import PROCESSES, RESOURCES, TIME, VERDICTS

CASES = READING + WRITING + NETWORK + PROCESSES + RESOURCES + TIME + VERDICTS
QUICK = tuple(case for case in CASES if case.quick)
"""Tried before every use of a sandbox."""
