"""How many programs a second the sandbox runs.

    python -m benchmarks.sandbox [--json] [--repeats 5] [--programs 400]

Small programs with three calls each, through each kind of sandbox that this machine has: in an open box (a fork for
each program), and, in turns in the same run, with a sandbox started anew for each. Verdicts are whole: the answers of
task `python_functions`, each with its item's tests.

    programs_per_second        in an open sandbox
    verdicts_per_second        whole ones
    programs_per_second_fresh  with a sandbox for each
    ratio                      of the first to that, within each turn
    start_s                    opening one, the trial by escape cases included
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from benchmarks.report import ratio, show
from workloads.downstream.items import posed
from workloads.sandbox.box import Box, Call, Program
from workloads.sandbox.confine import Limits
from workloads.sandbox.judge import verdicts
from workloads.sandbox.kinds import LADDER, Kind
from workloads.sandbox.ladder import open_box
from workloads.tasks._python_functions import items
from workloads.tasks.python_functions import PythonFunctionsScience

SMALLEST = ("--repeats", "1", "--programs", "2")
FRESH = 6
"""Programs that each get a sandbox of their own, a turn."""
SOURCE = "def above(xs, n):\n    return [x for x in xs if x > n]\n"
PROGRAM = Program(source=SOURCE, entry="above", calls=[Call.of(list(range(20)), n) for n in (3, 10, 30)])


def seconds(work: Callable[[], object]) -> float:
    """Return how long it took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def fresh(kind: Kind) -> None:
    """Run programs, each in a sandbox of its own."""
    for _ in range(FRESH):
        with Box(kind=kind, limits=Limits(), workers=1) as box:
            assert len(box.run([PROGRAM])[0].returns) == 3


def measure(kind: Kind, programs: int, repeats: int) -> dict[str, float]:
    """Return medians over `repeats` turns."""
    asked = [posed("python_functions", item) for item in items(PythonFunctionsScience(items=10))]
    answers = [item.choices_C for item in asked]
    found: dict[str, list[float]] = {"programs": [], "judged": [], "fresh": [], "start": []}
    with Box(kind=kind, limits=Limits()) as box:
        def alone() -> None:
            for _ in range(FRESH):
                fresh(kind)

        for _ in range(repeats):
            found["programs"].append(programs / seconds(lambda: box.run([PROGRAM] * programs)))
            found["judged"].append(sum(map(len, answers)) / seconds(lambda: verdicts(box, asked, answers)))
            found["fresh"].append(FRESH / seconds(alone))
            found["start"].append(seconds(lambda: open_box(ladder=(kind,))))
    medians = {name: statistics.median(values) for name, values in found.items()}
    return {"programs_per_second": medians["programs"], "verdicts_per_second": medians["judged"],
            "programs_per_second_fresh": medians["fresh"], "start_s": medians["start"],
            "ratio": ratio(found["programs"], found["fresh"])}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=5, help="turns, of which the median counts")
    parser.add_argument("--programs", type=int, default=400, help="programs of a turn")
    arguments = parser.parse_args()
    show({kind.name: measure(kind, arguments.programs, arguments.repeats) for kind in LADDER if not kind.missing()},
         as_json=arguments.json)


if __name__ == "__main__":
    main()
