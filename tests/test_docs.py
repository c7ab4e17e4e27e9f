"""What the documents say exists: links, anchors, commands, flags, tests; and the CLI reference is the parser's."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from orchestrator.__main__ import parser
from orchestrator.reference import arguments_of, main, reference, subparsers

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
             *sorted(ROOT.glob("docs/**/*.md"))]
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]

FENCE = re.compile(r"^(```+|~~~+)[ ]*(\w*).*$")
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
SOURCE = re.compile(r"<(?:img|a)\b[^>]*?\b(?:src|href)=\"([^\"]+)\"", re.DOTALL)
BARE = re.compile(r"<(https?://[^>\s]*)>|(?<![(\"<\w])(https?://[^\s)>\"`]+)")
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
COMMAND = re.compile(r"(?<![\w/.-])(?:\.venv/bin/)?orchestrator +(?=[a-z])(.*)")
PLACE = re.compile(r"^(?:sweeps|cluster|workloads|orchestrator|analysis|tests|benchmarks)/[\w/.-]+\.(?:py|yaml|json)$")


def blocks(text: str) -> Iterator[tuple[str, int, str]]:
    """Yield (language, line number, line) of every line; language `` is prose, `indented` a block of four spaces."""
    fence, language, before = "", "", ""
    for number, line in enumerate(text.splitlines(), start=1):
        match = FENCE.match(line)
        if match and not fence:
            fence, language = match[1], match[2] or "none"
        elif match and line.startswith(fence) and not match[2]:
            fence = ""
        elif fence:
            yield language, number, line
        else:
            inside = line.startswith("    ") and before in ("", "indented")
            yield ("indented" if inside else "prose"), number, line
            before = "indented" if inside else line.strip()
    assert not fence, "a code block is not closed"


def prose(path: Path) -> str:
    return "\n".join(line for language, _, line in blocks(path.read_text(encoding="utf-8")) if language == "prose")


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to a document's headings."""
    found: dict[str, int] = {}
    names = set()
    for line in prose(path).splitlines():
        if match := re.match(r"#{1,6} +(.+?)(?: +#+)?$", line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match[1]).lower()
            slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
            names.add(f"{slug}-{found[slug]}" if slug in found else slug)
            found[slug] = found.get(slug, 0) + 1
    return names | set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", prose(path)))


def links(path: Path) -> list[str]:
    text = prose(path)
    bare = ["".join(pair) for pair in BARE.findall(SPAN.sub("", text))]
    return [*LINK.findall(SPAN.sub(lambda m: m[0].replace("](", "] ("), text)), *SOURCE.findall(text), *bare]


