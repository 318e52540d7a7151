"""Drawn towns: what their detectors tell is what a town could have lived through."""

from __future__ import annotations

import numpy as np
import pytest
import sumolib

from forecasting.drawn_noise import STEP_S
from networks.errors import ProcessError
from scenarios.drawn_towns import Town, draw_town

DAYS = 2
PER_DAY = 86400 // STEP_S


@pytest.fixture(scope="module")
def town() -> Town:
    return draw_town(5, days=DAYS, junctions=14)


def test_detectors_of_both_kinds_share_places_times_and_roads(town: Town) -> None:
    assert town.flow.values.shape == town.speed.values.shape == (DAYS * PER_DAY, town.flow.nodes)
    assert (town.flow.start_s == town.speed.start_s).all()
    assert (town.flow.edges == town.speed.edges).all()
    assert town.flow.nodes > 5
    assert town.flow.edges.shape[1] > 0
    assert (town.flow.edge_length_m > 0).all()
    assert (town.flow.edges[0] != town.flow.edges[1]).all()


def test_flows_are_whole_vehicles_and_a_town_sleeps_at_night(town: Town) -> None:
    flow = town.flow.values
    known = flow[np.isfinite(flow)]
    assert (known >= 0).all()
    assert (np.round(known) % (3600 // STEP_S) == 0).all()
    hour = town.flow.start_s % 86400 // 3600
    assert np.nanmean(flow[hour == 3]) < 0.4 * np.nanmean(flow[(hour >= 7) & (hour < 19)])


def test_speeds_are_of_vehicles_that_were_counted(town: Town) -> None:
    flow, speed = town.flow.values, town.speed.values
    assert np.isnan(speed[flow == 0]).all()
    assert np.isnan(speed[np.isnan(flow)]).all()
    assert np.isfinite(speed[flow > 0]).all()
    assert 5.0 < np.nanmedian(speed) < 65.0


def test_a_town_is_drawn_from_its_seed_alone(town: Town) -> None:
    again = draw_town(5, days=DAYS, junctions=14, processes=2)
    np.testing.assert_array_equal(again.flow.values, town.flow.values)
    np.testing.assert_array_equal(again.speed.values, town.speed.values)
    assert draw_town(6, days=1, junctions=14).flow.values.shape[1:] != (0,)


def test_a_simulator_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = sumolib.checkBinary
    monkeypatch.setattr(sumolib, "checkBinary", lambda name: "false" if name == "sumo" else real(name))
    with pytest.raises(ProcessError, match="SUMO on day0"):
        draw_town(5, days=1, junctions=14)
