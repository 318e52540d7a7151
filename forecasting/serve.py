"""`Forecaster.predict`: profile and decaying deviation, with a declared fallback chain and measured quantiles."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecasting.baselines import HistoricalProfile, Persistence
from forecasting.calibration import Calibrator, Coverage
from forecasting.congestion import congestion_probabilities
from forecasting.windows import window_mean
from networks.graph import Bools, Floats
from networks.state import QUANTILES, Forecast, History, check_shapes

HOUR_AHEAD_S = tuple(300.0 * k for k in range(1, 13))

PRODUCERS = ("profile+deviation", "profile", "persistence")  # in the order of the fallback; then "none"
_FLOW, _SPEED = 0, 1
_FLOW_FLOOR_VPS = 1 / 300  # Poisson scale of an almost empty edge
_FLOW_CLASSES_VPS = np.array([150.0, 600.0]) / 3600.0  # level borders: minor street, collector, arterial
_SPEED_CLASSES = np.array([0.5, 0.75])  # level borders relative to free speed
_TOP_SPEED = 1.2  # of free speed: SUMO's and observed drivers exceed a limit by up to a fifth
_DECAY_S = 3600.0  # before anything was learnt: a day busier than usual stays so, a deviation halves in 40 minutes
_PRIOR_WEIGHT = 10.0  # updates that the assumed decay counts for
_FLOW_SPREAD, _SPEED_SPREAD = 2.5, 0.25  # before any residual: Poisson deviations; share of free speed
_SPREAD_GROWTH_S = 1800.0  # on Bologna 2.5 deviations hold 93 % of 90 % five minutes ahead, 80 % at twenty-five
_MEMORY = 0.98  # per update, one a history step: about 50 minutes
_GATE_UPDATES = 8  # evidence before a simpler producer may take the lead
_GATE_GAIN = 0.98  # and by how much it must be better


@dataclass(frozen=True, slots=True)
class ForecastScore:
    """How the issued forecasts turned out so far, per horizon (H,); NaN before the first truth."""

    horizon_s: Floats
    flow_mae_vps: Floats
    speed_mae_mps: Floats
    flow_coverage: Coverage
    speed_coverage: Coverage
    flow_mae_by_producer_vps: dict[str, Floats]
    speed_mae_by_producer_mps: dict[str, Floats]
    flow_lead: tuple[str, ...]  # producer in front per horizon
    speed_lead: tuple[str, ...]


@dataclass(slots=True)
class _Issued:
    """A forecast waiting for its truth. Axis 0 of the arrays is (flow, speed)."""

    made_at_s: float
    due: Bools  # (H,) truth not seen yet
    point: Floats  # (2, H, E)
    candidates: Floats  # (2, 3, H, E)
    comparable: Bools  # (E,) all producers had a value
    deviation: Floats  # (2, E) recent minus profile
    level: NDArray[np.int8]  # (2, H, E)
    tables: tuple[Floats, Floats]  # (H, C, Q) each, as issued
    valid: Bools  # (E,)


class Forecaster:
    """Forecasts edge flow and speed; learns decay, lead producer and spread from every history it is shown."""

    def __init__(
        self,
        profile: History | None,
        free_speed_mps: Floats,
        *,
        horizon_s: tuple[float, ...] = HOUR_AHEAD_S,
        quantiles: tuple[float, ...] = QUANTILES,
        utc_offset_s: float = 0.0,
    ) -> None:
        """`free_speed_mps` (E,): speed on the empty edge, waiting at signals included where known."""
        self._free_mps = np.maximum(free_speed_mps, 0.1)
        self._horizon_s = np.array(horizon_s)
        self._width_s = np.diff(self._horizon_s, prepend=0.0)
        self._quantiles = quantiles
        self._profile = HistoricalProfile(profile, utc_offset_s=utc_offset_s) if profile is not None else None
        self._persistence = Persistence()
        horizons = len(horizon_s)
        growth = np.sqrt(1.0 + self._horizon_s / _SPREAD_GROWTH_S)
        self._calibrators = (
            Calibrator(len(_FLOW_CLASSES_VPS) + 1, quantiles, default_spread=_FLOW_SPREAD * growth),
            Calibrator(len(_SPEED_CLASSES) + 1, quantiles, default_spread=_SPEED_SPREAD * growth),
        )
        self._rho_prior = np.exp(-self._horizon_s / _DECAY_S)
        self._rho = np.stack([self._rho_prior, self._rho_prior])  # (2, H)
        self._moments = np.zeros((3, 2, horizons))  # updates, deviation x later deviation, deviation squared
        self._error = np.zeros((2, 3, horizons))  # fading sums of each producer's error on common ground
        self._error_weight = np.zeros((2, horizons))
        self._total = np.zeros((2, horizons))
        self._total_by_producer = np.zeros((2, 3, horizons))
        self._total_count = np.zeros((2, horizons))  # truths, truths on common ground
        self._issued: list[_Issued] = []
        self._last_issue_s = self._last_call_s = -np.inf

    def predict(self, history: History, now_s: float) -> Forecast:
        """Forecast from what was known by `now_s`. Never raises for missing data: edges without any are not valid,
        and hold zero flow at free speed."""
        check_shapes("T E", flow=history.flow_vps, speed=history.speed_mps, valid=history.valid)
        check_shapes("E", free_speed=self._free_mps, history=np.zeros(history.flow_vps.shape[1]))
        self._learn(history, now_s)
        self._last_call_s = now_s
        candidates, available, deviation = self._candidates(history, now_s)
        point, used = self._compose(candidates, available)
        valid = used.min(axis=(0, 1)) >= 0
        point[_FLOW] = np.where(valid, np.maximum(point[_FLOW], 0.0), 0.0)
        top_mps = _TOP_SPEED * self._free_mps
        point[_SPEED] = np.where(valid, np.clip(point[_SPEED], 0.0, top_mps), self._free_mps)
        level = np.stack(
            [
                np.digitize(point[_FLOW], _FLOW_CLASSES_VPS).astype(np.int8),
                np.digitize(point[_SPEED] / self._free_mps, _SPEED_CLASSES).astype(np.int8),
            ]
        )
        spread = [
            c.table[np.arange(len(self._horizon_s))[:, None], level[q]] for q, c in enumerate(self._calibrators)
        ]
        flow = np.maximum(point[_FLOW][..., None] + self._scale(_FLOW, point[_FLOW])[..., None] * spread[_FLOW], 0.0)
        speed = point[_SPEED][..., None] + self._scale(_SPEED, point[_SPEED])[..., None] * spread[_SPEED]
        speed = np.clip(speed, 0.0, top_mps[:, None])
        self._remember(history, now_s, _Issued(
            now_s, np.ones(len(self._horizon_s), np.bool_), point, candidates, available.min(axis=(0, 1)), deviation,
            level, (self._calibrators[0].table.copy(), self._calibrators[1].table.copy()), valid,
        ))  # fmt: skip
        names = [PRODUCERS[k] for k in range(len(PRODUCERS)) if (used[..., valid] == k).any()]
        return Forecast(
            made_at_s=now_s,
            horizon_s=self._horizon_s.copy(),
            quantiles=self._quantiles,
            flow_vps=flow,
            speed_mps=speed,
            congestion=congestion_probabilities(speed, self._quantiles, self._free_mps),
            valid=valid,
            producer=(*names, "none") if not valid.all() else tuple(names),
        )

    def score(self) -> ForecastScore:
        with np.errstate(invalid="ignore"):
            mae = self._total / self._total_count[0]
            by_producer = self._total_by_producer / self._total_count[1]
        return ForecastScore(
            self._horizon_s.copy(),
            mae[_FLOW],
            mae[_SPEED],
            self._calibrators[_FLOW].coverage(),
            self._calibrators[_SPEED].coverage(),
            {name: by_producer[_FLOW, k] for k, name in enumerate(PRODUCERS)},
            {name: by_producer[_SPEED, k] for k, name in enumerate(PRODUCERS)},
            tuple(PRODUCERS[k] for k in self._lead()[_FLOW]),
            tuple(PRODUCERS[k] for k in self._lead()[_SPEED]),
        )

    def _candidates(self, history: History, now_s: float) -> tuple[Floats, Bools, Floats]:
        """Every producer's value (2, 3, H, E), where it has one (3, H, E), and the deviation now (2, E)."""
        end_s = history.grid.start_s + history.grid.count * history.grid.step_s
        middles_s = now_s + self._horizon_s - self._width_s / 2
        recent = self._persistence.expect(history, middles_s)
        shape = recent.flow_vps.shape
        values, available = np.zeros((2, 3, *shape)), np.zeros((3, *shape), np.bool_)
        values[_FLOW, 2], values[_SPEED, 2], available[2] = recent.flow_vps, recent.speed_mps, recent.valid
        deviation = np.zeros((2, shape[1]))
        if self._profile is not None:
            usual = self._profile.expect(history, middles_s)
            usual_now = self._profile.expect(history, np.array([end_s - self._persistence.window_s / 2]))
            both = recent.valid[0] & usual_now.valid[0]
            deviation[_FLOW] = np.where(both, recent.flow_vps[0] - usual_now.flow_vps[0], 0.0)
            deviation[_SPEED] = np.where(both, recent.speed_mps[0] - usual_now.speed_mps[0], 0.0)
            values[_FLOW, 1], values[_SPEED, 1], available[1] = usual.flow_vps, usual.speed_mps, usual.valid
            values[:, 0] = values[:, 1] + self._rho[:, :, None] * deviation[:, None, :]
            available[0] = usual.valid & both
        return values, available, deviation

    def _compose(self, candidates: Floats, available: Bools) -> tuple[Floats, NDArray[np.int64]]:
        """Values (2, H, E) of the leading producer that has one, and which it is (-1: none)."""
        lead = self._lead()
        used = np.full(candidates[:, 0].shape, -1, np.int64)
        for quantity in (_FLOW, _SPEED):
            for rank in range(-1, len(PRODUCERS)):
                for horizon in range(len(self._horizon_s)):
                    producer = lead[quantity, horizon] if rank < 0 else rank
                    row = used[quantity, horizon]
                    row[(row < 0) & available[producer, horizon]] = producer
        point = np.take_along_axis(candidates, np.maximum(used, 0)[:, None], axis=1)[:, 0]
        return point, used

    def _lead(self) -> NDArray[np.int64]:
        """Producer in front per quantity and horizon (2, H): the first of the chain unless a simpler one has been
        measurably better of late."""
        best = self._error.argmin(axis=1)
        least = np.take_along_axis(self._error, best[:, None], axis=1)[:, 0]
        convinced = (self._error_weight >= _GATE_UPDATES) & (least < _GATE_GAIN * self._error[:, 0])
        return np.where(convinced, best, 0)

    def _scale(self, quantity: int, point: Floats) -> Floats:
        """Unit of the residuals (H, E): Poisson deviation of a count over the step for flow, free speed for speed."""
        if quantity == _SPEED:
            return np.broadcast_to(self._free_mps, point.shape)
        return np.sqrt(np.maximum(point, _FLOW_FLOOR_VPS) / self._width_s[:, None])

    def _remember(self, history: History, now_s: float, issued: _Issued) -> None:
        """Keep one forecast a history step for later scoring."""
        if now_s < self._last_issue_s:  # the clock was set back: those forecasts were of another past
            self._issued.clear()
        elif now_s < self._last_issue_s + history.grid.step_s:
            return
        self._last_issue_s = now_s
        self._issued.append(issued)

    def _learn(self, history: History, now_s: float) -> None:
        """Score waiting forecasts whose truth has become known, the oldest first.

        The truths of a step arrive together. Called several times a step, learn from a share of them at a time: it
        keeps every call short. Called once a step or less often, learn from all.
        """
        grid = history.grid
        end_s = grid.start_s + grid.count * grid.step_s
        ripe: list[tuple[_Issued, int, float]] = []
        for issued in self._issued:
            target_s = np.floor((issued.made_at_s + self._horizon_s) / grid.step_s) * grid.step_s
            ripe += [(issued, int(h), float(target_s[h])) for h in np.flatnonzero(issued.due & (target_s <= end_s))]
        truths: dict[tuple[float, float], tuple[Floats, Bools]] = {}
        share = min(max((now_s - self._last_call_s) / grid.step_s, 0.25), 1.0)
        for issued, horizon, target in ripe[: math.ceil(len(ripe) * share)]:
            issued.due[horizon] = False
            key = (target, float(self._width_s[horizon]))
            if key not in truths:
                flow, speed, valid = window_mean(history, np.array([target]), key[1], least_frac=0.5)
                truths[key] = np.stack([flow[0], speed[0]]), valid[0]
            truth, known = truths[key]
            self._score_one(issued, horizon, truth, known & issued.valid)
        self._issued = [i for i in self._issued if i.due.any()]

    def _score_one(self, issued: _Issued, horizon: int, truth: Floats, known: Bools) -> None:
        if not known.any():
            return
        common = known & issued.comparable
        self._total_count[:, horizon] += known.sum(), common.sum()
        for quantity, calibrator in enumerate(self._calibrators):
            point = issued.point[quantity]
            error = truth[quantity] - point[horizon]
            scale = self._scale(quantity, point)[horizon]
            calibrator.update(
                horizon,
                issued.level[quantity, horizon][known],
                (error / scale)[known],
                issued.tables[quantity][horizon],
            )
            self._total[quantity, horizon] += np.abs(error[known]).sum()
            if common.any():
                self._compare(issued, quantity, horizon, truth[quantity], common, scale)

    def _compare(
        self, issued: _Issued, quantity: int, horizon: int, truth: Floats, common: Bools, scale: Floats
    ) -> None:
        """Update the producers' fading errors and the decay of deviations, where all producers had a value."""
        candidates = issued.candidates[quantity, :, horizon][:, common]
        wrong = np.abs(candidates - truth[common])
        self._total_by_producer[quantity, :, horizon] += wrong.sum(axis=1)
        self._error[quantity, :, horizon] = _MEMORY * self._error[quantity, :, horizon] + wrong.mean(axis=1)
        self._error_weight[quantity, horizon] = _MEMORY * self._error_weight[quantity, horizon] + 1.0
        now = issued.deviation[quantity, common] / scale[common]
        later = (truth[common] - candidates[1]) / scale[common]
        self._moments[:, quantity, horizon] *= _MEMORY
        self._moments[:, quantity, horizon] += 1.0, (now * later).mean(), (now * now).mean()
        weight, product, square = self._moments[:, quantity, horizon]
        slope = product / square if square > 1e-12 else self._rho_prior[horizon]
        mixed = (weight * slope + _PRIOR_WEIGHT * self._rho_prior[horizon]) / (weight + _PRIOR_WEIGHT)
        self._rho[quantity, horizon] = min(max(mixed, 0.0), 1.0)
