"""Flows of edges without loops follow from the loops around them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.flow_balance import Turns, balance_flows

# 0 and 1 feed 2 (counted), 2 feeds 3 (60 %) and 4 (40 %)
TURNS = Turns(np.array([0, 1, 2, 2], np.int32), np.array([2, 2, 3, 4], np.int32), np.array([1.0, 1.0, 0.6, 0.4]))
KNOWN = np.array([False, False, True, False, False])


def balance(start: list[float], counted: float) -> np.ndarray:
    return balance_flows(np.array(start), KNOWN, np.full(5, counted), TURNS)


def test_feeders_sum_to_the_count_in_the_ratio_of_their_guesses_and_branches_follow_the_shares() -> None:
    flow = balance([0.1, 0.3, 0.8, 0.1, 0.1], 0.8)
    assert flow[0] + flow[1] == pytest.approx(0.8, rel=0.01)
    assert flow[1] / flow[0] == pytest.approx(3.0, rel=0.01)
    assert flow[3:] == pytest.approx([0.48, 0.32], rel=0.01)


@settings(max_examples=50)
@given(st.lists(st.floats(0.0, 2.0), min_size=5, max_size=5), st.floats(0.0, 2.0))
def test_known_flows_stay_and_nothing_gets_negative_or_lost(start: list[float], counted: float) -> None:
    start[2] = counted
    flow = balance(start, counted)
    assert np.isfinite(flow).all()
    assert (flow >= 0).all()
    assert flow[2] == pytest.approx(max(counted, 1e-5))
