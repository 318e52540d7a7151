"""Errors of expectations: closed forms, blindness, and the share of chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signals.expectations import (
    Expectation,
    Expectations,
    Observation,
    approaches_of,
    interval_veh,
    observation_of,
)
from tests.signals.drawn_junctions import tee


def seen(at_s: float, flow: float, waiting: float = 0.0, valid: bool = True) -> Observation:
    return Observation(at_s, np.array([flow]), np.array([waiting]), np.array([valid]))


def test_a_steady_flow_serves_flow_times_horizon():
    kept = Expectations(1, horizon_s=60.0)
    outcomes = []
    for t in range(0, 90, 5):
        outcomes += kept.observed(seen(float(t), 0.5, 4.0))
        if t == 10:
            kept.decided([Expectation(0, 10.0, 25.0, 200.0)])
    (outcome,) = outcomes
    assert outcome.served_veh == pytest.approx(30.0)
    assert outcome.waited_veh_s == pytest.approx(240.0)
    stats = kept.statistics(0)
    assert (stats.decisions, stats.seen) == (1, 1)
    assert (stats.served_bias_veh, stats.served_mae_veh) == (pytest.approx(5.0), pytest.approx(5.0))
    assert (stats.waited_bias_veh_s, stats.within_frac) == (pytest.approx(40.0), 1.0)


@pytest.mark.parametrize("blind", ["gap", "invalid", "late"])
def test_a_horizon_that_was_not_seen_counts_as_unseen(blind):
    kept = Expectations(1, horizon_s=60.0)
    kept.observed(seen(0.0, 0.5))
    kept.decided([Expectation(0, 0.0, 25.0, 0.0)])
    outcomes = []
    for t in range(5, 80, 5):
        if (blind == "gap" and 20 <= t < 50) or (blind == "late" and t < 40):
            continue
        outcomes += kept.observed(seen(float(t), 0.5, valid=not (blind == "invalid" and t == 30)))
    (outcome,) = outcomes
    assert not outcome.seen
    stats = kept.statistics(0)
    assert (stats.decisions, stats.seen) == (1, 0)
    assert math.isnan(stats.served_bias_veh)


def test_decisions_without_an_expectation_say_nothing():
    kept = Expectations(1)
    kept.decided([Expectation(0, 0.0, math.nan, 3.0)])
    assert kept.statistics(0).decisions == 0


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.floats(0.5, 14.0), st.floats(0.0, 2.0)), min_size=4, max_size=40),
    st.floats(0.0, 1.0),
)
def test_what_was_served_is_the_integral_of_the_flow(steps, into):
    times = np.concatenate([[0.0], np.cumsum([dt for dt, _ in steps])])
    flows = np.array([0.3] + [flow for _, flow in steps])
    horizon_s = times[-1] / 3
    at_s = into * (times[-1] - horizon_s) * 0.99
    kept = Expectations(1, horizon_s=horizon_s)
    outcomes, decided = [], False
    for t, flow in zip(times, flows, strict=True):
        outcomes += kept.observed(seen(float(t), float(flow)))
        if not decided and t >= at_s:
            at_s, decided = float(t), True
            kept.decided([Expectation(0, at_s, 1.0, 1.0)])
    fine = np.linspace(at_s, at_s + horizon_s, 20001)
    for outcome in outcomes:
        expected = np.trapezoid(np.interp(fine, times, flows), fine)
        assert outcome.served_veh == pytest.approx(expected, abs=14.0 * 2.0 / 2 + 1e-6)
        on_grid = np.isclose(times, at_s + horizon_s).any()
        if on_grid:
            assert outcome.served_veh == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_chance_alone_keeps_nineteen_in_twenty_within_the_interval():
    rng = np.random.default_rng(5)
    for mean in (8.0, 30.0):
        counts = rng.poisson(mean, 20000)
        assert np.mean(np.abs(counts - mean) <= interval_veh(mean)) == pytest.approx(0.95, abs=0.02)


def test_all_approaches_of_a_signal_have_to_be_known():
    network = tee()
    approaches = approaches_of(network)
    edges, lanes = len(network.edges.ids), len(network.lanes.ids)
    flow, queue = np.full(edges, 0.1), np.full(lanes, 1.5)
    known = observation_of(0.0, flow, np.ones(edges, bool), queue, np.ones(lanes, bool), approaches)
    assert known.served_vps[0] == pytest.approx(0.3)
    assert known.waiting_veh[0] == pytest.approx(1.5 * 6)
    assert known.valid.all()
    blind = np.ones(edges, bool)
    blind[approaches.edge_index[1]] = False
    assert not observation_of(0.0, flow, blind, queue, np.ones(lanes, bool), approaches).valid.any()
