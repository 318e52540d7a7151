"""Flows of all turning movements at once: loops, guesses and conservation in one weighted least squares.

See `TurnFlows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from networks.city import Detector
from networks.graph import Floats, Ints, Network, number_pairs
from twin.selected_inverse import factorise

LOOP_MISS_FRAC = 0.02  # share of vehicles that a loop misses or counts twice
ACROSS_S = 3.0  # between loop and stop line: who is there at an end of the window is counted in the wrong one
LEAST_VEHICLES = 0.3  # standard deviation of any count
COMMON_FRAC = 0.05  # of a flow: what loops and shares of a street get wrong together
KEPT_FRAC = 0.5  # of the variance of vehicles under way, where it is told how many there are
ODD_VEHICLES = 0.7  # of what an edge keeps, besides those under way
CRUISE_FRAC = 0.6  # of the limit: speed at which a window's ends travel from loop to loop
DRAWS = 40  # behind the variances; their relative error is sqrt(2 / DRAWS)
BETWEEN_FRAC = 0.2  # relative error of trips that begin or end on an edge
USUAL_TURNS = 5.0  # vehicles that the usual shares of turns weigh beside those a mirror has seen
LEAST_VPS = 1e-4


class Told(NamedTuple):
    """What is known of the last minutes, in vehicles a second. NaN: nothing."""

    window_s: float  # that the flows are asked for
    heard_s: float  # of it that the loops have told of so far
    stop_vps: Floats  # (L,) past the stop-line loop
    entered_vps: Floats  # (E,) past upstream loops that watch every motor lane
    passed_vps: Floats  # (E,) the whole edge, by loops elsewhere on it
    guess_vps: Floats  # (E,) of the edge, without its own loops
    guess_frac: Floats  # (E,) relative standard deviation of the guess
    lane_frac: Floats  # (L,) the lane's part of its edge
    share: Floats  # (M,) of the lane's vehicles
    share_variance: Floats  # (M,)
    ends_frac: Floats  # (E,) share of the edge's vehicles that end their trip on it
    starts_vps: Floats  # (E,) trips that begin on it
    turned_vps: Floats  # (M,) by turn, as a mirror drove lately; between the same two edges only the sum counts
    kept_vps: Floats  # (E,) by which vehicles on it have become more within the window


class TurnFlows:
    """The flows z of lane-to-lane movements that are nearest to all that is told.

    z minimises  sum (z - z0)^2 / V  +  sum over loops (count - sum of z past it)^2 / R
                 +  sum over edges (in + starts - out - ends - kept)^2 / S,
    z0 the guessed flow of the edge split by lane and turning share, V its Poisson variance over the window plus the
    relative error of the guess. Poisson variances make the split of a counted lane multinomial, as drivers choose.
    R is the error of a count, S that of vehicles under way: the ends of the window take their time along an edge.
    The variance of an edge's flow is that of draws of z from this posterior (randomise-then-optimise, Bardsley et al.
    2014, SIAM J. Sci. Comput. 36, exact for a linear problem).
    Source: generalised least squares of counts, Cascetta (1984), Transportation Research B 18, section 3.
    """

    def __init__(self, network: Network, detectors: Sequence[Detector]) -> None:
        lanes, edges, moves = network.lanes, network.edges, network.movements
        motor = lanes.motor
        self._rows = np.flatnonzero(motor[moves.from_lane] & motor[moves.to_lane])
        self._from_lane = moves.from_lane[self._rows]
        self._from_edge, self._to_edge = lanes.edge[self._from_lane], lanes.edge[moves.to_lane[self._rows]]
        count, self._edge_count = len(self._rows), len(edges.ids)
        column, one = np.arange(count), np.ones(count)
        turns, self._turn = number_pairs(self._from_edge, self._to_edge)
        self._turn_from, self._turn_count = turns[:, 0], len(turns)

        def gather(row: Ints, rows: int) -> sparse.csr_array:
            return sparse.csr_array((one, (row, column)), shape=(rows, count))

        self._out, into = gather(self._from_edge, self._edge_count), gather(self._to_edge, self._edge_count)
        by_lane = gather(self._from_lane, len(lanes.ids))
        self._leaves = np.bincount(self._from_edge, minlength=self._edge_count) > 0
        self._enters = np.bincount(self._to_edge, minlength=self._edge_count) > 0
        self._system = sparse.vstack([by_lane, into, self._out, into - self._out]).tocsr()
        self._into = into
        cruise_mps = CRUISE_FRAC * np.maximum(edges.speed_limit_mps, 3.0)
        up_m = np.zeros(self._edge_count)
        for detector in detectors:
            if detector.role == "upstream":
                edge = lanes.edge[detector.lane]
                up_m[edge] = max(up_m[edge], detector.position_m)
        self._reach_s, self._travel_s = (up_m + 10.0) / cruise_mps, (edges.length_m + 10.0) / cruise_mps

    def solve(self, told: Told) -> tuple[Floats, Floats]:
        """Flow leaving each edge, arrivals included (E,), veh/s, and its variance."""
        guess = np.maximum(told.guess_vps, LEAST_VPS)
        guess_variance = guess / told.window_s + (told.guess_frac * guess) ** 2
        if not len(self._rows):
            return guess, guess_variance
        ends = guess * told.ends_frac
        drawn = self._draw(told, guess - ends, *self._evidence(told, guess, guess_variance, ends))
        leaving = np.where(
            self._leaves[:, None],
            self._out @ drawn + ends[:, None],
            self._into @ drawn + told.starts_vps[:, None],
        )
        alone = ~self._leaves & ~self._enters
        flow = np.where(alone, guess, leaving[:, 0])
        variance = np.where(alone, guess_variance, leaving[:, 1:].var(axis=1))
        beyond = np.where(self._leaves, ends / told.window_s, _under_way(told, guess, self._travel_s))
        # where all draws end at no flow they say nothing of each other: no sum is known better than a count
        least = (LEAST_VEHICLES / told.window_s) ** 2
        return flow, np.maximum(variance + beyond + (COMMON_FRAC * flow) ** 2, least)

    def _evidence(
        self, told: Told, guess: Floats, guess_variance: Floats, ends: Floats
    ) -> tuple[sparse.csr_array, Floats, Floats]:
        """What sums of movements are told: rows (N, M), the sums (N,), their variances (N,)."""
        starts, window_s = told.starts_vps, told.window_s
        drains = self._enters & ~self._leaves  # of all others the guess is where the movements start from
        entered = np.where(drains, told.guess_vps, told.entered_vps) - starts
        entered_variance = _counted(told, told.entered_vps) + _under_way(told, guess, self._reach_s)
        entered_variance = np.where(drains, guess_variance, entered_variance) + starts / window_s
        conserved = self._leaves & self._enters
        between = ends + starts
        told_kept = np.isfinite(told.kept_vps)
        more = np.where(told_kept, told.kept_vps, 0.0)
        under_way = _under_way(told, guess, self._travel_s) * np.where(told_kept, KEPT_FRAC, 1.0)
        kept = under_way + (ODD_VEHICLES / window_s) ** 2 + between / window_s
        staying = np.where(conserved, ends - starts + more, np.nan)
        value = np.concatenate([told.stop_vps, entered, told.passed_vps - ends, staying])
        variance = np.concatenate(
            [
                _counted(told, told.stop_vps),
                entered_variance,
                _counted(told, told.passed_vps) + ends / window_s,
                kept + (BETWEEN_FRAC * between) ** 2,
            ]
        )
        use = np.isfinite(value)
        return self._system[use], value[use], variance[use]

    def _draw(self, told: Told, driving: Floats, rows: sparse.csr_array, seen: Floats, error: Floats) -> Floats:
        """The most likely movements and, in further columns, draws of them (M, 1 + DRAWS)."""
        start = np.maximum(driving[self._from_edge] * self._split(told), 1e-6)
        chosen = told.share_variance[self._rows] / np.maximum(told.share[self._rows], 1e-3) ** 2
        erring = told.guess_frac[self._from_edge] ** 2 * driving[self._from_edge]  # movements of an edge err together
        spread = start / told.window_s + (erring + chosen * start) * start
        solver = factorise(rows.T @ (sparse.diags_array(1.0 / error) @ rows) + sparse.diags_array(1.0 / spread))
        noise = np.zeros((len(seen) + len(start), 1 + DRAWS))
        noise[:, 1:] = np.random.default_rng(DRAWS).standard_normal((len(noise), DRAWS))
        told_noise, start_noise = noise[: len(seen)], noise[len(seen) :]
        right = rows.T @ ((seen / error)[:, None] + told_noise / np.sqrt(error)[:, None])
        right += (start / spread)[:, None] + start_noise / np.sqrt(spread)[:, None]
        drawn: Floats = np.maximum(solver.solve(right), 0.0)
        return drawn

    def _split(self, told: Told) -> Floats:
        """(M,) part of the edge's vehicles that takes each movement: by lanes and shares, and by turns mirrored."""
        by_lane = told.lane_frac[self._from_lane] * told.share[self._rows] + 1e-9
        by_turn = np.bincount(self._turn, by_lane, self._turn_count)
        within = by_lane / by_turn[self._turn]
        usual = by_turn / np.bincount(self._turn_from, by_turn, self._edge_count)[self._turn_from]
        turned = np.bincount(self._turn, np.nan_to_num(told.turned_vps[self._rows]), self._turn_count) * told.window_s
        weight = turned + USUAL_TURNS * usual
        part = weight / np.bincount(self._turn_from, weight, self._edge_count)[self._turn_from]
        split: Floats = part[self._turn] * within
        return split


def _under_way(told: Told, rate_vps: Floats, seconds: Floats) -> Floats:
    """Variance of a rate counted so many seconds away: two windows share all but their ends."""
    variance: Floats = 2.0 * rate_vps * np.minimum(seconds, told.window_s) / told.window_s**2
    return variance


def count_variance(rate_vps: Floats, heard_s: float, window_s: float) -> Floats:
    """Of counted rates: vehicles missed, those on the loop at either end, and what was not heard of the window."""
    rate = np.nan_to_num(rate_vps)
    across = np.exp(-rate * ACROSS_S)
    miscounted = LOOP_MISS_FRAC * rate / heard_s
    odd = (2.0 * across * (1.0 - across) + LEAST_VEHICLES**2) / heard_s**2
    variance: Floats = miscounted + odd + rate * max(1.0 / heard_s - 1.0 / window_s, 0.0)
    return variance


def _counted(told: Told, rate_vps: Floats) -> Floats:
    return count_variance(rate_vps, told.heard_s, told.window_s)
