"""A stage context over a temporary store, so that stages run here as they do in a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from sweeps.language.plugins import Domain, Plugin
from sweeps.language.science import CorpusScience, IdentityScience, TextScience, TokenizerScience
from sweeps.language.stage import Execution
from sweeps.store import files
from sweeps.store.layout import Layout, StageFolder
from sweeps.store.records import open_attempt
from workloads.contract import StageContext
from workloads.data import make_corpus, make_text, make_tokenizer


class FakeContext:
    """What the data stages ask of their context."""

    def __init__(
        self, root: Path, kind: str, science: Mapping[str, Any], inputs: Mapping[str, Path] | None = None,
        domain: tuple[str, Plugin] | None = None,
    ) -> None:
        self.kind, self.science, self._inputs, self._domain = kind, science, dict(inputs or {}), domain
        number = len(list((root / "stages" / kind).glob("*"))) if (root / "stages" / kind).is_dir() else 0
        self.fingerprint = f"{number:032x}"
        self.folder = Layout(root).stage(kind, self.fingerprint)
        if domain:
            spec = {"sections": {"domain": {"plugin": f"domain:{domain[0]}"}}}
            files.create(self.folder.spec, files.to_json(spec))
        self.attempt = open_attempt(self.folder, {})
        self.execution = Execution()
        self.stop: Callable[[], bool] = lambda: False

    def plugin(self, section: str) -> Plugin:
        assert section == "domain" and self._domain
        return self._domain[1]

    def inputs(self, role: str) -> Sequence[Path]:
        return [self._inputs[role]] if role in self._inputs else []

    def stages(self, role: str) -> Sequence[StageFolder]:
        return []

    def should_stop(self) -> bool:
        return self.stop()


def run(context: FakeContext, stage: Any) -> tuple[Path, dict[str, float]]:
    """Run a data stage; return its artifacts and scores."""
    try:
        scores = dict(stage(cast(StageContext, context)))
    finally:
        context.attempt.close()
    return context.attempt.artifacts, scores


def text_context(root: Path, key: str, plugin: Domain, **science: Any) -> FakeContext:
    """A context of stage `text`."""
    fields = plugin.science()
    identity = IdentityScience(sources=dict(plugin.identity(fields)) if plugin.identity else {})
    return FakeContext(
        root, "text", {"domain": fields, "text": TextScience(**science), "identity": identity}, domain=(key, plugin)
    )


def make_texts(root: Path, key: str, plugin: Domain, **science: Any) -> tuple[Path, dict[str, float]]:
    """Run stage `text`."""
    return run(text_context(root, key, plugin, **science), make_text.run)


def make_tokens(root: Path, texts: Mapping[str, Path], **science: Any) -> tuple[Path, dict[str, float]]:
    """Run stage `tokenizer` over the artifacts of `text` stages."""
    fields = TokenizerScience(corpora=tuple(texts), **science)
    inputs = {f"text:{key}": path for key, path in texts.items()}
    return run(FakeContext(root, "tokenizer", {"tokenizer": fields}, inputs), make_tokenizer.run)


def make_shards(root: Path, text: Path, tokenizer: Path, **science: Any) -> tuple[Path, dict[str, float]]:
    """Run stage `corpus`."""
    return run(corpus_context(root, text, tokenizer, **science), make_corpus.run)


def corpus_context(root: Path, text: Path, tokenizer: Path, **science: Any) -> FakeContext:
    """A context of stage `corpus`."""
    fields = {"corpus": CorpusScience(**science)}
    return FakeContext(root, "corpus", fields, {"text": text, "tokenizer": tokenizer})
