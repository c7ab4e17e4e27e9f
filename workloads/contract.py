"""What a stage, an upstream, a domain and a task promise. Each protocol is small; the plug-in files name who keeps it.

Shape suffixes: B sequences in a batch, T tokens of a sequence, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from sweeps.language.plugins import Plugin
from sweeps.language.stage import Execution
from sweeps.store.layout import StageFolder
from sweeps.store.records import Attempt
from workloads.watchdog import Pulse

if TYPE_CHECKING:  # what is planned or not yet computing needs no NumPy
    import numpy as np
    import numpy.typing as npt

Ints: TypeAlias = "npt.NDArray[np.int64]"


@dataclass(frozen=True, kw_only=True)
class SequenceBatch:
    """Finished training sequences."""

    tokens_BT: npt.NDArray[np.int32]
    """Token ids."""
    target_BT: npt.NDArray[np.bool_]
    """True where token t is a target of the loss (position 0 never is)."""


class SequenceSource(Protocol):
    """Random access to sequences: sequence i is a pure function of (science, seed, stream, i)."""

    vocabulary: int
    sequence_length: int
    period: int | None
    """Tokens after which a copy-the-last-frame guess repeats (an NCA frame); None where the data has no frames."""

    def sequences(self, index_B: Ints) -> SequenceBatch:
        """Return the sequences with these indices, in this order."""
        ...


@runtime_checkable
class Oracle(Protocol):
    """What a `SequenceSource` may offer beside: the loss of who knows the rule behind each sequence."""

    def oracle(self, index_B: Ints) -> npt.NDArray[np.float64] | None:
        """Return (B, T): the expected loss of each token in nats, exact, given the rule and all tokens before it.

        That is the entropy of the law that the token was drawn from; 0 for what is certain. None: this science has no
        exact one.
        """
        ...


@runtime_checkable
class Repeating(Protocol):
    """What a `SequenceSource` may offer beside, and a `CorpusReader` has: its training stream begins again."""

    train_sequences: int
    """After so many sequences."""


class MakeSource(Protocol):
    """`Upstream.implementation`."""

    def __call__(
        self, science: Any, *, seed: int, stream: str, sequence_length: int, banks: Sequence[Path]
    ) -> SequenceSource:
        """`stream` is `train` or `held_out`; `banks` are the folders of the `rules` stages' artifacts, in order.

        An upstream that reads a corpus (`Upstream.corpus`) is given that one folder instead.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class MixturePart:
    """A part of a mixture."""

    source: SequenceSource | None
    """None where no sequence of the stage is of this part: its rules need not exist then."""
    family: str
    """Key of its upstream, or of the one that it inherits from: parts of one family and size share token ids."""
    vocabulary: int


class MakeMixture(Protocol):
    """`Upstream.implementation` where the science is a `sweeps.language.mixture.MixtureScience`."""

    def __call__(
        self, science: Any, *, seed: int, stream: str, sequence_length: int, parts: Mapping[str, MixturePart]
    ) -> SequenceSource:
        """`parts` are those of the science, by name."""
        ...