def commands(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the command lines of a document's code blocks, without what a shell takes from them."""
    for language, number, line in blocks(path.read_text(encoding="utf-8")):
        typed = line.removeprefix("$ ") if language == "console" and line.startswith("$ ") else line
        if language in ("sh", "bash", "indented") or typed is not line:
            for match in COMMAND.finditer(typed):
                yield number, match[1]


def arguments(command: str) -> list[str]:
    """Return the words of a command up to the shell's next operator."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if set(word) <= set("();<>|&"):
            break
        words.append(word)
    return words


def bad_links(path: Path, root: Path) -> list[str]:
    wrong = []
    for target in links(path):
        parts = urlsplit(target)
        if parts.scheme or target.startswith("//"):
            sane = parts.scheme in ("http", "https") and re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc)
            wrong += [] if sane else [f"{target}: not a sane address"]
            continue
        file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not file.exists() or not file.is_relative_to(root):
            wrong.append(f"{target}: no such file in the repository")
        elif parts.fragment and parts.fragment not in anchors(file):
            wrong.append(f"{target}: no such heading; there is {sorted(anchors(file))}")
    return wrong


def bad_commands(path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    wrong = []
    for number, command in commands(path):
        try:
            parser().parse_args(arguments(command))
        except SystemExit as stop:
            if stop.code:
                wrong.append(f"line {number}: orchestrator {command}: {capsys.readouterr().err.splitlines()[-1]}")
    return wrong


def bad_spans(path: Path) -> list[str]:
    """Return the code spans in prose that name a verb or flag which does not exist."""
    verbs = subparsers(parser())
    wrong = []
    for span in SPAN.findall(prose(path)):
        if (match := re.match(r"orchestrator +([a-z]+)\b(.*)", span)) is None:
            continue
        known = {o for a in verbs[match[1]]._actions for o in a.option_strings} if match[1] in verbs else set()
        flags = re.findall(r"(?<!\S)-{1,2}[a-z][\w-]*", match[2])
        wrong += [f"`{span}`"] if match[1] not in verbs or not set(flags) <= known else []
    return wrong


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_every_link_leads_somewhere(path: Path) -> None:
    assert not bad_links(path, ROOT)


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_every_command_in_a_code_block_is_understood(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not bad_commands(path, capsys)


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_every_verb_and_flag_named_in_the_text_exists(path: Path) -> None:
    assert not bad_spans(path)


SAMPLE = """# One *head*, `code`
## Again
## Again
[ok](#one-head-code) [ok](#again-1) [ok](other.md#there) <https://example.org/a>
[lost](missing.md) [lost](other.md#nowhere) [out](../outside.md) ![lost](no.svg) <img width="1" src="no.png">
[odd](htp://example.org) <https://nodot/> `[shown](nowhere.md)`
Run `orchestrator status --watch`, never `orchestrator status --wach` or `orchestrator stats`.

    orchestrator sweep FILE --set 'domain=[code]' > out.txt   # fine
    orchestrator sweep FILE --sets x=1

```console
$ orchestrator plan FILE | tail
orchestrator of output is no command
$ orchestrator plan
```
```text
orchestrator sweep --as [it is]
[shown](nowhere.md)
```
"""


def test_what_is_wrong_in_a_document_is_found_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "docs/sample.md"
    path.parent.mkdir()
    path.write_text(SAMPLE)
    (path.parent / "other.md").write_text("### There\n")
    (tmp_path / "outside.md").write_text("")
    assert [w.split(":")[0] for w in bad_links(path, path.parent)] == [
        "missing.md", "other.md#nowhere", "../outside.md", "no.svg", "htp", "no.png", "https"]
    assert [w.split(":")[0] for w in bad_commands(path, capsys)] == ["line 10", "line 15"]
    assert bad_spans(path) == ["`orchestrator status --wach`", "`orchestrator stats`"]


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/concepts/*.md")), ids=lambda p: p.name)
def test_every_test_and_file_that_a_concept_rests_on_exists(path: Path) -> None:
    wrong, tests = [], 0
    for span in SPAN.findall(prose(path)):
        file, _, name = span.partition("::")
        if name:
            tests += 1
            found = (ROOT / file).is_file() and re.search(rf"^def {re.escape(name)}\(", (ROOT / file).read_text(), re.M)
            wrong += [] if found else [span]
        elif PLACE.match(span) and not (ROOT / span).exists():
            wrong.append(span)
    assert not wrong, f"{path.relative_to(ROOT)} rests on what does not exist: {', '.join(wrong)}"
    assert tests, f"{path.relative_to(ROOT)} names no test"


def test_the_cli_reference_is_what_the_parser_says(capsys: pytest.CaptureFixture[str]) -> None:
    path = ROOT / "docs/cli.md"
    assert main(["--check", str(path)]) == 0, capsys.readouterr().err


def test_drift_of_the_cli_reference_says_how_to_make_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "cli.md"
    old.write_text(reference(parser()).replace("--takeover", "--steal"))
    assert main(["--check", str(old)]) == 1
    assert f"python -m orchestrator.reference > {old}" in capsys.readouterr().err


def test_the_cli_reference_names_every_verb_and_argument() -> None:
    text = reference(parser())
    for name, one in subparsers(parser()).items():
        part = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for each in (one, *subparsers(one).values()):
            for action in arguments_of(each):
                assert all(f"`{flag}" in part for flag in action.option_strings), (name, action)
                assert action.help, f"{each.prog}: {action.option_strings or action.dest} has no help text"
        assert f"```sh\norchestrator {name}" in part or f"orchestrator {name}" in part.split("```sh")[1]


def test_the_cli_reference_does_not_depend_on_the_terminal_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    before = reference(parser())
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("ORCHESTRATOR_ROOT", "/somewhere/else")
    assert reference(parser()) == before


def test_the_cli_reference_shows_each_shape_of_an_argument() -> None:
    top = argparse.ArgumentParser(prog="tool", epilog="exit codes: 0 all done, 2 usage; a remark")
    one = top.add_subparsers().add_parser("do", description="Do it.\n\n  as it stands", epilog="examples:\n  tool do x")
    one.add_argument("files", nargs="+", metavar="A|B", help="what")
    one.add_argument("--many", action="append", help="again")
    one.add_argument("--must", required=True, choices=("a", "b"), help="100%% needed")
    one.add_argument("--secret", help=argparse.SUPPRESS)
    text = reference(top)
    assert "tool do A|B [A|B ...] [--many MANY]... --must {a,b}\n" in text
    assert "| `A\\|B [A\\|B ...]` | what |" in text
    assert "| `--must {a,b}` | 100% needed |" in text
    assert "| 2 | usage |" in text and "a remark." in text
    assert "```text\nas it stands\n```" in text and "```sh\ntool do x\n```" in text
    assert "secret" not in text
