"""Pictures of upstreams: every cell is drawn where it lies, in every format, with the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.gallery import COLUMNS, Panel, _tiled, write_gallery


def frames(rules: int, count: int, height: int, width: int, states: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, states, (rules, count, height, width))


def test_rules_are_rows_and_frames_columns_with_a_line_between() -> None:
    found = frames(3, 5, 4, 6)
    image = _tiled(found)
    assert image.shape == (3 * 5 - 1, 5 * 7 - 1)
    for rule in range(3):
        for frame in range(5):
            np.testing.assert_array_equal(image[rule * 5 : rule * 5 + 4, frame * 7 : frame * 7 + 6], found[rule, frame])
    assert image.mask[4].all() and image.mask[:, 6].all()
    assert image.mask.sum() == image.size - found.size


def test_of_many_frames_the_first_and_the_last_are_drawn() -> None:
    found = frames(1, 26, 3, 3)
    image = _tiled(found)
    assert image.shape[1] == COLUMNS * 4 - 1
    np.testing.assert_array_equal(image[:, :3], found[0, 0])
    np.testing.assert_array_equal(image[:, -3:], found[0, -1])


def test_rows_of_cells_are_drawn_with_time_running_down() -> None:
    found = frames(2, 20, 1, 9)
    image = _tiled(found)
    assert image.shape == (20, 2 * 10 - 1)
    np.testing.assert_array_equal(image[:, 10:], found[1, :, 0])


@pytest.mark.parametrize(("ending", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_same_panels_give_the_same_bytes_in_every_format(ending: str, begins: bytes, tmp_path: Path) -> None:
    panels = [
        Panel(title="scored_$x$ <&>", frames_RFHW=frames(2, 3, 4, 4, 12), labels=("41 %", "7 %"), band=(30, 45),
              percents=(3.0, 40.0, 99.0), chosen=(41.0, 44.0)),
        Panel(title="rows", frames_RFHW=frames(2, 6, 1, 8, 2)),
    ]
    written = [tmp_path / f"{name}.{ending}" for name in ("a", "b")]
    for path in written:
        write_gallery(path, panels)
    first, second = (path.read_bytes() for path in written)
    assert first == second and first.startswith(begins) and len(first) > 2_000
