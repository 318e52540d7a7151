"""Positions of vehicles, dense or a minute apart -> lanes, as they come in. See `MapMatcher`."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from networks.graph import Floats, Ints, Network
from twin import map_matching_kernels as kernels
from twin.placing import LaneFinder

HEAP = 1 << 14


@dataclass(frozen=True, slots=True)
class MatcherSettings:
    """Noise of positions and habits of drivers. Spreads are one sigma."""

    position_m: float = 5.0
    heading_rad: float = 0.5
    heading_from_mps: float = 2.0  # slower, a heading says nothing
    reach_m: float = 25.0  # a position lies on a lane no farther than this
    candidates: int = 24  # lanes considered for each position
    lag: int = 5  # positions after which a lane is final
    beta_m: float = 3.0  # difference of way and straight line: scale for positions at one moment ...
    beta_mps: float = 0.25  # ... and its growth with the seconds between them
    change_m: float = 13.0  # a lane change as if it were way: by beta_m, one in fifty seconds
    slack_m: float = 15.0  # a position may fall back so far on its lane
    fastest_mps: float = 50.0
    pause_s: float = 180.0  # after a longer silence a new trip begins


class Match(NamedTuple):
    """Where a vehicle was at one of its positions."""

    at_s: float
    lane: int
    position_m: float  # from the lane's start
    begins: bool  # nothing leads there from the position before: a new trip, or a way that our map lacks


class _Step(NamedTuple):
    at_s: float
    x_m: float
    y_m: float
    lane: Ints
    along_m: Floats
    score: Floats
    back: Ints  # candidate of the step before, -1 none
    begins: bool


@dataclass(slots=True)
class _Trip:
    steps: deque[_Step] = field(default_factory=deque)
    newest_s: float = -math.inf


class MapMatcher:
    """Matches every vehicle's positions to the lane graph by a hidden Markov model, online with a fixed lag.

    Candidates are the lanes around a position; a position is the more likely the nearer the lane (and its direction),
    a step the more likely the less the way by road differs from the straight line. Source: Newson and Krumm, Hidden
    Markov Map Matching Through Noise and Sparseness (2009); lane changes cost some metres. Positions older than the
    newest of their vehicle, and positions on no lane, are passed over.
    """

    def __init__(self, network: Network, settings: MatcherSettings | None = None) -> None:
        self.settings = settings or MatcherSettings()
        lanes, moves = network.lanes, network.movements
        self._finder = LaneFinder(network, self.settings.reach_m)
        rows = network.lane_movements
        self._graph = (
            rows.offsets,
            rows.values.astype(np.int32),
            moves.to_lane,
            moves.length_m,
            lanes.length_m,
            lanes.edge,
            network.edges.first_lane,
            lanes.motor,
        )
        count = len(lanes.ids)
        self._scratch = np.empty(count), np.full(count, -1, np.int32), np.empty(HEAP), np.empty(HEAP, np.int32)
        self._trips: dict[int, _Trip] = {}

    def note(
        self, vehicle: int, at_s: float, x_m: float, y_m: float, heading_rad: float = math.nan, speed_mps: float = 0.0
    ) -> list[Match]:
        """Take in one position; the earlier ones of this vehicle that are final now, oldest first."""
        settings = self.settings
        trip = self._trips.setdefault(vehicle, _Trip())
        if at_s <= trip.newest_s:
            return []
        final: list[Match] = []
        if at_s - trip.newest_s > settings.pause_s:
            final += _decide(trip.steps, len(trip.steps))
        lane, along, cost = self._candidates(
            x_m, y_m, heading_rad if speed_mps >= settings.heading_from_mps else math.nan
        )
        if not len(lane):
            return final
        score, back, connected = -cost, np.full(len(lane), -1, np.int32), False
        if trip.steps:
            connected, score, back = self._follow(trip.steps[-1], at_s, x_m, y_m, lane, along, cost)
            if not connected:
                final += _decide(trip.steps, len(trip.steps))
                score, back = -cost, np.full(len(lane), -1, np.int32)
        trip.steps.append(_Step(at_s, x_m, y_m, lane, along, score - score.max(), back, not connected))
        trip.newest_s = at_s
        return final + _decide(trip.steps, len(trip.steps) - settings.lag)

    def latest(self, vehicle: int) -> Match | None:
        """Where a vehicle was at its newest position, as far as is known now; None: nothing known of it."""
        trip = self._trips.get(vehicle)
        return _chain(trip.steps)[-1] if trip is not None and trip.steps else None

    def finish(self, vehicle: int) -> list[Match]:
        """Forget a vehicle; what was not final yet."""
        trip = self._trips.pop(vehicle, None)
        return _decide(trip.steps, len(trip.steps)) if trip is not None else []

    def forget_before(self, at_s: float) -> dict[int, list[Match]]:
        """Forget vehicles not heard since a time; what was not final of each."""
        gone = [vehicle for vehicle, trip in self._trips.items() if trip.newest_s < at_s]
        return {vehicle: self.finish(vehicle) for vehicle in gone}

    def lanes_between(self, first: Match, second: Match) -> tuple[int, ...]:
        """Lanes driven from one match to the next, both included; () when no way leads there."""
        settings = self.settings
        limit_m = self._limit_m(second.at_s - first.at_s)
        reached_m, before = self._scratch[:2]
        kernels.search_ways(first.lane, first.position_m, limit_m, settings.change_m, *self._graph, *self._scratch)
        lane_m, lane_edge = self._graph[4], self._graph[5]
        place = (first.lane, first.position_m, second.lane, second.position_m)
        way_m = kernels.way_to(*place, settings.change_m, settings.slack_m, lane_m, lane_edge, reached_m)
        if way_m >= kernels.FAR:
            return ()
        if reached_m[second.lane] + second.position_m > way_m + 1e-9:
            return (first.lane,) if first.lane == second.lane else (first.lane, second.lane)
        lanes = [second.lane]
        while True:
            lanes.append(int(before[lanes[-1]]))
            if lanes[-1] == first.lane:
                return tuple(reversed(lanes))

    def _candidates(self, x_m: float, y_m: float, heading_rad: float) -> tuple[Ints, Floats, Floats]:
        settings = self.settings
        lane = np.empty(settings.candidates, np.int32)
        along, cost = np.empty(settings.candidates), np.empty(settings.candidates)
        spread = (settings.reach_m, settings.position_m, settings.heading_rad)
        count = kernels.find_candidates(x_m, y_m, heading_rad, *self._finder.index, *spread, lane, along, cost)
        return lane[:count], along[:count], cost[:count]

    def _follow(
        self, last: _Step, at_s: float, x_m: float, y_m: float, lane: Ints, along: Floats, cost: Floats
    ) -> tuple[bool, Floats, NDArray[np.int32]]:
        settings = self.settings
        gone_s = at_s - last.at_s
        score, back = np.empty(len(lane)), np.empty(len(lane), np.int32)
        connected = kernels.viterbi_step(
            last.lane,
            last.along_m,
            last.score,
            lane,
            along,
            cost,
            math.hypot(x_m - last.x_m, y_m - last.y_m),
            self._limit_m(gone_s),
            settings.beta_m + settings.beta_mps * gone_s,
            settings.change_m,
            settings.slack_m,
            *self._graph,
            *self._scratch,
            score,
            back,
        )
        return bool(connected), score, back

    def _limit_m(self, gone_s: float) -> float:
        return self.settings.fastest_mps * gone_s + 2.0 * self.settings.reach_m


def _chain(steps: deque[_Step]) -> list[Match]:
    """The best chain through the steps, oldest first."""
    matches: list[Match] = []
    k = int(steps[-1].score.argmax())
    for step in reversed(steps):
        matches.append(Match(step.at_s, int(step.lane[k]), float(step.along_m[k]), step.begins))
        k = int(step.back[k])
    return matches[::-1]


def _decide(steps: deque[_Step], count: int) -> list[Match]:
    """Take the oldest steps off, as the best chain has them."""
    if count <= 0:
        return []
    decided = _chain(steps)[:count]
    for _ in range(count):
        steps.popleft()
    return decided
