"""How simple rules would have done on the past days themselves: what to expect of them before a day has shown it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forecasting.live_city import LiveCity
from forecasting.series import STEPS_OUT
from networks.graph import Bools, Floats

_PLACES = 2_000  # drawn ones speak for a large city
_LEAST_PAIRS = 100
_WITHIN, _MARGIN = 0.95, 1.15  # a new day is farther off than those that made the profile


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
    return float(np.quantile(off[seen] @ weight / counts[seen], _WITHIN)) * _MARGIN if seen.any() else 1.0
