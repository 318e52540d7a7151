"""The twin's errors against closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from networks.state import Estimate
from scenarios.street_terms import Truth
from tests.twin import cycles, small_city
from twin.score import WINDOW_S, TwinScore

NETWORK, T0_S = small_city.small_network(), small_city.T0_S
FLOW_VPS, SPEED_MPS, QUEUE_VEH = 0.125, 10.0, 2.0  # what `cycles.state(.., 1)` believes of every edge and lane


def truth(now_s, *, flow_vps=FLOW_VPS, speed_mps=SPEED_MPS, queue_veh=QUEUE_VEH, samples=10, window_s=5.0):
    return Truth(
        now_s=now_s,
        window_s=window_s,
        edge_flow_vps=np.full(4, flow_vps),
        edge_speed_mps=np.full(4, speed_mps),
        edge_samples=np.full(4, samples),
        lane_queue_veh=np.full(4, queue_veh),
        lane_vehicles=np.full(4, 3.0),
    )


def score_of(seconds, make=truth, believe=lambda now_s: cycles.state(now_s, 1)):
    score = TwinScore(NETWORK)
    for k in range(1, int(seconds / 5) + 1):
        score.note(make(T0_S + 5.0 * k), believe(T0_S + 5.0 * k))
    return score.result()


def test_a_twin_that_knows_everything_has_no_error():
    error = score_of(2 * WINDOW_S)
    assert (error.flow_geh_lt5_share, error.speed_rmse_mps, error.queue_mae_veh) == (1.0, 0.0, 0.0)
    assert error.edge_windows == 2 * 4


def test_speed_and_queue_errors_are_those_of_the_closed_form():
    error = score_of(WINDOW_S, lambda now_s: truth(now_s, speed_mps=7.0, queue_veh=6.5))
    assert error.speed_rmse_mps == pytest.approx(3.0)
    assert error.queue_mae_veh == pytest.approx(4.5)


@pytest.mark.parametrize(("flow_vps", "share"), [(450 / 3600 + 0.028, 1.0), (450 / 3600 + 0.033, 0.0)])
def test_flow_is_judged_by_geh_of_hourly_flows(flow_vps, share):
    """450 veh/h believed: GEH 5 is reached at 561 veh/h, 0.156 a second."""
    assert score_of(WINDOW_S, lambda now_s: truth(now_s, flow_vps=flow_vps)).flow_geh_lt5_share == share


def test_flow_of_a_window_is_its_vehicles_over_its_seconds():
    """A long report weighs more than a short one: 0.5 a second for 30 s and nothing for 270 s is 0.05 a second."""
    score = TwinScore(NETWORK)
    for window_s, now_s, flow_vps in ((30.0, 30.0, 0.5), (270.0, 300.0, 0.0)):
        believed = cycles.state(T0_S + now_s, 1)
        flow = replace(believed.edge_flow_vps, value=np.full(4, 0.05))
        score.note(truth(T0_S + now_s, flow_vps=flow_vps, window_s=window_s), replace(believed, edge_flow_vps=flow))
    assert score.result().flow_geh_lt5_share == 1.0


def test_edges_without_belief_or_without_traffic_are_not_judged():
    def believe(now_s):
        return replace(cycles.state(now_s, 1), edge_flow_vps=Estimate.unknown(4), lane_queue_veh=Estimate.unknown(4))

    error = score_of(WINDOW_S, lambda now_s: truth(now_s, speed_mps=np.nan, samples=0), believe)
    assert (error.edge_windows, error.speed_rmse_mps, error.queue_mae_veh) == (0, 0.0, 0.0)


def test_cycles_without_truth_or_state_are_left_out():
    score = TwinScore(NETWORK)
    score.note(None, cycles.state(T0_S, 1))
    score.note(truth(T0_S), None)
    assert score.result().edge_windows == 0


def test_a_run_shorter_than_a_window_is_judged_on_what_there_is():
    error = score_of(60.0)
    assert error.flow_geh_lt5_share == 1.0
    assert error.edge_windows == 4


def test_a_last_window_cut_short_does_not_count_beside_whole_ones():
    assert score_of(WINDOW_S + 60.0).edge_windows == 4
