"""How unlike its past a day is, as a whole and at single edges: what is odd lasts, what is chance fades.

Deviations from the profile are looked at over the typical deviation of each edge, and only what kept on for minutes
counts: one odd reading is chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forecasting.live_city import FLOW, LiveCity, LiveWindow
from forecasting.series import STEPS_OUT
from networks.graph import Bools, Floats

_FOR_S, _LEAST_S = 180.0, 120.0  # as odd as it was all this time, when so much of it was seen
_ODDEST = 4.0  # times the deviation of past days is the oddest that a day can be
_CHANCE = 3.5  # scales: a deviation beyond is an incident in so far as it is beyond
_FEW_VPH = 12.0  # what an empty edge counts for
_PLACES = 2_000  # drawn ones speak for a large city
_LEAST_PAIRS = 100
_LEAST_DEVIATION = 1e-3  # scales: past days that are copies of each other make no day odd beyond measure
_WITHIN, _MARGIN = 0.95, 1.15  # a new day is farther off than those that made the profile


class Oddness:
    """Follows the readings of a day."""

    def __init__(self, cities: Sequence[LiveCity]) -> None:
        """`cities`: flow and speed of the past, or nothing."""
        self.day = np.ones(2)  # mean deviation over what past days kept within, flow and speed; at least 1
        self._weight = _weights(cities)
        self.past = tuple(simple_errors(c, w) for c, w in zip(cities, self._weight, strict=True))
        self._seen: list[tuple[float, Floats, Floats]] = []  # of late: when, how odd the day, deviation of flow (E,)

    def note(self, windows: Sequence[LiveWindow], believed: Bools, now_s: float) -> None:
        """Look at the readings of now; `believed` (E,)."""
        compared = [believed & window.compared[-1] for window in windows]
        if not all(c.any() for c in compared):
            self._seen.clear()
            return
        off = [np.where(c, w.deviation[-1], 0.0).astype(np.float64) for w, c in zip(windows, compared, strict=True)]
        odd = [
            np.average(np.abs(o), weights=weight * c) / past.deviation
            for o, c, weight, past in zip(off, compared, self._weight, self.past, strict=True)
        ]
        seen = [entry for entry in self._seen if now_s - _FOR_S <= entry[0] < now_s]
        self._seen = [*seen, (now_s, np.clip(odd, 1.0, _ODDEST), off[FLOW])]
        if now_s - self._seen[0][0] >= _LEAST_S:
            self.day = np.min([entry[1] for entry in self._seen], axis=0)

    @property
    def incidents(self) -> Floats | float:
        """Share (E,) of the deviation of flow that no chance explains: a closed street, say; 0 nowhere."""
        if not self._seen or self._seen[-1][0] - self._seen[0][0] < _LEAST_S:
            return 0.0
        off = np.stack([entry[2] for entry in self._seen])
        same = (np.sign(off) == np.sign(off[-1])).all(axis=0)
        least = np.where(same, np.abs(off).min(axis=0), 0.0)
        share: Floats = np.maximum(1.0 - (_CHANCE / np.maximum(least, 1e-9)) ** 4, 0.0)
        return share


@dataclass(frozen=True, slots=True)
class SimpleErrors:
    """Per horizon (H,), over places and days; the profile leaves out the day that it is compared with."""

    deviation: float  # mean over the places, over scale, that all but a twentieth of the past steps kept within
    persistence: Floats  # mean error of the last value, over that of the profile


def simple_errors(live: LiveCity, weight: Floats) -> SimpleErrors:
    """What the past of a city says, places by `weight` (E,). A horizon that no day is long enough for takes what the
    next shorter one says; without any, the last value is as good as the profile."""
    context = live.city.context
    some = np.sort(np.random.default_rng(0).permutation(context.nodes)[:_PLACES])
    past = np.ix_(np.arange(context.training), some)
    weight, known = weight[some], context.known.numpy()[past]
    off = np.where(known, context.deviation.numpy()[past], 0.0)
    usual = context.usual.numpy()[past] / context.scale.numpy()[some]
    persistence = np.ones(STEPS_OUT)
    for horizon in range(STEPS_OUT):
        step = horizon + 1
        both = known[:-step] & known[step:]
        if both.sum() < _LEAST_PAIRS:
            persistence[horizon:] = persistence[max(horizon - 1, 0)]
            break
        moved = np.abs((off + usual)[step:] - (off + usual)[:-step])
        counts = np.where(both, weight, 0.0)
        persistence[horizon] = (counts * moved).sum() / max(float((counts * np.abs(off[step:])).sum()), 1e-12)
    return SimpleErrors(_usual_deviation(np.abs(off), known, weight), persistence)


def _usual_deviation(off: Floats, known: Bools, weight: Floats) -> float:
    counts = known @ weight
    seen = counts > 0
    if not seen.any():
        return 1.0
    return max(float(np.quantile(off[seen] @ weight / counts[seen], _WITHIN)) * _MARGIN, _LEAST_DEVIATION)


def _weights(cities: Sequence[LiveCity]) -> tuple[Floats, ...]:
    """What an edge (E,) counts for: of flow all alike, of speed by its vehicles: few make a speed of chance."""
    if not cities:
        return ()
    usual_vph = cities[FLOW].city.context.mean.numpy()
    return np.ones(len(usual_vph)), np.maximum(usual_vph, 0.0) + _FEW_VPH
