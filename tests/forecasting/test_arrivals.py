"""Arrivals at stop lines from a forecast of edges."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from forecasting.arrivals import arrival_rates, edge_shares
from networks.state import QUANTILES, Forecast
from tests.twin import small_city as town

NETWORK = town.small_network()
NOW = town.T0_S
MADE_OF = len(NETWORK.movements.turn)


def forecast(flow: np.ndarray) -> Forecast:
    """Flows (H, E) that are sure."""
    horizons, edges = flow.shape
    shape = (horizons, edges, len(QUANTILES))
    return Forecast(
        NOW, 300.0 * np.arange(1, horizons + 1), QUANTILES, np.broadcast_to(flow[..., None], shape).copy(),
        np.full(shape, 10.0), np.full((horizons, edges, 4), 0.25), np.ones(edges, np.bool_), ("profile",),
    )  # fmt: skip


@given(st.lists(st.floats(0, 2), min_size=4, max_size=4), st.floats(0, 3600))
def test_an_edge_that_is_fed_from_outside_gets_what_leaves_it(flow: list[float], ahead_s: float) -> None:
    share = edge_shares(NETWORK, np.ones(MADE_OF), np.zeros(4))
    rates = arrival_rates(NETWORK, forecast(np.tile(flow, (12, 1))), share, np.array([NOW + ahead_s]))
    np.testing.assert_allclose(rates[0], [flow[0], flow[1]], atol=1e-12)


def test_shares_sum_to_one_over_an_edge_whatever_its_lanes_hold() -> None:
    share = edge_shares(NETWORK, np.array([0.3, 0.0]), np.array([2.0, 5.0, 0.0, 0.0]))
    np.testing.assert_allclose(share, [1.0, 1.0], err_msg="a lane nobody is on is split evenly")


def test_rates_follow_the_forecast_between_its_steps() -> None:
    flow = np.zeros((12, 4))
    flow[:, 0] = np.arange(12)
    share = edge_shares(NETWORK, np.ones(MADE_OF), np.ones(4))
    at = NOW + np.array([150.0, 300.0, 450.0, 3450.0])
    np.testing.assert_allclose(arrival_rates(NETWORK, forecast(flow), share, at)[:, 0], [0.0, 0.5, 1.0, 11.0])


def test_an_edge_without_a_forecast_sends_nothing() -> None:
    made = forecast(np.ones((12, 4)))
    made.valid[0] = False
    share = edge_shares(NETWORK, np.ones(MADE_OF), np.ones(4))
    assert arrival_rates(NETWORK, made, share, np.array([NOW]))[0].tolist() == [0.0, 1.0]
