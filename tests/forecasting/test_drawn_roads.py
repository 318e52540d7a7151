from __future__ import annotations

import numpy as np
import pytest

from forecasting.drawn_noise import moving_noise
from forecasting.drawn_roads import ARTERIAL, FREEWAY, RoadKind, draw_roads
from forecasting.drawn_roads_kernels import run_cells

STEPS, CELLS = 400, 6


@pytest.mark.parametrize("kind", [FREEWAY, ARTERIAL])
def test_drawn_roads_are_days_of_plausible_speeds(kind: RoadKind) -> None:
    city = draw_roads(3, kind=kind, corridors=3, cells=10, days=3)
    assert city.values.shape[0] == 3 * 288
    known = np.isfinite(city.values)
    assert 0.7 < known.mean() <= 1.0
    assert (city.values[known] > 0).all()
    assert np.nanmax(city.values) < 2.0 * kind.free_kph[1]
    assert city.edges.max() < city.nodes
    again = draw_roads(3, kind=kind, corridors=3, cells=10, days=3)
    assert np.array_equal(again.values, city.values, equal_nan=True)
    assert not np.array_equal(draw_roads(4, kind=kind, corridors=3, cells=10, days=3).values[:, :5],
                              city.values[:, :5], equal_nan=True)  # fmt: skip


def test_flows_are_whole_vehicles() -> None:
    values = draw_roads(1, quantity="flow", corridors=2, cells=8, days=2).values
    assert (np.nan_to_num(values) % 1.0 == 0).all()


def one_road(bottleneck: float, demand_vph: float) -> tuple[np.ndarray, np.ndarray]:
    shape = (1, CELLS)
    factor = np.ones((STEPS, *shape))
    factor[:, 0, -1] = bottleneck
    flow, speed = np.zeros((STEPS, *shape)), np.zeros((STEPS, *shape))
    entrance = np.full((STEPS, 1), demand_vph)
    entrance[STEPS // 2 :] = 0.0
    run_cells(
        entrance, np.zeros((STEPS, *shape)), np.zeros(shape), np.full(shape, 100.0), np.full(shape, 4000.0),
        np.full(shape, 0.7), factor, np.array([0.1]), np.array([0.0]), 15.0, 20, flow, speed,
    )  # fmt: skip
    return flow[:, 0], speed[:, 0]


def test_a_road_gives_back_every_vehicle_and_jams_begin_at_the_bottleneck() -> None:
    flow, speed = one_road(0.5, 3000.0)
    hours = 300.0 / 3600.0
    assert flow[:, -1].sum() * hours == pytest.approx(3000.0 * hours * (STEPS // 2), rel=1e-3)
    jammed = speed < 60.0
    assert jammed.any()
    begins = [int(np.argmax(jammed[:, k])) for k in range(CELLS - 1)]
    assert begins == sorted(begins, reverse=True)
    assert flow[:, -1].max() <= 2000.0 * 1.0001


def test_without_a_bottleneck_traffic_flows_freely() -> None:
    flow, speed = one_road(1.0, 3000.0)
    assert flow[100:150, 2] == pytest.approx(3000.0, rel=1e-6)
    assert speed.min() > 89.0


def test_waves_of_a_jam_come_to_the_cells_upstream_later() -> None:
    minutes_a_cell = 3.0
    late_min = np.arange(12)[::-1][None] * minutes_a_cell  # the last cell first
    noise = moving_noise(np.random.default_rng(0), 500, late_min)[:, 0]
    behind, later = 5, 3  # five cells upstream, fifteen minutes
    assert np.array_equal(noise[later:, 11 - behind], noise[:-later, 11])
    assert 0.7 < noise.std() < 1.1


def test_jams_of_drawn_freeways_are_rougher_than_free_traffic() -> None:
    speed = draw_roads(2, corridors=5, days=5).values
    step = np.diff(speed, axis=0) / speed[1:]
    jam = speed[1:] < 0.5 * np.nanquantile(speed, 0.9, axis=0)
    assert np.isfinite(step[jam]).sum() > 500
    assert np.nanmedian(np.abs(step[jam])) > 1.5 * np.nanmedian(np.abs(step[~jam]))
