"""What follows from each class: pure, and never without an end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.failures import Failure
from orchestrator.policy import COUNTED, INTERRUPTIONS, Action, Breaker, Death, End, Nodes, Record
from sweeps.language.policy import Policy

F, A = Failure, Action
DEFAULT = Policy()


def actions(*ends: End, policy: Policy = DEFAULT) -> list[Action]:
    record = Record()
    return [record.decide(end, policy).action for end in ends]


@pytest.mark.parametrize("failure", [F.PREEMPTED, F.NODE, F.HANG, F.UNKNOWN, F.TIMEOUT])
def test_an_interrupted_stage_that_advances_is_never_given_up(failure: Failure) -> None:
    assert actions(*[End(failure=failure, advanced=True)] * 50) == [A.RESUME] * 50


@pytest.mark.parametrize("failure", [F.PREEMPTED, F.NODE, F.HANG, F.UNKNOWN])
def test_an_interrupted_stage_that_does_not_advance_has_three_tries_since_it_last_did(failure: Failure) -> None:
    still, on = End(failure=failure), End(failure=failure, advanced=True)
    assert actions(still, still, on, still, still, still) == [A.RESUME] * 5 + [A.GIVE_UP]


def test_a_time_limit_within_which_nothing_advances_is_said_to_be_too_short() -> None:
    decision = Record().decide(End(failure=F.TIMEOUT), DEFAULT)
    assert decision.action is A.GIVE_UP and "shorter than a checkpoint interval" in decision.text
    assert actions(End(failure=F.TIMEOUT, whole=False)) == [A.RESUME], "other stages had used up the job's time"


@pytest.mark.parametrize("failure", [F.CODE, F.DATA, F.OOM_HOST, F.DIVERGED])
def test_what_lies_in_the_stage_is_not_tried_again(failure: Failure) -> None:
    assert actions(End(failure=failure, advanced=True)) == [A.GIVE_UP]


def test_what_the_cluster_refuses_ends_the_sweep_and_counts_as_no_try() -> None:
    refused = [End(failure=F.CODE, refused=True)] * 9
    assert actions(*refused, End(failure=F.CODE), policy=Policy(code=2)) == [A.PAUSE] * 9 + [A.RESUME]


def test_the_policy_of_a_sweep_counts() -> None:
    policy = Policy(code=2, unknown=1, oom_gpu="stop")
    assert actions(End(failure=F.CODE), End(failure=F.CODE), policy=policy) == [A.RESUME, A.GIVE_UP]
    assert actions(End(failure=F.UNKNOWN), policy=policy) == [A.GIVE_UP]
    assert actions(End(failure=F.OOM_GPU, half_batch=4), policy=policy) == [A.GIVE_UP]


def test_a_gpu_without_room_gets_half_the_micro_batch_while_there_is_one() -> None:
    record = Record()
    decision = record.decide(End(failure=F.OOM_GPU, half_batch=4), DEFAULT)
    assert decision.action is A.HALVE and "micro_batch 4" in decision.text
    assert record.decide(End(failure=F.OOM_GPU, half_batch=None), DEFAULT).action is A.GIVE_UP


def test_an_evaluation_without_room_is_not_told_of_a_micro_batch_that_it_does_not_have() -> None:
    decision = Record().decide(End(failure=F.OOM_GPU, trains=False), DEFAULT)
    assert decision.action is A.GIVE_UP and "16 sequences" in decision.text and "micro_batch" not in decision.text
    assert "run.micro_batch" in Record().decide(End(failure=F.OOM_GPU), DEFAULT).text


def test_who_cancelled_decides_whether_it_is_run_again() -> None:
    assert actions(End(failure=F.CANCELLED), End(failure=F.CANCELLED, asked=True)) == [A.CANCEL, A.RESUME]


def test_want_of_space_pauses_and_counts_as_nothing() -> None:
    assert actions(*[End(failure=F.STORAGE)] * 9) == [A.PAUSE] * 9


@given(st.lists(st.sampled_from(sorted(COUNTED)).map(lambda f: End(failure=f)), min_size=30, max_size=60))
def test_a_stage_that_never_advances_is_given_up_however_it_ends(ends: list[End]) -> None:
    assert A.GIVE_UP in actions(*ends)
    assert len(COUNTED) * 3 < 30


def test_a_node_is_excluded_after_it_failed_two_different_stages() -> None:
    nodes = Nodes(exclude_after=2)
    assert [nodes.note("n1", "a"), nodes.note("n1", "a"), nodes.note("n2", "b")] == [False] * 3
    assert nodes.excluded == ()
    assert nodes.note("n1", "b") and not nodes.note("n1", "c")
    assert nodes.excluded == ("n1",)


def death(label: str, seconds: float | None = 1.0, line: str = "KeyError: 'x' at 0x7f01", failure: Failure = F.CODE,
          kind: str = "pretrain") -> Death:
    return Death(kind=kind, label=label, failure=failure, seconds=seconds, last_line=line,
                 text=f"Traceback ...\n{line}")


class TestBreaker:
    """The first stages that die alike, at once, pause the sweep."""

    def breaker(self, *deaths: Death, policy: Policy = DEFAULT) -> Breaker:
        made = Breaker(policy=policy)
        for one in deaths:
            made.died(one)
        return made

    def test_three_alike_pause_with_the_common_traceback_once(self) -> None:
        pause = self.breaker(death("a"), death("b", line="KeyError: 'x' at 0x7f02"), death("c")).tripped()
        assert pause is not None and pause.exit_code == 6
        assert str(pause).count("Traceback") == 1 and "a; also b, c" in str(pause)

    def test_two_do_not_and_the_number_can_be_changed(self) -> None:
        assert self.breaker(death("a"), death("b")).tripped() is None
        assert self.breaker(death("a"), death("b"), policy=Policy(breaker=2)).tripped() is not None
        assert self.breaker(*map(death, "abcdef"), policy=Policy(breaker=None)).tripped() is None

    @pytest.mark.parametrize("other", [
        death("o", line="ValueError: y"), death("o", seconds=61.0), death("o", seconds=None),
        death("o", failure=F.DATA)])
    def test_one_that_differs_or_lived_long_means_that_it_is_not_the_environment(self, other: Death) -> None:
        assert self.breaker(death("a"), other, *map(death, "bcde")).tripped() is None

    @pytest.mark.parametrize("failure", sorted(INTERRUPTIONS - {F.UNKNOWN}))
    def test_what_the_cluster_does_says_nothing_about_the_sweep(self, failure: Failure) -> None:
        assert self.breaker(*[death(c, failure=failure) for c in "abcd"]).tripped() is None
        assert self.breaker(death("o", failure=failure), *map(death, "abc")).tripped() is not None

    def test_after_a_success_failures_are_the_stages_own(self) -> None:
        breaker = self.breaker(death("a"), death("b"))
        breaker.succeeded("pretrain")
        breaker.died(death("c"))
        assert breaker.tripped() is None

    def test_a_success_of_another_kind_proves_nothing_and_neither_does_its_own_way_to_die(self) -> None:
        breaker = self.breaker(death("t", kind="text", line="no such file", failure=F.DATA), death("a"),
                               death("b", kind="prepretrain"))
        breaker.succeeded("corpus")
        assert breaker.tripped() is None
        breaker.died(death("c"))
        pause = breaker.tripped()
        assert pause is not None and "first 3 prepretrain/pretrain stages all raised an error" in str(pause)
        breaker.succeeded("prepretrain")
        assert breaker.tripped() is None, "two are left"
