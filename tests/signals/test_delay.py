"""Closed-form delay against worked examples and against a queue counted by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signals.delay import hcm_delay_s, uniform_delay_s, webster_cycle_s, webster_delay_s, webster_greens_s


def test_uniform_delay_is_the_area_under_a_steady_queue():
    """60 s cycle, 24 s green, 0.2 veh/s in, 0.5 veh/s out: 7.2 veh wait at the end of red and are gone in 24 s."""
    area_veh_s = 0.5 * 7.2 * 36.0 + 0.5 * 7.2 * 24.0
    assert uniform_delay_s(60.0, 24.0, 0.2, 0.5) == pytest.approx(area_veh_s / (0.2 * 60.0))


def test_webster_by_hand():
    """C = 60, u = 0.5, s = 1800 veh/h, q = 600 veh/h: x = 2/3; 7.5 / (2/3) = 11.25; + 4.0; correction 8.08 x^4.5."""
    uniform_s, random_s = 60 * 0.25 / (2 * (1 - 1 / 3)), (2 / 3) ** 2 / (2 * (1 / 6) * (1 / 3))
    correction_s = 0.65 * (60 / (1 / 6) ** 2) ** (1 / 3) * (2 / 3) ** 4.5
    assert uniform_s == pytest.approx(11.25)
    assert random_s == pytest.approx(4.0)
    assert webster_delay_s(60, 30, 600 / 3600, 0.5) == pytest.approx(uniform_s + random_s - correction_s)
    assert webster_delay_s(60, 30, 600 / 3600, 0.5) == pytest.approx(0.9 * 15.25, rel=0.03)  # his own rule of thumb


def test_hcm_by_hand():
    """C = 90, g = 45, s = 1800 veh/h, v = 720 veh/h, T = 0.25 h: x = 0.8, d1 = 18.75, d2 = 7.66 s."""
    assert uniform_delay_s(90, 45, 0.2, 0.5) == pytest.approx(18.75)
    assert hcm_delay_s(90, 45, 0.2, 0.5) - 18.75 == pytest.approx(225 * (-0.2 + math.sqrt(0.04 + 3.2 / 225)))
    assert hcm_delay_s(90, 45, 0.2, 0.5) == pytest.approx(26.2, abs=0.1)


def test_at_capacity_and_beyond():
    assert webster_delay_s(60, 30, 0.25, 0.5) == math.inf
    # x = 1.2 for a quarter of an hour without a queue before: about half of the excess 0.2 T on the average
    assert hcm_delay_s(60, 30, 0.3, 0.5) - uniform_delay_s(60, 30, 0.3, 0.5) == pytest.approx(0.1 * 900, rel=0.15)


def test_webster_cycle_by_hand():
    assert webster_cycle_s([0.3, 0.3], 10.0) == pytest.approx(50.0)
    assert webster_greens_s(50.0, [0.3, 0.1], 10.0) == pytest.approx((30.0, 10.0))
    with pytest.raises(ValueError, match="no cycle"):
        webster_cycle_s([0.6, 0.5], 10.0)


@given(st.floats(0.05, 0.95), st.floats(0.0, 0.9), st.floats(40, 180))
def test_more_flow_costs_and_more_green_helps(share, degree, cycle_s):
    saturation_vps = 0.5
    flow_vps = degree * share * saturation_vps
    here = hcm_delay_s(cycle_s, share * cycle_s, flow_vps, saturation_vps)
    assert hcm_delay_s(cycle_s, share * cycle_s, 1.05 * flow_vps, saturation_vps) >= here
    assert hcm_delay_s(cycle_s, min(1.0, 1.05 * share) * cycle_s, flow_vps, saturation_vps) <= here + 1e-9


@pytest.mark.parametrize("numbers", [(60, 0, 0.1, 0.5), (60, 61, 0.1, 0.5), (60, 30, -0.1, 0.5), (60, 30, 0.1, 0.0)])
def test_numbers_that_mean_nothing_raise(numbers):
    with pytest.raises(ValueError, match="veh/s"):
        uniform_delay_s(*numbers)
