"""Which stages of a sweep do not run because their upstream was not learned (`gate: require`), from the files alone.

The controller's own account of it is `orchestrator.board`; this one serves verbs that read a store.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.targets import Plan
from sweeps.errors import RecordError
from sweeps.language.gate import FOLLOWING, Verdict, verdict_of
from sweeps.store.layout import Layout
from sweeps.store.records import read_result


def withheld(layout: Layout, plan: Plan) -> Mapping[str, str]:
    """Return stage -> the gate that does not let it run; it may have been complete before, or in another sweep."""
    gates: dict[str, list[str]] = {}
    for trial in plan.trials.values() if plan.gate == "require" else ():
        gate = next((s["fingerprint"] for s in trial["path"] if s["role"] == "gate"), None)
        if gate is not None and trial["upstream"] not in plan.controls:
            gates.setdefault(gate, []).extend(s["fingerprint"] for s in trial["path"] if s["role"] in FOLLOWING)
    return {key: gate for gate, keys in gates.items() if bars(layout, gate) for key in keys}


def bars(layout: Layout, gate: str) -> bool:
    """True where a gate has spoken, and did not say `learned`."""
    try:
        result = read_result(layout.stage("evaluate", gate))
    except RecordError:  # for `why` to explain
        return False
    return result is not None and result.status == "done" and verdict_of(result.scores) is not Verdict.LEARNED
