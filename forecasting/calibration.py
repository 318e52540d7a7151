"""Honest spread: quantiles from recent errors, held to their promise by adaptive conformal steps.

Residuals are standardised by the caller (divided by a scale known when the forecast was made), pooled per horizon
and level class, so that a network of a few hundred edges has enough of them within minutes.
Sources: split conformal prediction, Vovk et al. (2005); adaptive conformal inference, Gibbs & Candès (2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from networks.graph import Floats

_ENOUGH = 300  # residuals before a pool's own quantiles are trusted: 15 beyond each 5 % tail
_PER_UPDATE = 48  # of one update enter a pool: edges of one minute err together, forty minutes of a few tell more
_CAPACITY = 2048
_GAIN = 0.02  # step of the level per update; Gibbs & Candès use 0.005 to 0.05
_LEVEL_RANGE = (0.002, 0.998)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Share of truths inside the central bands as they were issued, per horizon; NaN before the first."""

    nominal: tuple[float, ...]  # (B,)
    measured: Floats  # (H, B)
    count: NDArray[np.int64]  # (H,)


class Calibrator:
    """Standardised error quantiles (H, C, Q) per horizon and level class, learnt online.

    Until a pool holds enough residuals it takes those of all classes at its horizon; until those suffice, normal
    quantiles times `default_spread`, chosen too wide rather than too narrow.
    """

    def __init__(self, classes: int, quantiles: tuple[float, ...], *, default_spread: Floats) -> None:
        """`default_spread` (H,): standard deviation of the residuals that is assumed before any were seen."""
        horizons = len(default_spread)
        self._levels = np.array(quantiles)
        self._target = np.broadcast_to(self._levels, (horizons, len(quantiles))).copy()
        self._ring = np.full((horizons, classes, _CAPACITY), np.nan)
        self._seen = np.zeros((horizons, classes), np.int64)
        default = ndtri(self._levels) * default_spread[:, None, None]
        self.table = np.broadcast_to(default, (horizons, classes, len(quantiles))).copy()
        pairs = [(i, len(quantiles) - 1 - i) for i in range(len(quantiles) // 2)]
        self._bands = [(i, j) for i, j in pairs if abs(quantiles[i] + quantiles[j] - 1.0) < 1e-9]
        self._inside = np.zeros((horizons, len(self._bands)))
        self._count = np.zeros(horizons, np.int64)

    def update(self, horizon: int, level_class: NDArray[np.int8], residual: Floats, issued: Floats) -> None:
        """Learn from standardised residuals (N,) of forecasts issued with the quantiles `issued` (C, Q)."""
        if not len(residual):
            return
        promised = issued[level_class]  # (N, Q)
        for band, (low, high) in enumerate(self._bands):
            inside = (residual >= promised[:, low]) & (residual <= promised[:, high])
            self._inside[horizon, band] += inside.sum()
        self._count[horizon] += len(residual)
        below = (residual[:, None] <= promised).mean(axis=0)
        if self._seen[horizon].sum() >= _ENOUGH:  # a default spread is no promise to be corrected
            self._target[horizon] = np.clip(self._target[horizon] + _GAIN * (self._levels - below), *_LEVEL_RANGE)
        for pool in np.unique(level_class):
            self._remember(horizon, int(pool), residual[level_class == pool])
        self._refresh(horizon)

    def coverage(self) -> Coverage:
        nominal = tuple(float(self._levels[j] - self._levels[i]) for i, j in self._bands)
        count = self._count.astype(np.float64)[:, None]
        measured = np.divide(self._inside, count, out=np.full(self._inside.shape, np.nan), where=count > 0)
        return Coverage(nominal, measured, self._count.copy())

    def _remember(self, horizon: int, pool: int, residual: Floats) -> None:
        kept = residual[np.linspace(0, len(residual) - 1, min(len(residual), _PER_UPDATE)).astype(np.int64)]
        at = (self._seen[horizon, pool] + np.arange(len(kept))) % _CAPACITY
        self._ring[horizon, pool, at] = kept
        self._seen[horizon, pool] += len(kept)

    def _refresh(self, horizon: int) -> None:
        levels = np.sort(self._target[horizon])  # sorted levels of one sample: quantiles cannot cross
        held = np.minimum(self._seen[horizon], _CAPACITY)
        if held.sum() < _ENOUGH:
            return
        samples = [ring[:count] for ring, count in zip(self._ring[horizon], held, strict=True)]
        if held.min() < _ENOUGH:
            self.table[horizon] = np.quantile(np.concatenate(samples), levels)
        for pool in np.flatnonzero(held >= _ENOUGH):
            self.table[horizon, pool] = np.quantile(samples[pool], levels)
