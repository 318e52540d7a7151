"""Offsets of the widest two-way green wave along a corridor.

Little's mixed-integer programme (1966, "The synchronization of traffic signals by mixed-integer linear programming";
MAXBAND: Little, Kelson and Gartner 1981) for a given common cycle and given greens: a band runs each way at the
driving speed, through every green, and the weighted sum of both widths is as large as can be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

_OPTIMAL = 0  # status of `milp`


class Window(NamedTuple):
    """The green of the corridor at one signal in one direction, in the order of driving."""

    signal: int
    begin_s: float  # after the begin of the signal's cycle
    green_s: float
    travel_s: float  # from the first stop line of the direction


@dataclass(frozen=True, slots=True)
class Bands:
    """Offsets by signal, and the widths of the bands that they give."""

    offset_s: Mapping[int, float]
    out_s: float
    back_s: float


def widest_bands(out: Sequence[Window], back: Sequence[Window], cycle_s: float, *, back_weight: float = 1.0) -> Bands:
    """The offsets in [0, cycle) with the widest bands, the first signal's 0; `back` may be empty (one-way).

    `back_weight`: of the band back, where that out counts 1. Where greens let nobody through one way, or it costs
    the other more than it is worth, that way has no band.
    """
    signals = tuple(dict.fromkeys(w.signal for w in (*out, *back)))
    # a band of no width still has to pass every green, so going without one is a programme of its own
    tried = [_solve(signals, *ways, cycle_s, back_weight) for ways in ((out, back), (out, ()), ((), back))]
    return max((t for t in tried if t is not None), key=lambda b: b.out_s + back_weight * b.back_s)


def _solve(
    signals: Sequence[int], out: Sequence[Window], back: Sequence[Window], cycle_s: float, back_weight: float
) -> Bands | None:
    """The best bands that pass every green given; None where there are none."""
    ways = [*out, *back]
    if not ways:
        return None
    count, s = len(ways), len(signals)
    # columns: offsets, places of the band in each green, both widths, both starts, whole cycles of each way
    place, width, start, whole = s, s + count, s + count + 2, s + count + 4
    total = whole + count
    equal, fits = np.zeros((count, total)), np.zeros((count, total))
    for n, way in enumerate(ways):
        side = int(n >= len(out))
        equal[n, signals.index(way.signal)] = equal[n, place + n] = 1.0
        equal[n, start + side] = -1.0
        equal[n, whole + n] = -cycle_s
        fits[n, place + n] = fits[n, width + side] = 1.0
    travelled = np.array([w.travel_s - w.begin_s for w in ways])
    greens = np.array([w.green_s for w in ways])
    lowest, highest = np.zeros(total), np.full(total, float(cycle_s))
    highest[0] = 0.0
    highest[place:width] = greens
    highest[width : width + 2] *= (bool(out), bool(back))
    lowest[whole:] = np.floor(-1.0 - travelled / cycle_s)  # as far as offset, place and start reach
    highest[whole:] = np.ceil(2.0 - travelled / cycle_s)
    value = np.zeros(total)
    value[width], value[width + 1] = -1.0, -back_weight
    # HiGHS now and then fails to presolve, or calls infeasible, what it solves otherwise
    for presolve in (True, False):
        found = milp(
            value,
            integrality=np.concatenate([np.zeros(whole), np.ones(count)]),
            bounds=Bounds(lowest, highest),
            constraints=[LinearConstraint(equal, travelled, travelled), LinearConstraint(fits, -np.inf, greens)],
            options={"presolve": presolve},
        )
        if found.status == _OPTIMAL:
            break
    if found.x is None:
        return None
    offsets = {signal: float(found.x[n]) % cycle_s for n, signal in enumerate(signals)}
    return Bands(offsets, float(found.x[width]), float(found.x[width + 1]))
