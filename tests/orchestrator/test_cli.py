"""The verbs, as a person or a script meets them: output, exit codes, and JSON that is only on stdout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orchestrator.__main__ import main, verbs
from orchestrator.plan import make_plan
from sweeps.language.spec import Overrides

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


def test_a_domain_of_ones_own_is_one_file(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.txt").write_text("Some words.\n", encoding="utf-8")
    (tmp_path / "notes.py").write_text(OWN_DOMAIN.replace("FOLDER_HERE", str(folder)), encoding="utf-8")
    sweep = (ROOT / "sweeps" / "smoke.yaml").read_text(encoding="utf-8").replace("domain: [code]", "domain: [notes]")
    (tmp_path / "own.yaml").write_text(sweep + "plugins: [notes.py]\n", encoding="utf-8")
    planned = make_plan(tmp_path / "own.yaml", Overrides(), tmp_path / "store")
    assert {t.domain for t in planned.trials} == {"notes"}
    assert "notes" in {n.label.split()[1] for n in planned.graph.nodes.values() if n.spec.kind == "text"}
