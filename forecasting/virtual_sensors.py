"""Readings for places without a sensor: what their neighbours measure now, at the level of a place like them.

A place's value is its level times how busy its part of the city is. Both are foretold by kriging: the root of the
level from those of other places and their attributes; the busyness, reading by reading, from that of other places.
Each sensor left out in turn says how far off such readings are: the bands (jackknife, Barber et al. 2021, pooled
over the places).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from forecasting.kriging import Kriging, fit_kriging, ways_between
from forecasting.series import CitySeries, Float32s, Rows
from networks.errors import InputError
from networks.graph import Bools, Floats
from networks.state import QUANTILES

LEAST_SENSORS = 8
_MIDDLE = QUANTILES.index(0.5)
_CASES = 400  # rows of the training part that choose weights and bands
_FLOOR = 0.02  # of the city's mean level: ratios of less are chance
_PLACES = ("lat", "lon")  # where a place is, is in the ways
_STATES = (0.6, 1.2)  # borders of the busyness: quiet, usual, busy


@dataclass(frozen=True, slots=True)
class VirtualSensors:
    """How the places without sensors follow from those with."""

    sensors: Rows  # (S,)
    places: Rows  # (M,) without a reading in the training part
    level: Floats  # (S,) of the sensors, in the unit of the series
    foretold_level: Floats  # (M,)
    busyness: Kriging
    off: Floats  # (STATES, Q) quantiles of the logarithm of truth over estimate
    floor: float

    def read(self, values: Float32s) -> Float32s:
        """Quantiles (K, M, Q) of the virtual sensors for rows (K, N) of the series; NaN where no sensor reports."""
        busy, common = _busyness(values[:, self.sensors], self.level, self.busyness)
        told = np.maximum(busy @ self.busyness.weights.T + common[:, None], 0.0)
        estimate = self.foretold_level * told
        off = self.off[np.digitize(told, _STATES)]
        answer: Float32s = np.maximum((estimate + self.floor)[..., None] * np.exp(off) - self.floor, 0.0)
        return answer.astype(np.float32)

    def widen(self, quantiles: Float32s) -> Float32s:
        """Forecasts (..., M, Q) of virtual readings as forecasts of the places: what is not known of a place comes
        on top of what is not known of the time to come, as errors that have nothing to do with each other."""
        middle = quantiles[..., _MIDDLE : _MIDDLE + 1]
        told = middle[..., 0] / np.maximum(self.foretold_level, self.floor)
        off = self.off[np.digitize(told, _STATES)]
        apart = np.hypot(quantiles - middle, (middle + self.floor) * np.expm1(off - off[..., _MIDDLE : _MIDDLE + 1]))
        answer: Float32s = np.maximum(middle + np.sign(np.arange(len(QUANTILES)) - _MIDDLE) * apart, 0.0)
        return answer.astype(np.float32)


def fit_virtual_sensors(series: CitySeries, training_rows: int) -> VirtualSensors:
    """Places that never report in the first `training_rows` rows get virtual sensors from those that do.

    Raises InputError when fewer than eight places report.
    """
    values = series.values[:training_rows]
    known: Bools = np.asarray(np.isfinite(values).any(axis=0))
    sensors, places = np.flatnonzero(known), np.flatnonzero(~known)
    if len(sensors) < LEAST_SENSORS:
        raise InputError(f"{series.name}: {len(sensors)} places report, virtual sensors need {LEAST_SENSORS}")
    seen = np.isfinite(values[:, sensors])
    level = np.where(seen, values[:, sensors], 0.0).sum(axis=0, dtype=np.float64) / seen.sum(axis=0)
    floor = _FLOOR * max(float(np.abs(level).mean()), 1e-6)
    level = np.maximum(level, floor)
    way_m = ways_between(series.nodes, series.edges, series.edge_length_m)
    traits = _traits(series.attributes, series.nodes)
    root = np.sqrt(level)  # of counts it makes the spread alike; its errors were smaller than those of logarithms
    mean, off = root.mean(), root - root.mean()
    of_level = fit_kriging(off[:, None], known, way_m, traits)
    rows = np.unique(np.linspace(0, training_rows - 1, min(training_rows, _CASES)).astype(np.int64))
    rows = rows[np.isfinite(values[rows][:, sensors]).sum(axis=1) >= LEAST_SENSORS]
    some = values[rows][:, sensors]
    busy, common = _busyness(some, level, None)
    of_busyness = fit_kriging(busy.T, known, way_m, traits)
    busy, common = _busyness(some, level, of_busyness)
    told = np.maximum(busy @ of_busyness.left_out.T + common[:, None], 0.0)
    estimate = np.maximum(mean + of_level.left_out @ off, 0.0) ** 2 * told
    return VirtualSensors(
        sensors=sensors, places=places, level=level,
        foretold_level=np.maximum(mean + of_level.weights @ off, 0.0) ** 2,
        busyness=of_busyness, off=_off(some, estimate, told, floor), floor=floor,
    )  # fmt: skip


def virtual_sensors(series: CitySeries, training_rows: int) -> VirtualSensors | None:
    """Virtual sensors where some place needs one and enough others report; None elsewhere."""
    known: Bools = np.asarray(np.isfinite(series.values[:training_rows]).any(axis=0))
    return fit_virtual_sensors(series, training_rows) if LEAST_SENSORS <= known.sum() < len(known) else None


def with_virtual_sensors(series: CitySeries, virtual: VirtualSensors) -> CitySeries:
    """The series with the medians of the virtual sensors as their readings."""
    values = series.values.copy()
    values[:, virtual.places] = virtual.read(series.values)[..., _MIDDLE]
    return replace(series, values=values)


def _busyness(values: Float32s, level: Floats, kriging: Kriging | None) -> tuple[Floats, Floats]:
    """Values over level, less their mean over the sensors that report, (K, S), and that mean (K,). Who is silent is
    as busy as the others say, or as all."""
    ratio = values / level
    seen = np.isfinite(ratio)
    count = seen.sum(axis=1)
    total = np.where(seen, ratio, 0.0).sum(axis=1)
    common = np.divide(total, count, out=np.full(len(ratio), np.nan), where=count > 0)
    busy: Floats = np.where(seen, ratio - common[:, None], 0.0).astype(np.float64)
    if kriging is not None:
        busy = np.where(seen, busy, busy @ kriging.left_out.T)
    return busy, common


def _off(values: Float32s, estimate: Floats, told: Floats, floor: float) -> Floats:
    """Quantiles (STATES, Q) of log(truth over estimate); a state that was hardly seen takes those of all."""
    seen = np.isfinite(values)
    off = np.log((np.where(seen, values, 0.0) + floor) / (estimate + floor))
    state = np.digitize(told, _STATES)
    beyond = 1.0 + 1.0 / values.shape[1]  # as many places were left out: the next one may lie beyond all of them
    wanted = np.array(QUANTILES)
    levels = np.clip(np.where(wanted < 0.5, 1.0 - (1.0 - wanted) * beyond, wanted * beyond), 0.0, 1.0)
    levels[_MIDDLE] = 0.5
    answer = np.empty((len(_STATES) + 1, len(QUANTILES)))
    for of in range(len(answer)):
        at = seen & (state == of)
        answer[of] = np.quantile(off[at if at.sum() >= _CASES else seen], levels)
    return answer


def _traits(attributes: Mapping[str, Floats], nodes: int) -> Floats:
    """Attributes (N, F) with mean 0 and spread 1; unknown ones 0. Those that do not differ say nothing."""
    columns = []
    for name, column in sorted(attributes.items()):
        good = np.isfinite(column)
        spread = float(column[good].std()) if good.any() else 0.0
        if name not in _PLACES and spread > 0.0:
            columns.append(np.where(good, (column - column[good].mean()) / spread, 0.0))
    return np.stack(columns, axis=1) if columns else np.zeros((nodes, 0))
