"""Every state of the manual means what it should; what is in no manual is never the end of a job."""

from __future__ import annotations

import pytest

from cluster.job import JobState
from cluster.states import BASE, FLAGS, read

ENDED, PENDING, RUNNING, UNKNOWN = JobState.ENDED, JobState.PENDING, JobState.RUNNING, JobState.UNKNOWN

MANUAL = {
    # squeue(1) and sacct(1), JOB STATE CODES
    "BOOT_FAIL": ENDED, "CANCELLED": ENDED, "COMPLETED": ENDED, "DEADLINE": ENDED, "FAILED": ENDED, "NODE_FAIL": ENDED,
    "OUT_OF_MEMORY": ENDED, "PENDING": PENDING, "PREEMPTED": ENDED, "RUNNING": RUNNING, "SUSPENDED": RUNNING,
    "TIMEOUT": ENDED,
    # flags
    "COMPLETING": RUNNING, "CONFIGURING": PENDING, "EXPEDITING": PENDING, "LAUNCH_FAILED": UNKNOWN,
    "POWER_UP_NODE": PENDING, "RECONFIG_FAIL": UNKNOWN, "REQUEUED": PENDING, "REQUEUE_FED": PENDING,
    "REQUEUE_HOLD": PENDING, "RESIZING": RUNNING, "RESV_DEL_HOLD": PENDING, "REVOKED": UNKNOWN, "SIGNALING": RUNNING,
    "SPECIAL_EXIT": PENDING, "STAGE_OUT": RUNNING, "STOPPED": RUNNING, "UPDATE_DB": UNKNOWN,
}


@pytest.mark.parametrize("word", MANUAL)
def test_each_word_of_the_manual(word: str) -> None:
    reading = read(word)
    assert (reading.state, reading.words, reading.unknown) == (MANUAL[word], (word,), ())


def test_the_table_has_no_other_words() -> None:
    assert set(BASE) | set(FLAGS) == set(MANUAL)
    assert not set(BASE) & set(FLAGS)


def test_no_flag_ends_a_job() -> None:
    assert ENDED not in FLAGS.values()


@pytest.mark.parametrize("text, state, words", [
    ("CANCELLED by 1000", ENDED, ("CANCELLED",)),
    ("CANCELLED by a user", UNKNOWN, ("CANCELLED", "user")),
    ("CANCELLED+", ENDED, ("CANCELLED",)),
    ("OUT_OF_ME+", ENDED, ("OUT_OF_MEMORY",)),
    ("COMPLET+", UNKNOWN, ("COMPLET+",)),
    ("RE+", UNKNOWN, ("RE+",)),
    ("+", UNKNOWN, ("+",)),
    ("PREEMPTED,REQUEUED", PENDING, ("PREEMPTED", "REQUEUED")),
    ("NODE_FAIL REQUEUED", PENDING, ("NODE_FAIL", "REQUEUED")),
    ("COMPLETED,COMPLETING", RUNNING, ("COMPLETED", "COMPLETING")),
    ("FAILED,REQUEUE_HOLD", PENDING, ("FAILED", "REQUEUE_HOLD")),
    ("COMPLETED,SOMETHING_NEW", UNKNOWN, ("COMPLETED", "SOMETHING_NEW")),
    ("RUNNING,SOMETHING_NEW", RUNNING, ("RUNNING", "SOMETHING_NEW")),
    ("  RUNNING  ", RUNNING, ("RUNNING",)),
    ("", UNKNOWN, ()),
    ("completed", UNKNOWN, ("completed",)),
])
def test_what_clients_make_of_the_words(text: str, state: JobState, words: tuple[str, ...]) -> None:
    reading = read(text)
    assert (reading.state, reading.words) == (state, words)


@pytest.mark.parametrize("text", ["SOMETHING_NEW", "COMPLETED,SOMETHING_NEW", "RE+", "DONE"])
def test_an_unknown_word_is_never_the_end_and_is_reported(text: str) -> None:
    reading = read(text)
    assert reading.state is not ENDED
    assert reading.unknown


@pytest.mark.parametrize("text, held", [("REQUEUE_HOLD", True), ("SPECIAL_EXIT", True), ("PENDING", False)])
def test_a_job_that_waits_for_a_person_is_known(text: str, held: bool) -> None:
    assert read(text).held is held
