"""`init` and `completion`: what a person meets first."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.__main__ import verbs
from orchestrator.plan import Planned, make_plan
from sweeps.language.spec import GRID_AXES, Overrides, Run, SweepFile, load_sweep
from tests.orchestrator.verb_stores import SHIPPED, answer, called
from workloads.registry import load_registries


def test_the_first_sweep_file_plans_and_says_where_its_schema_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new folder" / "does it help.yaml"
    assert answer(capsys, "init", file)["name"] == "does_it_help"
    planned = make_plan(file, Overrides(), tmp_path / "store")
    assert planned.sweep.name == "does_it_help" and len(planned.trials) == 6
    first = file.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# yaml-language-server: $schema={(SHIPPED / 'schema.json').as_uri()}"
    assert json.loads((SHIPPED / "schema.json").read_text(encoding="utf-8"))["title"] == "SweepFile"


def test_the_first_sweep_file_has_the_smoke_sweeps_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    called(capsys, "init", tmp_path / "a.yaml")
    made, smoke = (make_plan(f, Overrides(), tmp_path) for f in (tmp_path / "a.yaml", SHIPPED / "smoke.yaml"))
    assert made.graph.nodes.keys() == smoke.graph.nodes.keys()


def test_every_key_scale_protocol_and_plug_in_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    called(capsys, "init", tmp_path / "a.yaml")
    text = (tmp_path / "a.yaml").read_text(encoding="utf-8")
    registries = load_registries(())
    known = [*SweepFile.model_fields, *Run.model_fields, *GRID_AXES, *registries.upstreams, *registries.domains]
    assert [k for k in known if k not in text] == []


def test_every_shipped_sweep_can_be_copied_under_a_new_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for shipped in SHIPPED.glob("*.yaml"):
        file = tmp_path / f"my-{shipped.name}"
        told = answer(capsys, "init", file, "--from", shipped.stem)
        assert told["from"] == shipped.stem
        copied, original = load_sweep(file)[0], load_sweep(shipped)[0]
        assert copied.name == f"my-{shipped.stem}" and copied.axes == original.axes
        assert "#" in file.read_text(encoding="utf-8").splitlines()[1] + file.read_text(encoding="utf-8")


def test_a_file_is_never_overwritten_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("mine\n", encoding="utf-8")
    code, _, err = called(capsys, "init", file)
    assert code == 2 and "--force" in err and file.read_text(encoding="utf-8") == "mine\n"
    assert called(capsys, "init", file, "--force")[0] == 0 and load_sweep(file)[0].name == "a"


@pytest.mark.parametrize(("argv", "code", "said"), [
    (["init", "a.txt"], 2, "ends in .yaml"),
    (["init", "a.yaml", "--from", "smok"], 2, "Did you mean 'smoke'"),
    (["init", "/proc/nope/a.yaml"], 4, "cannot be written"),
    (["completion"], 2, "name a shell"),
    (["completion", "bash", "--names", "sweeps"], 2, "name a shell"),
])
def test_wrong_use_says_what_to_do(
    argv: list[str], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    got, _, err = called(capsys, *argv)
    assert got == code and said in err and not list(tmp_path.iterdir())


def complete(script: Path, words: list[str], root: Path) -> list[str]:
    """Return what bash offers for the last word, as its completion machinery would ask."""
    ask = (
        f"source {script}\n"
        "f=$(complete -p orchestrator | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n"
        f"COMP_WORDS=({' '.join(words)}) COMP_CWORD={len(words) - 1}\n"
        f"$f orchestrator {words[-1]} {words[-2]}\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "--norc", "-c", ask], cwd=SHIPPED.parent, capture_output=True, text=True, check=True,
                          env={"PATH": path, "ORCHESTRATOR_ROOT": str(root)})
    assert not done.stderr
    return sorted(done.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_verbs_flags_sweeps_and_trials(
    finished_plan: Planned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script, root = tmp_path / "orchestrator.bash", finished_plan.layout.root
    script.write_text(called(capsys, "completion", "bash")[1], encoding="utf-8")
    assert complete(script, ["orchestrator", "sta"], root) == ["status"]
    assert complete(script, ["orchestrator", "''"], root) == sorted(verbs())
    assert complete(script, ["orchestrator", "status", "--wa"], root) == ["--watch"]
    if (Path(sys.executable).parent / "orchestrator").exists():  # installed: it asks itself for names
        assert complete(script, ["orchestrator", "why", "scratch"], root) == ["scratch-web-s0", "scratch-web-s1"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shells_script_names_every_verb(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = answer(capsys, "completion", shell)
    assert told["shell"] == shell and all(name in told["script"] for name in verbs())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_script_that_can_be_checked_here_parses(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "script"
    script.write_text(called(capsys, "completion", shell)[1], encoding="utf-8")
    subprocess.run([shell, "-n", str(script)], check=True)


def test_names_are_printed_one_a_line(finished_plan: Planned, capsys: pytest.CaptureFixture[str]) -> None:
    root = finished_plan.layout.root
    assert called(capsys, "completion", "--names", "sweeps", "--root", root)[1] == "t\n"
    assert called(capsys, "completion", "--names", "trials", "--root", root)[1].split() == list(
        finished_plan.graph.paths)
    assert called(capsys, "completion", "--names", "trials", "--root", root / "none")[1] == ""
