"""The plug-in files of stages and tasks are light, and name code that exists."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

PLUGINS = [f"workloads.stages.{k}" for k in ("prepretrain", "pretrain", "evaluate")] + [
    f"workloads.tasks.{k}" for k in ("domain_loss", "copying", "upstream_gate")]


def test_importing_them_loads_no_torch_and_no_numpy() -> None:
    code = "".join(f"import {m}\n" for m in PLUGINS) + (
        "import sys\nheavy = {'torch', 'numpy', 'transformers', 'deepspeed'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", PLUGINS)
def test_the_implementation_exists(module: str) -> None:
    assert callable(importlib.import_module(module).PLUGIN.load())
