"""What decisions expected, held against what happened: error statistics for each signal.

A decision at t expects, over its horizon H, vehicles served and vehicle-seconds of delay. What happened is integrated
from the fused state: the flow that leaves the approach edges, and the vehicles that stand on their lanes. Served
vehicles are the same quantity on both sides. Waiting is not quite the delay that controllers count (theirs is
weighted, and of the vehicles in view at t; ours is of everybody who stands): read its bias as a trend, not an error.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from networks.graph import BUS, PASSENGER, TRUCK, Bools, Floats, Ints, Network
from networks.sensors import approach_edges

HORIZON_S = 60.0
SEEN_FRAC = 0.9  # of the horizon that has to be observed
LONGEST_GAP_S = 15.0  # between two observations; over a longer one nothing was seen
_Z = 1.96


@dataclass(frozen=True, slots=True)
class Approaches:
    """Edges and lanes that end at each signal, as parallel arrays: row i, edge_index[i] ends at edge_signal[i]."""

    signals: int
    edge_index: Ints  # (N,)
    edge_signal: Ints  # (N,)
    lane_index: Ints  # (K,)
    lane_signal: Ints  # (K,)


@dataclass(frozen=True, slots=True)
class Observation:
    """What goes on at every signal at a moment; `valid` where all its approaches are known."""

    at_s: float
    served_vps: Floats  # (S,) vehicles a second over the stop lines
    waiting_veh: Floats  # (S,) standing on the approaches
    valid: Bools  # (S,)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What one decision expected, from `at_s` on over the horizon."""

    signal: int
    at_s: float
    served_veh: float
    cost_veh_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """An expectation whose horizon is over; NaN where too little of it was seen."""

    expected: Expectation
    served_veh: float
    waited_veh_s: float

    @property
    def seen(self) -> bool:
        return not math.isnan(self.served_veh)


@dataclass(frozen=True, slots=True)
class ErrorStatistics:
    """Of one signal; errors are happened less expected. NaN where nothing was seen."""

    decisions: int
    seen: int
    expected_veh: float  # mean
    served_bias_veh: float
    served_mae_veh: float
    within_frac: float  # share of outcomes within the interval: 0.95 if chance alone moves them
    waited_bias_veh_s: float
    waited_mae_veh_s: float


def approaches_of(network: Network) -> Approaches:
    """Approaches of motor vehicles."""
    pairs = [(e, s) for e, s in approach_edges(network).items() if network.edges.lane_count[e] > 0]
    first = network.edges.first_lane
    motor = network.lanes.allowed & (PASSENGER | BUS | TRUCK) > 0
    lanes = [(lane, s) for e, s in pairs for lane in range(first[e], first[e + 1]) if motor[lane]]
    edge, edge_signal = np.array(pairs, np.int32).reshape(-1, 2).T
    lane, lane_signal = np.array(lanes, np.int32).reshape(-1, 2).T
    return Approaches(len(network.signals), edge, edge_signal, lane, lane_signal)


def observation_of(
    at_s: float, flow_vps: Floats, flow_valid: Bools, queue_veh: Floats, queue_valid: Bools, approaches: Approaches
) -> Observation:
    """The part of a fused state that expectations are held against: arrays over edges (E) and lanes (L)."""
    served_vps, waiting_veh = np.zeros(approaches.signals), np.zeros(approaches.signals)
    blind = np.zeros(approaches.signals, np.bool_)
    edge, lane = approaches.edge_index, approaches.lane_index
    np.add.at(served_vps, approaches.edge_signal, np.where(flow_valid[edge], flow_vps[edge], 0.0))
    np.add.at(waiting_veh, approaches.lane_signal, np.where(queue_valid[lane], queue_veh[lane], 0.0))
    np.logical_or.at(blind, approaches.edge_signal, ~flow_valid[edge])
    np.logical_or.at(blind, approaches.lane_signal, ~queue_valid[lane])
    known = np.zeros(approaches.signals, np.bool_)
    known[approaches.edge_signal] = True
    return Observation(at_s, served_vps, np.maximum(waiting_veh, 0.0), known & ~blind)


def interval_veh(expected_veh: float) -> float:
    """Half the interval in which 95 in 100 counts lie whose mean is the expected one (Poisson, normal form)."""
    return _Z * math.sqrt(max(expected_veh, 1.0))


