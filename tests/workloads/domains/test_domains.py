"""The shipped domains: light to import, honest about what is missing, deterministic; and a person's own."""

from __future__ import annotations

import ast
import importlib
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.errors import EnvironmentError_
from sweeps.language.plugins import Domain
from tests.workloads.data.contexts import make_shards, make_texts, make_tokens
from workloads.contract import Document
from workloads.data.corpus import open_corpus
from workloads.data.docstrings import docstrings
from workloads.data.documents import Candidate, Documents
from workloads.data.installed import standard_library, versions
from workloads.domains import _web, code, math, web
from workloads.registry import load_registries

DOMAINS = ("code", "math", "web")
LIGHT = [f"workloads.domains.{d}" for d in DOMAINS] + [f"workloads.stages.{s}" for s in ("text", "tokenizer", "corpus")]
OWN = '''
from pathlib import Path
from sweeps.language.plugins import Domain, Science
from workloads.data.folder import folder_identity, read_folder

FOLDER = Path(__file__).parent / "notes"

class NotesScience(Science):
    suffix: str = ".md"

def read(science):
    return read_folder(FOLDER, science.suffix)

PLUGIN = Domain(science=NotesScience, revision=1, implementation=":read",
                identity=lambda science: folder_identity(FOLDER, science.suffix))
'''


def plugin(name: str) -> Domain:
    found = importlib.import_module(f"workloads.domains.{name}").PLUGIN
    assert isinstance(found, Domain)
    return found


def test_importing_them_and_their_identity_loads_nothing_heavy() -> None:
    code = "import importlib, sys\n" + "".join(f"importlib.import_module('{m}')\n" for m in LIGHT) + (
        f"for d in {DOMAINS}:\n"
        "    p = sys.modules['workloads.domains.' + d].PLUGIN\n"
        "    p.identity(p.science())\n"
        "heavy = {'torch', 'numpy', 'tokenizers', 'transformers', 'pandas', 'sympy', 'ray'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", DOMAINS)
def test_documents_come_in_the_same_order_without_importing_their_packages(name: str) -> None:
    domain = plugin(name)
    loaded = {"sympy", "mpmath", "ray"} & set(sys.modules)
    first, second = ([*itertools.islice(domain.load()(domain.science()), 20)] for _ in range(2))
    assert first == second
    assert len(first) == 20
    assert len({(d.source, d.path) for d in first}) == 20
    assert {"sympy", "mpmath", "ray"} & set(sys.modules) == loaded


def test_identity_says_what_is_not_installed() -> None:
    science = math.MathScience(packages=("sympy", "no-such-package"))
    identity = plugin("math").identity
    assert identity is not None
    found = identity(science)
    assert found["no-such-package"] is None
    assert found["sympy"]
    assert {d.source.split()[0] for d in itertools.islice(plugin("math").load()(science), 50)} == {"sympy"}
    assert set(versions([], python=True)) == {"python"}


def test_code_has_no_tests_no_prose_and_no_other_packages() -> None:
    documents = plugin("code").load()(code.CodeScience())
    paths = {c.path for c in documents._candidates}
    assert "json/decoder.py" in paths
    for path in paths:
        assert not {"test", "tests", "site-packages", "idle_test", "pydoc_data"} & set(path.split("/")), path


def test_web_reads_topics_descriptions_and_licences() -> None:
    documents = list(_web.read(web.WebScience(packages=(), described=("numpy", "no-such-package"))))
    paths = {d.path for d in documents}
    assert "METADATA" in paths
    assert any("LICENSE" in p for p in paths)
    assert "pydoc_data/topics.py#assert" in paths
    description = next(d.text for d in documents if d.path == "METADATA")
    assert not description.startswith("Metadata-Version")


def test_web_leaves_interactive_examples_out() -> None:
    source = '"""Adds two numbers, as everybody knows.\n\n>>> add(1, 2)\n3\n\nMore words."""\n'
    assert _web.prose(source, 10) == "Adds two numbers, as everybody knows.\n\nMore words."


def docstrings_by_ast(source: str) -> set[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {text for n in ast.walk(ast.parse(source)) if isinstance(n, kinds) and (text := ast.get_docstring(n))}


@pytest.mark.filterwarnings("ignore")
def test_the_pattern_finds_what_ast_finds() -> None:
    both = found = expected = 0
    for path in sorted(standard_library().glob("*.py"))[::6]:
        source = path.read_text(encoding="utf-8", errors="replace")
        fast, slow = set(docstrings(source)), docstrings_by_ast(source)
        both += sum(map(len, fast & slow))
        found += sum(map(len, fast))
        expected += sum(map(len, slow))
    assert expected > 50_000
    assert both / max(found, expected) > 0.97


def test_files_that_fail_are_skipped_and_counted() -> None:
    def fail() -> str:
        raise SyntaxError("bad")

    documents = Documents([
        Candidate(source="s", path="a", read=fail), Candidate(source="s", path="b", read=lambda: "text"),
        Candidate(source="s", path="c", read=lambda: ""),
    ])
    assert list(documents) == [Document(source="s", path="b", text="text")]
    assert documents.skipped == ["s/a: SyntaxError: bad"]


def test_a_domain_outside_the_package(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "journal.py").write_text(OWN)
    domain = load_registries([tmp_path / "journal.py"]).domains.find("journal")
    with pytest.raises(EnvironmentError_, match="no file that ends in"):
        domain.load()(domain.science())
    assert domain.identity is not None
    assert domain.identity(domain.science()) == {"notes": None}
    for i in range(20):
        words = " ".join(f"word{i}x{j}" for j in range(50))
        (tmp_path / "notes" / f"{i}.md").write_text(words)
    before = domain.identity(domain.science())["notes"]
    folder, scores = make_texts(tmp_path / "store", "journal", domain)
    assert scores["documents"] == 20
    (tmp_path / "notes" / "0.md").write_text("changed")
    assert before != domain.identity(domain.science())["notes"]
    assert folder.is_dir()


def test_code_from_files_to_batches(tmp_path: Path) -> None:
    text, scores = make_texts(tmp_path, "code", plugin("code"), max_bytes=300_000)
    assert scores["overlap"] <= 0.02
    tokenizer, _ = make_tokens(tmp_path, {"code": text}, vocabulary=512)
    shards, counts = make_shards(tmp_path, text, tokenizer)
    reader = open_corpus(shards, seed=0, sequence_length=64)
    assert reader.train_sequences == counts["train_tokens"] // 64 > 500
    assert reader.domain == "code"
