"""Roots, flags and interpreters that cannot work are refused with a reason; roots with odd names work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.__main__ import main

REPOSITORY = Path(__file__).parent.parent.parent
SMOKE = str(REPOSITORY / "sweeps" / "smoke.yaml")
MEMORY = ["--cluster", "memory", "--quiet"]
Captured = pytest.CaptureFixture[str]

ODD = {
    "spaces": "a  b ", "quotes": "it's \"quoted\" `x`", "newline": "a\nb", "unicode": "größe 数 é", "dash": "-x",
    "shell": "$HOME;*?[a]|&>x", "percent": "%s {x} %(y)d", "dots": "..a..", "backslash": "a\\nb",
    "not_utf_8": os.fsdecode(b"gr\xf6\xdfe"),
}
EVERYTHING = "a \"b\" 'c'\n$d; ünï *"


@pytest.mark.parametrize("name", ODD.values(), ids=ODD)
def test_a_root_of_any_name_can_be_planned_and_looked_at(name: str, tmp_path: Path, capsys: Captured) -> None:
    root = tmp_path / name
    root.mkdir()
    assert main(["plan", SMOKE, "--no-pilot", f"--root={root}"]) == 0
    assert main(["status", f"--root={root}"]) == 0
    assert "Traceback" not in capsys.readouterr().err
    assert not list(root.iterdir()), "something was written"


def test_a_sweep_runs_on_a_root_with_spaces_quotes_and_newlines(tmp_path: Path, capsys: Captured) -> None:
    root = tmp_path / EVERYTHING
    # A process of its own, as a person's command is: Ray keeps the token of the first start in a process.
    argv = [sys.executable, "-m", "orchestrator", "sweep", SMOKE, "--root", str(root), *MEMORY]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(
        REPOSITORY)})
    assert done.returncode == 0, done.stderr
    assert (root / "sweeps" / "smoke" / "report" / "report.html").stat().st_size > 1000
    assert main(["status", "smoke", "--root", str(root)]) == 0
    assert "6 done" in capsys.readouterr().out
    assert {p.name for p in tmp_path.iterdir()} == {EVERYTHING}, "something was written beside the root"


# -- roots that cannot work --------------------------------------------------------------------------------------


def _file(folder: Path) -> str:
    (folder / "file").write_text("mine", encoding="utf-8")
    return str(folder / "file")


def _loop(folder: Path) -> str:
    (folder / "loop").symlink_to("loop")
    return str(folder / "loop")


ROOTS = {
    "a_file": _file, "below_a_file": lambda folder: _file(folder) + "/x", "a_device": lambda folder: "/dev/null",
    "a_name_too_long": lambda folder: str(folder / ("x" * 300)),
    "a_loop_of_links": _loop, "nothing": lambda folder: "", "a_nul": lambda folder: "a\0b",
}


@pytest.mark.parametrize("verb", ["plan", "status", "sweep"])
@pytest.mark.parametrize("kind", ROOTS)
def test_a_root_that_is_no_folder_is_refused_with_its_name_and_a_reason(
    kind: str, verb: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = ROOTS[kind](tmp_path)
    before = {p.name for p in tmp_path.iterdir()}
    argv = [verb, *([] if verb == "status" else [SMOKE]), *(MEMORY if verb == "sweep" else []), "--root", root]
    try:
        code: int | str | None = main(argv)
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr().err
    assert code in (2, 4)
    assert "Traceback" not in said and (root[:40] in said or "\0" in root)
    assert {p.name for p in tmp_path.iterdir()} == before, "something was written"
    if kind == "a_file":
        assert Path(root).read_text(encoding="utf-8") == "mine"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB in memory."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(argv, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _refused_for_writing(root: Path, capsys: Captured) -> None:
    assert main(["plan", SMOKE, "--no-pilot", "--root", str(root)]) == 0
    assert main(["status", "--root", str(root)]) == 0
    capsys.readouterr()
    assert main(["sweep", SMOKE, "--root", str(root), *MEMORY]) == 4
    said = capsys.readouterr().err
    assert str(root) in said and "cannot be written" in said and "Traceback" not in said
    assert not list(root.iterdir())


def test_a_file_system_mounted_for_reading_can_be_looked_at_and_not_written(mounted: Path, capsys: Captured) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    _refused_for_writing(mounted, capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_permission_can_be_looked_at_and_not_written(tmp_path: Path, capsys: Captured) -> None:
    root = tmp_path / "closed"
    root.mkdir(mode=0o500)
    _refused_for_writing(root, capsys)


@pytest.mark.parametrize("left_kilobytes", [8, 0])
def test_a_full_file_system_ends_with_a_reason_and_never_with_a_trace(
    left_kilobytes: int, mounted: Path, capsys: Captured
) -> None:
    filler = mounted / "filler"
    with filler.open("wb") as file:
        file.truncate()
        free = shutil.disk_usage(mounted).free - 1024 * left_kilobytes
        file.write(bytes(free))
    code = main(["sweep", SMOKE, "--root", str(mounted), *MEMORY])
    said = capsys.readouterr().err
    assert code == 6 and "Traceback" not in said
    assert str(mounted) in said and ("No space left" in said or "free" in said)


# -- flags -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("argv", "said"), [
    ([], "VERB"), (["plna", SMOKE], "plna"), (["plan"], "FILE"), (["plan", SMOKE, "--sed", "x"], "--sed"),
    (["plan", SMOKE, "--set"], "expected one argument"),
    (["sweep", SMOKE, "--slots", "many"], "many"), (["sweep", SMOKE, "--slots", "1.5"], "1.5"),
    (["plan", SMOKE, "other.yaml"], "other.yaml"),
])
def test_what_the_parser_refuses_is_named_and_exits_2(argv: list[str], said: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    err = capsys.readouterr().err
    assert ended.value.code == 2 and said in err and "Traceback" not in err


@pytest.mark.parametrize("slots", ["0", "-1"])
def test_no_slots_are_refused_before_anything_is_written(slots: str, tmp_path: Path, capsys: Captured) -> None:
    root = tmp_path / "store"
    try:
        code: int | str | None = main(["sweep", SMOKE, "--root", str(root), *MEMORY, f"--slots={slots}"])
    except SystemExit as ended:
        code = ended.code
    assert code == 2 and "slots" in capsys.readouterr().err
    assert not root.exists()


# -- the wrong Python --------------------------------------------------------------------------------------------

OLD_PYTHON = """#!/bin/sh
test "$1" = -c || exit 97  # nothing but the look at the version may run
exec "{python}" -c 'import sys
sys.version_info = (3, 9, 18, "final", 0)
sys.version = "3.9.18 (main)"
exec(sys.argv[1])' "$2"
"""


def test_make_names_an_old_python_and_how_to_name_another(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text(OLD_PYTHON.format(python=sys.executable), encoding="utf-8")
    old.chmod(0o755)
    argv = ["make", "-C", str(REPOSITORY), "sweep", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(argv, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert done.returncode != 0 and not (tmp_path / "venv").exists()
    assert "Python 3.11 or newer is needed, this is 3.9.18; name another: make PYTHON=" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_package_refuses_the_pythons_that_make_refuses() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=3.11"
    assert "sys.version_info >= (3, 11)" in (REPOSITORY / "Makefile").read_text(encoding="utf-8")
