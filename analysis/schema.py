"""Columns of every frame and table: name, dtype, unit and meaning. What has no schema is not written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

NATS = "nats/token"
TOKENS = "tokens"


@dataclass(frozen=True)
class Column:
    """One column of a frame or table."""

    name: str
    dtype: str
    """`str`, `category`, `int64`, `float64` or `bool`; missing values are NaN, and exist only in float columns."""
    unit: str
    """Empty where the value has none."""
    meaning: str


Columns = Sequence[Column]


def detectable(name: str = "detectable_nats", what: str = "gain", unit: str = NATS) -> Column:
    """Return the column of the minimum detectable effect (`Interval.detectable`) that tables of differences share."""
    return Column(name, "float64", unit, f"{what} found with 80 % power at this n and sd (MDE; noncentral t)")


def frame_of(rows: Iterable[Mapping[str, Any]], columns: Columns) -> pd.DataFrame:
    """Return the rows as a frame that has exactly these columns, in this order, with these dtypes.

    Raises:
        KeyError: a row lacks a column.
    """
    listed = list(rows)
    return pd.DataFrame({c.name: pd.Series([r[c.name] for r in listed], dtype=_pandas(c.dtype)) for c in columns})


def frame_of_columns(values: Mapping[str, Sequence[Any]], columns: Columns) -> pd.DataFrame:
    """Return columns given as sequences (the fast way for millions of rows) as a frame with these dtypes."""
    return pd.DataFrame({c.name: pd.Series(values[c.name], dtype=_pandas(c.dtype)) for c in columns})


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a frame's rows as plain values, as `to_dict` does, but column by column."""
    names = [str(c) for c in frame.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*(plain_values(frame[n]) for n in names), strict=True)]


def plain_values(column: pd.Series) -> list[Any]:
    """Return a column's values as `tolist` does, which takes texts one by one out of Arrow."""
    found: list[Any] = column.to_numpy().tolist()
    return found


def _pandas(dtype: str) -> Any:
    return dtype


TRIALS = (
    Column("trial", "str", "", "trial id"),
    Column("arm", "str", "", "what is compared, the same in all domains"),
    Column("upstream", "str", "", "upstream plug-in"),
    Column("complexity", "str", "%", "complexity band as written; empty where the upstream has none"),
    Column("band", "str", "%", "the band, also where it is a plain field of the upstream (a control); empty: none"),
    Column("note", "str", "", "the upstream's own note, for instance the raw band"),
    Column("token_budget", "str", "", "upstream budget as written"),
    Column("upstream_tokens", "int64", TOKENS, "realised upstream tokens T_ppt"),
    Column("domain", "str", "", "target domain"),
    Column("seed", "int64", "", "seed; arms of one seed share text order and body initialisation"),
    Column("pretrain_tokens", "int64", TOKENS, "PT tokens at the last end"),
    Column("baseline", "str", "", "id of the scratch trial of the same domain and seed"),
    Column("is_baseline", "bool", "", "the trial is its own baseline"),
    Column("is_control", "bool", "", "its upstream is a control: a gain that it shares is not a gain from structure"),
    Column("control_of", "str", "", "upstream whose fields the control keeps; empty: no control, or one of all"),
    Column("upstream_flops", "float64", "FLOP", "training FLOPs of the upstream stages on its path"),
    Column("flops_per_token", "float64", "FLOP/token", "PT FLOPs per PT token on its path"),
    Column("pretrain_lr", "float64", "", "peak learning rate of its PT, as its stage has it; missing before it exists"),
    Column("upstream_lr", "float64", "", "the same of its upstream; missing where none is trained"),
    Column("status", "str", "", "scored, diverged, withheld (its upstream was not learned, and gate: "
                                "require), missing, damaged or unscored (no finite loss at its last end)"),
    Column("complete", "bool", "", "every planned evaluation that counts is there"),
)
"""One row per planned trial."""

