from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.grid import Grid
from forecasting.reading import read_series
from forecasting.series import DAY_S, weekday
from forecasting.window_file import read_windows
from networks.errors import InputError
from tests.forecasting.cities import drawn_city, write_city, write_windows


def test_a_written_city_is_read_back(tmp_path: Path) -> None:
    city = drawn_city(days=2)
    read = read_series(write_city(tmp_path / "town.npz", city))
    assert (read.name, read.quantity, read.step_s) == ("town", "flow", city.step_s)
    np.testing.assert_allclose(read.values, city.values, atol=0.051)
    np.testing.assert_array_equal(np.isnan(read.values), np.isnan(city.values))
    np.testing.assert_array_equal(read.edges, city.edges)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"scale_flow": None}, "scale_flow"),
        ({"t": None}, "'t'"),
        ({"meta": "{"}, "meta"),
        ({"dt": 0}, "dt"),
        ({"edge_index": np.array([[0], [99]])}, "edge_index"),
        ({"t": np.zeros(288, np.int64)}, "t does not ascend"),
    ],
)
def test_a_broken_field_is_named(tmp_path: Path, changed: dict[str, object], named: str) -> None:
    path = write_city(tmp_path / "town.npz", drawn_city(days=2), **changed)
    with pytest.raises(InputError, match=named):
        read_series(path)


def test_a_file_that_is_no_archive_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "town.npz"
    path.write_bytes(b"not a zip")
    with pytest.raises(InputError, match=r"town\.npz"):
        read_series(path)


def test_published_sets_read_zero_as_missing(tmp_path: Path) -> None:
    data = np.random.default_rng(0).uniform(1.0, 9.0, (50, 3, 3))
    data[4, 1, 0] = 0.0
    np.savez(tmp_path / "PEMS08.npz", data=data)
    series = read_series(tmp_path / "PEMS08.npz")
    assert np.isnan(series.values[4, 1])
    assert np.isnan(series.values).sum() == 1
    assert str(np.datetime64(int(series.start_s[0]), "s")) == "2016-07-01T00:00:00"


def test_windows_never_span_a_gap() -> None:
    city = drawn_city(days=2)
    holed = np.delete(np.arange(len(city.values)), np.s_[100:103])
    parted = type(city)("holed", "flow", city.values[holed], city.start_s[holed], city.step_s, city.edges,
                        city.edge_length_m)  # fmt: skip
    starts = parted.window_starts()
    assert len(starts) == len(holed) - 2 * 23
    assert all(parted.start_s[s + 23] - parted.start_s[s] == 23 * city.step_s for s in starts)
    parts = parted.split_starts()
    assert sum(len(p) for p in parts) == len(starts)
    assert parts[0][-1] < parts[1][0] < parts[2][0]


def test_the_grid_takes_out_whole_weeks_and_keeps_time_of_day_and_weekday() -> None:
    start_s = np.concatenate([np.arange(200), np.arange(100) + 40 * 144 + 13]) * 600 + 1_767_571_200
    grid = Grid.of(start_s, 600)
    assert len(grid.start_s) < 12 * 144
    np.testing.assert_array_equal(grid.start_s[grid.row] % DAY_S, start_s % DAY_S)
    np.testing.assert_array_equal(weekday(grid.start_s[grid.row]), weekday(start_s))


@settings(max_examples=25)
@given(st.integers(2, 3), st.integers(0, 10_000))
def test_thinned_counts_add_up_again(factor: int, seed: int) -> None:
    city = drawn_city(days=1, nodes=3, seed=seed)
    counts = np.round(city.values)
    fine = city.finer(factor, np.random.default_rng(seed))
    assert len(fine.values) == factor * len(counts)
    np.testing.assert_array_equal(fine.values.reshape(len(counts), factor, -1).sum(axis=1), counts)


def test_windows_of_another_series_are_refused(tmp_path: Path) -> None:
    city = drawn_city(days=3)
    windows = write_windows(tmp_path / "w.npz", city)
    assert len(read_windows(windows, city).start_row) == 60
    with pytest.raises(InputError, match=r"x is .* expected"):
        read_windows(windows, drawn_city(days=3, nodes=5))
    with pytest.raises(InputError, match="windows begin at times"):
        read_windows(windows, replace(city, start_s=city.start_s + 300))
    with pytest.raises(InputError, match="train_rows"):
        read_windows(windows, drawn_city(days=1))
