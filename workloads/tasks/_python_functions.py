"""Functions in the shape of HumanEval's problems: signature and docstring, a body, wrong bodies, and tests.

Every template has one right body and three wrong ones, each a slip in the right one and as long as it, so that length
tells nothing; a test in this project runs all of them against the tests of their item. At level 0 the wrong bodies are
the right one's words in another order: two are no Python, and one has the operands the wrong way round. Who knows which
words follow which, and not what the docstring says, gets about half of the points; frequencies of words get chance.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from workloads.contract import Item
from workloads.downstream.items import drawn
from workloads.tasks._drawn import Draw, Question


class Template(NamedTuple):
    """A function, with `N` for a number from 3 and `V` for the name of its argument; every body has as many of each."""

    name: str
    says: str
    right: str
    wrong: tuple[str, str, str]
    tests: tuple[tuple[str, str], ...]
    """Argument and value, Python expressions."""


NUMBERS = ("n", "x", "value", "number", "k")
LISTS = ("xs", "values", "numbers", "items", "data")
LEVELS: tuple[tuple[tuple[str, ...], tuple[Template, ...]], ...] = (
    (NUMBERS, (
        Template("minus_N", "Return V minus N.", "return V - N", ("return N - V", "return V N -", "return - V N"),
                 (("1", "1 - N"), ("N", "0"))),
        Template("from_N", "Return N minus V.", "return N - V", ("return V - N", "return N V -", "return - N V"),
                 (("1", "N - 1"), ("N", "0"))),
        Template("parts_of_N", "Return V divided by N, rounded down.", "return V // N",
                 ("return N // V", "return V N //", "return // V N"), (("2 * N", "2"), ("1", "0"))),
        Template("parts_in_N", "Return N divided by V, rounded down.", "return N // V",
                 ("return V // N", "return N V //", "return // N V"), (("1", "N"), ("2 * N", "0"))),
        Template("is_above_N", "Return whether V is greater than N.", "return V > N",
                 ("return N > V", "return V N >", "return > V N"), (("N + 1", "True"), ("1", "False"))),
        Template("is_beneath_N", "Return whether N is greater than V.", "return N > V",
                 ("return V > N", "return N V >", "return > N V"), (("N + 1", "False"), ("1", "True"))),
        Template("is_below_N", "Return whether V is less than N.", "return V < N",
                 ("return N < V", "return V N <", "return < V N"), (("N + 1", "False"), ("1", "True"))),
        Template("is_beyond_N", "Return whether N is less than V.", "return N < V",
                 ("return V < N", "return N V <", "return < N V"), (("N + 1", "True"), ("1", "False"))),
    )),
    (NUMBERS, (
        Template("add_N", "Return V plus N.", "return V + N", ("return V - N", "return V * N", "return N - V"),
                 (("3", "3 + N"), ("-5", "N - 5"))),
        Template("times_N", "Return V multiplied by N.", "return V * N",
                 ("return V + N", "return V - N", "return V / N"), (("3", "3 * N"), ("-2", "-2 * N"), ("0", "0"))),
        Template("remainder_by_N", "Return the remainder of V divided by N.", "return V % N",
                 ("return V / N", "return V - N", "return N % V"), (("N + 1", "1"), ("3 * N", "0"), ("1", "1"))),
        Template("at_most_N", "Return V, but not more than N.", "return min(V, N)",
                 ("return max(V, N)", "return pow(V, N)", "return sum(V, N)"), (("N + 4", "N"), ("1", "1"))),
        Template("is_multiple_of_N", "Return whether V is a multiple of N.", "return V % N == 0",
                 ("return V % N == 1", "return V - N == 0", "return N % V == 0"),
                 (("2 * N", "True"), ("N + 1", "False"), ("1", "False"))),
    )),
    (LISTS, (
        Template("above_N", "Return the elements of V that are greater than N.", "return [e for e in V if e > N]",
                 ("return [e for e in V if e < N]", "return [e for e in V if e % N]", "return [e > N for e in V if e]"),
                 (("[N - 1, N, N + 1]", "[N + 1]"), ("[]", "[]"))),
        Template("each_plus_N", "Return every element of V plus N.", "return [e + N for e in V]",
                 ("return [e - N for e in V]", "return [N - e for e in V]", "return [e * N for e in V]"),
                 (("[1, 2]", "[1 + N, 2 + N]"), ("[0]", "[N]"))),
        Template("count_N", "Return how many elements of V equal N.", "return sum(1 for e in V if e == N)",
                 ("return sum(e for e in V if e == N)", "return sum(1 for e in V if e != N)",
                  "return any(1 for e in V if e == N)"),
                 (("[N, 1, N, 0]", "2"), ("[1, 0]", "0"))),
        Template("first_N", "Return the first N elements of V.", "return V[:N]",
                 ("return V[N:]", "return V[-N]", "return N[:V]"), (("list(range(2 * N + 1))", "list(range(N))"),)),
        Template("sum_of_multiples_of_N", "Return the sum of the elements of V that are multiples of N.",
                 "return sum(e for e in V if e % N == 0)",
                 ("return sum(e for e in V if e % N == 1)", "return sum(1 for e in V if e % N == 0)",
                  "return sum(e for e in V if N % e == 0)"), (("[N, 2 * N, N + 1]", "3 * N"), ("[1]", "0"))),
    )),
    (LISTS, (
        Template("longest_run_of_N", "Return the length of the longest run of N in V.",
                 "best = run = 0\nfor e in V:\n    run = run + 1 if e == N else 0\n    best = max(best, run)\n"
                 "return best",
                 ("best = run = 0\nfor e in V:\n    run = run + e if e == N else 0\n    best = max(best, run)\n"
                  "return best",
                  "best = run = 0\nfor e in V:\n    run = run + 1 if e != N else 0\n    best = max(best, run)\n"
                  "return best",
                  "best = run = 0\nfor e in V:\n    run = run + 1 if e == N else 0\n    best = min(best, run)\n"
                  "return best"),
                 (("[N, N, 0, N, 0, 0, 0, 0]", "2"), ("[]", "0"))),
        Template("sum_until_N", "Return the sum of the elements of V before the first one that is N or more.",
                 "total = 0\nfor e in V:\n    if e >= N:\n        break\n    total += e\nreturn total",
                 ("total = 0\nfor e in V:\n    if e >= N:\n        break\n    total -= e\nreturn total",
                  "total = 0\nfor e in V:\n    total += e\n    if e >= N:\n        break\nreturn total",
                  "total = 0\nfor e in V:\n    if e <= N:\n        break\n    total += e\nreturn total"),
                 (("[1, 1, N, 1]", "2"), ("[1]", "1"))),
        Template("steps_of_N", "Return how often one element of V is the one before it plus N.",
                 "count = 0\nfor a, b in zip(V, V[1:]):\n    if b == a + N:\n        count += 1\nreturn count",
                 ("count = 0\nfor a, b in zip(V, V[1:]):\n    if b == a - N:\n        count += 1\nreturn count",
                  "count = 0\nfor a, b in zip(V, V[2:]):\n    if b == a + N:\n        count += 1\nreturn count",
                  "count = 0\nfor a, b in zip(V, V[1:]):\n    if b == a + N:\n        count += b\nreturn count"),
                 (("[0, N, 2 * N, 2 * N + 1]", "2"), ("[5]", "0"))),
        Template("capped_sums_N", "Return the running sums of V, each at most N.",
                 "sums, total = [], 0\nfor e in V:\n    total += e\n    sums.append(min(total, N))\nreturn sums",
                 ("sums, total = [], 0\nfor e in V:\n    total += e\n    sums.append(max(total, N))\nreturn sums",
                  "sums, total = [], 0\nfor e in V:\n    total -= e\n    sums.append(min(total, N))\nreturn sums",
                  "sums, total = [], 0\nfor e in V:\n    sums.append(min(total, N))\n    total += e\nreturn sums"),
                 (("[1, N, -N]", "[1, N, 1]"), ("[]", "[]"), ("[1, 1]", "[1, 2]"))),
    )),
)
LARGEST = 20


def items(science: Any) -> list[Item]:
    """Return the items of all levels."""
    return drawn("python_functions", science, make, range(len(LEVELS)))


def make(draw: Draw, level: int) -> Question:
    """Return a template with its numbers and names put in."""
    arguments, templates = LEVELS[level]
    template, argument = draw.choice(templates), draw.choice(arguments)
    n = draw.between(3, LARGEST)
    draw.below(n)  # used by revisions before 3; drawn so that prompts and answers stay theirs
    values = {"N": str(n), "V": argument}
    name = template.name.replace("N", values["N"])
    checks = "".join(f"assert {name}({_put(given, values)}) == {_put(value, values)}\n"
                     for given, value in template.tests)
    return Question(
        prompt=f'def {name}({argument}):\n    """{_put(template.says, values)}"""',
        answer=_body(template.right, values),
        distractors=tuple(_body(wrong, values) for wrong in template.wrong), tests=checks)


def _put(text: str, values: dict[str, str]) -> str:
    for letter, value in values.items():
        text = text.replace(letter, value)
    return text


def _body(text: str, values: dict[str, str]) -> str:
    return "".join(f"\n    {line}" for line in _put(text, values).split("\n")) + "\n"
