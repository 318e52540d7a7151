"""`Forecaster.predict`: the graph model in the live loop, with a declared chain of fallbacks and measured bands.

The chain, richest first: a trained model, the city's ridge, profile and decaying deviation, profile, persistence
(`producers`). A model joins it through a gate (`live_gate.admit`: held-out past days against ridge and profile); from
then on rolling errors on what the street really did decide, horizon by horizon, what each counts for in the mean that
is served (`shares`), and how far apart its quantiles are (`spread`). A feed that nobody should believe is answered by
the profile. Candidates run in the shadow: scored on the same readings, never served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecasting.calibration import Coverage
from forecasting.congestion import congestion_probabilities
from forecasting.live_city import FLOW, HORIZON_S, SPEED, ExpectedChange, LiveCity
from forecasting.live_gate import LiveModel
from forecasting.producers import PROFILE, Producers, Said
from forecasting.series import STEPS_OUT
from forecasting.shares import Shares
from forecasting.spread import FLOW_FLOOR_VPS, Spread
from forecasting.waiting import Issued, Waiting
from networks.errors import InputError
from networks.graph import Bools, Floats
from networks.state import QUANTILES, Forecast, History, check_shapes

_TOP_SPEED = 1.2  # of free speed: SUMO's and observed drivers exceed a limit by up to a fifth
_NAMED = 0.1  # share from which on a producer is named


@dataclass(frozen=True, slots=True)
class ForecastScore:
    """How the issued forecasts turned out so far, per horizon (H,); NaN before the first truth. Errors are of edges
    and times at which every producer had a value; without a past, of all."""

    horizon_s: Floats
    flow_mae_vps: Floats
    speed_mae_mps: Floats
    flow_coverage: Coverage  # of the watched edges
    speed_coverage: Coverage
    flow_mae_by_producer_vps: dict[str, Floats]
    speed_mae_by_producer_mps: dict[str, Floats]
    flow_lead: tuple[str, ...]  # producer in front per horizon
    speed_lead: tuple[str, ...]
    truths: NDArray[np.int64]  # (H,) on common ground


class Forecaster:
    """Forecasts edge flow and speed; learns decay, lead and bands from every history it is shown."""

    def __init__(
        self,
        free_speed_mps: Floats,
        cities: Sequence[LiveCity] = (),
        models: Sequence[LiveModel] = (),
    ) -> None:
        """`free_speed_mps` (E,): speed on the empty edge, waiting at signals included where known.

        `cities`: flow and speed of the past, or nothing where no past is known; then persistence is all there is.
        `models`: richest first; they need a past.
        """
        if len(cities) not in (0, 2):
            raise InputError(f"cities: {len(cities)} quantities, expected flow and speed or none")
        self._free_mps = np.maximum(free_speed_mps, 0.1)
        self._producers = Producers(cities, models)
        self._shares = Shares(self._producers)
        self._spread = Spread(self._free_mps)
        self._waiting = Waiting()
        self._total = np.zeros((2, STEPS_OUT))
        self._total_by_producer = np.zeros((2, len(self._producers.names), STEPS_OUT))
        self._total_count = np.zeros((2, STEPS_OUT))  # truths of what was served, truths on common ground
        self._last_defect = ""
        self._said: Said | None = None
        self._notes = [
            f"{model.label} waits in the shadow for {quantity}: {verdict.reasons[0]}"
            for model in self.models
            if not model.shadow
            for quantity, verdict in model.verdicts.items()
            if not verdict.passes
        ]

    def predict(self, history: History, now_s: float, change: ExpectedChange | None = None) -> Forecast:
        """Forecast from what was known by `now_s`. Never raises for missing data: edges without any are not valid,
        and hold zero flow at free speed. `change`: what closures and rain known in advance will make of it."""
        check_shapes("T E", flow=history.flow_vps, speed=history.speed_mps, valid=history.valid)
        check_shapes("E", free_speed=self._free_mps, history=np.zeros(history.flow_vps.shape[1]))
        for truth in self._waiting.come_true(history, now_s, believed=not self._last_defect):
            self._learn(*truth)
        said = self._said = self._producers.say(history, now_s, change)
        shares = self._shares.now()
        lead = self._shares.settle(shares)
        self._tell(shares, said.defect)
        point, part = said.mean(shares)
        point[FLOW] += self._producers.incidents(said, point[FLOW])
        valid = part.sum(axis=1).min(axis=(0, 1)) > 0
        point[FLOW] = np.where(valid, np.maximum(point[FLOW], 0.0), 0.0)
        top_mps = _TOP_SPEED * self._free_mps
        point[SPEED] = np.where(valid, np.clip(point[SPEED], 0.0, top_mps), self._free_mps)
        quantiles = self._spread.around(point, said, lead)
        issued = Issued(
            now_s, point, valid, said.value.astype(np.float32), said.available.min(axis=(0, 1)), said.deviation,
            self._spread.watched(quantiles),
        )  # fmt: skip
        self._waiting.keep(issued, history.grid.step_s, believed=not said.defect)
        flow = np.maximum(quantiles.sent[FLOW], 0.0)
        speed = np.clip(quantiles.sent[SPEED], 0.0, top_mps[:, None])
        producers = self._producers
        names = [producers.names[k] for k in producers.chain if (part[:, k][..., valid] >= _NAMED).any()]
        return Forecast(
            made_at_s=now_s,
            horizon_s=HORIZON_S.copy(),
            quantiles=QUANTILES,
            flow_vps=flow,
            speed_mps=speed,
            congestion=congestion_probabilities(speed, QUANTILES, self._free_mps),
            valid=valid,
            producer=(*names, "none") if not valid.all() else tuple(names),
        )

    @property
    def models(self) -> tuple[LiveModel, ...]:
        """The models of the chain and the candidates."""
        return self._producers.models

    def said(self) -> dict[str, Floats]:
        """What every producer, served or not, said in the newest forecast: (2, H, E), veh/s and m/s. Where one had
        nothing to say it is the profile, and where no past is known the last value."""
        if self._said is None:
            return {}
        filled = self._said.filled()
        return {name: filled[:, k] for k, name in enumerate(self._producers.names)}

    def take_notes(self) -> list[str]:
        """What an operator should know and was not told yet: refused models, changes of the lead, broken feeds."""
        notes, self._notes = self._notes, []
        return notes

    def score(self) -> ForecastScore:
        with np.errstate(invalid="ignore"):
            mae = self._total / self._total_count[0]
            by_producer = self._total_by_producer / self._total_count[1]
        names = self._producers.names
        lead = self._shares.lead(self._shares.now())
        return ForecastScore(
            HORIZON_S.copy(),
            mae[FLOW],
            mae[SPEED],
            self._spread.coverage(FLOW),
            self._spread.coverage(SPEED),
            {name: by_producer[FLOW, k] for k, name in enumerate(names)},
            {name: by_producer[SPEED, k] for k, name in enumerate(names)},
            tuple(names[k] for k in lead[FLOW]),
            tuple(names[k] for k in lead[SPEED]),
            self._total_count[1].astype(np.int64),
        )

    def _tell(self, shares: Floats, defect: str) -> None:
        self._notes += self._shares.take_news(shares)
        if defect != self._last_defect:
            told = f"feed {defect}: forecasts fall back to the profile" if defect else "feed believed again"
            self._notes.append(told)
            self._last_defect = defect

    def _learn(self, issued: Issued, horizon: int, truth: Floats, known: Bools) -> None:
        """Score one horizon of a forecast by its truth (2, E), and the producers where all of them had a value."""
        if not known.any():
            return
        common = known & issued.comparable
        ground = common if self._producers.cities else known
        self._total_count[:, horizon] += ground.sum(), common.sum()
        for quantity in (FLOW, SPEED):
            self._spread.learn(quantity, horizon, issued.watched, truth[quantity], known)
            off = np.abs(truth[quantity] - issued.point[quantity, horizon])
            self._total[quantity, horizon] += off[ground].sum()
            if common.any():
                self._compare(issued, quantity, horizon, truth, common)

    def _compare(self, issued: Issued, quantity: int, horizon: int, truth: Floats, common: Bools) -> None:
        """Learn who errs how much, and how deviations decay. An error of speed counts by the vehicles that met it:
        the speed of an almost empty edge is chance."""
        candidates, came = issued.candidates[quantity, :, horizon][:, common], truth[quantity, common]
        wrong = np.abs(candidates - came)
        self._total_by_producer[quantity, :, horizon] += wrong.sum(axis=1)
        weight = truth[FLOW, common] + FLOW_FLOOR_VPS if quantity == SPEED else np.ones(len(came))
        self._shares.learn(quantity, horizon, wrong, weight)
        unit = self._spread.unit(quantity, issued.point[quantity])[horizon, common]
        deviation, later = issued.deviation[quantity, common] / unit, (came - candidates[PROFILE]) / unit
        self._producers.learn(quantity, horizon, deviation, later)