class Frames(Protocol):
    """`Upstream.frames_implementation`: the pictures that tokens stand for."""

    def __call__(self, science: Any, tokens_BT: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Return the cells' states (B, F, H, W) of the whole frames in each sequence; H = 1 for a row of cells."""
        ...


class MakeBank(Protocol):
    """`Upstream.bank_implementation`: makes accepted rules `first .. first + count - 1` of a stream."""

    def __call__(  # noqa: PLR0913 - a block is described by all of these
        self, bank: Any, *, seed: int, stream: str, first: int, count: int, folder: Path,
        progress: Callable[[int], bool],
    ) -> Mapping[str, float]:
        """Write the block's files into `folder`, its rules' scores (rules, trials) as `scores.npy` among them.

        Returns the stage's scores (acceptance and so on).

        `progress(n)` is called now and then with the rules done so far; True asks to stop (raise `Stopped`).
        """
        ...


class Stopped(Exception):  # noqa: N818 - not an error: the job was asked to leave and has saved what it could
    """The job was asked to stop; the stage goes on from its last checkpoint at the next attempt."""


class Diverged(Exception):  # noqa: N818 - a result, not an error
    """Training produced a non-finite loss or gradient; a result of the experiment, not retried."""


class LossSpike(Exception):  # noqa: N818 - the word that people and failure.json use
    """A loss jumped, and `run.on_spike: stop` asked to stop then; `retry` goes on from the last checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """One file of a domain."""

    source: str
    """Package and version or a path, for the manifest."""
    path: str
    """Path inside the source; with `source` unique in the domain. The split is by this."""
    text: str


@dataclass(frozen=True, kw_only=True)
class Brought:
    """How far bringing data is."""

    done_bytes: int
    of_bytes: int
    """What was here before counts in neither."""


class Remote(Protocol):
    """Data that a domain reads and that lies elsewhere; `Domain.fetch` makes it."""

    label: str
    """For people: `allenai/c4@1588ec454efa`."""

    @property
    def place(self) -> Path:
        """Where it is kept."""
        ...

    @property
    def complete(self) -> bool:
        """Whether all of it is here."""
        ...

    def missing_bytes(self) -> int:
        """Return what is still to be brought; asks where it lies. Raises as `bring`."""
        ...

    def bring(self, report: Callable[[Brought], None] = ...) -> None:
        """Bring what is missing; what was interrupted goes on.

        Raises:
            EnvironmentError_: no network, no permission, or too little space, said before it starts.
            UsageError: there is no such data.
            StorageError: the disk filled up on the way.
        """
        ...


class StageContext(Protocol):
    """What a running stage sees; made by `workloads.run`, one per rank.

    On ranks other than 0 `attempt` serves paths only (`attempt.folder`): rows, checkpoints, artifacts and the commit
    are written by rank 0.
    """

    @property
    def kind(self) -> str:
        """Stage kind."""
        ...

    @property
    def fingerprint(self) -> str:
        """The stage's identity."""
        ...

    @property
    def science(self) -> Mapping[str, Any]:
        """Section name -> validated science model, for instance `{"model": ModelScience(...)}`."""
        ...

    @property
    def execution(self) -> Execution:
        """Layout and checkpoint interval. Never changes the science."""
        ...

    def plugin(self, section: str) -> Plugin:
        """The plug-in descriptor that owns a section of `science`: `plugin("upstream")` is an `Upstream`."""
        ...

    def inputs(self, role: str) -> Sequence[Path]:
        """Artifact folders of the finished input stages with this role, in order; empty where there is none."""
        ...

    def stages(self, role: str) -> Sequence[StageFolder]:
        """Folders of the input stages with this role, in order: where their checkpoints lie."""
        ...

    def continues(self) -> Sequence[StageFolder]:
        """Stages whose checkpoints are earlier states of this very run; the furthest sound one is continued."""
        ...

    @property
    def attempt(self) -> Attempt:
        """Rows, checkpoints, artifacts."""
        ...

    @property
    def pulse(self) -> Pulse:
        """Signs of life: a stage that gives none for long is taken for hung and killed; `should_stop` is one."""
        ...

    def should_stop(self) -> bool:
        """True once the job was asked to leave; checkpoint and raise `Stopped`. Ask now and then: it tells of life."""
        ...


class CorpusReader(Protocol):
    """A tokenised corpus; `workloads.data.corpus.open_corpus(folder, seed=, sequence_length=)` returns one."""

    domain: str
    vocabulary: int
    sequence_length: int
    train_sequences: int
    """Sequences of one epoch; indices beyond it go on with the next epoch's order."""
    validation_sequences: int

    def train(self, index_B: Ints) -> npt.NDArray[np.int32]:
        """Return (B, T) training tokens; the order of each epoch is a permutation drawn by the seed."""
        ...

    def validation(self, index_B: Ints) -> npt.NDArray[np.int32]:
        """Return (B, T) held-out tokens, in a fixed order."""
        ...

    def bytes_of(self, tokens: npt.NDArray[np.int32]) -> int:
        """Return how many bytes of UTF-8 these tokens stand for, exactly."""
        ...


class Subject(Protocol):
    """The model that an `evaluate` stage measures, and the data it is measured on."""

    model: Any
    """A Hugging Face causal language model in evaluation mode, fp32."""
    device: Any
    """`torch.device` of the model."""
    vocabulary: int
    sequence_length: int
    seed: int
    tokens: int
    """Held-out tokens per data set."""
    corpora: Mapping[str, CorpusReader]
    """Domain -> corpus."""
    source: SequenceSource | None
    """The upstream's training stream; None where the subject is not a pre-pre-trained model."""
    held_out: SequenceSource | None
    """The upstream's held-out stream."""


Measure = Callable[[Any, Subject], Mapping[str, float]]
"""`Task.implementation`: (the task's science, subject) -> scores under the names that the task's `units` state."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """A question of a downstream task. The model sees `shots`, `prompt` and then a choice.

    Prompt and choices are encoded apart, so that a prompt has the same tokens before every choice. With a prompt that
    does not end in a blank and choices that begin with one, these are the tokens of the joined text.
    """

    id: str
    """Unique in the task."""
    level: str
    """Its difficulty, or its kind: scores are given for each."""
    prompt: str
    """May be empty: the choices are then whole texts."""
    answer: str
    """The right continuation, its first blank included."""
    distractors: tuple[str, ...] = ()
    """Wrong continuations; none where the task has no choices."""
    shots: str = ""
    """Solved examples before the prompt, the same for many items; ends in blanks."""
    tests: str = ""
    """A program of asserts that checks an answer, for tasks whose answers are programs (`workloads.sandbox.judge`)."""


MakeItems = Callable[[Any], Iterable[Item]]
"""`ItemTask.implementation`: the task's science -> its items, always the same ones in the same order."""


RunStage = Callable[[StageContext], Mapping[str, float]]
"""Runs a stage and returns its scores; files go into `context.attempt.artifacts`."""

Documents = Callable[[Any], Iterable[Document]]
