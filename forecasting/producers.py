"""What every producer of the loop says: trained models and candidates, ridge, profile with and without the decaying
deviation, persistence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forecasting.forecasters import Ridge
from forecasting.live_city import AHEAD, FLOW, HORIZON_S, SPEED, STEP_S, VPH, ExpectedChange, LiveCity
from forecasting.live_gate import LiveModel, broken_rows, defect_now
from forecasting.model import MIDDLE
from forecasting.oddness import Oddness
from forecasting.series import STEPS_IN, STEPS_OUT
from forecasting.windows import window_mean
from networks.graph import Bools, Floats
from networks.state import QUANTILES, History

SIMPLE = ("ridge", "profile+deviation", "profile", "persistence")  # the chain below the models
RIDGE, DEVIATION, PROFILE, PERSISTENCE = range(-4, 0)
_DECAY_S = 3600.0  # a day busier than usual stays so, a deviation halves in 40 minutes
_CHANCE_KEPT = np.exp(-HORIZON_S / _DECAY_S)  # (H,) of a deviation, before anything was learnt
_PRIOR_WEIGHT = 10.0  # updates that the decay counts for which follows from the past and from how odd the day is
_MEMORY = 0.98  # per update, one a history step: about 50 minutes


@dataclass(frozen=True, slots=True)
class Said:
    """What every producer says now."""

    value: Floats  # (2, P, H, E) veh/s, m/s
    available: Bools  # (P, H, E)
    deviation: Floats  # (2, E) recent minus profile
    own: dict[int, Floats]  # producer -> its quantiles (2, H, E, Q)
    defect: str  # of the feed, "" none

    def mean(self, shares: Floats) -> tuple[Floats, Floats]:
        """Means (2, H, E) of the producers that have a value, by their shares (2, P, H), and what each counts for
        there (2, P, H, E); all zero where none has one."""
        weight = shares[..., None] * self.available
        part = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
        return (part * self.value).sum(axis=1), part

    def filled(self) -> Floats:
        """Values (2, P, H, E); where one has none the profile, where no past is known the last value."""
        fallback = np.where(self.available[PROFILE], self.value[:, PROFILE], self.value[:, PERSISTENCE])
        return np.where(self.available, self.value, fallback[:, None])


class Producers:
    """Every producer of a city; learns how deviations decay."""

    def __init__(self, cities: Sequence[LiveCity], models: Sequence[LiveModel]) -> None:
        """`cities`: flow and speed of the past, or nothing; `models` need a past."""
        self.cities = tuple(cities)
        self.models = tuple(models) if cities else ()
        self.names = (*(m.label for m in self.models), *SIMPLE)
        chain = [k for k, m in enumerate(self.models) if not m.shadow]
        self.chain = [*chain, *(len(self.models) + k for k in range(len(SIMPLE)))]  # who may be served, richest first
        self.oddness = Oddness(self.cities)
        self._moments = np.zeros((3, 2, STEPS_OUT))  # updates, deviation x later deviation, deviation squared

    def say(self, history: History, now_s: float, change: ExpectedChange | None) -> Said:
        ends_s = now_s + STEP_S * np.arange(1 - STEPS_IN, 1, dtype=np.float64)
        flow, speed, known = window_mean(history, ends_s, STEP_S)
        edges = known.shape[1]
        shape = (STEPS_OUT, edges)
        value, available = np.zeros((2, len(self.names), *shape)), np.zeros((len(self.names), *shape), np.bool_)
        value[FLOW, PERSISTENCE], value[SPEED, PERSISTENCE] = flow[-1], speed[-1]
        available[PERSISTENCE] = known[-1]
        deviation = np.zeros((2, edges))
        if not self.cities:
            return Said(value, available, deviation, {}, "")
        readings = np.stack([np.where(known, flow * VPH, np.nan), np.where(known, speed, np.nan)])
        windows = [city.window(now_s, part, change) for city, part in zip(self.cities, readings, strict=True)]
        broken = broken_rows(windows)
        defect = defect_now(windows, broken)
        if any(broken):  # what came in then is no reading
            readings[:, [bool(b) for b in broken]] = np.nan
            windows = [city.window(now_s, part, change) for city, part in zip(self.cities, readings, strict=True)]
        past = self.cities[FLOW].known & self.cities[SPEED].known
        believed = known[-1] & (not defect)
        self.oddness.note(windows, believed & past, now_s)
        own: dict[int, Floats] = {k: np.zeros((2, *shape, len(QUANTILES))) for k in range(len(self.models))}
        for quantity, window in enumerate(windows):
            unit = VPH if quantity == FLOW else 1.0
            expected = window.expected() / unit
            comparable = believed & past & window.compared[-1]
            deviation[quantity] = np.where(comparable, value[quantity, PERSISTENCE, 0] - expected[STEPS_IN - 1], 0.0)
            value[quantity, PROFILE] = expected[AHEAD]
            kept = self._kept_of_a_deviation(quantity)
            value[quantity, DEVIATION] = expected[AHEAD] + kept[:, None] * deviation[quantity]
            value[quantity, RIDGE] = window.quantiles(Ridge())[..., MIDDLE] / unit
            for k, model in enumerate(self.models):
                own[k][quantity] = window.quantiles(model.forecaster) / unit
                value[quantity, k] = own[k][quantity, ..., MIDDLE]
        available[PROFILE] = past
        available[DEVIATION] = past & believed
        available[: len(self.models)] = available[RIDGE] = past & (not defect)
        if defect:
            available[PERSISTENCE] &= ~past
        return Said(value, available, deviation, own, defect)

    def incidents(self, said: Said, flow: Floats) -> Floats:
        """What to add to a flow (H, E) where something has happened: there a deviation is carried on, whoever leads.
        Of speeds this made travel times of usual days worse: jams end."""
        carried = _CHANCE_KEPT[:, None] * said.deviation[FLOW]
        added: Floats = self.oddness.incidents * (said.value[FLOW, PROFILE] + carried - flow)
        return added

    def learn(self, quantity: int, horizon: int, deviation: Floats, later: Floats) -> None:
        """Learn the decay from deviations (N,) at the time of a forecast and from what was left of them when it came
        true."""
        self._moments[:, quantity, horizon] *= _MEMORY
        self._moments[:, quantity, horizon] += 1.0, (deviation * later).mean(), (deviation * deviation).mean()

    def _kept_of_a_deviation(self, quantity: int) -> Floats:
        """Share (H,) of a deviation that is left later: first by the past and by how odd the day is, then by what
        came true.

        A day that is as far off the profile as others has chance deviations, which fade as past ones did. What makes
        a day odder than that lasts: of the variance of its deviations, oddness squared, all but 1.
        """
        lasting = 1.0 - 1.0 / self.oddness.day[quantity] ** 2
        assumed = lasting + (1.0 - lasting) * _CHANCE_KEPT
        weight, product, square = self._moments[:, quantity]
        slope = np.divide(product, square, out=assumed.copy(), where=square > 1e-12)
        mixed: Floats = (weight * slope + _PRIOR_WEIGHT * assumed) / (weight + _PRIOR_WEIGHT)
        return np.clip(mixed, 0.0, 1.0)