CURVES = (
    Column("trial", "category", "", "trial id"),
    Column("arm", "category", "", "what is compared"),
    Column("domain", "category", "", "target domain"),
    Column("seed", "int64", "", "seed"),
    Column("upstream_tokens", "int64", TOKENS, "realised upstream tokens"),
    Column("tokens", "float64", TOKENS, "PT tokens; whole numbers but in files of curves"),
    Column("loss", "float64", NATS, "validation loss"),
    Column("bits_per_byte", "float64", "bits/byte", "the same loss per byte of text; comparable across tokenizers"),
    Column("scored", "bool", "", "an evaluation that counts; false: drawn only (a point of a WSD trunk)"),
)
"""One row per evaluation."""

SCORES = (
    Column("trial", "category", "", "trial id"),
    Column("role", "category", "", "gate, evaluate (final model), twin (untrained one), downstream, downstream_twin, "
                                "downstream_untuned"),
    Column("name", "category", "", "score name as the task states it"),
    Column("value", "float64", "", "its value, in the task's unit"),
)
"""One row per score of a trial."""

TRAINED = (
    Column("mfu", "float64", "", "causal FLOPs over the cards' specified bf16 peak; missing on CPUs and unknown cards"),
    Column("matmul_share", "float64", "", "the same FLOPs over what the cards reached in large matrix products"),
    Column("step_seconds_p50", "float64", "s", "median step"),
    Column("step_seconds_p99", "float64", "s", "99th percentile of the steps"),
    Column("data_wait_share", "float64", "", "share of training time in which the host fetched sequences"),
    Column("checkpoint_stall_seconds", "float64", "s", "time in which training stood still for checkpoints"),
    Column("loss_spikes", "float64", "", "losses that jumped, since the beginning of the run"),
)
"""What a training stage tells of itself beside its result; missing where it trains nothing, or in older records. All
but the last are measured, of the attempt that committed."""

LEFT_OUT = (
    Column("damaged_lines", "int64", "", "lines of metrics that did not verify"),
    Column("repeated_lines", "int64", "", "lines of metrics whose number another line before them has"),
    Column("altered_files", "int64", "", "committed metrics that are not what the result says (SHA-256)"),
    Column("lost_attempts", "int64", "", "attempts whose rows a later one continues, and which are gone"),
    Column("lost_items", "int64", "", "records of items that are gone, altered, or Parquet that needs pyarrow here"),
    Column("other_copies", "int64", "", "finished copies in further stores, whose rows are others"),
)
"""What was in the records, or should have been, and is in no number: the table `missing` lists all of it."""

STEPS = (
    Column("trial", "category", "", "trial id"),
    Column("role", "category", "", "role of the step on the trial's path"),
    Column("kind", "category", "", "stage kind"),
    Column("fingerprint", "category", "", "the stage's identity"),
    Column("tokens", "int64", TOKENS, "training tokens at the stage's end"),
    Column("status", "category", "", "done, diverged, unscored, damaged, withheld, started or absent"),
    Column("seconds", "float64", "s", "wall time of the attempt that committed"),
    *LEFT_OUT,
    *TRAINED,
)
"""One row per step of a trial's path."""

ITEMS = (
    Column("trial", "category", "", "trial id"),
    Column("role", "category", "", "downstream or downstream_twin"),
    Column("task", "category", "", "downstream task"),
    Column("path", "str", "", "file of its scores item by item, from the store's root; empty: it is lost"),
)
"""One row per downstream task of a trial."""

FRAMES = {"trials": TRIALS, "curves": CURVES, "scores": SCORES, "steps": STEPS, "items": ITEMS}

LOOKED = (
    Column("trial", "category", "", "trial id"),
    Column("path", "category", "", "what was looked at, or for, when its records were read; from the store's root"),
    Column("inode", "int64", "", "of what was there; 0: nothing was"),
    Column("size", "int64", "bytes", "of the same"),
    Column("changed", "int64", "ns", "when it was changed last, by the store's clock"),
)
"""What a trial's rows were read from (`kept.py`)."""
