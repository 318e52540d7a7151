"""Speeds of edges from lists, vehicles seen and the mirror: what is weighed how, and how sure it claims to be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.graph import Floats, Ints, Network
from networks.readers.sumo import read_sumo
from tests.grids import draw_grid
from twin.edge_speeds import MEMORY_S, EdgeSpeeds


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return read_sumo(draw_grid(tmp_path_factory.mktemp("grid") / "grid.net.xml", 3, 150))


def nobody() -> tuple[Ints, Floats]:
    return np.zeros(0, np.int32), np.zeros(0)


def listed(network: Network, speed_mps: Floats, vehicles: float = 2.0) -> EdgeSpeeds:
    """So many vehicles on every lane at the speed (E,) of its edge, for as long as is remembered."""
    speeds, on = EdgeSpeeds(network), np.full(len(network.lanes.ids), vehicles)
    for _ in range(int(3 * MEMORY_S)):
        speeds.step(on, vehicles * speed_mps[network.lanes.edge], nobody())
    return speeds


def unknown(network: Network) -> Floats:
    return np.full(len(network.edges.ids), np.nan)


def all_counted(network: Network) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.ones(len(network.edges.ids), np.bool_)


def test_what_is_known_well_is_told_and_not_drawn_to_the_limit(grid: Network) -> None:
    limit = grid.edges.speed_limit_mps
    for part in (0.1, 0.5, 0.9):
        value, variance = listed(grid, part * limit, 10.0).answer(all_counted(grid), None, unknown(grid))
        assert value == pytest.approx(part * limit, abs=0.02 * float(limit.max()))
        assert (variance < (0.15 * limit) ** 2).all()


def test_where_half_drive_and_half_stand_the_mean_is_least_sure(grid: Network) -> None:
    limit = grid.edges.speed_limit_mps
    standing, half, free = (
        listed(grid, part * limit).answer(all_counted(grid), None, unknown(grid))[1] for part in (0.03, 0.5, 0.97)
    )
    assert (half > 1.2 * standing).all()
    assert (half > 2.0 * free).all()


def test_sources_that_contradict_each_other_make_an_edge_less_sure_than_its_neighbours(grid: Network) -> None:
    limit = grid.edges.speed_limit_mps
    speeds, seconds = listed(grid, 0.5 * limit), np.full(len(limit), 500.0)
    mirrored = 0.5 * limit
    mirrored[0] = 0.05 * limit[0]
    value, variance = speeds.answer(all_counted(grid), (mirrored, seconds, 1.0), unknown(grid))
    assert 0.05 * limit[0] < value[0] < 0.5 * limit[0]
    assert variance[0] > 3.0 * variance[1:].max()


def test_few_vehicle_seconds_weigh_little_and_the_prior_stands_in_where_nobody_was(grid: Network) -> None:
    limit = grid.edges.speed_limit_mps
    empty, profile = EdgeSpeeds(grid), 0.4 * limit
    alone, _ = empty.answer(all_counted(grid), None, profile)
    assert (alone < 0.55 * limit).all()
    one = np.zeros(len(grid.lanes.ids))
    one[0] = 1.0
    empty.step(one, one * limit[grid.lanes.edge], nobody())
    met, variance = empty.answer(all_counted(grid), None, profile)
    assert alone[grid.lanes.edge[0]] < met[grid.lanes.edge[0]] < 0.8 * limit[grid.lanes.edge[0]]
    assert (variance > 0).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_every_answer_is_finite_and_within_what_was_told(
    grid: Network, seed: int, mirrored: bool, expected: bool
) -> None:
    rng = np.random.default_rng(seed)
    lanes, limit = len(grid.lanes.ids), grid.edges.speed_limit_mps
    speeds = EdgeSpeeds(grid)
    for _ in range(5):
        vehicles = rng.exponential(1.0, lanes) * (rng.random(lanes) < 0.3)
        seen = rng.integers(0, lanes, 4).astype(np.int32)
        speeds.step(
            vehicles, vehicles * rng.uniform(0, 1, lanes) * limit[grid.lanes.edge], (seen, rng.uniform(0, 8, 4))
        )
    mirror = (rng.uniform(0, 1, len(limit)) * limit, rng.exponential(20.0, len(limit)), 1.2) if mirrored else None
    usual = np.where(rng.random(len(limit)) < 0.5, 0.6 * limit, np.nan) if expected else unknown(grid)
    value, variance = speeds.answer(rng.random(len(limit)) < 0.5, mirror, usual)
    assert (value >= 0).all()
    assert (value <= np.maximum(limit, 8.0)).all()
    assert np.isfinite(variance).all()
    assert (variance > 0).all()
