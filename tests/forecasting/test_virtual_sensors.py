"""Places without a sensor: kriging against its definition, honest bands, and the way through predict."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from forecasting.backcast import forecast_next
from forecasting.forecasters import Ridge
from forecasting.kriging import foretell_by_others, ways_between
from forecasting.series import CitySeries
from forecasting.virtual_sensors import fit_virtual_sensors
from networks.errors import InputError
from networks.graph import Floats
from networks.state import QUANTILES
from twin.cli import app

PLACES, DAYS = 40, 5
MIDDLE = QUANTILES.index(0.5)
LINE = np.stack([np.arange(PLACES - 1), np.arange(1, PLACES)])


def a_city(seed: int, days: int = DAYS) -> CitySeries:
    """A road of forty places 200 m apart: levels and rush hours change slowly along it; counts are of chance."""
    rng = np.random.default_rng(seed)
    start_s = 345_600 + np.arange(days * 96, dtype=np.int64) * 900  # from a Monday
    along = np.linspace(0.0, 1.0, PLACES)
    level = 60.0 * np.exp(0.8 * np.sin(5.0 * along) + rng.normal(0.0, 0.1, PLACES))
    hour = (start_s % 86400)[:, None] / 3600.0
    rush = 1.0 + 0.8 * np.exp(-(((hour - 8.0 - 8.0 * along) / 2.0) ** 2)) - 0.6 * (hour < 6)
    values = rng.poisson(level * rush).astype(np.float32)
    return CitySeries("road", "flow", values, start_s, 900, LINE, np.full(PLACES - 1, 200.0, np.float32))


def without(series: CitySeries, places: list[int]) -> CitySeries:
    values = series.values.copy()
    values[:, places] = np.nan
    return replace(series, values=values)


def test_ways_take_the_shorter_edge_either_way_and_end_where_roads_do() -> None:
    edges = np.array([[0, 0, 1, 3], [1, 1, 2, 4]])
    ways = ways_between(5, edges, np.array([500.0, 300.0, np.nan, 100.0]))
    assert ways[0, 1] == ways[1, 0] == 300.0
    assert ways[0, 2] == 300.0 + 300.0, "an edge of unknown length has the typical one"
    assert np.isinf(ways[0, 3])


@given(st.integers(0, 1000), st.integers(4, 14))
@settings(max_examples=20)
def test_leaving_a_place_out_is_kriging_without_it(seed: int, places: int) -> None:
    at = np.random.default_rng(seed).uniform(0.0, 1000.0, places)
    covariance = np.exp(-np.abs(at[:, None] - at) / 300.0) + 0.5 * np.eye(places)
    closed = foretell_by_others(np.linalg.inv(covariance))
    for left in range(places):
        others = np.delete(np.arange(places), left)
        direct = np.linalg.solve(covariance[np.ix_(others, others)], covariance[others, left])
        np.testing.assert_allclose(closed[left, others], direct, rtol=1e-6, atol=1e-9)
        assert closed[left, left] == 0.0


def test_a_place_is_read_from_its_neighbours_rather_than_from_all() -> None:
    whole, hidden = a_city(1), [3, 11, 18, 26, 35]
    part = without(whole, hidden)
    training = whole.training_rows()
    virtual = fit_virtual_sensors(part, training)
    assert virtual.places.tolist() == hidden
    made, truth = virtual.read(part.values[training:]), whole.values[training:, hidden]
    error = np.abs(made[..., MIDDLE] - truth).mean()
    of_all = np.abs(np.nanmean(part.values[training:], axis=1)[:, None] - truth).mean()
    assert error < 0.5 * of_all
    inside = ((truth >= made[..., 1]) & (truth <= made[..., 5])).mean()
    assert 0.7 < inside < 0.97, "80 % bands"


@given(st.integers(0, 50), st.floats(0.0, 0.9), st.booleans())
@settings(max_examples=15)
def test_whatever_is_missing_quantiles_are_ordered_and_none_is_negative(
    seed: int, missing: float, roads: bool
) -> None:
    rng = np.random.default_rng(seed)
    series = without(a_city(seed, days=2), [0, 7])
    values = np.where(rng.random(series.values.shape) < missing, np.nan, series.values).astype(np.float32)
    values[5] = np.nan
    edges = LINE if roads else np.zeros((2, 0), np.int64)
    series = replace(series, values=values, edges=edges, edge_length_m=np.ones(edges.shape[1], np.float32))
    made = fit_virtual_sensors(series, 150).read(series.values)
    silent = ~np.isfinite(series.values).any(axis=1)
    assert np.isnan(made[silent]).all()
    assert np.isfinite(made[~silent]).all()
    assert (made[~silent] >= 0.0).all()
    assert (np.diff(made[~silent], axis=-1) >= 0.0).all()


def test_too_few_sensors_are_said_to_be_too_few() -> None:
    with pytest.raises(InputError, match="7 places report, virtual sensors need 8"):
        fit_virtual_sensors(without(a_city(1, days=2), list(range(7, PLACES))), 100)


def test_a_forecast_of_a_place_without_a_sensor_knows_less_of_it() -> None:
    whole = a_city(2)
    seen, _ = forecast_next(whole, lambda _: Ridge())
    unseen, _ = forecast_next(without(whole, [11, 26]), lambda _: Ridge())
    assert unseen.virtual_places == (11, 26)
    assert seen.virtual_places == ()

    def width(quantiles: Floats) -> float:
        return float((quantiles[0, :, [11, 26], 5] - quantiles[0, :, [11, 26], 1]).mean())

    assert width(unseen.quantiles) > 1.1 * width(seen.quantiles)
    assert (np.diff(unseen.quantiles, axis=-1) >= 0.0).all()
    middle = unseen.quantiles[0, :, [11, 26], MIDDLE] / seen.quantiles[0, :, [11, 26], MIDDLE]
    assert 0.6 < middle.mean() < 1.6


def test_the_command_reads_them_and_writes_their_numbers(tmp_path: Path) -> None:
    series, file = without(a_city(3, days=2), [4, 30]), tmp_path / "road.npz"
    counts = np.where(np.isfinite(series.values), series.values, 65535).astype(np.uint16)
    np.savez(
        file, ch=np.array(["flow"]), x_flow=counts, scale_flow=1.0, t=series.start_s, dt=900, edge_index=series.edges,
        edge_dist=series.edge_length_m, meta=json.dumps({"target": "flow"}),
    )  # fmt: skip
    out = tmp_path / "unseen.csv"
    done = CliRunner().invoke(app, ["forecast", "sense", str(file), "--out", str(out), "--rows", "3", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.output)
    assert document["places"] == [4, 30]
    assert document["sensors"] == PLACES - 2
    rows = out.read_text().splitlines()
    assert rows[0].startswith("place,time,q05")
    assert [row.split(",")[0] for row in rows[1:]] == ["4", "30"] * 3
