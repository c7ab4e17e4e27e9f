"""Synthetic sweeps written through `sweeps.store.records`, as jobs write them."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from analysis.load import load
from analysis.statistics import detectable_effect, t_critical
from analysis.study import Study
from sweeps.language.gate import Verdict
from sweeps.language.manifest import Departure, PathStep, PlanFile, PlanStage, PlanTrial
from sweeps.store import files, records
from sweeps.store.layout import Layout

RELAXED = settings(max_examples=40)
"""For property tests: machines are shared, so time proves nothing."""
PT = 300_000
ENDS = (150_000, 210_000, 300_000)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """An arm of a synthetic sweep."""

    name: str
    upstream: str
    complexity: str = ""
    gain: float = 0.0
    """True gain over scratch at every end, nats."""
    verdict: Verdict = Verdict.LEARNED
    tokens: int = 300_000
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Values on further axes."""
    baseline: str = ""
    """The arm that it is compared with; empty: the sweep's first."""
    share: float = 1.0
    """Its PT tokens over scratch's."""


SCRATCH = Arm(name="scratch", upstream="none", tokens=0)
ARMS = (
    SCRATCH,
    Arm(name="nca_shuffled 60-75", upstream="nca_shuffled", complexity="60-75", gain=0.049),
    Arm(name="shuffle_dyck", upstream="shuffle_dyck", gain=0.040),
    Arm(name="nca 30-45", upstream="nca", complexity="30-45", gain=0.070),
    Arm(name="nca 60-75", upstream="nca", complexity="60-75", gain=0.050),
)
Fate = Callable[[str, str, int], str]
"""(trial, role, tokens) -> done, diverged, absent, started or nan."""


def always_done(trial: str, role: str, tokens: int) -> str:
    """Every stage is done."""
    return "done"


