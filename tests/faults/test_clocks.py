"""The clock is stepped by an hour, forward and back, while a sweep runs: nothing is lost, the tables are the same."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.faults import clocks
from tests.faults.conftest import Undisturbed
from tests.faults.live import Live, check_same, wait_for

pytestmark = [
    pytest.mark.proof,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not clocks.LIBRARIES, reason="libfaketime is not installed (Debian: faketime)"),
]
HOUR_SECONDS = 3600.0


@pytest.mark.parametrize("steps", [("+1h", "-1h"), ("-1h", "+1h")])
def test_a_clock_stepped_by_an_hour_changes_nothing(
    tmp_path: Path, undisturbed: Undisturbed, steps: tuple[str, str]
) -> None:
    folder = tmp_path / "clock"
    live = Live(root=tmp_path / "store", variables=clocks.environment(folder))
    controller = live.start("--quiet")
    wait_for(lambda: list((live.root / "stages").glob("tokenizer/*/attempts/1")), controller)
    clocks.step(folder, steps[0])
    wait_for(live.training, controller)
    clocks.step(folder, steps[1])
    _, said = controller.communicate()
    assert controller.returncode == 0, said
    check_same(live, undisturbed.live, interrupted=0)
    began = [datetime.fromisoformat(json.loads(p.read_text())["started"]).timestamp()
             for p in live.root.glob("stages/*/*/attempts/1/execution.json")]
    assert max(abs(b - time.time()) for b in began) > HOUR_SECONDS / 2, "the jobs did not see the stepped clock"


def test_the_stepped_clock_is_seen_by_the_command(tmp_path: Path) -> None:
    (tmp_path / "orchestrator").mkdir()
    (tmp_path / "orchestrator" / "__init__.py").touch()
    (tmp_path / "orchestrator" / "__main__.py").write_text("import time\nprint(time.time())\n")
    variables = clocks.environment(tmp_path / "clock")
    clocks.step(tmp_path / "clock", "-1h")
    said = subprocess.run([sys.executable, "-m", "orchestrator", "sweep", "x"], cwd=tmp_path, env=variables, check=True,
                          capture_output=True, text=True).stdout
    assert abs(float(said) - time.time() + HOUR_SECONDS) < 60
