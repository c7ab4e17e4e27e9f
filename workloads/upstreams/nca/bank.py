"""Banks of accepted rules: found block by block, written as plain NumPy files, read through memory maps.

Accepted rule k is the first of the candidates (k, 0), (k, 1), ... whose score lies in the band: a pure function of
(seed, stream, bank fields, k), so blocks are independent and may be made in any order. A rule of n = 10 takes 6.4 KB.

Files of a block: `bank.json`, `tables.npy` (rules, K, N, C) and `outputs.npy` (rules, C, N) in units of 2^-20,
`candidates.npy` (rules,) = which j was accepted, `scores.npy` (rules, trials) = its raw scores, `realised.npy` = what
training sees of some of them (`realised.py`).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sweeps.errors import UsageError
from workloads.contract import Stopped
from workloads.ranks import threads
from workloads.upstreams.nca.backend import fastest
from workloads.upstreams.nca.complexity import Band, ceiling, gzip_lengths, raw_bytes, require_known_zlib
from workloads.upstreams.nca.philox import Words, derive_key
from workloads.upstreams.nca.realised import account
from workloads.upstreams.nca.rollout import Backend, Rules
from workloads.upstreams.nca.science import NcaBankScience

Ints = npt.NDArray[np.int64]
SCHEMA = 1
LANES = 64
"""Rules that look for their candidate at the same time; changes no result."""
MAX_CANDIDATES = 100_000
"""Candidates of one rule after which a band counts as impossible: it accepts fewer than 1 in 10,000."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """Draws and scores the candidates of one stream."""

    bank: NcaBankScience
    seed: int
    stream: str
    backend: Backend = field(default_factory=fastest)
    threads: int = field(default_factory=threads)

    def score(self, rule_B: Ints, candidate_B: Ints) -> tuple[Rules, npt.NDArray[np.float64]]:
        """Return the candidates (k, j) and their raw scores (B, trials)."""
        number = np.stack([rule_B, candidate_B], axis=1).astype(np.uint64)
        if self.threads == 1 or len(number) == 1:
            return self._score(number)
        parts = list(self._pool.map(self._score, np.array_split(number, min(self.threads, len(number)))))
        rules = Rules(
            tables_BKNC=np.concatenate([rules.tables_BKNC for rules, _ in parts]),
            outputs_BCN=np.concatenate([rules.outputs_BCN for rules, _ in parts]),
        )
        return rules, np.concatenate([scores for _, scores in parts])

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads)

    def _score(self, number_B2: Words) -> tuple[Rules, npt.NDArray[np.float64]]:
        rules = self.backend.draw_rules(self.bank, derive_key("nca", "rules", self.stream, self.seed), number_B2)
        lengths = [self._lengths(rules, number_B2, trial) for trial in range(self.bank.complexity.trials)]
        return rules, np.stack(lengths, axis=1) / raw_bytes(self.bank)

    def _lengths(self, rules: Rules, number_B2: Words, trial: int) -> Ints:
        key = derive_key("nca", "score", trial, self.stream, self.seed)
        frames = self.backend.rollout(self.bank, rules, key, number_B2, self.bank.complexity.frames)
        return gzip_lengths(self.backend.patch_tokens(frames, self.bank.states, self.bank.patch))


@dataclass(frozen=True, kw_only=True)
class Block:
    """The accepted rules `first .. first + len - 1`."""

    rules: Rules
    candidate_B: Ints
    score_BK: npt.NDArray[np.float64]


def find_rules(search: Search, first: int, count: int, progress: Callable[[int], bool]) -> Block:
    """Return accepted rules `first .. first + count - 1`.

    Raises:
        Stopped: `progress` asked to stop.
        UsageError: a rule had `MAX_CANDIDATES` candidates and none was accepted.
    """
    bank, net = search.bank, search.bank.network
    band = Band.of(bank)
    rules = Rules(
        tables_BKNC=np.empty((count, net.neighbourhood**2, bank.states, net.relu_channels), np.int32),
        outputs_BCN=np.empty((count, net.relu_channels, bank.states), np.int32),
    )
    accepted = np.zeros(count, np.int64)
    scores = np.empty((count, bank.complexity.trials))
    rule, candidate = np.arange(min(LANES, count)), np.zeros(min(LANES, count), np.int64)
    waiting, done = len(rule), 0
    while len(rule):
        drawn, score = search.score(first + rule, candidate)
        taken = band.accepts(score)
        place = rule[taken]
        rules.tables_BKNC[place], rules.outputs_BCN[place] = drawn.tables_BKNC[taken], drawn.outputs_BCN[taken]
        accepted[place], scores[place] = candidate[taken], score[taken]
        done += len(place)
        if progress(done):
            raise Stopped(f"{done} of {count} rules found")
        fresh = np.arange(waiting, min(waiting + len(place), count))
        waiting += len(fresh)
        candidate = np.concatenate([candidate[~taken] + 1, np.zeros(len(fresh), np.int64)])
        rule = np.concatenate([rule[~taken], fresh])
        _refuse_endless(bank, candidate)
    return Block(rules=rules, candidate_B=accepted, score_BK=scores)


def _refuse_endless(bank: NcaBankScience, candidate_B: Ints) -> None:
    if candidate_B.max(initial=0) >= MAX_CANDIDATES:
        scoring = bank.complexity
        raise UsageError(
            f"complexity.band {scoring.band} ({scoring.scale}) accepted none of {MAX_CANDIDATES} random rules with "
            f"n = {bank.states}; the noise ceiling is {ceiling(bank):.3f} raw. Choose a lower or wider band"
        )


def make_bank(  # noqa: PLR0913 - the arguments of contract.MakeBank
    bank: NcaBankScience, *, seed: int, stream: str, first: int, count: int, folder: Path,
    progress: Callable[[int], bool],
) -> Mapping[str, float]:
    """Write the block of accepted rules `first .. first + count - 1` into `folder`; a `contract.MakeBank`.

    Returns:
        Shares and raw scores as fractions, and counts: `realised.account` states them.

    Raises:
        EnvironmentError_: another compressor than zlib.
        Stopped: `progress` asked to stop.
        UsageError: the block is empty or the band accepts nothing.
    """
    if first < 0 or count < 1:
        raise UsageError(f"a block of rules starts at 0 or later and holds at least 1: first {first}, count {count}")
    require_known_zlib()
    search = Search(bank=bank, seed=seed, stream=stream)
    block = find_rules(search, first, count, progress)
    found = account(search, block, first)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "tables.npy", block.rules.tables_BKNC)
    np.save(folder / "outputs.npy", block.rules.outputs_BCN)
    np.save(folder / "candidates.npy", block.candidate_B)
    np.save(folder / "scores.npy", block.score_BK)
    np.save(folder / "realised.npy", found.realised_S2)
    header = {
        "schema": SCHEMA, "first": first, "count": count, "seed": seed, "stream": stream,
        "bank": bank.model_dump(mode="json"), "zlib": zlib.ZLIB_RUNTIME_VERSION, "record": found.record,
    }
    (folder / "bank.json").write_text(json.dumps(header, indent=1, sort_keys=True) + "\n")
    return found.scores
