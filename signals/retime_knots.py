"""Where two signals stand so close that a fixed-time plan can lock them, and for how much of the time it tempts fate.

Queues of both directions between two such signals, each with its last vehicle across the other's way on, never
dissolve. The mesoscopic model does not know how wide vehicles are, and a run in SUMO shows a lock only when it
happens. So plans are judged by the rule that keeps the live controller out of it
(`signals.controllers.coupled_signals.Knots`): nobody is let in without a protected way on while somebody of the other
direction may still stand there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from networks.graph import VEHICLE_SPACE_M, Bools, Ints, Network
from signals.retime_plans import PlanMaker, StageTiming
from signals.rules import encode
from signals.safety_kernels import MAJOR, MINOR

CLOSE_VEH = 3.0  # vehicles on a lane between two signals: with fewer the last of them may stand across the junction
EMPTIES_S = 4  # in which a protected way on lets them go
LONGEST_SPAN_S = 1800  # for which two cycles without a short common one are laid over each other
_KEPT = 20_000

Lamps = NDArray[np.uint8]  # codes of `rules.encode`


@dataclass(frozen=True, slots=True)
class WayIn:
    """Links of one signal that lead onto a lane between, and those of the other signal that lead on from it."""

    into: Ints
    onward: Ints
    protected: bool  # some stage protects all ways on


@dataclass(frozen=True, slots=True)
class Knot:
    """Two signals that can lock, and the ways in between them from the first and from the second."""

    signals: tuple[int, int]
    ways: tuple[tuple[WayIn, ...], tuple[WayIn, ...]]


def find_close(network: Network, pools: Sequence[Sequence[str]]) -> tuple[Knot, ...]:
    """Pairs of signals that can lock. `pools`: the stages that each signal may show."""
    moves, lanes = network.movements, network.lanes
    signalised = np.flatnonzero(moves.signal >= 0)
    ends_at = {int(moves.from_lane[m]): int(moves.signal[m]) for m in signalised}
    between: dict[tuple[int, int], set[int]] = {}
    for m in signalised:
        lane, here = int(moves.to_lane[m]), int(moves.signal[m])
        there = ends_at.get(lane, here)
        if there != here and lanes.length_m[lane] < CLOSE_VEH * VEHICLE_SPACE_M:
            between.setdefault((here, there), set()).add(lane)
    knots = []
    for (a, b), forth in sorted(between.items()):
        back = between.get((b, a))
        if a < b and back:
            ways = _ways_in(network, pools[b], (a, b), forth, back), _ways_in(network, pools[a], (b, a), back, forth)
            if all(ways):
                knots.append(Knot((a, b), ways))
    return tuple(knots)


def _ways_in(
    network: Network, stages: Sequence[str], pair: tuple[int, int], forth: set[int], back: set[int]
) -> tuple[WayIn, ...]:
    """Those by the lanes `forth` whose ways on cross the ways of vehicles that come in by the lanes `back`."""
    moves, (here, there) = network.movements, pair
    coming = np.unique(moves.link[(moves.signal == there) & np.isin(moves.to_lane, sorted(back))])
    ways = []
    for lane in sorted(forth):
        into = np.unique(moves.link[(moves.signal == here) & (moves.to_lane == lane)])
        onward = np.unique(moves.link[(moves.signal == there) & (moves.from_lane == lane)])
        if network.signals[there].foes[np.ix_(onward, coming)].any():
            ways.append(WayIn(into, onward, any(all(state[k] == "G" for k in onward) for state in stages)))
    return tuple(ways)


class KnotGauge:
    """Tells for how much of the time timings tempt fate."""

    def __init__(self, maker: PlanMaker, pools: Sequence[Sequence[str]], shipped: Mapping[int, StageTiming]) -> None:
        self._maker, self._shipped = maker, shipped
        found = find_close(maker.network, pools)
        self.knots = tuple(knot for knot in found if all(n in shipped for n in knot.signals))
        self._told: dict[tuple[tuple[int, int], StageTiming, StageTiming], float] = {}

    def risk_frac(self, timings: Mapping[int, StageTiming], signal: int | None = None) -> float:
        """Share of the time in which vehicles are let in against the rule.

        Summed over all knots, or those of one signal. Signals without a timing drive as shipped.
        """
        return sum(self._of(knot, timings) for knot in self.knots if signal is None or signal in knot.signals)

    def _of(self, knot: Knot, timings: Mapping[int, StageTiming]) -> float:
        a, b = (timings.get(n, self._shipped[n]) for n in knot.signals)
        key = (knot.signals, a, b)
        if key not in self._told:
            if len(self._told) > _KEPT:
                self._told.clear()
            first, second = (self._lamps(n, t) for n, t in zip(knot.signals, (a, b), strict=True))
            clock = np.arange(min(math.lcm(len(first), len(second)), LONGEST_SPAN_S))
            first, second = first[(clock - a.offset_s) % len(first)], second[(clock - b.offset_s) % len(second)]
            forth, there = _exposed(first, second, knot.ways[0])
            back, here = _exposed(second, first, knot.ways[1])
            self._told[key] = float(((forth & here) | (back & there)).mean())
        return self._told[key]

    def _lamps(self, signal: int, timing: StageTiming) -> Lamps:
        """(cycle, K) what the signal shows in each second of its cycle."""
        steps = self._maker.steps(signal, timing)
        return np.repeat(encode([s.state for s in steps]), [round(s.duration_s) for s in steps], axis=0)


def _exposed(near: Lamps, far: Lamps, ways: Sequence[WayIn]) -> tuple[Bools, Bools]:
    """Seconds in which somebody comes without a protected way on, and in which somebody who did may stand there."""
    span = len(near)
    comes_so, stands = np.zeros(span, np.bool_), np.zeros(span, np.bool_)
    twice = np.arange(2 * span)  # what the cycle before has left
    for way in ways:
        onward = far[:, way.onward]
        goes = ((onward == MAJOR) | ((onward == MINOR) & (not way.protected))).all(axis=1)
        comes = np.isin(near[:, way.into], (MAJOR, MINOR)).any(axis=1) & ~goes
        emptied = np.all([np.roll(goes, later) for later in range(EMPTIES_S)], axis=0)
        came, left = (np.maximum.accumulate(np.where(np.tile(x, 2), twice, -1)) for x in (comes, emptied))
        comes_so |= comes
        stands |= (came > left)[span:]
    return comes_so, stands
