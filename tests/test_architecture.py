"""The house: who may import whom, who owns each heavy library, and how large things may grow."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("orchestrator", "cluster", "workloads", "analysis", "sweeps")

MAY_IMPORT = {
    "sweeps": {"sweeps"},
    "cluster": {"cluster", "sweeps"},
    "workloads": {"workloads", "sweeps"},
    "analysis": {"analysis", "sweeps"},
    "orchestrator": {"orchestrator", "cluster", "workloads", "analysis", "sweeps"},
}
OWNER = {
    "ray": {"orchestrator"}, "rich": {"orchestrator", "analysis"}, "submitit": {"cluster"}, "psutil": {"orchestrator"},
    "torch": {"workloads"}, "deepspeed": {"workloads"}, "transformers": {"workloads"}, "tokenizers": {"workloads"},
    "safetensors": {"workloads"}, "numba": {"workloads"}, "sympy": set(), "mpmath": set(),
    "tensorboard": set(), "tensorboardX": {"analysis"}, "wandb": {"analysis"},
    "numpy": {"workloads", "analysis"}, "pandas": {"analysis"}, "scipy": {"analysis"}, "matplotlib": {"analysis"},
    "jinja2": {"analysis", "workloads"}, "pydantic": {"sweeps", "cluster", "workloads"}, "ruamel": {"sweeps"},
    "lm_eval": {"workloads"},
}
MAX_LINES, MAX_FUNCTION = 400, 60


def files() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.lineno, node.module


def test_imports_point_down_and_siblings_do_not_meet() -> None:
    wrong = []
    for path in files():
        package = path.relative_to(ROOT).parts[0]
        for line, module in imports(path):
            top = module.split(".")[0]
            if top in PACKAGES and top not in MAY_IMPORT[package]:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_each_heavy_library_has_its_owner() -> None:
    wrong = []
    for path in files():
        package = path.relative_to(ROOT).parts[0]
        for line, module in imports(path):
            top = module.split(".")[0]
            if package not in OWNER.get(top, {package}):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {module}; {top} belongs to {OWNER[top]}")
    assert not wrong, "\n".join(wrong)


def test_files_and_functions_stay_small() -> None:
    wrong = []
    for path in files():
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > MAX_LINES:
            wrong.append(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno
                if length > MAX_FUNCTION:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {length} lines")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("argv, banned", [
    (["status"], ("torch", "ray", "pandas", "deepspeed", "numpy", "numba")),
    (["plan", "sweeps/smoke.yaml", "--no-pilot"], ("torch", "ray", "pandas", "deepspeed")),
    (["--help"], ("torch", "ray", "pandas", "deepspeed", "numpy", "numba")),
])
def test_light_verbs_load_nothing_heavy(argv: list[str], banned: tuple[str, ...], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom orchestrator.__main__ import main\n"
        f"try:\n    main({argv!r})\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', [m for m in {banned!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          env={"PATH": "/usr/bin:/bin", "ORCHESTRATOR_ROOT": str(tmp_path)}, check=True)
    assert "LOADED []" in done.stdout, done.stdout + done.stderr
