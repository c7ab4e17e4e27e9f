"""Verdicts: right answers pass, wrong ones do not, and none can declare itself right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.contract import Item
from workloads.downstream.items import Posed, posed
from workloads.sandbox.box import Box, Outcome, Returned, outcome_of
from workloads.sandbox.judge import body_of, entry_of, verdicts
from workloads.sandbox.values import MAX_DEPTH
from workloads.tasks._python_functions import items as drawn
from workloads.tasks.python_functions import PythonFunctionsScience


def item(prompt: str, answer: str, tests: str) -> Posed:
    return posed("humaneval", Item(id="1", level="test", prompt=prompt, answer=answer, tests=tests))


ROOTS = item('''import math

def poly(xs, x):
    return sum(c * math.pow(x, i) for i, c in enumerate(xs))

def find_zero(xs):
    """ Return x such that poly(xs, x) is zero, for linear ones. """''', "\n    return -xs[0] / xs[1]\n", '''
METADATA = {}

def check(candidate):
    import random
    for _ in range(20):
        coefficients = [random.randint(-9, 9), random.randint(1, 9)]
        assert abs(poly(coefficients, candidate(list(coefficients)))) < 1e-4

check(find_zero)
''')
"""In the shape of HumanEval/32: tests that draw their arguments, use the prompt's helper, and allow for rounding."""
DOUBLE = item('def double(x):\n    """Return x twice."""', "\n    return x * 2\n",
              "assert double(2) == 4\nassert double('a') == 'aa'\nassert double([1]) == [1, 1]\n")


def how(box: Box, of: Posed, *answers: str) -> list[str]:
    [found] = verdicts(box, [of], [answers])
    assert all(v.passed == {"passed": True}.get(v.how, False) for v in found if v.passed is not None)
    return [v.how for v in found]


def test_right_answers_pass_and_distractors_fail(box: Box) -> None:
    found = [posed("python_functions", one) for one in drawn(PythonFunctionsScience(items=6))]
    for one, judged in zip(found, verdicts(box, found, [one.choices_C for one in found]), strict=True):
        assert [v.passed for v in judged] == [place == one.gold for place in range(len(one.choices_C))], (one, judged)


def test_tests_may_be_any_program(box: Box) -> None:
    assert how(box, ROOTS, "\n    return -xs[0] / xs[1]", "\n    return xs[0] / xs[1]", "\n    return 'x'", "") == [
        "passed", "failed", "failed", "failed"]


@pytest.mark.parametrize("answer, said", [
    ("\n    return x + x\n", "passed"), ("\n    return x + x\nassert False\n", "passed"),
    ("\n    return 4\n", "failed"),
    ("\n    raise ValueError\n", "ValueError"), ("\n    return y\n", "NameError"), ("\n    return (", "SyntaxError"),
    ("\n    raise SystemExit(0)\n", "SystemExit"), ("\n    import os; os._exit(0)\n", "no answer"),
    ("\n    yield 4\n", "NotAValue"),
    ("\n    return type('R', (), {'__eq__': lambda *_: True})()\n", "NotAValue"),
    ("\n    return type('R', (str,), {'__eq__': lambda *_: True})()\n", "failed"),
    ("\n    import os; os.write(3, b'V\"passed\"\\n' * 3); os._exit(0)\n", "failed"),
    ("\n    import sys; sys.modules['workloads.sandbox.values'].encode = lambda v: '\"passed\"'\n", "failed"),
    ("\n    import builtins; builtins.AssertionError = builtins.len = lambda *_: True; return 5\n", "exit 70"),
    ("\n    import sys\n    return [v for v in sys._getframe(1).f_locals.values() if v == 4][0]\n", "IndexError"),
])
def test_an_answer_is_judged_by_its_values_alone(box: Box, answer: str, said: str) -> None:
    assert how(box, DOUBLE, answer) == [said]


def test_an_answer_that_raises_in_one_call_is_judged_by_the_tests(box: Box) -> None:
    tests = DOUBLE.tests + "try:\n    double(None)\nexcept TypeError:\n    pass\nelse:\n    assert False\n"
    raising = item(DOUBLE.prompt, "\n    return x * 2\n", tests)
    assert how(box, raising, "\n    return x + x\n", "\n    return x + x if x else 1\n") == ["passed", "failed"]


def test_values_as_deep_or_as_long_as_they_may_be_are_judged_too(box: Box) -> None:
    deep = "\n    for _ in range(MAX): x = [x]\n    return x\n"
    assert how(box, DOUBLE, deep.replace("MAX", str(MAX_DEPTH)), deep.replace("MAX", str(MAX_DEPTH + 1)),
               "\n    return 'x' * 20_000\n", "\n    return 10 ** 10_000\n", "\n    return '\\ud800'\n") == [
        "failed", "NotAValue", "failed", "failed", "failed"]


def test_tests_may_ask_for_nothing_but_exceptions(box: Box) -> None:
    tests = "try:\n    double(None)\nexcept TypeError:\n    pass\nelse:\n    assert False\n"
    raising = item(DOUBLE.prompt, "\n    return x * 2\n", tests)
    assert how(box, raising, "\n    return x + x\n", "\n    raise KeyError\n") == ["passed", "KeyError"]


def test_an_answer_cannot_change_what_the_tests_compare_with(box: Box) -> None:
    one = item('def tail(xs):\n    """Return xs without its first."""', "\n    return xs[1:]\n",
               "given = [1, 2]\nassert tail(given) == [2] and given == [1, 2]\n")
    assert how(box, one, "\n    xs.pop(0)\n    return xs\n") == ["passed"]  # it changed a copy: documented


def test_tests_that_cannot_be_judged_say_nothing_about_the_answer(box: Box) -> None:
    dependent = item(DOUBLE.prompt, "\n    return x * 2\n", "assert double(double(1)) == 4\n")
    broken = item(DOUBLE.prompt, "\n    return x * 2\n", "assert double(1) == 3\n")
    idle = item(DOUBLE.prompt, "\n    return x * 2\n", "pass\n")
    right = "\n    return x + x\n"
    [[one], [two], [three], [fine]] = verdicts(box, [dependent, broken, idle, DOUBLE], [[right]] * 4)
    assert (one.passed, two.passed, three.passed, fine.passed) == (True, None, None, True)
    [[wrong]] = verdicts(box, [dependent], [["\n    return x\n"]])
    assert wrong.passed is None and wrong.how == "other calls"


def test_the_body_ends_where_the_function_does() -> None:
    assert body_of("\n    a\n\n    b\nprint(1)\n    c") == "\n    a\n\n    b\n"
    assert body_of(" x\n") == " x\n\n" and body_of("") == "\n"
    assert entry_of(ROOTS) == "find_zero" and entry_of(DOUBLE) == "double"


@given(st.binary())
def test_no_answer_of_a_program_is_an_error_of_ours(body: bytes) -> None:
    found = outcome_of(b'{"ended": "finished", "wall_s": 0.0, "cpu_s": 0.0}\n' + body)
    assert isinstance(found, Outcome) and all(isinstance(one.value, object) for one in found.returns
                                              if isinstance(one, Returned))
