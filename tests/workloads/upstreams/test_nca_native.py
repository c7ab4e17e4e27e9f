"""The C path: the bits of the others, whatever the spec; float32 never decides what it cannot tell."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from workloads import ranks
from workloads.upstreams.nca import backend, kernels, native, philox, reference
from workloads.upstreams.nca.rollout import Rules
from workloads.upstreams.nca.science import NcaBankScience

KEY = philox.derive_key("test")
ROOT = Path(__file__).parents[3]
TEMPERATURES = [0.0, 1e-9, 1e-4, 1e-3, 0.1, 1.0]


def build(folder: Path, *more: str) -> Path:
    """Compile native.c into `folder` as installing the package does."""
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"no C compiler ({compiler})")
    (flags,) = re.findall(r"^FLAGS = (.*)$", (ROOT / "setup.py").read_text(), re.MULTILINE)
    target = folder / f"{native.NAME}{EXTENSION_SUFFIXES[0]}"
    source = Path(native.__file__).with_name("native.c")
    subprocess.run([compiler, "-shared", "-fPIC", *ast.literal_eval(flags), *more, "-o", target, source], check=True)
    return target


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The library of this checkout's native.c, whatever is installed."""
    folder = tmp_path_factory.mktemp("library")
    build(folder)
    made = native.load(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "library", lambda: made)
        yield


def numbers(count: int) -> philox.Words:
    return philox.split(np.arange(count, dtype=np.int64) * (2**33 + 7))


def bank_of(**fields: object) -> NcaBankScience:
    """Return a bank; a spec that the fields' limits refuse is no example."""
    try:
        return NcaBankScience.model_validate(fields)
    except ValidationError:
        assume(False)
        raise AssertionError from None


