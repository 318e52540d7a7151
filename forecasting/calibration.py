"""Bands of the loop: `conformal`, carried along with every truth that becomes known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecasting.conformal import STATES, correct_levels, stretches
from networks.graph import Floats
from networks.state import QUANTILES

_CAPACITY = 4096  # newest truths that decide, of a horizon
_PER_UPDATE = 160  # of one update enter: edges of one minute err together, forty minutes of a few tell more
_REFRESH_EVERY = 5  # updates: sorting the newest truths is most of the cost
_TRUSTED = 5  # updates, from which on what was assumed no longer counts
_GAIN = 0.02  # step of the level per update; Gibbs & Candès use 0.005 to 0.05
_LEVELS = np.array(QUANTILES)
_MIDDLE = QUANTILES.index(0.5)
_BANDS = tuple((k, len(QUANTILES) - 1 - k) for k in range(_MIDDLE))

Float32s = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Share of truths inside the central bands as they were issued, per horizon; NaN before the first."""

    nominal: tuple[float, ...]  # (B,)
    measured: Floats  # (H, B)
    count: NDArray[np.int64]  # (H,)


class Bands:
    """Stretches quantiles around their median, per horizon and state of the place, as recent truths demand.

    Before any truth the stretch is an assumed one, too wide rather than too narrow, from which the first updates lead
    to the learnt one; a horizon that has not learnt takes the stretch of the nearest shorter one that has.
    """

    def __init__(self, horizons: int, assumed: float = 1.0) -> None:
        self._wanted = np.broadcast_to(_LEVELS, (horizons, len(_LEVELS))).copy()
        self._quantiles = np.zeros((horizons, _CAPACITY, len(_LEVELS)), np.float32)
        self._truth = np.full((horizons, _CAPACITY), np.nan, np.float32)
        self._state = np.zeros((horizons, _CAPACITY), np.int8)
        self._seen = np.zeros(horizons, np.int64)
        self._updates = np.zeros(horizons, np.int64)
        self._assumed = assumed
        self._stretch = np.full((horizons, STATES, len(_LEVELS)), assumed, np.float32)
        self._learnt = np.zeros(horizons, np.bool_)
        self._inside = np.zeros((horizons, len(_BANDS)))
        self._count = np.zeros(horizons, np.int64)
        self._rng = np.random.default_rng(0)

    def stretch(self, quantiles: Floats, state: NDArray[np.int8]) -> Floats:
        """Quantiles (H, E, Q) with their distance from the median stretched; state (H, E) 0..STATES-1."""
        middle = quantiles[..., _MIDDLE : _MIDDLE + 1]
        horizon = np.arange(len(state))
        source = np.maximum.accumulate(np.where(self._learnt, horizon, 0))  # the nearest shorter one that has learnt
        factor = self._stretch[source[:, None], state]
        part = middle + (quantiles - middle) * factor
        lower = np.minimum.accumulate(part[..., : _MIDDLE + 1][..., ::-1], axis=-1)[..., ::-1]
        upper = np.maximum.accumulate(part[..., _MIDDLE:], axis=-1)
        return np.concatenate([lower, upper[..., 1:]], axis=-1)

    def learn(self, horizon: int, made: Floats, issued: Floats, state: NDArray[np.int8], truth: Floats) -> None:
        """Learn from truths (N,) of forecasts made with quantiles `made` (N, Q) and sent, stretched, as `issued`."""
        if not len(truth):
            return
        for band, (low, high) in enumerate(_BANDS):
            self._inside[horizon, band] += ((truth >= issued[:, low]) & (truth <= issued[:, high])).sum()
        self._count[horizon] += len(truth)
        wanted = self._wanted[horizon]
        if self._updates[horizon] >= _TRUSTED:  # what was only assumed is no promise to be corrected
            correct_levels(wanted, issued.astype(np.float32), truth.astype(np.float32), gain=_GAIN)
        kept = np.linspace(0, len(truth) - 1, min(len(truth), _PER_UPDATE)).astype(np.int64)
        at = (self._seen[horizon] + np.arange(len(kept))) % _CAPACITY
        self._quantiles[horizon, at] = made[kept]
        self._truth[horizon, at] = truth[kept]
        self._state[horizon, at] = state[kept]
        self._seen[horizon] += len(kept)
        self._updates[horizon] += 1
        early = self._updates[horizon] < _TRUSTED
        if self._updates[horizon] % _REFRESH_EVERY and not early:
            return
        held = slice(0, int(min(self._seen[horizon], _CAPACITY)))
        learnt = stretches(
            self._quantiles[horizon, held], self._truth[horizon, held], self._state[horizon, held],
            np.sort(wanted), self._rng,
        )  # fmt: skip
        trust = min(1.0, float(self._updates[horizon]) / _TRUSTED)
        self._stretch[horizon] = trust * learnt + (1.0 - trust) * self._assumed
        self._learnt[horizon] = True

    def coverage(self) -> Coverage:
        nominal = tuple(float(_LEVELS[j] - _LEVELS[i]) for i, j in _BANDS)
        count = self._count.astype(np.float64)[:, None]
        measured = np.divide(self._inside, count, out=np.full(self._inside.shape, np.nan), where=count > 0)
        return Coverage(nominal, measured, self._count.copy())
