"""Every bad sweep file is refused: exit 2, all problems at once, each with place, key, value and what is allowed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orchestrator.__main__ import main
from sweeps.errors import SweepFileError
from sweeps.language.checks import MAX_TRIALS
from sweeps.language.grid import trials
from sweeps.language.read import MAX_BYTES, Source, parse
from sweeps.language.resolve import Resolver
from sweeps.language.spec import Overrides, check, load_draft, load_sweep
from tests.sweeps.bad import GOOD, Bad, Want, schema, values, yaml_faults
from tests.sweeps.fakes import registries

Captured = pytest.CaptureFixture[str]


def refused(argv: Sequence[str], root: Path, capsys: Captured) -> list[str]:
    """Run `orchestrator plan`, see that it refuses without a trace, and return the lines of what it says."""
    assert main(["plan", *argv, "--root", str(root), "--no-pilot"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err and err.startswith("orchestrator plan: ")
    assert not root.exists(), "something was written"
    return err.removeprefix("orchestrator plan: ").splitlines()


def expected(want: Want, file: Path, first_line: int) -> str:
    """Return how the line of a problem begins."""
    place = want.where or (str(file) if want.line is None else f"{file}:{first_line + want.line}")
    value = f" = {want.given}" if want.given else ""
    return f"{place}: {want.key}{value}"


CASES: list[Bad] = [*schema.CASES, *values.FIELDS, *values.FLAGS, *yaml_faults.CASES]


def ids(cases: Iterable[Bad]) -> list[str]:
    """Return the names of cases."""
    return [c.name for c in cases]


def check_case(bad: Bad, tmp_path: Path, capsys: Captured) -> None:
    """Plan a bad file and compare every line of the answer."""
    file = tmp_path / "bad.yaml"
    file.write_text(bad.text, encoding="utf-8")
    said = refused([str(file), *bad.flags], tmp_path / "store", capsys)
    assert len(said) == len(bad.wants), "\n".join(said)
    for line, want in zip(said, bad.wants, strict=True):
        assert line.startswith(expected(want, file, bad.first_line)), f"{line}\n{expected(want, file, bad.first_line)}"
        assert all(part in line for part in want.says), f"{line}\n{want.says}"


@pytest.mark.parametrize("bad", CASES, ids=ids(CASES))
def test_a_bad_file_is_refused_with_place_key_value_and_what_is_allowed(
    bad: Bad, tmp_path: Path, capsys: Captured
) -> None:
    check_case(bad, tmp_path, capsys)


@pytest.mark.parametrize("bad", schema.BETWEEN, ids=ids(schema.BETWEEN))
def test_problems_of_all_layers_come_at_once(bad: Bad, tmp_path: Path, capsys: Captured) -> None:
    check_case(bad, tmp_path, capsys)


def test_a_draft_lets_the_grids_problems_join_the_schemas(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(schema.BETWEEN[0].text, encoding="utf-8")
    draft = load_draft(file)
    with pytest.raises(SweepFileError) as error:
        trials(Resolver(draft.sweep, draft.source, registries(), draft.problems))
    assert [p.key for p in error.value.problems] == ["name", "axes.domain", "fields.pretrain.lr"]


def test_there_are_at_least_ninety_cases_and_each_has_its_own_name() -> None:
    assert len(CASES) >= 90 and len(set(ids(CASES))) >= len(CASES) - 1  # scale_unknown: once a key, once a flag


@pytest.mark.parametrize("text", yaml_faults.ACCEPTED.values(), ids=yaml_faults.ACCEPTED)
def test_what_only_looks_odd_is_accepted(text: str, tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "odd.yaml"
    file.write_bytes(text.encode())
    assert main(["plan", str(file), "--root", str(tmp_path / "store"), "--no-pilot"]) == 0, capsys.readouterr().err


def test_the_good_file_of_the_tables_is_good(tmp_path: Path) -> None:
    file = tmp_path / "good.yaml"
    file.write_text(GOOD, encoding="utf-8")
    assert load_sweep(file)[0].fields == {"pretrain.lr": 5e-4}


def test_nothing_that_a_tag_names_is_run(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "bad.yaml"
    file.write_text(f"a: {yaml_faults.RUN_CODE}\n", encoding="utf-8")
    refused([str(file)], tmp_path / "store", capsys)
    assert not (tmp_path / "PWNED").exists()


# -- what is no readable file ------------------------------------------------------------------------------------


def test_a_missing_file_lists_its_neighbours_and_the_nearest(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "smoke.yaml").write_text(GOOD, encoding="utf-8")
    said, = refused([str(tmp_path / "somke.yaml")], tmp_path / "store", capsys)
    assert f"does not exist; here are: {tmp_path / 'smoke.yaml'}. Did you mean 'smoke.yaml'?" in said
    said, = refused([str(tmp_path / "no" / "folder.yaml")], tmp_path / "store", capsys)
    assert "does not exist" in said and "orchestrator schema" in said


def test_a_folder_names_the_sweeps_in_it(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "smoke.yaml").write_text(GOOD, encoding="utf-8")
    said, = refused([str(tmp_path)], tmp_path / "store", capsys)
    assert f"is a folder; name a .yaml file, for instance {tmp_path / 'smoke.yaml'}" in said


@pytest.mark.parametrize(("content", "says"), [
    (b"", "is empty"),
    (b"\xff\xfen\0a\0m\0e\0", "is not UTF-8 text"),
    (b"schema_version: 1\nname: gr\xf6\xdfe\n", ":2: file = b'\\xf6': is not UTF-8 text"),
    (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is not UTF-8 text"),
    (b"PK\x03\x04" + bytes(100), "is not allowed"),
    (b"a: [" + b"x, " * 3_500_000 + b"x]\n", f"has 10,500,007 bytes; a sweep file has at most {MAX_BYTES:,}"),
], ids=["empty", "utf_16", "latin_1", "picture", "archive", "ten_megabytes"])
def test_what_is_no_text_of_a_page_is_said_so(content: bytes, says: str, tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(content)
    said, = refused([str(file)], tmp_path / "store", capsys)
    assert says in said and said.startswith(f"{file}:")


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "endless device", "loop of links", "below a file",
                                  "name too long", "NUL in the name"])
def test_what_is_no_regular_file_is_refused_and_never_waited_for(
    kind: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path has at most 107 bytes
    path = {"device": "/dev/null", "endless device": "/dev/zero", "below a file": "f/x.yaml",
            "name too long": "x" * 300, "NUL in the name": "a\0b"}.get(kind, "odd")
    Path("f").write_text("", encoding="utf-8")
    listener = socket.socket(socket.AF_UNIX)
    if kind == "pipe":
        os.mkfifo("odd")
    elif kind == "socket":
        listener.bind("odd")
    elif kind == "loop of links":
        Path("odd").symlink_to("odd")
    try:
        said, = refused([path], tmp_path / "store", capsys)
    finally:
        listener.close()
    wanted = {"pipe": "is a pipe", "socket": "is a socket", "device": "is a device", "endless device": "is a device",
              "loop of links": "Too many levels of symbolic links", "below a file": "Not a directory",
              "name too long": "name too long", "NUL in the name": "null byte"}[kind]
    assert wanted in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_said_so(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "secret.yaml"
    file.write_text(GOOD, encoding="utf-8")
    file.chmod(0)
    said, = refused([str(file)], tmp_path / "store", capsys)
    assert "cannot be read: Permission denied" in said


def test_a_name_with_control_codes_cannot_break_a_message(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "a\n\x1b[31mb.yaml"
    file.write_text("name: 1\n", encoding="utf-8")
    said = refused([str(file)], tmp_path / "store", capsys)
    assert said and all(line.startswith(str(tmp_path / r"a\n\x1b[31mb.yaml")) for line in said)


# -- a person's own plug-ins -------------------------------------------------------------------------------------

TASK = """\
from sweeps.language.plugins import Science, Task, Upstream

