"""How far apart the quantiles of the loop's forecasts are: as assumed or as a model's own, stretched by truths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecasting.calibration import Bands, Coverage
from forecasting.live_city import FLOW, HORIZON_S, QUANTITIES, SPEED, STEP_S
from forecasting.producers import Said
from forecasting.series import STEPS_OUT
from networks.graph import Bools, Floats
from networks.state import QUANTILES

FLOW_FLOOR_VPS = 1 / 300  # Poisson scale of an almost empty edge
_FLOW_CLASSES_VPS = np.array([150.0, 600.0]) / 3600.0  # state borders: minor street, collector, arterial
_SPEED_CLASSES = np.array([0.5, 0.75])  # state borders relative to free speed
_FLOW_SPREAD, _SPEED_SPREAD = 2.5, 0.17  # before any residual: Poisson deviations; share of free speed
_OWN_STRETCH = 1.5  # of a model's own quantiles before any truth: past days hold less chance than the street
_GROWTH_S = 1800.0  # on Bologna 2.5 deviations hold 93 % of 90 % five minutes ahead, 80 % at twenty-five
_NORMAL = np.array([-1.6449, -1.2816, -0.6745, 0.0, 0.6745, 1.2816, 1.6449])  # of a normal at QUANTILES
_WATCHED = 400  # edges whose quantiles are kept until their truth is known


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Around points; axis 0 of the arrays is (flow, speed)."""

    made: NDArray[np.floating]  # (2, H, E, Q)
    sent: NDArray[np.floating]  # (2, H, E, Q) stretched, as issued
    state: NDArray[np.int8]  # (2, H, E)
    own: Bools  # (2, H) made with a model's own quantiles
    led: Bools  # (2, H, E) the leader had a value


class Spread:
    """Learns from truths how far to stretch, apart for assumed spreads and for a model's own quantiles."""

    def __init__(self, free_mps: Floats) -> None:
        self._free_mps = free_mps
        growth = np.sqrt(1.0 + HORIZON_S / _GROWTH_S)
        self._assumed = (_FLOW_SPREAD * growth, _SPEED_SPREAD * growth)
        self._bands = [[Bands(STEPS_OUT), Bands(STEPS_OUT, _OWN_STRETCH)] for _ in QUANTITIES]  # assumed ones, own
        self._watched = np.sort(np.random.default_rng(0).permutation(len(free_mps))[:_WATCHED])

    def unit(self, quantity: int, point: Floats) -> Floats:
        """Unit of assumed spreads (H, E): Poisson deviation of a count over the step for flow, free speed for
        speed."""
        if quantity == SPEED:
            return np.broadcast_to(self._free_mps, point.shape)
        unit: Floats = np.sqrt(np.maximum(point, FLOW_FLOOR_VPS) / STEP_S)
        return unit

    def around(self, point: Floats, said: Said, lead: NDArray[np.int64]) -> Quantiles:
        """Quantiles around points (2, H, E), led by these producers (2, H)."""
        state = np.stack(
            [
                np.digitize(point[FLOW], _FLOW_CLASSES_VPS).astype(np.int8),
                np.digitize(point[SPEED] / self._free_mps, _SPEED_CLASSES).astype(np.int8),
            ]
        )
        made, own, led = self._made(point, said, lead)
        sent = np.stack(
            [
                np.where(
                    own[q][:, None, None],
                    self._bands[q][1].stretch(made[q], state[q]),
                    self._bands[q][0].stretch(made[q], state[q]),
                )
                for q in (FLOW, SPEED)
            ]
        )
        return Quantiles(made, sent, state, own, led)

    def watched(self, quantiles: Quantiles) -> Quantiles:
        """What to keep until the truth is known."""
        at = self._watched
        made, sent = (q[:, :, at].astype(np.float32) for q in (quantiles.made, quantiles.sent))
        return Quantiles(made, sent, quantiles.state[..., at], quantiles.own, quantiles.led[..., at])

    def learn(self, quantity: int, horizon: int, watched: Quantiles, truth: Floats, known: Bools) -> None:
        """Truth (E,), where known (E,), of what was issued with these quantiles of the watched edges."""
        seen = known[self._watched] & watched.led[quantity, horizon]
        self._bands[quantity][int(watched.own[quantity, horizon])].learn(
            horizon,
            watched.made[quantity, horizon][seen],
            watched.sent[quantity, horizon][seen],
            watched.state[quantity, horizon][seen],
            truth[self._watched][seen],
        )

    def coverage(self, quantity: int) -> Coverage:
        assumed, own = (bands.coverage() for bands in self._bands[quantity])
        count = assumed.count + own.count
        inside = sum(np.nan_to_num(c.measured) * c.count[:, None] for c in (assumed, own))
        measured = np.divide(
            inside, count[:, None], out=np.full(assumed.measured.shape, np.nan), where=count[:, None] > 0
        )
        return Coverage(assumed.nominal, measured, count)

    def _made(self, point: Floats, said: Said, lead: NDArray[np.int64]) -> tuple[Floats, Bools, Bools]:
        """Quantiles (2, H, E, Q) before they are stretched, where they are as far apart as a model's own (2, H), and
        where the leader had a value (2, H, E)."""
        made = np.empty((*point.shape, len(QUANTILES)))
        own, led = np.zeros(lead.shape, np.bool_), np.ones(point.shape, np.bool_)
        for quantity in (FLOW, SPEED):
            spread = self._assumed[quantity][:, None] * self.unit(quantity, point[quantity])
            made[quantity] = point[quantity][..., None] + spread[..., None] * _NORMAL
            for k, quantiles in said.own.items():
                at = lead[quantity] == k
                own[quantity] |= at
                led[quantity, at] = said.available[k, at]
                mine = at[:, None] & said.available[k]
                moved = point[quantity] - said.value[quantity, k]
                made[quantity][mine] = (quantiles[quantity] + moved[..., None])[mine]
        return made, own, led
