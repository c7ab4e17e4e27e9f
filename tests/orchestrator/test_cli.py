"""The verbs, as a person or a script meets them: output, exit codes, and JSON that is only on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from orchestrator.__main__ import main, verbs
from orchestrator.plan import make_plan
from sweeps.language.spec import Overrides
from sweeps.store.files import read_json

ROOT = Path(__file__).parent.parent.parent
SMOKE = str(ROOT / "sweeps" / "smoke.yaml")
GOLDEN = str(ROOT / "tests" / "data" / "nca_golden.npz")


OWN_DOMAIN = """
from pathlib import Path
from sweeps.language.plugins import Domain, Science
from workloads.data.folder import folder_identity, read_folder

FOLDER = Path("FOLDER_HERE")

class NotesScience(Science):
    suffix: str = ".txt"

def read(science):
    return read_folder(FOLDER, science.suffix)

PLUGIN = Domain(science=NotesScience, revision=1, implementation=":read",
                identity=lambda science: folder_identity(FOLDER, science.suffix))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which smoke has run on the memory executor, through Ray Tune."""
    root = tmp_path_factory.mktemp("store")
    assert main(["sweep", SMOKE, "--cluster", "memory", "--root", str(root), "--quiet"]) == 0
    return root


def test_a_sweep_ends_with_a_table_a_report_and_all_trials_done(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["status", "smoke", "--root", str(finished), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["schema_version"] == 1
    assert printed["sweeps"][0]["trials"] == {"done": 6}
    assert (finished / "sweeps" / "smoke" / "report" / "report.html").stat().st_size > 1000
    assert "# --set" not in (finished / "sweeps" / "smoke" / "sweep.yaml").read_text(encoding="utf-8")


def test_running_again_reuses_everything_and_starts_no_ray(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.init", lambda **options: pytest.fail("Ray was started with nothing to run"))
    assert main(["sweep", SMOKE, "--cluster", "memory", "--root", str(finished), "--quiet"]) == 0
    assert "6 of 6 trials" in capsys.readouterr().out


def test_made_up_results_and_real_ones_never_share_a_store(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", SMOKE, "--root", str(finished)]) == 2
    assert "simulated results" in capsys.readouterr().err
    (tmp_path / "stages").mkdir()
    assert main(["sweep", SMOKE, "--cluster", "memory", "--root", str(tmp_path)]) == 2
    assert "real results" in capsys.readouterr().err


def test_plan_says_what_is_reused_and_its_json_has_its_keys(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for root, state in ((finished, "reuse"), (tmp_path / "new", "run")):
        assert main(["plan", SMOKE, "--root", str(root), "--json", "--no-pilot"]) == 0
        plan = json.loads(capsys.readouterr().out)
        assert plan["trials"] == 6 and isinstance(plan["stages"], list)
        assert {s["state"] for s in plan["stages"]} == {state}
        assert {"seconds", "storage_bytes", "free_bytes", "tokens_saved", "measured", "departures"} <= set(plan)
    assert not (tmp_path / "new").exists(), "plan changed something"


def test_plan_for_people_fits_80_columns(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", SMOKE, "--root", str(finished), "--no-pilot"]) == 0
    table = capsys.readouterr().out.split("departures")[0]
    assert "6 trials" in table and all(len(line) <= 80 or "free at" in line for line in table.splitlines())


def test_logs_of_a_trial_and_of_an_unknown_one(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "scratch-code-s0", "--root", str(finished)]) == 0
    assert main(["logs", "scratch-code-s9", "--root", str(finished)]) == 2
    assert "Did you mean 'scratch-code-s" in capsys.readouterr().err


def test_report_from_a_copied_store(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    copied = shutil.copytree(finished, tmp_path / "copy")
    assert main(["report", "smoke", "--root", str(copied), "--out", str(tmp_path / "out"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    again = finished / "sweeps" / "smoke" / "report" / "tables" / "convergence.csv"
    assert (tmp_path / "out" / "tables" / "convergence.csv").read_bytes() == again.read_bytes()
    assert printed["report"] == str(tmp_path / "out" / "report.html")
    assert {p.suffix for p in (tmp_path / "out" / "figures").iterdir()} == {".svg", ".pdf", ".png", ".json"}


def test_report_of_a_part_of_a_sweep(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished / "sweeps" / "smoke" / "plan.json").read_bytes()
    assert main(["report", SMOKE, "--seeds", "1", "--root", str(finished), "--out", str(tmp_path)]) == 0
    assert "3 of 3 trials" in capsys.readouterr().out
    assert (finished / "sweeps" / "smoke" / "plan.json").read_bytes() == before


def test_status_of_an_empty_root_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--root", str(tmp_path / "none")]) == 0
    assert main(["status", "--root", str(tmp_path / "none"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sweeps"] == []


@pytest.mark.parametrize(("argv", "code", "said"), [
    (["plan", "nowhere.yaml"], 2, "does not exist"),
    (["plan", "."], 2, "is a folder"),
    (["plan", SMOKE, "--set", "domain=[wbe]"], 2, "Did you mean 'web'"),
    (["plan", SMOKE, "--set", "pretrain.lrr=1"], 2, "Did you mean 'lr'"),
    (["plan", SMOKE, "--scale", "tyni"], 2, "Did you mean 'tiny'"),
    (["plan", SMOKE, "--set", "complexity=[60-30]"], 2, "60-30"),
    (["plan", SMOKE, "--cluster", "lcoal"], 2, "Did you mean 'local'"),
    (["status", "no_such_sweep"], 2, "no such sweep"),
    (["conformance", "nowhere.npz"], 2, "nowhere.npz"),
    (["sweep", SMOKE, "--root", "/proc/nope"], 4, "cannot be written"),
])
def test_bad_input_says_what_is_allowed_and_exits_with_its_code(
    argv: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = [] if "--root" in argv or argv[0] == "conformance" else ["--root", str(tmp_path)]
    assert main([*argv, *root]) == code
    assert said in capsys.readouterr().err


def test_an_impossible_band_is_refused_with_the_ceiling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["plan", SMOKE, "--root", str(tmp_path), "--set", "nca.complexity.scale=raw", "--set", "complexity=[60-90]"]
    assert main(argv) == 2
    assert "ceiling" in capsys.readouterr().err


def test_conformance_of_the_golden_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", GOLDEN, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["ok"] and printed["rules"] == 24
    assert printed["frames_checked"] == printed["frames_identical"]
    assert main(["conformance", GOLDEN]) == 0


def test_conformance_of_several_files_is_a_table_and_one_bad_file_hides_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(GOLDEN) as archive:
        arrays = {name: archive[name][:2] for name in archive.files}
    good, wrong, unreadable = (str(tmp_path / f"{name}.npz") for name in ("good", "wrong", "unreadable" * 4))
    np.savez(good, **arrays)  # type: ignore[arg-type]
    np.savez(wrong, **(arrays | {"gzip_score": arrays["gzip_score"] + 0.1}))  # type: ignore[arg-type]
    Path(unreadable).write_text("no archive")
    assert main(["conformance", good, wrong]) == 1
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["file", "rules", "frames", "equal", "tokens", "scores", "logit", "error", "ok"]
    assert [row.split()[-1] for row in rows] == ["yes", "NO"] and max(map(len, [head, *rows])) <= 80
    assert main(["conformance", good, unreadable, wrong, "--json"]) == 2
    printed, told = capsys.readouterr()
    found = json.loads(printed)
    assert [row["ok"] for row in found["files"]] == [True, False, False] and not found["ok"]
    assert set(found["files"][0]) == {"file", "rules", "frames_checked", "frames_identical", "tokens_identical",
                                      "scores_identical", "max_logit_error", "ok"}
    assert unreadable in found["files"][1]["error"] and unreadable in told
    assert main(["conformance", good, good, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]


@pytest.mark.parametrize("name", verbs())
def test_every_verb_has_help_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"orchestrator {name}" in capsys.readouterr().out.split("examples:")[1]


def own_domain(folder: Path, texts: Mapping[str, str], sweep: str) -> Path:
    """Write a plug-in of a domain, the texts that it reads, and a sweep file that names it."""
    (folder / "notes").mkdir()
    for name, text in texts.items():
        (folder / "notes" / name).write_text(text, encoding="utf-8")
    plugin = OWN_DOMAIN.replace("FOLDER_HERE", str(folder / "notes"))
    (folder / "notes.py").write_text(plugin, encoding="utf-8")
    assert "[code]" in sweep
    (folder / "own.yaml").write_text(sweep.replace("[code]", "[notes]") + "plugins: [notes.py]\n", encoding="utf-8")
    return folder / "own.yaml"


def test_a_domain_of_ones_own_is_one_file(tmp_path: Path) -> None:
    sweep = (ROOT / "sweeps" / "smoke.yaml").read_text(encoding="utf-8")
    planned = make_plan(own_domain(tmp_path, {"a.txt": "Some words.\n"}, sweep), Overrides(), tmp_path / "store")
    assert {t.domain for t in planned.trials} == {"notes"}
    assert "notes" in {n.label.split()[1] for n in planned.graph.nodes.values() if n.spec.kind == "text"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_over_a_domain_of_ones_own_runs_to_its_table(tmp_path: Path) -> None:
    """The command line, real training, two trials; this project's own sources are the notes."""
    texts = {f"{path.parent.name}-{path.stem}.txt": path.read_text(encoding="utf-8")
             for folder in ("orchestrator", "sweeps/language", "sweeps/store") for path in (ROOT / folder).glob("*.py")}
    small = (ROOT / "tests" / "faults" / "small.yaml").read_text(encoding="utf-8")
    file = own_domain(tmp_path, texts, small.replace("pretrain.tokens: 0.2x", "pretrain.tokens: 0.05x"))
    done = subprocess.run([sys.executable, "-m", "orchestrator", "sweep", str(file), "--root", str(tmp_path / "store"),
                           "--json", "--quiet"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, timeout=590)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["trials"]["done"] == 2 and not printed["failed"]
    text, = (tmp_path / "store" / "stages" / "text").glob("*/result.json")
    assert read_json(text)["scores"]["documents"] >= 10
    table = tmp_path / "store" / "sweeps" / "faults" / "report" / "tables" / "convergence.csv"
    rows = [row.split(",")[:2] for row in table.read_text(encoding="utf-8").splitlines()[1:]]
    assert rows == [["notes", "scratch"], ["notes", "shuffle_dyck"]]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_first_stages_that_die_alike_end_the_command_with_6_one_traceback_and_one_message(tmp_path: Path) -> None:
    """Real jobs on this machine: three domains whose files are not there, as on a node without the mount."""
    names = ["mount_a", "mount_b", "mount_c"]
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("Some words.\n", encoding="utf-8")
    broken = OWN_DOMAIN.replace("FOLDER_HERE", str(tmp_path / "notes")).replace(
        "return read_folder(FOLDER, science.suffix)", "raise OSError('no such mount')")
    for name in names:
        (tmp_path / f"{name}.py").write_text(broken, encoding="utf-8")
    small = (ROOT / "tests" / "faults" / "small.yaml").read_text(encoding="utf-8")
    text = small.replace("[code]", f"[{', '.join(names)}]").replace("[none, shuffle_dyck]", "[none]")
    (tmp_path / "broken.yaml").write_text(f"{text}plugins: [{', '.join(f'{n}.py' for n in names)}]\n", encoding="utf-8")
    command = [sys.executable, "-m", "orchestrator", "sweep", "broken.yaml", "--root", "store", "--quiet",
               "--notify", "cat >> messages; echo >> messages"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
                          text=True, timeout=290)
    assert done.returncode == 6, done.stderr
    assert "mend the cause and run the same command again" in done.stderr
    told = done.stderr[done.stderr.index("the first 3 text stages all"):]
    assert told.count("OSError: no such mount") == 1 and told.count("Traceback") == 1
    message, = (json.loads(line) for line in (tmp_path / "messages").read_text(encoding="utf-8").splitlines())
    assert (message["event"], message["exit_code"], message["sweep"]) == ("breaker", 6, "faults")
    assert "OSError: no such mount" in message["message"] and len(message["failed"]) == 3
    assert len(list((tmp_path / "store" / "stages").glob("*/*/attempts/*/failure.json"))) == 3, "nothing else was tried"
