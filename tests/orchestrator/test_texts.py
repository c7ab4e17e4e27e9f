"""What text costs by its bytes, and that a plan tells when training reads it more than once."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from orchestrator import texts
from orchestrator.__main__ import main
from orchestrator.costs import seconds_guess, storage_bytes
from orchestrator.estimate import summary
from orchestrator.memory import FLOOR_MB, job_mb
from orchestrator.plan import Planned, make_plan, stage_states
from sweeps.language.graph import Node
from sweeps.language.presets import SCALES
from sweeps.language.spec import Overrides
from tests.orchestrator.test_cli import SMOKE
from workloads.domains import c4, codeparrot, open_web_math, openwebtext


def planned(root: Path, *sets: str, scale: str = "tiny") -> Planned:
    """The smoke sweep on domain `code`, with as much text as the scale has, unless `sets` say more."""
    read = SCALES[scale].fields()["documents.max_bytes"]
    usual = ("domain=[code]", "pretrain.tokens=1x", f"documents.max_bytes={read}")
    return make_plan(Path(SMOKE), Overrides(scale=scale, sets=(*usual, *sets)), root)


def repeated(plan: Planned) -> list[str]:
    return list(texts.epochs(plan.graph))


def node(plan: Planned, kind: str, domain: str = "") -> Node:
    return next(n for n in plan.graph.nodes.values() if n.spec.kind == kind and domain in n.label)


@pytest.mark.parametrize("name", SCALES)
def test_one_x_is_no_more_than_one_epoch_of_the_text_that_a_scale_reads(name: str) -> None:
    """At the most bytes that a token was seen to stand for: 4.40 (openwebtext), and 2.58 with 1,024 ids (measured)."""
    scale = SCALES[name]
    read = scale.fields()["documents.max_bytes"]
    assert 0.92 * read / (2.58 if scale.vocabulary == 1_024 else 4.40) >= scale.pretrain_tokens
    assert (read == 6_000_000) == (name in ("tiny", "1m")), "whose texts have to stay what they were"


def test_a_budget_of_more_tokens_than_the_text_has_bytes_is_told_once_for_each_domain(tmp_path: Path) -> None:
    plan = planned(tmp_path, "domain=[code,math]", "pretrain.tokens=30M", scale="10m")
    tokens = max(n.end_tokens for n in plan.graph.nodes.values() if n.spec.kind == "pretrain")
    told = repeated(plan)
    assert [t.partition(":")[0] for t in told] == ["text code", "text math"]
    for size, text in ((9_903_386, told[0]), (5_118_495, told[1])):
        times = int(10 * tokens / (0.92 * size)) / 10
        assert f"reads it {times} times at least" in text and "name a larger domain" in text
    assert set(told) <= set(summary(plan, stage_states(plan, {}))["warnings"])
    [raised] = repeated(planned(tmp_path, "pretrain.tokens=30M", "documents.max_bytes=1000000", scale="10m"))
    assert "times at least (1 MB" in raised and raised.endswith("raise documents.max_bytes")
    assert repeated(planned(tmp_path)) == []


def test_a_text_of_which_a_search_has_a_part_is_read_again_sooner(tmp_path: Path) -> None:
    apart = planned(tmp_path, "pretrain.tokens=9M", "documents.search_share=40%", scale="10m")
    tokens = max(n.end_tokens for n in apart.graph.nodes.values() if n.spec.kind == "pretrain")
    times = int(10 * tokens / (0.6 * 0.92 * 9_903_386)) / 10
    [told] = repeated(apart)
    assert f"reads it {times} times at least (10 MB, 40% of it set apart, 8% of it held out)" in told
    assert repeated(planned(tmp_path, "pretrain.tokens=9M", scale="10m")) == []
    whole = node(planned(tmp_path), "corpus").text
    part = node(planned(tmp_path, "documents.search_share=40%"), "corpus").text
    assert whole and part and part.bytes == int(0.6 * whole.bytes)
    assert storage_bytes(apart, node(apart, "text")) == int(0.6 * 9_903_386)


def test_counted_tokens_are_compared_where_bytes_leave_it_open(tmp_path: Path) -> None:
    large = planned(tmp_path, "domain=[openwebtext,c4]", scale="400m")
    [told] = repeated(large)
    tokens = max(n.end_tokens for n in large.graph.nodes.values() if n.spec.kind == "pretrain")
    assert told.startswith("text c4: pretrain") and f"about {tokens / (0.92 * 4.875e9):.2f} times" in told
    assert "spaCy" in told
    assert not repeated(planned(tmp_path, "domain=[openwebtext,c4]", scale="160m"))


def test_text_that_an_upstream_reads_counts_too(tmp_path: Path) -> None:
    plan = planned(tmp_path, "upstream=[none,text]", "text.domain=math", "token_budget=[20M]")
    [told] = repeated(plan)
    assert told.startswith("text math: prepretrain")


def test_every_named_corpus_says_what_it_holds_unless_other_files_are_read() -> None:
    for module in (openwebtext, open_web_math, codeparrot, c4):
        science = module.PLUGIN.science()
        assert module.PLUGIN.size is not None
        size = module.PLUGIN.size(science)
        assert size is not None and size.tokens and size.documents and size.counted
        assert 2 < size.bytes / size.tokens < 6 and 1_000 < size.bytes / size.documents < 12_000
        other = science.model_copy(update={"files": ("other/*.parquet",)})
        assert module.PLUGIN.size(other) is None
    some = c4.C4Science(files=("en/c4-train.0000[0-3]-of-01024.json.gz",))
    whole = c4.size(c4.C4Science())
    part = c4.size(some)
    assert part is not None and whole is not None and part.bytes == pytest.approx(whole.bytes / 8)


def test_estimates_grow_with_the_bytes_that_are_read(tmp_path: Path) -> None:
    small, large = planned(tmp_path), planned(tmp_path, "domain=[openwebtext]", scale="400m")
    for kind, rate in (("text", texts.TEXT_RATE), ("corpus", texts.CORPUS_RATE)):
        few, many = node(small, kind, "code"), node(large, kind, "openwebtext")
        assert seconds_guess(few, 1e9) == pytest.approx(texts.START_S + 6e6 / rate)
        assert seconds_guess(many, 1e9) == pytest.approx(texts.START_S + 39_769_494_896 / rate)
        assert storage_bytes(small, few) == 6e6 and storage_bytes(large, many) == 39_769_494_896
    one, four = (seconds_guess(node(large, "text", "openwebtext"), 1e9, cores) - texts.START_S for cores in (1, 4))
    assert four == pytest.approx(one * (texts.ALONE + (1 - texts.ALONE) / 4))
    assert seconds_guess(node(small, "tokenizer"), 1e9, 4) == seconds_guess(node(small, "tokenizer"), 1e9)
    assert seconds_guess(node(small, "tokenizer"), 1e9) < 10 > seconds_guess(node(large, "tokenizer"), 1e9)
    unknown = planned(tmp_path, "domain=[hf]", "hf.repository=a/b", f"hf.revision={'a' * 40}", scale="10m")
    assert storage_bytes(unknown, node(unknown, "text", "hf")) == SCALES["10m"].fields()["documents.max_bytes"]


def test_each_core_of_several_asks_for_memory(tmp_path: Path) -> None:
    text = node(planned(tmp_path), "text", "code")
    assert texts.memory_mb(text, 3) - texts.memory_mb(text, 1) == 3 * texts.CORE_MB


def test_looking_for_near_duplicates_asks_for_the_memory_of_all_documents(tmp_path: Path) -> None:
    def asked(*sets: str) -> int:
        plan = planned(tmp_path, "domain=[openwebtext]", *sets, scale="400m")
        return job_mb(plan, [node(plan, "text", "openwebtext").spec.fingerprint])[0]

    plain, near = asked(), asked("documents.near_duplicates=80%")
    assert FLOOR_MB < plain < 16_000
    assert near - plain == pytest.approx(8_013_769 * 4_000 / 1e6, abs=2)


@pytest.mark.parametrize(("scale", "long"), [("10m", False), ("400m", True)])
def test_a_text_that_needs_several_jobs_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scale: str, long: bool
) -> None:
    read = SCALES[scale].fields()["documents.max_bytes"]
    arguments = ["plan", SMOKE, "--root", str(tmp_path), "--no-pilot", "--scale", scale,
                 "--set", "domain=[openwebtext]", "--set", f"documents.max_bytes={read}"]
    profile = tmp_path / "short.yaml"
    profile.write_text("executor: slurm\ngpus_per_node: 1\ncpus_per_task: 2\ntime_limit_min: 30\nlead_s: 60\n")
    for more, told in ((["--cluster", str(profile)], long), ([], False)):  # a job of this machine has no limit
        assert main([*arguments, *more]) == 0
        out = capsys.readouterr().out
        assert ("which goes on where the one before was" in out) == told
        takes = texts.START_S + 39_769_494_896 / texts.TEXT_RATE * (texts.ALONE + (1 - texts.ALONE) / 2)
        assert (f"with cpus_per_task = 2, where a job may take 30 min (time_limit_min): {math.ceil(takes / 1740)} jobs"
                in out) == told
