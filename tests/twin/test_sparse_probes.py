"""Vehicles heard now and then tell how long they took along the edges between."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from networks.batches import ProbeBatch
from tests.twin import one_street
from twin.sparse_probes import SparseProbes


def report(vehicle: int, at_s: float, x_m: float, y_m: float) -> ProbeBatch:
    one = np.ones(1)
    return ProbeBatch(
        np.array([vehicle], np.int64),
        np.array([x_m]),
        np.array([y_m]),
        10.0 * one,
        np.zeros(1),
        np.zeros(1, np.int32),
        np.full(1, -1, np.int32),
        at_s * one,
        at_s * one,
    )


def drive(
    speed_mps: float, every_s: float, spread_m: float = 0.0, seed: int = 1, silent_at_s: float = -1.0
) -> dict[int, list[float]]:
    """A vehicle along the street, past its junction; what it told: edge -> [seconds, metres].

    `silent_at_s`: then it is taken for gone.
    """
    network = one_street.street(1)
    probes, rng = SparseProbes(network), np.random.default_rng(seed)
    shape = np.vstack([np.asarray(network.lanes.shape_xy[lane]).reshape(-1, 2) for lane in range(2)])
    begin, end = shape[0], shape[-1]
    length_m = float(np.hypot(*(end - begin)))
    told: dict[int, list[float]] = {}
    at_s = 0.0
    while at_s * speed_mps < length_m:
        if at_s >= silent_at_s > at_s - every_s:
            probes.forget_before(at_s)
        place = begin + (end - begin) * at_s * speed_mps / length_m + rng.normal(0.0, spread_m, 2)
        edges, seconds, metres = probes.take(report(7, at_s, *place), np.zeros(1, np.int32))
        for edge, second, metre in zip(edges.tolist(), seconds, metres, strict=True):
            entry = told.setdefault(edge, [0.0, 0.0])
            entry[0] += second
            entry[1] += metre
        at_s += every_s
    return told


@settings(max_examples=10, deadline=None)
@given(st.floats(2.0, 9.0), st.floats(5.0, 12.0), st.integers(0, 100))
def test_metres_over_seconds_is_the_speed_driven(speed_mps: float, every_s: float, seed: int) -> None:
    assume(speed_mps * every_s <= 100.0)  # of six places on the street none is five old, when the matcher is sure
    told = drive(speed_mps, every_s, spread_m=2.0, seed=seed)
    seconds, metres = (sum(entry[k] for entry in told.values()) for k in (0, 1))
    assert seconds > 0
    assert metres / seconds == pytest.approx(speed_mps, rel=0.2)


def test_whoever_reports_each_second_is_left_to_the_lists() -> None:
    assert drive(8.0, 1.0) == {}


def test_nothing_is_told_of_the_time_over_which_a_vehicle_was_silent() -> None:
    whole, parts = (
        sum(seconds for seconds, _ in drive(5.0, 10.0, silent_at_s=at_s).values()) for at_s in (-1.0, 20.0)
    )
    assert parts == pytest.approx(whole - 20.0)
