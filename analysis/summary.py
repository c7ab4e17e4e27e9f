"""What the tables say, in plain sentences computed from them. No sentence claims more than its interval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from analysis.by_field import AtValue, at_values
from analysis.chosen import unresolved
from analysis.claims import judge
from analysis.controls import Contrast, contrasts
from analysis.equivalence import PERCENT
from analysis.inference import evidence
from analysis.probes import Probe, probes
from analysis.statistics import CONFIDENCE, FEW_SEEDS, MIN_SEEDS, detectable_effect
from analysis.study import Study
from analysis.wording import SIMULATED, count, interval, listed, nats, parameters, plain
from sweeps.language.gate import Verdict
from sweeps.language.manifest import PlanChoice
from sweeps.language.presets import SEARCH_SEEDS

PUBLISHED_BODY = 1_610_713_088
"""Body parameters of the published model (arXiv 2603.10055), 1.6b preset."""
_FAR = 10
"""A body this many times smaller than the published one is said to be."""

_STATUSES = {"missing": "not finished", "withheld": "withheld, their upstream not learned",
             "unscored": "without a finite loss at the end"}
"""Trial status -> its words, where they are others."""

_LEVELS = ("loss", "bits_per_byte", "chance")
"""Endings of scores that any training changes, or that are constants: no signal of an ability."""


def verdict_sentences(study: Study, *, claims: bool = True) -> list[str]:
    """Return what the records say, most important first; works on partial sweeps. `claims`: their verdicts too."""
    parts: tuple[Callable[[Study], list[str]], ...] = (
        _simulated, _gains, _small, _by_field, _structure, _best_band, _claims, _gate, _probes, _few_seeds, _missing,
        _unsearched, _scale,
    )
    return [sentence for part in parts if claims or part is not _claims for sentence in part(study)]


def _simulated(study: Study) -> list[str]:
    """What no reader may miss."""
    return [SIMULATED] if study.records.simulated else []


def _gains(study: Study) -> list[str]:
    """Which gains over scratch are beyond the noise of seeds."""
    sentences = []
    for domain in study.records.domains:
        effects = {arm: study.effect(domain, arm) for arm in study.treated(domain)}
        sides = {
            f"better than {study.reference}": [a for a, e in effects.items() if e.resolved > 0],
            f"worse than {study.reference}": [a for a, e in effects.items() if e.resolved < 0],
            f"not resolved from {study.reference}": [a for a, e in effects.items() if not e.resolved and not e.note],
            f"no interval (fewer than {MIN_SEEDS} seeds)": [a for a, e in effects.items() if e.note and e.n],
        }
        texts = [
            f"{label}: " + listed(
                f"{study.named(arm)} {interval(effects[arm])}" for arm in sorted(arms, key=lambda a: -effects[a].mean))
            for label, arms in sides.items() if arms
        ]
        if texts:
            sentences.append(f"{plain(domain)}: " + "; ".join(texts) + ".")
    if any(not study.effect(d, a).note for d in study.records.domains for a in study.treated(d)):
        sentences.append(
            "Each of these 95 % intervals stands for itself; they are not corrected for the number of arms."
        )
    return sentences or ["No arm has been scored together with its baseline yet."]


def _small(study: Study) -> list[str]:
    """Nulls that are findings: gains shown to be small by a test with power."""
    sentences = []
    for domain in study.records.domains:
        kept = [e for e in evidence(study, domain) if e.small.verdict == "smaller"]
        if kept:
            listing = listed(f"{study.named(e.arm)} (90 % interval {nats(e.small.low)} to {nats(e.small.high)}, power "
                             f"{e.small.power:.2f})" for e in kept)
            sentences.append(f"{plain(domain)}: within {PERCENT:g} % of {study.reference}'s perplexity with 95 % "
                             f"confidence: {listing}.")
    return sentences


def _by_field(study: Study) -> list[str]:
    """What a field that scratch has as an axis too does to the sign of a gain."""
    return [_at_values(study, group) for domain in study.records.domains
            for group in at_values(study, domain).values() if any(v.gain.n for v in group)]


def _at_values(study: Study, group: list[AtValue]) -> str:
    first, leaf = group[0], plain(group[0].field.rpartition(".")[2])
    sides = {"better": 1, "worse": -1, "not resolved": 0}
    texts = [f"{side} at " + listed(f"{_value(study, v)} ({interval(v.gain)})" for v in group
                                    if v.gain.resolved == sign)
             for side, sign in sides.items() if any(v.gain.resolved == sign for v in group)]
    sign = {v.gain.resolved for v in group}
    said = f"{plain(first.domain)}: {plain(first.group)} over scratch with the same {leaf}: {'; '.join(texts)}."
    if {1, -1} <= sign:
        said += f" {leaf} decides the sign."
    best = max((v for v in group if v.over_best.n), key=lambda v: v.over_best.mean, default=None)
    if best is not None:
        said += (f" Over scratch at its own best ({plain(best.best_value)}, chosen on these seeds): at most "
                 f"{interval(best.over_best)}, at {plain(_value(study, best))}.")
    return said


def _value(study: Study, at: AtValue) -> str:
    return at.value + (f", upstream learned in {study.learned(at.arm)}" if study.doubtful(at.arm) else "")


def _structure(study: Study) -> list[str]:
    """A gain over scratch that the control shares is not a gain from structure."""
    sentences = []
    for domain in study.records.domains:
        found: dict[str, list[Contrast]] = {}
        for contrast in contrasts(study, domain):
            if contrast.difference.n:
                found.setdefault(contrast.control, []).append(contrast)
        for control, group in found.items():
            own = interval(group[0].control_over_scratch)
            head = f"{plain(domain)}: the control {plain(study.named(control))} alone gains {own} over scratch. "
            sentences.append(head + " ".join(_reading(study, group)))
    return sentences


def _reading(study: Study, group: list[Contrast]) -> list[str]:
    texts = []
    for note, said in (
        ("more than the control", "More than the control, so not explained by it"),
        ("less than the control", "Less than the control"),
        ("not resolved", "Not resolved from the control, so no gain from structure is shown"),
        (FEW_SEEDS, f"Fewer than {MIN_SEEDS} seeds, so no gain from structure is shown"),
    ):
        kept = [c for c in group if c.reading == note]
        if not kept:
            continue
        text = f"{said}: " + listed(f"{_named(study, c)} by {interval(c.difference)}" for c in kept)
        limits = [c.difference.detectable for c in kept if math.isfinite(c.difference.detectable)]
        if note == "not resolved" and limits:
            text += f" (80 % power from {min(limits):.3f}{'' if len(limits) == 1 else f' to {max(limits):.3f}'} nats)"
        texts.append(text + ".")
    return texts


def _named(study: Study, contrast: Contrast) -> str:
    arm = study.named(contrast.arm)
    return arm if contrast.same_band else f"{arm} (not the control's band, so not order alone)"


def _best_band(study: Study) -> list[str]:
    sentences = []
    for domain in study.records.domains:
        for over, arms in study.bands(domain).items():
            made, kept, seeds = study.family(domain, arms, over)
            if made is None or len(kept) < 2:
                continue
            best, lead = made.intervals[made.best], made.best_over_next
            if best.note:
                verdict = f"{FEW_SEEDS}, so the best band is not known"
            else:
                known = "is resolved" if lead.resolved else "is not resolved, so the best band is not known"
                verdict = f"its lead over the next, {interval(lead)}, {known}"
            joint = "" if best.note else f" (simultaneous over the bands, {len(seeds)} seeds)"
            sentences.append(
                f"{plain(domain)}: largest mean gain of {_of(len(kept), len(arms))}: "
                f"{plain(study.named(kept[made.best]))}, {interval(best)}{joint}; {verdict}."
            )
    return sentences


def _of(kept: int, planned: int) -> str:
    return count(kept, "band") if kept == planned else f"{kept} bands (of {planned}, the others lack seeds)"


def _claims(study: Study) -> list[str]:
    return [
        f"Claim {plain(v.claim)} ({plain(v.text)}): {v.verdict.upper()}"
        + (f"; {plain(study.named(v.chosen))} {interval(v.interval)}" if v.chosen else "") + f"; {plain(v.rule)}."
        for v in judge(study)
    ]


def _gate(study: Study) -> list[str]:
    said = []
    for verdict in (Verdict.NOT_LEARNED, Verdict.INCONCLUSIVE):
        found = {a: sum(v is verdict for v in seeds.values()) for a, seeds in study.verdicts.items()}
        texts = listed(f"{arm} ({n} of {count(len(study.verdicts[arm]), 'seed')})" for arm, n in found.items() if n)
        said += [f"{verdict}: {texts}"] * bool(texts)
    if not said:
        return []
    return [f"Upstreams {'; '.join(said)}. A missing gain there says nothing about transfer."]


def _probes(study: Study) -> list[str]:
    """Scores beside the untrained twin."""
    by_score: dict[str, list[Probe]] = {}
    for probe in probes(study):
        if not probe.score.endswith(_LEVELS) and not probe.difference.note:
            by_score.setdefault(probe.score, []).append(probe)
    silent = [name for name, group in by_score.items() if not any(p.difference.resolved for p in group)]
    sentences = []
    if silent:
        sentences.append(f"No signal: on {listed(silent)} no final model differs from its untrained twin beyond seed "
                         "noise, so these scores cannot tell arms apart here.")
    for name, group in by_score.items():
        if name not in silent:
            differing = sum(bool(p.difference.resolved) for p in group)
            chance = (1 - CONFIDENCE) * len(group)
            sentences.append(f"{plain(name)}: the final model differs from its untrained twin in {differing} of "
                             f"{count(len(group), 'cell')} ({chance:.1f} expected by chance alone).")
    return sentences


def _few_seeds(study: Study) -> list[str]:
    """Below three seeds: what three would find."""
    found = []
    for domain in study.records.domains:
        most = max((study.effect(domain, arm).n for arm in study.treated(domain)), default=0)
        sd = study.domain_sd(domain)
        if 0 < most < MIN_SEEDS and math.isfinite(sd):
            found.append(f"{plain(domain)} about {detectable_effect(sd, MIN_SEEDS):.3f}")
    if not found:
        return []
    return [f"From the spread of these seeds, {MIN_SEEDS} seeds would find gains (nats, 80 % power) of: "
            + ", ".join(found) + "."]


def _missing(study: Study) -> list[str]:
    trials = study.records.trials
    waiting = Counter(trials.loc[trials["status"] != "scored", "status"])
    unpaired = study.pairs[study.pairs["status"].str.startswith(("baseline", "ends"))]
    lines = int(study.records.steps.drop_duplicates(["kind", "fingerprint"])["damaged_lines"].sum())
    sentences = []
    for status in sorted(waiting):
        names = trials.loc[trials["status"] == status, "trial"]
        label = _STATUSES.get(status, status)
        sentences.append(f"Not in the numbers: {waiting[status]} of {count(len(trials), 'trial')} {label} "
                         f"({listed(names, 4)}).")
    if len(unpaired):
        sentences.append(f"{count(len(unpaired), 'finished trial')} without a gain: "
                         f"{listed(sorted(set(unpaired['status'])))} ({listed(unpaired['trial'], 4)}).")
    if lines:
        sentences.append(f"{count(lines, 'line')} of metrics did not verify and were left out.")
    return sentences


def _unsearched(study: Study) -> list[str]:
    plan, found = study.records.plan, []
    if fields := [d.field for d in plan.departures if "not yet searched" in d.source]:
        found.append(f"Not searched per arm yet: {listed(fields)}. A gain may be one arm's luck with a shared value.")
    if edges := [f"{key} of {choice.cell}" for choice in plan.searched for key in choice.boundary]:
        found.append(f"On the edge of the grid that {plan.searched[0].sweep} searched: {listed(edges, 4)}. The best "
                     "value may lie beyond.")
    if few := {len(choice.seeds) for choice in plan.searched if 0 < len(choice.seeds) < SEARCH_SEEDS}:
        found.append(f"{plan.searched[0].sweep} chose on {count(min(few), 'seed')}: a value may be one arm's luck, and "
                     "the baseline's bad luck is a gain of all others.")
    open_ = {(domain, arm): made for domain in study.records.domains
             for arm in {study.baseline_of(domain, treated): None for treated in study.treated(domain)}
             if (made := unresolved(study, domain, arm))}
    if open_:
        texts = (f"on {plain(domain)} by {interval(lead)} over {_values(choice)} ({plain(arm)})"
                 for (domain, arm), (choice, lead) in open_.items())
        found.append(f"{plan.searched[0].sweep} did not resolve a baseline's values from the next candidate's. They "
                     f"lead {listed(texts)}. Where the next is better, every gain is smaller by as much: train the "
                     "baseline at both, on these seeds.")
    return found


def _values(choice: PlanChoice) -> str:
    return " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in choice.runner_up.items())


def _scale(study: Study) -> list[str]:
    body = study.records.plan.body_parameters
    if not body or body * _FAR > PUBLISHED_BODY:
        return []
    return [f"Scale {plain(study.records.plan.scale)}: a body of {parameters(body)} parameters, "
            f"{PUBLISHED_BODY / body:,.0f} times smaller than the published {parameters(PUBLISHED_BODY)}; "
            "it says little about that one."]


def detectable_text(study: Study, domain: str) -> str:
    """Return the gain that the domain's usual number of seeds finds with 80 % power; `-` below three."""
    seeds = Counter(n for arm in study.treated(domain) if (n := study.effect(domain, arm).n))
    usual = seeds.most_common(1)[0][0] if seeds else 0
    value = detectable_effect(study.domain_sd(domain), usual) if usual else math.nan
    return nats(value).lstrip("+")
