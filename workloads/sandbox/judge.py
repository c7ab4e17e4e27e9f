"""Which sampled answers pass their item's tests.

An item's tests are a program of asserts that may call the function in any way (HumanEval's `check(candidate)`), so they
cannot be read as a table of arguments and values. They are run instead, and never beside the model's code:

1. the tests with the right answer, once an item: every call's arguments are noted;
2. the sampled answer with those arguments: it sees no test, and returns plain values;
3. the tests again, with a function that gives back those values, and raises where the answer raised.

Each answer has a process of its own in the sandbox. What 3 compares are plain values, so no answer can declare itself
right; one process does it for all answers of an item, and, where it did not come to its end, one for each of the rest.
What this costs: answers that cannot be judged, where the tests' next call depends on what was returned (`random` is
seeded alike in 1 and 3). Functions that change their arguments change a copy.
An answer must return for all calls within one program's limits, also after a call whose assert will fail.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from workloads.downstream.items import Posed
from workloads.sandbox.box import Box, Call, Outcome, Program, Raised, Returned
from workloads.sandbox.server import FINISHED
from workloads.sandbox.values import encode

PASSED, FAILED, OTHER_CALLS = "passed", "failed", "other calls"

TESTS = f"""
import builtins, random
from workloads.sandbox.values import decode, encode

class OtherCalls(BaseException):
    pass

def run(reference, tests, entry, wrapped):
    namespace = {{"__name__": "program"}}
    exec(reference, namespace)
    namespace[entry] = wrapped(namespace[entry])
    random.seed(0)
    exec(tests, namespace)

def calls(reference, tests, entry):
    made = []
    def noting(right):
        def candidate(*arguments, **keywords):
            made.append(encode((arguments, keywords)))
            return right(*arguments, **keywords)
        return candidate
    run(reference, tests, entry, noting)
    return made

def judged(reference, tests, entry, made, returned):
    left = iter(zip(made, returned, strict=True))
    def giving(right):
        def candidate(*arguments, **keywords):
            text, (fine, value) = next(left, (None, (None, None)))
            if encode((arguments, keywords)) != text:
                raise OtherCalls
            if not fine:
                raise getattr(builtins, value, Exception)
            return decode(value)
        return candidate
    try:
        run(reference, tests, entry, giving)
    except OtherCalls:
        return {OTHER_CALLS!r}
    except MemoryError:
        raise
    except BaseException:
        return {FAILED!r}
    return {PASSED!r}
"""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """On one answer."""

    passed: bool | None
    """None: its item's tests cannot be judged, which says nothing about the answer."""
    how: str
    """`passed`, `failed` (an assert), or what became of the answer: `time`, `NameError`, ..."""


def body_of(completion: str) -> str:
    """Return what of a sampled text belongs to the function: all before a later line that is not indented."""
    first, *rest = completion.split("\n")
    kept = [first]
    for line in rest:
        if line.strip() and not line[0].isspace():
            break
        kept.append(line)
    return "\n".join(kept) + "\n"


def entry_of(item: Posed) -> str:
    """Return the name of the function that an item asks for: the last one that its prompt defines."""
    return str(re.findall(r"^def\s+(\w+)", item.prompt, flags=re.MULTILINE)[-1])


def verdicts(box: Box, items: Sequence[Posed], completions: Sequence[Sequence[str]]) -> list[list[Verdict]]:
    """Return the verdict on every completion of every item.

    Args:
        box: An open sandbox; its kind's name is to be recorded with the results.
        items: With tests.
        completions: Of each item, sampled texts that follow its prompt.

    Raises:
        BrokenSandbox: the sandbox died, and could not be started again.
    """
    noted = [_noted(outcome) for outcome in box.run([_tests(item, "calls", [()]) for item in items])]
    answers = [(number, text) for number, made in enumerate(noted) if made is not None for text in completions[number]]
    outcomes = box.run([Program(source=items[n].prompt + body_of(text), entry=entry_of(items[n]),
                                calls=[Call(made) for made in noted[n] or ()]) for n, text in answers])
    replays = _replayed(box, items, noted, [(n, outcome) for (n, _), outcome in zip(answers, outcomes, strict=True)])
    found: list[list[Verdict]] = [[] for _ in items]
    for place, (number, _) in enumerate(answers):
        found[number].append(_verdict(outcomes[place], replays.get(place)))
    for number, made in enumerate(noted):
        if made is None:
            found[number] = [Verdict(passed=None, how="its tests do not pass with the right answer")
                             for _ in completions[number]]
    return found


def _replayed(box: Box, items: Sequence[Posed], noted: Sequence[list[str] | None],
              outcomes: Sequence[tuple[int, Outcome]]) -> dict[int, Outcome]:
    """Return what the tests say of each answer that has returned for all calls, by its place."""
    asked: dict[int, dict[int, tuple[object, ...]]] = {}  # item -> place of an answer -> noted calls and its values
    for place, (number, outcome) in enumerate(outcomes):
        if len(outcome.returns) == len(noted[number] or ()):
            asked.setdefault(number, {})[place] = (noted[number], [
                (True, encode(r.value)) if isinstance(r, Returned) else (False, r.name) for r in outcome.returns])
    together = box.run([_tests(items[number], "judged", [*of_item.values()]) for number, of_item in asked.items()])
    found = {place: replace(whole, returns=(said,))
             for of_item, whole in zip(asked.values(), together, strict=True)
             for place, said in zip(of_item, whole.returns, strict=False) if isinstance(said, Returned)}
    left = [(number, place) for number, of_item in asked.items() for place in of_item if place not in found]
    alone = box.run([_tests(items[number], "judged", [asked[number][place]]) for number, place in left])
    return found | {place: outcome for (_, place), outcome in zip(left, alone, strict=True)}


def _tests(item: Posed, entry: str, calls: Sequence[tuple[object, ...]]) -> Program:
    given = item.prompt + item.choices_C[item.gold], item.tests, entry_of(item)
    return Program(source=TESTS, entry=entry, calls=[Call.of(*given, *more) for more in calls])


def _noted(outcome: Outcome) -> list[str] | None:
    match outcome.returns:
        case (Returned([*made]),) if made:
            return made
    return None


def _verdict(outcome: Outcome, replay: Outcome | None) -> Verdict:
    if replay is None:
        ended = "no answer" if outcome.ended == FINISHED else outcome.ended
        return Verdict(passed=False, how=outcome.error or ended)
    match replay.returns:
        case (Returned("failed"),) if all(isinstance(r, Raised) for r in outcome.returns):
            return Verdict(passed=False, how=cast(Raised, outcome.returns[0]).name)
        case (Returned(str(said)),) if said == OTHER_CALLS:
            return Verdict(passed=None, how=said)
        case (Returned(str(said)),):
            return Verdict(passed=said == PASSED, how=said)
    return Verdict(passed=False, how=f"its tests: {replay.ended}")
