"""Numbers that the memory executor made up are marked wherever they are shown; others never are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.bundle import export
from analysis.study import study
from analysis.table import write
from analysis.tables import registry
from analysis.wording import SIMULATED
from orchestrator.__main__ import main
from sweeps.store.layout import Layout
from tests.analysis.conftest import SweepBuilder

SHOWN = {  # what a verb shows, where it is not for a machine
    "table": ["table", "convergence", "demo"], "empty table": ["table", "search", "demo"],
    "Markdown": ["table", "convergence", "demo", "--format", "markdown"],
    "LaTeX": ["table", "convergence", "demo", "--format", "latex"], "power": ["power", "demo"],
    "status": ["status", "demo"], "line": ["status", "demo", "--line"],
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """One small sweep twice: made up, and not."""
    made = {made_up: SweepBuilder(tmp_path_factory.mktemp("store") / f"{made_up}"[:1], domains=("web",)).build()
            for made_up in (True, False)}
    Layout(made[True]).simulated.touch()
    return made


@pytest.fixture(params=[True, False], ids=["made up", "real"])
def made_up(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("argv", SHOWN.values(), ids=SHOWN)
def test_a_verb_says_it(
    argv: list[str], made_up: bool, stores: dict[bool, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*argv, "--root", str(stores[made_up])]) == 0
    assert ("SIMULATED" in capsys.readouterr().out) is made_up


@pytest.mark.parametrize("argv", [["table", "convergence", "demo"], ["power", "demo"]], ids=["table", "power"])
def test_json_has_a_key_for_it(
    argv: list[str], made_up: bool, stores: dict[bool, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*argv, "--json", "--root", str(stores[made_up])]) == 0
    assert json.loads(capsys.readouterr().out)["simulated"] is made_up


def test_csv_stays_csv_and_stderr_says_it(
    made_up: bool, stores: dict[bool, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["table", "convergence", "demo", "--format", "csv", "--root", str(stores[made_up])]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("domain,") and (SIMULATED in printed.err) is made_up


def test_the_report_s_tables_say_it(made_up: bool, stores: dict[bool, Path], tmp_path: Path) -> None:
    tables = {name: registry()[name] for name in ("convergence", "search")}
    written = {p.name: p.read_text() for p in write(tables, study(stores[made_up], "demo"), tmp_path)}
    assert {name for name, text in written.items() if "SIMULATED" in text} == (
        {"SIMULATED", "convergence.md", "search.md"} if made_up else set())


def test_a_bundle_and_a_comparison_say_it(
    made_up: bool, stores: dict[bool, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = str(tmp_path / "x.tar.gz")
    export(stores[made_up], "demo", Path(bundle))
    for argv in (["verify", bundle], ["compare", bundle, str(stores[made_up])]):
        assert main(argv) == 0
        assert ("SIMULATED" in capsys.readouterr().out) is made_up
    assert main(["verify", bundle, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["simulated"] is made_up
    assert main(["compare", bundle, str(stores[not made_up]), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["simulated_a"], told["simulated_b"]) == (made_up, not made_up)
