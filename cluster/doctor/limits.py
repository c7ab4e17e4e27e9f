"""The checks of limits, preemption and accounts: the rules of the cluster, against the profile. They need no job."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from cluster.clients import NoAnswer
from cluster.doctor.ask import Answers, Row, leading, minutes
from cluster.doctor.finding import Finding, failed, ok, unknown, warning
from cluster.profiles import SlurmProfile
from sweeps.errors import nearest


def checks(answers: Answers, profile: SlurmProfile) -> Iterator[Finding]:
    """Yield all of them."""
    yield array(answers, profile)
    yield account(answers, profile)
    yield submit(answers, profile)
    yield preemption(answers, profile)
    yield accounting(answers)


def array(answers: Answers, profile: SlurmProfile) -> Finding:
    """Whether an array may be as large as the profile asks for."""
    largest, wanted = answers.number("MaxArraySize"), profile.limits.array_tasks
    if wanted and wanted > largest:
        return failed("array size", f"limits.array_tasks = {wanted}, the cluster's MaxArraySize is {largest}",
                      "larger submissions are refused", f"limits: {{array_tasks: {largest}}}, or leave it out")
    return ok("array size", f"MaxArraySize {largest}",
              f"up to {min(wanted or largest, profile.slots)} jobs are submitted in one call")


def account(answers: Answers, profile: SlurmProfile) -> Finding:
    """Whether this user may use the account and the QOS."""
    rows = answers.associations
    if isinstance(rows, NoAnswer):
        return _without_accounts(answers, "account", "who may use which account")
    enforced = answers.enforces("associations", "limits", "qos", "safe")
    accounts, qos = {row["Account"] for row in rows}, {q for row in rows for q in row["QOS"].split(",") if q}
    for key, value, known in (("account", profile.account, accounts), ("qos", profile.qos, qos)):
        if value and value not in known:
            seen, fix = f"{key} {value} is none of this user's", f"set `{key}` in the profile; {nearest(value, known)}"
            return failed("account", seen, "every submission is refused", fix) if enforced else \
                warning("account", seen, "the cluster takes the jobs all the same, and counts them under it", fix)
    if enforced and not rows:
        return failed("account", "this user has no account here", "every submission is refused", "ask the site for one")
    return ok("account", f"{', '.join(sorted(accounts)) or 'none'}; QOS: {', '.join(sorted(qos)) or 'none'}"
              + ("" if enforced else " (not enforced)"))


def submit(answers: Answers, profile: SlurmProfile) -> Finding:
    """Whether as many jobs may be queued as the profile asks for."""
    rows = answers.associations
    if isinstance(rows, NoAnswer):
        return _without_accounts(answers, "submitting", "how many jobs may be queued")
    limits = {f"account {row['Account']}": row["MaxSubmitJobs"] for row in answers.mine(profile)}
    limits |= {f"QOS {row['Name']}": row["MaxSubmitJobsPU"] for row in answers.qos_of(profile)}
    numbers = {who: int(text) for who, text in limits.items() if text.isdigit()}
    if not numbers or not answers.enforces("limits", "safe"):
        return ok("submitting", "no limit on queued jobs", f"up to `slots` = {profile.slots} are queued or running")
    who, least = min(numbers.items(), key=lambda item: item[1])
    if least < profile.slots:
        return warning("submitting", f"slots = {profile.slots}, {who} allows {least} jobs queued or running",
                       "a submission beyond that is refused as a whole: the sweep says so, waits, and finds by trying "
                       "how many fit", f"slots: {least}, less what else you run there")
    return ok("submitting", f"{who} allows {least} jobs, slots = {profile.slots}")


def _without_accounts(answers: Answers, check: str, what: str) -> Finding:
    """Return that limits are not known: there are none where the cluster keeps no accounts."""
    if not _keeps_accounts(answers):
        return ok(check, "the cluster keeps no accounts, so there is nothing to obey")
    assert isinstance(answers.associations, NoAnswer)
    return unknown(check, answers.associations.text, f"{what} is not known; sbatch may refuse jobs",
                   "`sacctmgr show associations user=$USER` must work in this shell; else ask the site")


def preemption(answers: Answers, profile: SlurmProfile) -> Finding:
    """What a preempted job gets: which signals, and how much time."""
    config, kind = answers.config, answers.config.get("PreemptType", "preempt/none")
    rows = answers.chosen(profile) if kind == "preempt/partition_prio" else answers.qos_of(profile)
    mode = _mode(config, rows)
    if kind == "preempt/none" or mode == "OFF":
        return ok("preemption", "none: no job is taken off its node for another")
    if "SUSPEND" in mode or "GANG" in mode:
        return warning("preemption", f"{mode}: a preempted job stands still on its node",
                       "its stage, and what waits for it, stand still too",
                       "use a partition or QOS that is not preempted")
    signalled = sends_user_signal(config)
    seconds = min((_seconds(row.get("GraceTime", "")) for row in rows), default=0) + answers.number("KillWait")
    seen = f"{mode}; {'the user signal, then SIGTERM' if signalled else 'SIGTERM only'}; {seconds} s or more to leave"
    means = "a preempted job checkpoints, and its stage goes on from there"
    if seconds >= profile.lead_s:
        return ok("preemption", seen, means)
    asking = "" if signalled else (" and SlurmctldParameters=preempt_send_user_signal (newer: PreemptParameters="
                                   "send_user_signal)")
    return warning("preemption", seen, "a checkpoint that takes longer is lost, and its steps are run again (the "
                   f"profile allows lead_s = {profile.lead_s} s for one)",
                   "run.checkpoint_every in the sweep file bounds what is lost; or ask the site for a GraceTime"
                   f"{asking}")


def _mode(config: Row, rows: Sequence[Row]) -> str:
    """Return how jobs are preempted: as their partition or QOS says, else as the cluster does."""
    own = {row.get("PreemptMode", "").upper() for row in rows} - {"", "CLUSTER"}
    return ",".join(sorted(own - {"OFF"}) or own) or config.get("PreemptMode", "OFF").upper()


def sends_user_signal(config: Row) -> bool:
    """Tell whether preempted jobs get the signal that they asked for; the option has moved, so in both spellings."""
    return "preempt_send_user_signal" in config.get("SlurmctldParameters", "") or \
        "send_user_signal" in config.get("PreemptParameters", "")


def _seconds(text: str) -> int:
    """Return the seconds of `30` or `00:00:30`."""
    return round(minutes(text) * 60) if ":" in text and minutes(text) < math.inf else leading(text)


def _keeps_accounts(answers: Answers) -> bool:
    return answers.config.get("AccountingStorageType", "") not in ("", "(null)", "accounting_storage/none")


def accounting(answers: Answers) -> Finding:
    """Whether the accounts can be asked."""
    means = "sweeps run without: but how a job ended that left no word, and who cancelled it, is not known"
    if not _keeps_accounts(answers):
        return warning("accounting", "the cluster keeps no accounts", means, "ask the site for slurmdbd")
    if isinstance(answers.accounts, NoAnswer):
        return warning("accounting", answers.accounts.text, means, "`sacct` must work in this shell; ask the site")
    return ok("accounting", "sacct answers", "how a job ended that left no word, and who cancelled it, is known")