class Fields(Science):
    size: int = 1

def measure():
    return 42

PLUGIN = Task(science=Fields, revision=1, implementation=":measure")
"""
UPSTREAM = TASK.replace("PLUGIN = Task(", "PLUGIN = Upstream(")

PLUGINS = {
    "syntax_error": ("x = 1\ndef (:\n", ":2: plugins", "SyntaxError"),
    "import_error": ("import no_such_module_here\n", ":1: plugins", "No module named 'no_such_module_here'"),
    "exception_at_import": ("x = 1\nraise KeyError('boom')\n", ":2: plugins", "KeyError: 'boom'"),
    "exit_at_import": ("import sys\nsys.exit(0)\n", ":2: plugins", "the file left the program (0)"),
    "recursion_at_import": ("def f(): f()\nf()\n", ":1: plugins", "RecursionError"),
    "no_plugin": ("x = 1\n", ":1: plugins", "exports no PLUGIN"),
    "plugin_in_small_letters": (TASK.replace("PLUGIN", "plugin"), ":1: plugins", "Did you mean 'plugin'?"),
    "wrong_type": ("\nPLUGIN = {'science': 1}\n", ":2: plugins = {'science': 1}", "PLUGIN is a dict"),
    "missing_argument": (TASK.replace("revision=1, ", ""), ":9: plugins", "revision"),
    "revision_as_text": (TASK.replace("revision=1", "revision='1'"), ":9: plugins = '1'", "1 or above"),
    "revision_zero": (TASK.replace("revision=1", "revision=0"), ":9: plugins = 0", "1 or above"),
    "science_is_no_model": (TASK.replace("science=Fields", "science=dict"), ":9: plugins", "must be a subclass"),
    "implementation_is_missing": (TASK.replace(":measure", ":mesure"), ":9: plugins", "Did you mean 'measure'?"),
    "axes_is_a_list": (UPSTREAM.replace("revision=1", "revision=1, axes=['a']"), ":9: plugins = ['a']", "a mapping"),
    "axis_of_no_field": (UPSTREAM.replace("revision=1", "revision=1, axes={'a': 'sise'}"), ":9: plugins = 'sise'",
                         "Did you mean 'size'?"),
    "function_is_text": (UPSTREAM.replace("revision=1", "revision=1, vocabulary='x'"), ":9: plugins = 'x'", "function"),
    "scales_of_numbers": (TASK.replace("revision=1", "revision=1, scales={'tiny': 3}"), ":9: plugins", "presets"),
    "another_encoding": ("# -*- coding: latin-1 -*-\nx = 'gr\xf6\xdfe'\nPLUGIN = 3\n", ":3: plugins = 3", "PLUGIN is"),
    "nul_byte": ("x = 1\0\n", ":1: plugins", "null bytes"),
}


def plan_with(plugins: list[Path] | list[str], tmp_path: Path, capsys: Captured) -> list[str]:
    """Plan the good file with plug-ins and return what is said."""
    file = tmp_path / "own.yaml"
    named = ", ".join(f'"{p}"' for p in plugins)
    file.write_text(f"{GOOD}plugins: [{named}]\n", encoding="utf-8")
    return refused([str(file)], tmp_path / "store", capsys)


@pytest.mark.parametrize(("text", "place", "says"), PLUGINS.values(), ids=PLUGINS)
def test_a_broken_plug_in_is_named_with_its_line(
    text: str, place: str, says: str, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "mine.py"
    path.write_bytes(text.encode("latin-1"))
    said, = plan_with([path], tmp_path, capsys)
    assert said.startswith(f"{path}{place}") and says in said


@pytest.mark.parametrize(("key", "says"), [
    ("web", "taken in domains"), ("nca", "taken in upstreams"), ("copying", "taken in tasks"),
    ("pretrain", "taken by this language"), ("scratch", "taken by this language"), ("my-task", "cannot be a key"),
])
def test_a_key_that_is_taken_is_refused(key: str, says: str, tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / f"{key}.py"
    path.write_text(TASK, encoding="utf-8")
    said, = plan_with([path], tmp_path, capsys)
    assert said.startswith(f"{path}: plugins") and says in said


@pytest.mark.parametrize(("given", "says"), [
    ("mien.py", ":18: plugins.0 = 'mien.py': does not exist; plug-ins there: known: mine.py. Did you mean 'mine.py'?"),
    ("no/folder.py", ":18: plugins.0 = 'no/folder.py': does not exist"),
    ("note.txt", "no .py file and no folder"), ("empty", "holds no .py file"),
    ("loop", ":18: plugins.0 = 'loop': cannot be read: Symlink loop"),
    ("x" * 300, "cannot be read: File name too long"), ("a\\0b", "cannot be read: embedded null byte"),
])
def test_a_plug_in_that_is_not_there_is_said_so(given: str, says: str, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "mine.py").write_text(TASK, encoding="utf-8")
    (tmp_path / "note.txt").write_text("", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    said, = plan_with([given], tmp_path, capsys)
    assert says in said


def test_all_broken_plug_ins_are_reported_at_once(tmp_path: Path, capsys: Captured) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / f"{name}.py").write_text("x\n", encoding="utf-8")
    said = plan_with(["one.py", "two.py", "three.py"], tmp_path, capsys)
    assert [line.split(":")[0].rpartition("/")[2] for line in said] == ["one.py", "two.py", "three.py"]


def test_a_function_of_a_plug_in_that_raises_is_named_with_its_line(tmp_path: Path, capsys: Captured) -> None:
    text = TASK.replace("Task(", "Domain(").replace("Task", "Domain").replace(
        "revision=1", "revision=1, identity=lambda s: 1 / 0")
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    file = tmp_path / "own.yaml"
    file.write_text(GOOD.replace("[web, code]", "[mine]").replace("domain: web", "domain: mine")
                    + "plugins: [mine.py]\n", encoding="utf-8")
    said, = refused([str(file)], tmp_path / "store", capsys)
    assert f"{tmp_path / 'mine.py'}:9: " in said and "ZeroDivisionError" in said


# -- garbage -----------------------------------------------------------------------------------------------------

LINES = GOOD.splitlines()
SCRAPS = [":", "- ", "[", "]", "{", "}", "&a ", "*a", "!!", "!x ", "|", ">", "'", '"', "#", "---", "...", "%YAML 1.2",
          "\t", "\0", "\ufeff", "\\", "1e999", "-1", ".nan", "null", "true", "~", "<<: ", "?", "@", "`", "\r", "\x85",
          "\u2028", "\ud7ff", "0x", "1_0", "x" * 300, "9" * 500, "nca.", ".", "..", "pretrain", "seed"]


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A good file with lines removed, doubled, moved and filled with scraps."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(lines) - 1, 0)))
        line = lines[at] if lines else ""
        place = draw(st.integers(0, len(line)))
        scrap = draw(st.one_of(st.sampled_from(SCRAPS), st.text(max_size=8)))
        end = draw(st.integers(place, len(line)))
        lines[at:at + 1] = draw(st.sampled_from([
            [], [line, line], [line[:place] + scrap + line[place:]], [line[:place] + scrap + line[end:]],
            [" " + line], [line.strip()], [line, draw(st.sampled_from(LINES))],
        ]))
    return "\n".join(lines)


def planned_or_refused(text: str) -> None:
    """Resolve a text as `plan` does. Only the error of a sweep file may come out."""
    try:
        source: Source = parse(text, "x.yaml")
        trials(Resolver(check(source), source, registries()))
    except SweepFileError as error:
        assert error.problems
        assert all(p.where and p.key and p.message and str(p).isprintable() for p in error.problems), error.problems


@given(mutated())
@example('a: "\\UFFFFFFFF"')
@example("%TAG ! tag:x,2000:\n---\na: !<!> b")
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_mutations_of_a_good_file_are_planned_or_refused_and_nothing_else(text: str) -> None:
    planned_or_refused(text)


MARKS = "".join(s for s in SCRAPS if len(s) == 1) + " \nab1"


@given(st.one_of(st.text(max_size=200), st.text(alphabet=MARKS, max_size=60)))
@settings(max_examples=300)
def test_garbage_is_planned_or_refused_and_nothing_else(text: str) -> None:
    planned_or_refused(text)


@given(st.lists(st.one_of(st.text(max_size=30), st.sampled_from(
    ["domain=[web]", "pretrain.lr=1e-3", "seed=3", "name=x", "fields=3", "axes=[1]", "nca.n=[1]", "nca=1",
     "a.b=&a [*a]"]
)), max_size=3), st.one_of(st.none(), st.text(max_size=8)), st.one_of(st.none(), st.text(max_size=8)))
@settings(max_examples=200)
def test_flags_are_taken_or_refused_and_nothing_else(sets: list[str], scale: str | None, seeds: str | None) -> None:
    from sweeps.language.spec import apply

    source = parse(GOOD, "x.yaml")
    try:
        changed = apply(source, Overrides(sets=tuple(sets), scale=scale, seeds=seeds))
        trials(Resolver(check(changed), changed, registries()))
    except SweepFileError as error:
        assert error.problems and all(str(p).isprintable() for p in error.problems)


def test_a_grid_of_the_largest_size_is_refused_before_it_is_made() -> None:
    axes = {"upstream": ["none", "nca"], "domain": ["web"], "seed": list(range(10_000)),
            **{f"model.{name}": list(range(1, 1001)) for name in ("layers", "width", "mlp")}}
    source = Source(name="x", values={"schema_version": 1, "name": "x", "axes": axes})
    with pytest.raises(SweepFileError, match=f"20,000,000,000,000 trials.*at most {MAX_TRIALS:,}"):
        trials(Resolver(check(source), source, registries()))


def test_a_bad_file_costs_no_import_of_a_heavy_library(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(GOOD.replace("name: base", "name: ../x"), encoding="utf-8")
    code = ("import sys\nfrom orchestrator.__main__ import main\n"
            f"code = main(['plan', {str(file)!r}, '--root', {str(tmp_path / 'store')!r}])\n"
            "print(code, sorted({'torch', 'ray', 'pandas', 'deepspeed'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 []\n" and "Traceback" not in done.stderr