@dataclass
class SweepBuilder:
    """Writes a sweep into a store."""

    root: Path
    name: str = "demo"
    arms: tuple[Arm, ...] = ARMS
    domains: tuple[str, ...] = ("web", "math", "code")
    seeds: int = 3
    noise: float = 0.004
    fate: Fate = always_done
    seconds: float = 60.0
    trained: Mapping[str, float] = field(default_factory=dict)
    """Scores of every training stage."""
    cosine: bool = False
    plan: Mapping[str, Any] = field(default_factory=dict)
    _written: set[str] = field(default_factory=set)

    def build(self) -> Path:
        """Write everything; return the root."""
        trials = [self._trial(a, d, s) for s in range(self.seeds) for a in self.arms for d in self.domains]
        uses: dict[tuple[str, str], tuple[PathStep, int]] = {}
        for trial in trials:
            for step in trial.path:
                uses[step.kind, step.fingerprint] = step, uses.get((step.kind, step.fingerprint), (step, 0))[1] + 1
        stages = [
            PlanStage(kind=k, fingerprint=f, label=f"{k} {step.role}", trials=n, tokens=step.tokens // 3,
                      flops=6.0 * step.tokens)
            for (k, f), (step, n) in uses.items()
        ]
        values: dict[str, Any] = {
            "question": "Which NCA complexity speeds up which domain?", "protocol": "fair", "scale": "tiny",
            "controls": {"nca_shuffled": "nca"}, "body_parameters": 131_456,
            "versions": {"torch": "2.13.0", "commit": "abc"},
            "departures": (Departure(field="pretrain.lr", given=2e-3, preset=None, source="not yet searched"),),
            "claims": {"nca_helps_web": {"domain": "web", "arm": "best_band", "over": "baseline", "gain_nats": "> 0"}},
        }
        plan = PlanFile(name=self.name, trials=tuple(trials), stages=tuple(stages), **values | dict(self.plan))
        files.replace(Layout(self.root).sweep(self.name).plan, plan.model_dump_json())
        return self.root

    def _trial(self, arm: Arm, domain: str, seed: int) -> PlanTrial:
        name = f"{arm.name}-{domain}-s{seed}".replace(" ", "_")
        path: list[PathStep] = [self._stage(name, "corpus", "corpus", 0, domain)]
        if arm.tokens:
            shared = f"{arm.name}{seed}"
            path += [self._stage(name, "prepretrain", "prepretrain", arm.tokens, shared),
                     self._stage(name, "gate", "evaluate", 0, shared, {"verdict": arm.verdict})]
        parent: PathStep | None = None
        for end in (int(arm.share * e) for e in (ENDS[-1:] if self.cosine else ENDS)):
            if not self.cosine:
                step = self._stage(name, "trunk", "pretrain", end * 9 // 10, name, {"parent": parent, "seed": seed})
                path.append(step)
                parent = step
            about = {"parent": parent, "seed": seed, "arm": arm, "domain": domain}
            path.append(self._stage(name, "end", "pretrain", end, name, about))
        path += [self._stage(name, "twin", "evaluate", 0, f"twin{seed}", {"score": 0.10, "seed": seed}),
                 self._stage(name, "evaluate", "evaluate", 0, name, {"score": 0.10, "seed": seed + 17})]
        return PlanTrial(
            id=name, arm=arm.name, cell=f"{arm.name} | {domain}", upstream=arm.upstream, complexity=arm.complexity,
            note=f"raw {arm.complexity} %" if arm.complexity else "", token_budget="1x" if arm.tokens else "",
            upstream_tokens=arm.tokens, requested_upstream_tokens=arm.tokens, domain=domain, seed=seed,
            pretrain_tokens=int(arm.share * PT), path=tuple(path), fields=dict(arm.fields),
            baseline=f"{arm.baseline or self.arms[0].name}-{domain}-s{seed}".replace(" ", "_"),
        )

    def _stage(  # noqa: PLR0913 - a test helper that mirrors one line of a plan
        self, trial: str, role: str, kind: str, tokens: int, identity: str, about: Mapping[str, Any] | None = None
    ) -> PathStep:
        fingerprint = hashlib.sha256(f"{role}{kind}{identity}{tokens}".encode()).hexdigest()[:32]
        step = PathStep(role=role, kind=kind, fingerprint=fingerprint, tokens=tokens)
        fate = self.fate(trial, role, tokens)
        if fate != "absent" and kind + fingerprint not in self._written:
            self._written.add(kind + fingerprint)
            self._write(step, about or {}, fate)
        return step

    def _write(self, step: PathStep, about: Mapping[str, Any], fate: str) -> None:
        stage = Layout(self.root).stage(step.kind, step.fingerprint)
        files.replace(stage.spec, files.to_json(
            {"sections": {"optim": {"values": {"schedule": "cosine" if self.cosine else "wsd"}}}}))
        attempt = records.open_attempt(stage, {"host": "somewhere"})
        parent = about.get("parent")
        start = 0
        if parent is not None:
            start = parent.tokens
            attempt.set_parent(records.Parent(
                kind=parent.kind, fingerprint=parent.fingerprint, attempt=1, tokens=parent.tokens))
        if step.role == "trunk" or (step.role == "end" and self.cosine):
            for t in range(15_000, step.tokens + (step.role == "trunk"), 15_000):
                if t > start:
                    attempt.row(tokens=t, kind="train", values={"loss": 5.0})
                    attempt.row(tokens=t, kind="validation", values=_values(_loss(t) + 0.05))
        if step.role == "end":
            loss = math.nan if fate == "nan" else self._end(step, about)
            attempt.row(tokens=step.tokens, kind="end", values=_values(loss))
        if fate != "started":
            scores = {k: float(v) for k, v in _scores(step, about).items()}
            scores |= self.trained if step.kind in ("prepretrain", "pretrain") else {}
            attempt.commit(scores, status="diverged" if fate == "diverged" else "done", seconds=self.seconds)
        attempt.close()

    def _end(self, step: PathStep, about: Mapping[str, Any]) -> float:
        arm, seed = about["arm"], about["seed"]
        common = np.random.default_rng([seed, len(about["domain"])]).normal(0, 0.02)
        digest = hashlib.sha256(f"{arm.name}{about['domain']}{seed}{step.tokens}".encode()).digest()
        own = np.random.default_rng(list(digest[:4])).normal(0, self.noise)
        return float(_loss(step.tokens) + common + own - arm.gain)


def _loss(tokens: int) -> float:
    return 3.9 + 300 / math.sqrt(tokens)


def _values(loss: float) -> dict[str, float]:
    return {"loss": loss, "bits_per_byte": loss * 0.55}


def _scores(step: PathStep, about: Mapping[str, Any]) -> dict[str, float]:
    if step.role == "gate":
        scores = {"loss": 2.94, "uniform_loss": 5.55, "unigram_loss": 4.29, "copy_loss": 3.94, "ngram_loss": 4.1,
                  "context_loss": 4.2, "oracle_loss": 1.94, "margin": 1.0, "margin_se": 0.1, "sequences": 125,
                  "learned": about["verdict"].number, "frame.2.loss": 2.9, "frame.2.copy_loss": 3.9,
                  "position.16.loss": 3.3}
        return {f"upstream_gate.{name}": value for name, value in scores.items()}
    if "score" in about:
        jitter = float(np.random.default_rng(about["seed"]).normal(0, 0.01))
        return {"copying.accuracy": about["score"] + jitter, "domain_loss.web.loss": 4.5 - about["seed"] / 20,
                "copying.chance": 0.001}
    return {}


@pytest.fixture(scope="session", autouse=True)
def _no_fsync() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a finished sweep `demo`: 5 arms, 3 domains, 3 seeds."""
    return SweepBuilder(tmp_path_factory.mktemp("demo")).build()


@pytest.fixture(scope="session")
def demo_study(demo: Path) -> Study:
    """The finished sweep's study."""
    return Study(load(demo, "demo"))


def detectable_of(row: Mapping[str, Any], low: str = "low", high: str = "high") -> Any:
    """What a row's own paired-t interval says that its seeds can find."""
    n = int(row["seeds"])
    return pytest.approx(detectable_effect((row[high] - row[low]) / 2 * math.sqrt(n) / t_critical(n - 1), n))


HOSTILE = '</title></script><script>alert("x")</script> \u202e\u05d0\u05d1 \'"&quot; $x_{ \\frac\' [*]'
"""A name that attacks whatever shows it: markup, quotes, a right-to-left override, mathematics, brackets."""


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a sweep `demo` whose names attack the page: markup, quotes, right to left, very long."""
    arms = (SCRATCH, Arm(name=HOSTILE, upstream="nca_shuffled"), Arm(name="n" * 400, upstream="nca", complexity="1-2"))
    root = SweepBuilder(
        tmp_path_factory.mktemp("hostile"), arms=arms, domains=("<img src=x onerror=alert(1)>",),
        plan={"question": HOSTILE, "overrides": (HOSTILE,), "versions": {HOSTILE: HOSTILE}},
    ).build()
    Layout(root).sweep("demo").sweep_file.write_text(HOSTILE)
    return root


@pytest.fixture(scope="session")
def partial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a running sweep `demo`: two seeds, one arm diverged, ends missing, one loss not finite."""
    def fate(trial: str, role: str, tokens: int) -> str:
        if trial == "nca_30-45-web-s0" and role == "end" and tokens == PT:
            return "diverged"
        if trial == "nca_60-75-code-s1" and role == "end" and tokens == PT:
            return "nan"
        if trial.startswith("scratch-math-s1") and role == "end":
            return "absent" if tokens == PT else "started"
        if trial.endswith("s1") and role in ("evaluate", "gate"):
            return "absent"
        return "done"

    return SweepBuilder(tmp_path_factory.mktemp("partial"), seeds=2, fate=fate).build()
