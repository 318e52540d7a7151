"""Drawn towns: what their detectors tell is what a town could have lived through."""

from __future__ import annotations

import numpy as np
import pytest
import sumolib

from forecasting.drawn_noise import STEP_S
from forecasting.recording import Recording
from networks.errors import ProcessError
from scenarios.drawn_towns import draw_town

DAYS = 2
PER_DAY = 86400 // STEP_S


@pytest.fixture(scope="module")
def town() -> Recording:
    return draw_town(5, days=DAYS, junctions=14)


def test_detectors_of_both_kinds_share_places_times_and_roads(town: Recording) -> None:
    flow, speed = town.series("flow"), town.series("speed")
    assert flow.values.shape == speed.values.shape == (DAYS * PER_DAY, flow.nodes)
    assert (flow.start_s == speed.start_s).all()
    assert (flow.edges == speed.edges).all()
    assert flow.nodes > 5
    assert flow.edges.shape[1] > 0
    assert (flow.edge_length_m > 0).all()
    assert (flow.edges[0] != flow.edges[1]).all()


def test_flows_are_whole_vehicles_and_a_town_sleeps_at_night(town: Recording) -> None:
    flow = town.channels["flow"]
    known = flow[np.isfinite(flow)]
    assert (known >= 0).all()
    assert (np.round(known) % (3600 // STEP_S) == 0).all()
    hour = town.start_s % 86400 // 3600
    assert np.nanmean(flow[hour == 3]) < 0.4 * np.nanmean(flow[(hour >= 7) & (hour < 19)])


def test_speeds_are_of_vehicles_that_were_counted(town: Recording) -> None:
    flow, speed = town.channels["flow"], town.channels["speed"]
    assert np.isnan(speed[flow == 0]).all()
    assert np.isnan(speed[np.isnan(flow)]).all()
    assert np.isfinite(speed[flow > 0]).all()
    assert 5.0 < np.nanmedian(speed) < 65.0


def test_a_town_is_drawn_from_its_seed_alone(town: Recording) -> None:
    again = draw_town(5, days=DAYS, junctions=14, processes=2)
    np.testing.assert_array_equal(again.channels["flow"], town.channels["flow"])
    np.testing.assert_array_equal(again.channels["speed"], town.channels["speed"])
    assert draw_town(6, days=1, junctions=14).channels["flow"].shape[1:] != (0,)


def test_a_simulator_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = sumolib.checkBinary
    monkeypatch.setattr(sumolib, "checkBinary", lambda name: "false" if name == "sumo" else real(name))
    with pytest.raises(ProcessError, match="SUMO on day0"):
        draw_town(5, days=1, junctions=14)
