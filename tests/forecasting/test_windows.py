from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting.windows import HistoryBuffer, window_mean
from networks.errors import ShapeError
from networks.graph import Floats
from networks.state import Estimate, History, NetworkState, TimeGrid, VehicleTable


def estimate(values: Floats, *, age_s: float = 0.0) -> Estimate:
    return Estimate(np.nan_to_num(values), np.ones(len(values)), np.full(len(values), age_s), np.isfinite(values))


def state(
    now_s: float, flow: list[float], speed: list[float] | None = None, *, age_s: float = 0.0, window_s: float = 0.0
) -> NetworkState:
    nothing = Estimate.unknown(0)
    flows = np.array(flow, float)
    speeds = np.full(len(flows), 10.0) if speed is None else np.array(speed, float)
    return NetworkState(
        now_s, estimate(flows, age_s=age_s), estimate(speeds, age_s=age_s), Estimate.unknown(len(flows)),
        nothing, nothing, nothing, VehicleTable.empty(), (), 1.0, (), window_s,
    )  # fmt: skip


def test_several_states_in_a_step_are_averaged_and_the_running_step_is_not_shown() -> None:
    buffer = HistoryBuffer(2)
    for now_s, flow in ((605.0, 0.1), (630.0, 0.2), (660.0, 0.3), (661.0, 9.0)):
        buffer.append(state(now_s, [flow, 0.5]))
    history = buffer.until(661.0)
    assert history.grid == TimeGrid(600.0, 60.0, 1)
    np.testing.assert_allclose(history.flow_vps, [[0.2, 0.5]])  # 660 s ends the step, 661 s begins the next
    assert history.valid.all()


def test_a_gap_is_invalid_and_keeps_its_place_in_time() -> None:
    buffer = HistoryBuffer(1)
    buffer.append(state(60.0, [0.1]))
    buffer.append(state(240.0, [0.4]))
    history = buffer.until(300.0)
    assert history.valid[:, 0].tolist() == [True, False, False, True, False]
    assert history.grid.start_s == 0.0


def test_stale_or_missing_values_are_no_readings() -> None:
    buffer = HistoryBuffer(2, max_age_s=100.0)
    buffer.append(state(60.0, [0.1, np.nan]))
    buffer.append(state(120.0, [0.1, 0.2], age_s=101.0))
    assert buffer.until(120.0).valid.tolist() == [[True, False], [False, False]]


def test_a_clock_set_back_forgets_what_lay_ahead() -> None:
    buffer = HistoryBuffer(1)
    for now_s in (60.0, 120.0, 180.0):
        buffer.append(state(now_s, [1.0]))
    buffer.append(state(120.0, [0.5]))
    history = buffer.until(180.0)
    assert history.valid[:, 0].tolist() == [True, True, False]
    assert history.flow_vps[1, 0] == 0.5


def test_only_keep_s_is_kept() -> None:
    buffer = HistoryBuffer(1, keep_s=300.0)
    for minute in range(1, 31):
        buffer.append(state(60.0 * minute, [float(minute)]))
    history = buffer.until(1800.0)
    assert history.flow_vps[-5:, 0].tolist() == [26.0, 27.0, 28.0, 29.0, 30.0]
    assert history.grid.count <= 6


def test_another_network_is_refused() -> None:
    with pytest.raises(ShapeError):
        HistoryBuffer(3).append(state(60.0, [0.1]))


@given(
    st.lists(st.floats(1.0, 3000.0, allow_nan=False), min_size=1, max_size=40, unique=True),
    st.floats(1.0, 3000.0),
)
def test_nothing_after_now_is_ever_seen(times: list[float], now_s: float) -> None:
    everything, until_now = HistoryBuffer(1), HistoryBuffer(1)
    for t in sorted(times):
        everything.append(state(t, [t]))
        if t <= now_s:
            until_now.append(state(t, [t]))
    shown, honest = everything.until(now_s), until_now.until(now_s)
    assert shown.grid == honest.grid
    np.testing.assert_array_equal(shown.flow_vps, honest.flow_vps)
    np.testing.assert_array_equal(shown.valid, honest.valid)
    assert shown.grid.start_s + shown.grid.count * shown.grid.step_s <= now_s


def test_window_speed_is_metres_driven_over_seconds_spent() -> None:
    history = History(
        TimeGrid(0.0, 60.0, 2), np.array([[0.3], [0.1]]), np.array([[4.0], [12.0]]), np.ones((2, 1), np.bool_)
    )
    flow, speed, valid = window_mean(history, np.array([120.0]), 120.0)
    assert flow[0, 0] == pytest.approx(0.2)
    assert speed[0, 0] == pytest.approx((0.3 + 0.1) / (0.3 / 4.0 + 0.1 / 12.0), abs=0.05)
    assert valid.all()
    assert not window_mean(history, np.array([120.0]), 600.0, least_frac=0.5)[2].any()


@given(st.lists(st.integers(0, 30), min_size=15, max_size=15))
def test_states_that_speak_of_five_minutes_reach_no_further_back(counts: list[int]) -> None:
    """A state every 20 s tells the flow of the last five minutes; what was counted in each minute is known."""
    buffer = HistoryBuffer(1)
    third = np.repeat(np.array(counts) / 3.0, 3)
    for k in range(15, len(third) + 1):
        buffer.append(state(20.0 * k, [float(third[k - 15 : k].sum()) / 300.0], window_s=300.0))
    ends = np.array([600.0, 900.0])
    flow, _, valid = window_mean(buffer.until(900.0), ends, 300.0)
    assert valid.all()
    np.testing.assert_allclose(flow[:, 0] * 300.0, [sum(counts[5:10]), sum(counts[10:15])], atol=1e-9)
    longer, _, _ = window_mean(buffer.until(900.0), ends[1:], 600.0)
    np.testing.assert_allclose(longer[:, 0] * 600.0, [sum(counts[5:15])], atol=1e-9)


def test_where_the_newest_state_is_missing_the_one_before_speaks() -> None:
    buffer = HistoryBuffer(1)
    for minute, flow in ((8, 0.2), (9, 0.3), (10, np.nan)):
        buffer.append(state(60.0 * minute, [flow], window_s=300.0))
    flow, _, valid = window_mean(buffer.until(600.0), np.array([600.0]), 300.0)
    assert valid.all()
    assert flow[0, 0] == pytest.approx(0.3)
