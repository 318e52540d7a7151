"""Vehicles with their routes: what the mesoscopic model drives over a network."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from networks.graph import NO_ROWS, Bools, Floats, Ints, Ragged


@dataclass(frozen=True, slots=True)
class Demand:
    """One row a vehicle (V), ascending by scheduled departure. Make one with `car_demand` or from route files."""

    depart_s: Floats  # (V,) scheduled departure on the demand's clock
    route: Ragged  # per vehicle, dense edge indices, origin first
    dwell_s: Floats  # (len(route.values),) planned stop on each edge of the route, 0 for none
    weight: Floats  # (V,) persons, or 1
    allowed: Ints  # (V,) the one bit of graph.PASSENGER ... that says where it may drive
    space_m: Floats  # (V,) length and gap of the standing vehicle
    tau_s: Floats  # (V,) desired time headway
    accel_mps2: Floats  # (V,)
    sigma: Floats  # (V,) driver imperfection, 0..1 (Krauss)
    max_speed_mps: Floats  # (V,)
    speed_factor: Floats  # (V,) mean of desired speed over the limit
    speed_dev: Floats  # (V,) standard deviation of that between drivers
    rolling_start: Bools  # (V,) inserted at speed rather than from rest
    any_lane: Bools  # (V,) may be inserted on any lane of its origin, else on the rightmost it may use
    other_of: Ints = field(default_factory=lambda: np.zeros(0, np.int32))  # (A,) vehicle, ascending, that may take
    other_route: Ragged = NO_ROWS  # (A) this way in place of its route, if it looks faster when it sets off

    def __len__(self) -> int:
        return len(self.depart_s)

    def select(self, rows: Ints) -> Demand:
        """The vehicles `rows`, a row named twice counting twice, in order of departure."""
        chosen = rows[np.argsort(self.depart_s[rows], kind="stable")]
        route, steps = _rows(self.route, chosen)
        first, last = np.searchsorted(self.other_of, chosen), np.searchsorted(self.other_of, chosen + 1)
        others = _flat(first, last)
        plain = {
            name: getattr(self, name)[chosen]
            for name in self.__dataclass_fields__
            if name not in ("route", "dwell_s", "other_of", "other_route")
        }
        return replace(
            self,
            route=route,
            dwell_s=self.dwell_s[steps],
            other_of=np.repeat(np.arange(len(chosen), dtype=np.int32), last - first),
            other_route=_rows(self.other_route, others)[0],
            **plain,
        )


def _flat(first: NDArray[np.integer[Any]], last: NDArray[np.integer[Any]]) -> Ints:
    """The whole numbers of several ranges, one after the other."""
    return np.concatenate([np.zeros(0), *(np.arange(a, b) for a, b in zip(first, last, strict=True))]).astype(
        np.int32
    )


def _rows(table: Ragged, rows: Ints) -> tuple[Ragged, Ints]:
    """Chosen rows of a ragged table, and where their values stood."""
    first, last = table.offsets[rows], table.offsets[rows + 1]
    steps = _flat(first, last)
    return Ragged(np.concatenate([[0], np.cumsum(last - first)]).astype(np.int32), table.values[steps]), steps


def car_demand(depart_s: Floats, routes: list[list[int]], *, speed_dev: float = 0.1) -> Demand:
    """SUMO's default passenger car on the given routes (dense edge indices), one a departure."""
    count = len(depart_s)
    order = np.argsort(np.asarray(depart_s, np.float64), kind="stable")
    chosen = [routes[i] for i in order]
    offsets = np.cumsum([0, *(len(r) for r in chosen)]).astype(np.int32)
    values = np.array([e for r in chosen for e in r], np.int32)

    def full(value: float) -> Floats:
        return np.full(count, value)

    return Demand(
        depart_s=np.asarray(depart_s, np.float64)[order],
        route=Ragged(offsets, values),
        dwell_s=np.zeros(len(values)),
        weight=full(1.0),
        allowed=np.full(count, 1, np.int32),
        space_m=full(7.5),
        tau_s=full(1.0),
        accel_mps2=full(2.6),
        sigma=full(0.5),
        max_speed_mps=full(55.5),
        speed_factor=full(1.0),
        speed_dev=full(speed_dev),
        rolling_start=np.ones(count, np.bool_),
        any_lane=np.ones(count, np.bool_),
    )