class Expectations:
    """Takes decisions and observations in order of time; gives outcomes as horizons end, and keeps the statistics."""

    def __init__(self, signals: int, *, horizon_s: float = HORIZON_S) -> None:
        self.horizon_s = horizon_s
        self._open: deque[Expectation] = deque()
        self._last: Observation | None = None
        self._sums = np.zeros((3, signals))  # served veh, waited veh s, seconds seen; since the first observation
        self._past: deque[tuple[float, Floats]] = deque()
        self._totals = np.zeros((8, signals))

    def decided(self, expectations: Iterable[Expectation]) -> None:
        """Note decisions; those without a finite expectation say nothing."""
        for expected in expectations:
            if math.isfinite(expected.served_veh) and math.isfinite(expected.cost_veh_s):
                self._open.append(expected)
                self._totals[0, expected.signal] += 1

    def observed(self, observation: Observation) -> list[Outcome]:
        """Take an observation later than the last; returns the outcomes of all horizons that end by then."""
        if self._last is not None and observation.at_s <= self._last.at_s:
            return []
        self._integrate(observation)
        outcomes = []
        within, of_s = np.zeros_like(self._sums), math.nan
        while self._open and self._open[0].at_s + self.horizon_s <= observation.at_s:
            expected = self._open.popleft()
            if expected.at_s != of_s:  # decisions of one moment share their horizon
                of_s = expected.at_s
                within = self._sums_at(of_s + self.horizon_s) - self._sums_at(of_s)
            outcome = self._outcome(expected, within[:, expected.signal])
            self._count(outcome)
            outcomes.append(outcome)
        oldest_s = self._open[0].at_s if self._open else observation.at_s
        while len(self._past) > 2 and self._past[1][0] <= oldest_s:
            self._past.popleft()
        return outcomes

    def statistics(self, signal: int) -> ErrorStatistics:
        decisions, seen, expected, bias, absolute, within, waited_bias, waited_absolute = self._totals[:, signal]
        share = [float(v) / seen if seen else math.nan for v in (expected, bias, absolute, within)]
        waited = [float(v) / seen if seen else math.nan for v in (waited_bias, waited_absolute)]
        return ErrorStatistics(int(decisions), int(seen), *share, *waited)

    def _integrate(self, observation: Observation) -> None:
        """Each value holds from the observation before; across a long gap nothing is known."""
        if self._last is not None:
            passed_s = observation.at_s - self._last.at_s
            known = self._last.valid & observation.valid & (passed_s <= LONGEST_GAP_S)
            middle = np.stack(
                [
                    (self._last.served_vps + observation.served_vps) / 2.0,
                    (self._last.waiting_veh + observation.waiting_veh) / 2.0,
                    np.ones(len(known)),
                ]
            )
            self._sums = self._sums + np.where(known, middle, 0.0) * passed_s
        self._last = observation
        self._past.append((observation.at_s, self._sums))

    def _outcome(self, expected: Expectation, within: Floats) -> Outcome:
        served, waited, seen_s = within
        if seen_s < SEEN_FRAC * self.horizon_s:
            return Outcome(expected, math.nan, math.nan)
        whole = self.horizon_s / seen_s
        return Outcome(expected, float(served * whole), float(waited * whole))

    def _sums_at(self, at_s: float) -> Floats:
        """The integrals (3, S) at a moment between two observations."""
        later = bisect_left(self._past, at_s, key=lambda past: past[0])
        if later == 0:
            return self._past[0][1]
        if later == len(self._past):
            return self._past[-1][1]
        (before_s, before), (after_s, after) = self._past[later - 1], self._past[later]
        return before + (after - before) * ((at_s - before_s) / (after_s - before_s))

    def _count(self, outcome: Outcome) -> None:
        if not outcome.seen:
            return
        expected, row = outcome.expected, self._totals[:, outcome.expected.signal]
        error_veh = outcome.served_veh - expected.served_veh
        error_veh_s = outcome.waited_veh_s - expected.cost_veh_s
        within = abs(error_veh) <= interval_veh(expected.served_veh)
        row[1:] += (1.0, expected.served_veh, error_veh, abs(error_veh), within, error_veh_s, abs(error_veh_s))