@st.composite
def banks(draw: st.DrawFn, largest: int = 16) -> NcaBankScience:
    patch = draw(st.integers(1, 3))
    grid = {side: patch * draw(st.integers(1, 13 // patch)) for side in ("height", "width")}
    network = {"neighbourhood": draw(st.sampled_from([1, 3, 5])), "linear_channels": draw(st.integers(1, 9)),
               "relu_channels": draw(st.integers(1, 40))}
    return bank_of(
        states=draw(st.integers(2, largest)), patch=patch, grid=grid, network=network,
        temperature=draw(st.sampled_from(TEMPERATURES)), pad_channels=draw(st.booleans()),
        initial_grid=draw(st.sampled_from(["uniform", "categorical"])), burn_in=draw(st.integers(0, 3)),
        frame_stride=draw(st.integers(1, 2)),
    )


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(bank=banks(), batch=st.integers(1, 4), frames=st.integers(1, 4))
def test_every_path_gives_the_same_bits(bank: NcaBankScience, batch: int, frames: int) -> None:
    number = numbers(batch)
    expected = reference.draw_rules(bank, KEY, number)
    grids = reference.rollout(bank, expected, KEY, number, frames)
    for path in (native, kernels):
        rules = path.draw_rules(bank, KEY, number)
        np.testing.assert_array_equal(rules.tables_BKNC, expected.tables_BKNC)
        np.testing.assert_array_equal(rules.outputs_BCN, expected.outputs_BCN)
        np.testing.assert_array_equal(path.rollout(bank, rules, KEY, number, frames), grids)
        np.testing.assert_array_equal(path.words(KEY, number, frames), reference.words(KEY, number, frames))
        np.testing.assert_array_equal(path.patch_tokens(grids, bank.states, bank.patch),
                                      reference.patch_tokens(grids, bank.states, bank.patch))


@st.composite
def rules_for(draw: st.DrawFn, bank: NcaBankScience) -> Rules:
    """Return integer weights from the smallest, where most logits tie, to the largest that 53 bits allow."""
    net, window = bank.network, bank.network.neighbourhood**2
    room = 53 - 1 - int(np.ceil(np.log2(window * net.relu_channels)))
    table_bits = draw(st.integers(1, min(24, 30 - int(np.ceil(np.log2(window))))))
    output_bits = draw(st.integers(1, min(30, room - table_bits)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    table, output = 2 ** (table_bits - 1), 2 ** (output_bits - 1)
    return Rules(
        tables_BKNC=rng.integers(-table, table, (1, window, bank.states, net.relu_channels), np.int32),
        outputs_BCN=rng.integers(-output, output, (1, net.relu_channels, bank.states), np.int32),
    )


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data(), bank=banks())
def test_ties_and_huge_weights_give_the_same_bits(data: st.DataObject, bank: NcaBankScience) -> None:
    rules = data.draw(rules_for(bank))
    expected = reference.rollout(bank, rules, KEY, numbers(1), 3)
    np.testing.assert_array_equal(native.rollout(bank, rules, KEY, numbers(1), 3), expected)


@settings(max_examples=40)
@given(data=st.data(), bank=banks())
def test_no_float32_sum_is_further_off_than_the_bound(data: st.DataObject, bank: NcaBankScience) -> None:
    rules = data.draw(rules_for(bank))
    grid = reference.initial_grid(bank, KEY, numbers(1))
    exact = reference.logits(rules, grid, reference.neighbours(bank))[0]
    hidden = np.zeros((grid.shape[1], bank.network.relu_channels), np.int64)
    for offset, cells in enumerate(reference.neighbours(bank).T):
        hidden += rules.tables_BKNC[0, offset, grid[0, cells]]
    terms = np.maximum(hidden, 0).astype(np.float32)[:, :, None] * rules.outputs_BCN[0].astype(np.float32)
    order = data.draw(st.permutations(range(terms.shape[1])))
    total = np.zeros(exact.shape, np.float32)
    for channel in order:
        total += terms[:, channel]
    bound = native.error_bound(bank, rules)
    assert np.abs(total.astype(np.float64) - exact).max() <= bound
    assert bound <= (bank.network.relu_channels + 2) * 2.0**-23 * 2.0**52


@pytest.mark.parametrize("unit", [1, 3])
@pytest.mark.parametrize("states", [2, 10])
def test_cells_that_float32_cannot_tell_apart_are_decided_by_integers(states: int, unit: int) -> None:
    """All logits are 2^43 and a few units: float32 sees one number, and would take state 0."""
    bank = NcaBankScience.model_validate({"states": states, "temperature": 0, "burn_in": 1})
    rng = np.random.default_rng(states)
    for small in rng.integers(-4, 5, (8, states)):
        tables = np.zeros((1, 9, states, 16), np.int32)
        tables[0, 4, :, 2], tables[0, 4, :, 9] = 2**23, unit
        outputs = np.zeros((1, 16, states), np.int32)
        outputs[0, 2], outputs[0, 9] = 2**20, small
        exact = [2**43 + unit * int(value) for value in small]
        assert len({np.float32(value) for value in exact}) == 1
        rules = Rules(tables_BKNC=tables, outputs_BCN=outputs)
        frames = native.rollout(bank, rules, KEY, numbers(1), 1)
        assert (frames == exact.index(max(exact))).all()


def test_a_binary_for_an_older_processor_gives_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, "-DNO_CLONES", "-O1")
    older, number = native.load(tmp_path), numbers(3)
    monkeypatch.setattr(native, "library", lambda: older)
    for temperature in TEMPERATURES:
        bank = NcaBankScience(temperature=temperature)
        rules = native.draw_rules(bank, KEY, number)
        np.testing.assert_array_equal(native.rollout(bank, rules, KEY, number, 2),
                                      reference.rollout(bank, rules, KEY, number, 2))


def test_a_library_that_cannot_be_loaded_is_not_used(tmp_path: Path) -> None:
    assert native.load(tmp_path) is None
    (tmp_path / f"{native.NAME}{EXTENSION_SUFFIXES[0]}").write_bytes(b"\x7fELF of another machine")
    assert native.load(tmp_path) is None


def test_a_library_with_other_bits_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.usable.__wrapped__()
    assert backend.fastest.__wrapped__() is native
    monkeypatch.setattr(native, "NO_WEIGHT", 0.5)
    assert not native.usable.__wrapped__()


@pytest.mark.parametrize("value, threads", [(None, 1), ("3", 3), ("4,2", 4), ("0", 1), ("", 1), ("many", 1)])
def test_a_process_uses_the_threads_that_its_job_has(
    value: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if value is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert ranks.threads() == threads


@pytest.mark.parametrize("given, cores", [(None, 2), ("1", 2), ("4", 4), ("many", 2), ("64", 6)])
def test_a_stage_that_is_the_same_for_any_number_uses_the_cores_of_its_slurm_task(
    given: str | None, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    if given is not None:
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", given)
    assert ranks.cores() == cores
