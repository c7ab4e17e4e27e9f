"""How training stages fare, by their records: speed, and what a person should look at. Light: `status` imports it.

    straggler     one rank computes longer than the median of the others, STRAGGLER times as long, in each of the last
                  STRAGGLER_ROWS rows. Under ZeRO 3 every layer waits for all ranks, so none stands out there
    mixed cards   the ranks have GPUs of different types: the slowest sets the pace of all
    loss spikes   `workloads.training.incidents` has the rule
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from statistics import median
from typing import Any

from sweeps.store.files import number, read_json, read_lines
from sweeps.store.layout import AttemptFolder

Values = Mapping[str, Any]
STRAGGLER, STRAGGLER_ROWS = 1.2, 3
SPEED = ("tokens_per_second", "step_seconds_p50", "step_seconds_p90", "step_seconds_p99", "data_wait_share",
         "checkpoint_stall_seconds", "mfu", "matmul_share")
"""What is shown; `workloads.training.telemetry` says what each is."""
STALL = "checkpoint_stall_seconds"


def rows_of(attempt: AttemptFolder | None) -> list[Mapping[str, Any]]:
    """Return the sound lines of an attempt's metrics, in order."""
    return [row for row in read_lines(attempt.metrics) if row] if attempt else []


def last_train(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the newest training row; empty where there is none."""
    return next((row for row in reversed(rows) if row["kind"] == "train"), {})


def speed_now(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return what the newest training row measured, and the stall of all; None: not measured, such as MFU on a CPU."""
    values = last_train(rows).get("values", {})
    stalls = [number(row["values"][STALL]) for row in rows if row["kind"] == "train" and STALL in row["values"]]
    return {name: _number(values.get(name)) for name in SPEED} | {STALL: sum(stalls) if stalls else None}


def speed_of_all(scores: Iterable[Values]) -> dict[str, float | None]:
    """Return the medians over finished stages, and the stall of all together."""
    listed = list(scores)
    given = {name: [v for s in listed if (v := _number(s.get(name))) is not None] for name in SPEED}
    return {name: (sum(v) if name == STALL else median(v)) if v else None for name, v in given.items()}


def _number(value: Any) -> float | None:
    return None if value is None else number(value)


def lines(speed: Values) -> Iterator[str]:
    """Yield what was measured in words, each line of 70 characters at most; nothing where nothing was."""
    if speed["step_seconds_p50"] is not None:
        steps = ", ".join(f"{1000 * speed[f'step_seconds_p{p}']:.3g}" for p in (50, 90, 99))
        yield (f"step {steps} ms (p50, p90, p99)  data {100 * speed['data_wait_share']:.2g} %  "
               f"saving {speed[STALL]:.3g} s")
    if speed["mfu"] is not None:
        measured = speed["matmul_share"]
        beside = f", {100 * measured:.1f} % of a measured product" if measured is not None else ""
        yield f"MFU {100 * speed['mfu']:.1f} % of the bf16 specification{beside}"


def notices(attempt: AttemptFolder, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what a person should look at, each in a line."""
    spikes = [row["values"] for row in rows if row["kind"] == "spike"]
    if spikes:
        last = spikes[-1]
        yield (f"{len(spikes)} loss spike{'s' if len(spikes) > 1 else ''}, the last at update {int(last['update']):,}: "
               f"{last['loss']:.4g}, limit {last['limit']:.4g}")
    if (slow := straggler([row["values"] for row in rows if row["kind"] == "train"])) is not None:
        yield f"straggler: rank {slow[0]} computes {slow[1]:.2f} times as long as the others"
    with suppress(FileNotFoundError, ValueError):
        found = Counter(read_json(attempt.cards)["devices"])
        if len(found) > 1:
            yield "mixed GPUs: " + ", ".join(f"{count} {name}" for name, count in found.most_common())


def told(attempt: AttemptFolder) -> Iterator[str]:
    """Yield what `why` says of how an attempt at a training stage fared: where it diverged, and the notices."""
    with suppress(FileNotFoundError, ValueError):
        yield f"{read_json(attempt.divergence)['text']}; details: {attempt.divergence}"
    yield from notices(attempt, rows_of(attempt))


def straggler(values: Sequence[Values]) -> tuple[int, float] | None:
    """Return the rank that is slower than the others by the rule above, and its newest factor; None: there is none."""
    newest = values[-STRAGGLER_ROWS:]
    if len(newest) < STRAGGLER_ROWS or not all("slowest_rank" in row for row in newest):
        return None
    ranks = {int(row["slowest_rank"]) for row in newest}
    slow = all(row["slowest_rank_factor"] >= STRAGGLER for row in newest)
    return (ranks.pop(), float(newest[-1]["slowest_rank_factor"])) if slow and len(ranks) == 1 else None
