"""Every path of the store, as properties. Nothing here touches the disk.

    <root>/stages/<kind>/<fingerprint>/{spec.json, claims/, interest/, attempts/<n>/, result.json}
    <root>/sweeps/<name>/{sweep.yaml, plan.json, ledger/, requests/, submissions/, code/, controller/, report/,
                          sinks/, frames/}
    <root>/jobs/<submission>/   what an executor keeps about a batch
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FINGERPRINT_CHARS = 32
"""Hex digits of SHA-256 kept in a fingerprint: 128 bits."""


@dataclass(frozen=True)
class AttemptFolder:
    """One try at a stage."""

    path: Path

    @property
    def number(self) -> int:
        """The attempt's number, from 1."""
        return int(self.path.name)

    @property
    def parent(self) -> Path:
        """Whose checkpoint it continues (absent: from the beginning)."""
        return self.path / "parent.json"

    @property
    def execution(self) -> Path:
        """Host, pid, layout, submission, versions."""
        return self.path / "execution.json"

    @property
    def micro_batch(self) -> Path:
        """Sequences that a forward pass took, where `run.micro_batch` says something (sweeps.store.micro_batch)."""
        return self.path / "micro_batch.json"

    @property
    def metrics(self) -> Path:
        """Rows, one JSON line each."""
        return self.path / "metrics.jsonl"

    @property
    def artifacts(self) -> Path:
        """Files that later stages read."""
        return self.path / "artifacts"

    @property
    def work(self) -> Path:
        """What a stage keeps while it works, for itself and for later attempts; gone once the stage has a result."""
        return self.path / "work"

    @property
    def checkpoints(self) -> Path:
        """One folder per committed token count."""
        return self.path / "checkpoints"

    @property
    def failure(self) -> Path:
        """Why the attempt ended without a result."""
        return self.path / "failure.json"

    @property
    def divergence(self) -> Path:
        """Which update was the first that was not finite, on which ranks, and what they read."""
        return self.path / "divergence.json"

    @property
    def cards(self) -> Path:
        """The GPUs of its ranks and what they can do; absent without GPUs."""
        return self.path / "cards.json"

    @property
    def stopped(self) -> Path:
        """Present where the attempt left because it was asked to."""
        return self.path / "stopped.json"

    def checkpoint(self, tokens: int) -> Path:
        """The folder of the checkpoint after `tokens` tokens."""
        return self.checkpoints / f"{tokens:015d}"


@dataclass(frozen=True)
class StageFolder:
    """One stage, shared by all sweeps under a root."""

    path: Path

    @property
    def kind(self) -> str:
        """Stage kind."""
        return self.path.parent.name

    @property
    def fingerprint(self) -> str:
        """The stage's identity."""
        return self.path.name

    @property
    def spec(self) -> Path:
        """The resolved spec."""
        return self.path / "spec.json"

    @property
    def claims(self) -> Path:
        """Who may submit it: `<k>.json`, the highest k holds."""
        return self.path / "claims"

    @property
    def interest(self) -> Path:
        """Which sweeps want it."""
        return self.path / "interest"

    @property
    def attempts(self) -> Path:
        """Parent of the attempt folders."""
        return self.path / "attempts"

    @property
    def result(self) -> Path:
        """Present exactly when the stage is complete."""
        return self.path / "result.json"

    def attempt(self, number: int) -> AttemptFolder:
        """The folder of attempt `number`."""
        return AttemptFolder(self.attempts / str(number))

    def beside(self, kind: str, fingerprint: str) -> StageFolder:
        """Another stage of the same store."""
        return StageFolder(self.path.parent.parent / kind / fingerprint)


@dataclass(frozen=True)
class SweepFolder:
    """What one sweep keeps."""

    path: Path

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.path.name

    @property
    def sweep_file(self) -> Path:
        """The sweep file as given, with the overrides recorded at its end."""
        return self.path / "sweep.yaml"

    @property
    def plan(self) -> Path:
        """Trials and stages, resolved; what reports read."""
        return self.path / "plan.json"

    @property
    def ledger(self) -> Path:
        """One event file per term."""
        return self.path / "ledger"

    @property
    def requests(self) -> Path:
        """Changes that a verb asked the controller for."""
        return self.path / "requests"

    @property
    def submissions(self) -> Path:
        """One folder per submission: intent, tickets, logs."""
        return self.path / "submissions"

    @property
    def controller(self) -> Path:
        """Scripts and logs of the Slurm jobs that were its controllers."""
        return self.path / "controller"

    @property
    def code(self) -> Path:
        """Copies of the code that its jobs ran, by content."""
        return self.path / "code"

    @property
    def report(self) -> Path:
        """Tables, figures and `report.html`."""
        return self.path / "report"

    @property
    def frames(self) -> Path:
        """Frames of a large sweep as Parquet; made from the records, may be deleted (analysis.kept)."""
        return self.path / "frames"

    @property
    def sinks(self) -> Path:
        """What `orchestrator sink` made, a folder a sink."""
        return self.path / "sinks"


@dataclass(frozen=True)
class Layout:
    """The store under one root."""

    root: Path

    def stage(self, kind: str, fingerprint: str) -> StageFolder:
        """The folder of one stage."""
        return StageFolder(self.root / "stages" / kind / fingerprint)

    def sweep(self, name: str) -> SweepFolder:
        """The folder of one sweep."""
        return SweepFolder(self.root / "sweeps" / name)

    @property
    def sweeps(self) -> Path:
        """Parent of all sweeps."""
        return self.root / "sweeps"

    @property
    def stages(self) -> Path:
        """Parent of all stages."""
        return self.root / "stages"

    @property
    def simulated(self) -> Path:
        """Present where every result below was made up by the memory executor."""
        return self.root / "SIMULATED"

    @property
    def jobs(self) -> Path:
        """What executors keep about their batches."""
        return self.root / "jobs"
