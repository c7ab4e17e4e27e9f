"""The fields: defaults, limits with messages, dotted overrides of protocols and scales."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from workloads.upstreams import nca, nca_one_rule, nca_shuffled, nca_static, nca_unigram, none
from workloads.upstreams.nca.science import NcaBankScience, NcaScience, bank_fields, exact_bits

PLUGINS = {"nca": nca.PLUGIN, "nca_one_rule": nca_one_rule.PLUGIN, "nca_shuffled": nca_shuffled.PLUGIN,
           "nca_static": nca_static.PLUGIN, "nca_unigram": nca_unigram.PLUGIN, "none": none.PLUGIN}


def with_overrides(model: type[BaseModel], dotted: Mapping[str, Any]) -> BaseModel:
    tree: dict[str, Any] = {}
    for key, value in dotted.items():
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return model.model_validate(tree)


def test_the_defaults_are_the_protocol_fair() -> None:
    science = NcaScience()
    assert science.pad_channels and not science.delimiter_loss
    assert (science.temperature, science.burn_in, science.frame_stride, science.rules.unique) == (1e-4, 10, 1, 0)
    assert (science.complexity.band, science.complexity.scale, science.complexity.trials) == ("60-75", "normalized", 1)
    assert science.initial_grid == "categorical"
    assert science.vocabulary == 10_002


@pytest.mark.parametrize("key", PLUGINS)
def test_every_override_of_a_protocol_or_scale_is_a_valid_field(key: str) -> None:
    plugin = PLUGINS[key]
    for overrides in (*plugin.protocols.values(), *plugin.scales.values()):
        with_overrides(plugin.science, overrides)


def test_release_turns_every_quirk_on_and_tiny_is_the_small_alphabet() -> None:
    release = with_overrides(NcaScience, nca.PLUGIN.protocols["release"])
    assert isinstance(release, NcaScience)
    assert release.delimiter_loss and release.pad_channels and release.rules.unique == 16_000
    tiny = with_overrides(NcaScience, nca.PLUGIN.scales["tiny"])
    assert isinstance(tiny, NcaScience) and tiny.vocabulary == 258 and tiny.patches == 16


@pytest.mark.parametrize("fields, message", [
    ({"states": 1}, "greater than or equal to 2"),
    ({"patch": 5}, "patch 5 does not divide the 12x12 grid"),
    ({"states": 16}, "65538 token ids, more than 65536"),
    ({"temperature": -1}, "greater than or equal to 0"),
    ({"temperature": 1e-12}, "write 0 for argmax"),
    ({"temperature": float("nan")}, "finite"),
    ({"complexity": {"band": "45-30"}}, "needs 0 <= LOW < HIGH <= 100"),
    ({"complexity": {"band": "30-101"}}, "needs 0 <= LOW < HIGH <= 100"),
    ({"complexity": {"band": "high"}}, "write for instance 30-45"),
    ({"network": {"neighbourhood": 4}}, "it must be odd"),
    ({"network": {"relu_channels": 256, "linear_channels": 64, "neighbourhood": 7}}, "bits for exact logits"),
    ({"statse": 4}, "Extra inputs"),
])
def test_a_field_outside_its_limits_is_refused_with_the_limit(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        NcaScience.model_validate(fields)


def test_two_spellings_of_a_band_are_one_value() -> None:
    spelled = NcaScience.model_validate({"complexity": {"band": "30.0 - 45"}})
    assert spelled == NcaScience.model_validate({"complexity": {"band": "30-45"}})


def test_the_default_network_leaves_room_in_float64() -> None:
    assert exact_bits(NcaBankScience()) == 49  # 48 for a logit, one more for a difference


def test_the_bank_ignores_what_does_not_decide_its_rules() -> None:
    plain = NcaScience()
    other = NcaScience.model_validate({"delimiter_loss": True, "rules": {"unique": 5}})
    shuffled = nca_shuffled.NcaShuffledScience()
    assert bank_fields(plain) == bank_fields(other) == bank_fields(shuffled)
    assert type(bank_fields(shuffled)) is NcaBankScience


@pytest.mark.parametrize("unique, sequences, needed", [(0, 100, 100), (16, 100, 16), (16, 4, 4)])
def test_rules_needed_counts_the_rules_that_are_read(unique: int, sequences: int, needed: int) -> None:
    assert nca.rules_needed(NcaScience.model_validate({"rules": {"unique": unique}}), sequences) == needed


def test_the_shuffled_control_has_no_axis_and_shares_the_bank_of_nca() -> None:
    plugin = nca_shuffled.PLUGIN
    assert not plugin.axes and plugin.inherits == plugin.bank_owner == "nca" and plugin.control
    assert nca.PLUGIN.axes == {"complexity": "complexity.band"}
    assert not none.PLUGIN.trains


def test_the_descriptors_load_neither_numpy_nor_numba() -> None:
    names = "dyck, nca, nca_one_rule, nca_shuffled, nca_static, nca_unigram, none, shuffle_dyck"
    code = (f"import sys\nfrom workloads.upstreams import {names}\n"
            "sys.exit(bool({'numpy', 'numba', 'torch'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
