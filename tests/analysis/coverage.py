"""Made-up experiments whose truth is known, and how often each interval holds it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from analysis.convergence import Curve, Floats, crossing
from analysis.equivalence import equivalence, margin_of
from analysis.inversion import speedup_interval
from analysis.scaling import equivalent_data, fit
from analysis.simultaneous import family, plausible_best, split_selection
from analysis.statistics import paired_t, sign_flip_p

Held = dict[str, bool]
SEED_SD = 0.02
"""Nats that all runs of one seed share: what pairing takes away."""
SIX, THREE = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0), (0.5, 0.7, 1.0)
BANDS = np.array([0.0, 0.01, 0.012, 0.005])
"""True gains of four bands, nats; the third is the best."""
ALPHA = 0.35


@dataclass(frozen=True, kw_only=True)
class World:
    """How losses come about: E + A (share of T_b)^-alpha, a seed's level, a run's own level, an evaluation's noise."""

    speedup: float = 1.25
    """The arm at t has the loss of the baseline at `speedup` t."""
    noise: float = 0.002
    """Standard deviation of one evaluation, nats."""
    run: float = 0.003
    """Standard deviation of a run's own level, nats."""
    flat: float = 9.0
    """Share of T_b after which no loss falls any more."""
    ends: tuple[float, ...] = SIX

    def mean(self, share: Floats) -> Floats:
        """Expected loss at shares of T_b."""
        losses: Floats = 2.7 + 0.8 * np.minimum(share, self.flat) ** -ALPHA
        return losses

    def truth(self) -> float:
        """The speed-up that the interval is about: that of the expected curve, linear between its evaluations."""
        shares = np.array(self.ends)
        found = crossing(Curve(shares, self.mean(self.speedup * shares)), float(self.mean(np.ones(1))[0]) + 1e-12)
        return self.speedup if found is None else 1 / found


WORLDS: Mapping[str, World] = {
    "six evaluations": World(), "three evaluations": World(ends=THREE), "noisy": World(noise=0.01, run=0.01),
    "null": World(speedup=1.0), "flat tail": World(flat=0.8), "flat tail, null": World(flat=0.8, speedup=1.0),
    "some seeds censored": World(speedup=1.015), "censored": World(speedup=0.95),
}


def pairs(world: World, n: int, rng: np.random.Generator) -> tuple[list[Curve], list[Curve]]:
    """Draw the baselines and arms of n seeds."""
    shares = np.array(world.ends)
    drawn: tuple[list[Curve], list[Curve]] = ([], [])
    for _ in range(n):
        level = rng.normal(0, SEED_SD)
        for side, factor in enumerate((1.0, world.speedup)):
            noise = rng.normal(0, world.run) + rng.normal(0, world.noise, len(shares))
            drawn[side].append(Curve(shares, world.mean(factor * shares) + level + noise))
    return drawn


def of_pair(world: World, n: int, rng: np.random.Generator) -> Held:
    """Whether gain, speed-up, exponent and equivalent data are held, of one arm over its baseline."""
    baselines, arms = pairs(world, n, rng)
    targets = [float(c.losses[-1]) for c in baselines]
    gains = [t - float(c.losses[-1]) for t, c in zip(targets, arms, strict=True)]
    one = np.ones(1)
    true_gain = float((world.mean(one) - world.mean(world.speedup * one))[0])
    gain, speedup = paired_t(gains), speedup_interval(targets, [1.0] * n, arms)
    held = {"gain, paired t": gain.low <= true_gain <= gain.high,
            "speed-up, test inversion": not (speedup.low > world.truth() or speedup.high < world.truth())}
    if world.flat > 1:
        law = fit(baselines)
        assert law is not None
        data = equivalent_data(law, gains)
        held["alpha, profile F"] = not (law.alpha_low > ALPHA or law.alpha_high < ALPHA)
        held["equivalent data, Fieller"] = not (data.low > world.speedup or data.high < world.speedup)
    return held


def of_bands(world: World, n: int, rng: np.random.Generator) -> Held:
    """Whether the intervals that pay for choosing one of four bands hold the truth."""
    sd = float(np.hypot(world.noise, world.run))
    level = rng.normal(0, SEED_SD, n)
    reference = 3 + level + rng.normal(0, sd, n)
    arms = 3 + level - BANDS[:, None] + rng.normal(0, sd, (len(BANDS), n))
    made, split = family(reference, arms), split_selection(reference, arms)
    assert made is not None
    means = [i.mean for i in made.intervals]
    following = int(np.argsort(means)[-2])
    lead = float(BANDS[made.best] - BANDS[following])
    held = {
        "all bands, max-t": all(i.low <= g <= i.high for i, g in zip(made.intervals, BANDS, strict=True)),
        "lead of the best, Tukey": made.best_over_next.low <= lead <= made.best_over_next.high,
        "may be the best, Tukey": int(np.argmax(BANDS)) in plausible_best(reference, arms),
    }
    if split is not None:
        held["chosen band, split seeds"] = split.interval.low <= BANDS[split.chosen] <= split.interval.high
    return held


def of_nulls(world: World, n: int, rng: np.random.Generator) -> Held:
    """Whether tests keep their 5 %: no p below 0.05 at the null, no effect at the margin called small."""
    sd = float(np.hypot(world.noise, world.run)) * np.sqrt(2)
    null, margin = rng.normal(0, sd, n), margin_of()
    at_margin = rng.normal(margin, sd / 4, n)
    return {"no sign-flip p of 0.05 at the null": sign_flip_p(null.tolist()) > 0.05,
            "no effect at the margin called small": equivalence(at_margin.tolist(), margin).verdict != "smaller"}


def coverage(draw: Callable[[World, int, np.random.Generator], Held], world: World, n: int, runs: int) -> dict[
    str, float
]:
    """Return how often each interval holds its truth."""
    rng = np.random.default_rng([n, runs, zlib.crc32(repr(world).encode())])
    drawn = [draw(world, n, rng) for _ in range(runs)]
    return {name: sum(held[name] for held in drawn) / runs for name in drawn[0]}


def cases() -> Iterator[tuple[str, Callable[[World, int, np.random.Generator], Held], World]]:
    """Every simulated world with what is asked of it."""
    for name, world in WORLDS.items():
        yield name, of_pair, world
    yield "four bands", of_bands, World()
    yield "tests", of_nulls, World()
