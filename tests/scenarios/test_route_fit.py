"""Route flows near a prior: counts are met, contradictions do not spread, lags carry over."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.errors import ShapeError
from scenarios.measures import geh
from scenarios.route_fit import fit_flows


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.5, 2.0))
def test_counts_of_scaled_flows_are_met(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    prior = rng.uniform(20.0, 400.0, 8)
    share = (rng.random((12, 8)) < 0.4).astype(float)
    counted = share @ (scale * prior)
    flow = fit_flows(share, counted, np.zeros(12), prior)
    assert (flow > 0).all()
    assert geh(share @ flow, counted).max() < 1.0


def test_one_loop_that_contradicts_does_not_bend_the_others() -> None:
    share = np.ones((5, 1))
    flow = fit_flows(share, np.array([500.0, 505.0, 495.0, 500.0, 1500.0]), np.zeros(5), np.array([400.0]))
    assert flow[0] == pytest.approx(500.0, rel=0.05)


def test_a_loop_that_counts_something_else_hardly_moves_a_route() -> None:
    share = np.array([[1.0], [1.0]])
    near, far = (fit_flows(share, np.array([1200.0, c]), np.zeros(2), np.array([1200.0]))[0] for c in (1000.0, 150.0))
    assert 1050.0 < near < 1190.0
    assert far == pytest.approx(1200.0, rel=0.05)


def test_vehicles_already_under_way_are_not_sent_again() -> None:
    share = np.array([[1.0]])
    alone, after = (
        fit_flows(share, np.array([600.0]), np.array([carried]), np.array([500.0]))[0] for carried in (0.0, 200.0)
    )
    assert alone - after == pytest.approx(200.0, rel=0.05)


def test_a_silent_counter_says_nothing_and_routes_past_none_keep_their_part() -> None:
    share = np.array([[1.0, 0.0], [0.0, 1.0]])
    flow = fit_flows(share, np.array([200.0, np.nan]), np.zeros(2), np.array([100.0, 50.0]))
    assert flow == pytest.approx([200.0, 100.0], rel=0.02)


@pytest.mark.parametrize(
    ("share", "prior"), [(np.ones((2, 2)), np.ones(3)), (np.ones((3, 2)), np.ones(2)), (np.ones((2, 2)), np.zeros(2))]
)
def test_arrays_that_disagree_are_refused(share: np.ndarray, prior: np.ndarray) -> None:
    with pytest.raises(ShapeError):
        fit_flows(share, np.ones(2), np.zeros(2), prior)
