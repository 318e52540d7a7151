"""Detections of all roadside units, and what vehicles say of themselves -> a track for each. See `Tracker`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from networks.batches import VEHICLE_KINDS, ProbeBatch, TrackBatch
from networks.graph import Bools, Floats
from twin import tracking_kernels as kernels

Rows = NDArray[np.int64]
NOBODY = -1

_WALKER = VEHICLE_KINDS.index("pedestrian")
_FIRST_ROOM = 256


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """Noise and patience. Spreads are one sigma."""

    position_m: float = 0.7  # of a detection
    speed_mps: float = 1.0  # of each component of a detected velocity
    accel_density: float = 2.0  # m2/s3: a car changes its speed by 1.4 m/s within a second
    gate: float = 13.8  # squared distance: 99.9 % of a chi-square of two degrees of freedom
    speed_gate: float = 9.0  # a detected velocity three sigma off the track's is not believed: some units' are wrong
    confirm_hits: int = 3
    tentative_s: float = 0.35  # a new track is given up when nothing confirms it for so long
    coast_s: float = 2.5  # a confirmed one, unseen
    first_speed_mps: float = 12.0  # spread of the velocity of a new track whose detection tells none
    reach_m: float = 60.0  # detections are held against tracks so far around them


class Tracks(NamedTuple):
    """Confirmed tracks at one moment; row i of every array belongs together."""

    id: NDArray[np.int64]
    vehicle: NDArray[np.int64]  # pseudonym of who says to be this one, NOBODY none
    x_m: Floats
    y_m: Floats
    vx_mps: Floats
    vy_mps: Floats
    position_var_m2: Floats  # mean of both axes
    kind: NDArray[np.int32]
    unit: NDArray[np.int32]  # that saw it last, NOBODY when only the vehicle itself told
    seen_s: Floats


class _Table:
    """Tracks and free places, one row each."""

    def __init__(self, size: int) -> None:
        self.state = np.zeros((size, 4))
        self.covariance = np.zeros((size, 4, 4))
        self.at_s = np.zeros(size)
        self.seen_s = np.zeros(size)
        self.hits = np.zeros(size, np.int64)
        self.alive = np.zeros(size, np.bool_)
        self.confirmed = np.zeros(size, np.bool_)
        self.kind = np.zeros(size, np.int32)
        self.unit = np.full(size, NOBODY, np.int32)
        self.id = np.zeros(size, np.int64)
        self.vehicle = np.full(size, NOBODY, np.int64)

    def grown(self, size: int) -> _Table:
        longer = _Table(size)
        for name, values in vars(self).items():
            getattr(longer, name)[: len(values)] = values
        return longer


class Tracker:
    """Follows everybody over all units of a network at once.

    All units share one table, in local metres, so that a road user who leaves one unit's sight keeps the track when
    another sees him before `coast_s` is over. Each frame of a unit (what it saw at one moment) is assigned to the
    tracks around it at least total cost; a pair outside the gate, or of a walker and a vehicle, is none. What is left
    over begins a track, which counts after `confirm_hits` detections. A vehicle's own report updates the track that
    it was bound to before, else it binds the best track within the gate, else it begins one that counts at once.
    """

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self.settings = settings or TrackerSettings()
        self._next_id = 0
        self._all = _Table(_FIRST_ROOM)
        self._row_of_vehicle: dict[int, int] = {}

    def see(
        self,
        unit: int,
        at_s: float,
        x_m: Floats,
        y_m: Floats,
        vx_mps: Floats,
        vy_mps: Floats,
        kind: NDArray[np.int32],
    ) -> NDArray[np.int64]:
        """Take in what a unit saw at one moment (N,); the track of each detection, new ones included.

        Velocities are NaN where the unit does not tell them.
        """
        settings = self.settings
        found = np.stack([x_m, y_m, vx_mps, vy_mps], axis=1).astype(np.float64)
        walks = kind == _WALKER
        self._retire(at_s)
        near = self._near(x_m, y_m)
        owner = np.full(len(found), NOBODY, np.int64)
        if len(near) and len(found):
            cost = self._cost(near, at_s, found, walks)
            a, n = linear_sum_assignment(np.minimum(cost, _UNPAIRED))
            paired = cost[a, n] < _UNPAIRED
            owner[n[paired]] = near[a[paired]]
        seen = np.flatnonzero(owner != NOBODY)
        self._correct(owner[seen], at_s, found[seen], settings.position_m, settings.speed_mps)
        fresh = np.flatnonzero(owner == NOBODY)
        owner[fresh] = self._begin(at_s, found[fresh], kind[fresh])
        self._all.unit[owner] = unit
        unbound = self._all.vehicle[owner] == NOBODY
        self._all.kind[owner[unbound]] = kind[unbound]  # who tells of himself knows what he is
        self._all.confirmed[owner] |= self._all.hits[owner] >= settings.confirm_hits
        return self._all.id[owner]

    def hear(self, vehicle: int, at_s: float, x_m: float, y_m: float, vx_mps: float, vy_mps: float, kind: int) -> int:
        """Take in what a vehicle says of itself; the track that it has."""
        settings = self.settings
        self._retire(at_s)
        found = np.array([[x_m, y_m, vx_mps, vy_mps]])
        row = self._row_of_vehicle.get(vehicle, NOBODY)
        candidates = np.array([row]) if row != NOBODY else self._unbound_near(x_m, y_m)
        cost = self._cost(candidates, at_s, found, np.array([kind == _WALKER]))[:, 0]
        best = int(cost.argmin()) if len(cost) else NOBODY
        if best == NOBODY or cost[best] >= _UNPAIRED:
            if row != NOBODY:
                self._all.vehicle[row] = NOBODY
            row = int(self._begin(at_s, found, np.array([kind], np.int32))[0])
            self._all.unit[row] = NOBODY
        else:
            row = int(candidates[best])
            self._correct(np.array([row]), at_s, found, settings.position_m, settings.speed_mps)
        self._all.vehicle[row] = vehicle
        self._row_of_vehicle[vehicle] = row
        self._all.kind[row] = kind
        self._all.confirmed[row] = True
        return int(self._all.id[row])

    def tracks(self, at_s: float) -> Tracks:
        """Everybody believed in at a moment, moved there."""
        self._retire(at_s)
        rows = np.flatnonzero(self._all.alive & self._all.confirmed)
        state, covariance, times = self._all.state[rows], self._all.covariance[rows], self._all.at_s[rows]
        kernels.predict(state, covariance, times, np.arange(len(rows)), at_s, self.settings.accel_density)
        return Tracks(
            id=self._all.id[rows],
            vehicle=self._all.vehicle[rows],
            x_m=state[:, 0],
            y_m=state[:, 1],
            vx_mps=state[:, 2],
            vy_mps=state[:, 3],
            position_var_m2=(covariance[:, 0, 0] + covariance[:, 1, 1]) / 2.0,
            kind=self._all.kind[rows],
            unit=self._all.unit[rows],
            seen_s=self._all.seen_s[rows],
        )

    def _cost(self, rows: Rows, at_s: float, found: Floats, walks: Bools) -> Floats:
        settings = self.settings
        kernels.predict(self._all.state, self._all.covariance, self._all.at_s, rows, at_s, settings.accel_density)
        cost = np.empty((len(rows), len(found)))
        kernels.distances(
            self._all.state,
            self._all.covariance,
            self._all.at_s,
            self._all.kind == _WALKER,
            rows,
            at_s,
            found,
            walks,
            settings.position_m**2,
            settings.gate,
            cost,
        )
        return cost

    def _correct(self, rows: Rows, at_s: float, found: Floats, position_m: float, speed_mps: float) -> None:
        table, noise = self._all, (position_m**2, speed_mps**2, self.settings.speed_gate)
        kernels.update(table.state, table.covariance, table.at_s, rows, at_s, found, *noise)
        self._all.seen_s[rows] = np.maximum(self._all.seen_s[rows], at_s)
        self._all.hits[rows] += 1

    def _begin(self, at_s: float, found: Floats, kind: NDArray[np.int32]) -> Rows:
        """Begin a track for each detection; their rows."""
        settings, table = self.settings, self._all
        free = np.flatnonzero(~table.alive)
        if len(free) < len(found):
            table = self._all = table.grown(2 * len(table.alive) + len(found))
            free = np.flatnonzero(~table.alive)
        rows: Rows = free[: len(found)].astype(np.int64)
        told = ~np.isnan(found[:, 2])
        table.state[rows] = np.where(np.isnan(found), 0.0, found)
        table.covariance[rows] = 0.0
        table.covariance[rows, 0, 0] = table.covariance[rows, 1, 1] = settings.position_m**2
        speed_var = np.where(told, settings.speed_mps**2, settings.first_speed_mps**2)
        table.covariance[rows, 2, 2] = table.covariance[rows, 3, 3] = speed_var
        table.at_s[rows] = table.seen_s[rows] = at_s
        table.hits[rows] = 1
        table.alive[rows] = True
        table.confirmed[rows] = False
        table.vehicle[rows] = NOBODY
        table.kind[rows] = kind
        table.id[rows] = np.arange(self._next_id, self._next_id + len(rows))
        self._next_id += len(rows)
        return rows

    def _near(self, x_m: Floats, y_m: Floats) -> Rows:
        if not len(x_m):
            return np.zeros(0, np.int64)
        reach = self.settings.reach_m
        x, y = self._all.state[:, 0], self._all.state[:, 1]
        inside = (x >= x_m.min() - reach) & (x <= x_m.max() + reach)
        inside &= (y >= y_m.min() - reach) & (y <= y_m.max() + reach)
        near: Rows = np.flatnonzero(inside & self._all.alive)
        return near

    def _unbound_near(self, x_m: float, y_m: float) -> Rows:
        rows = self._near(np.array([x_m]), np.array([y_m]))
        unbound: Rows = rows[self._all.vehicle[rows] == NOBODY]
        return unbound

    def _retire(self, at_s: float) -> None:
        patience_s = np.where(self._all.confirmed, self.settings.coast_s, self.settings.tentative_s)
        over = self._all.alive & (at_s - self._all.seen_s > patience_s)
        if over.any():
            for row in np.flatnonzero(over & (self._all.vehicle != NOBODY)):
                self._row_of_vehicle.pop(int(self._all.vehicle[row]), None)
            self._all.alive &= ~over


_UNPAIRED = 60.0
"""Cost from which a pair is none: above any within the gate, whose spread is below a hundred metres."""


def retrack(tracker: Tracker, tracks: TrackBatch, probes: ProbeBatch) -> TrackBatch:
    """The batch with each unit's own track numbers replaced by tracks that hold across units and with vehicles.

    Frames (unit and moment) and reports are taken in order of event time.
    """
    ids = np.empty(len(tracks.unit), np.int64)
    order = np.lexsort((tracks.unit, tracks.measured_at_s))
    unit, at_s = tracks.unit[order], tracks.measured_at_s[order]
    cuts = np.flatnonzero((np.diff(unit) != 0) | (np.diff(at_s) != 0)) + 1
    frames = [rows for rows in np.split(order, cuts) if len(rows)]
    vx, vy = tracks.speed_mps * np.cos(tracks.heading_rad), tracks.speed_mps * np.sin(tracks.heading_rad)
    heard = 0
    reports = np.argsort(probes.measured_at_s, kind="stable")
    for rows in frames:
        moment = float(tracks.measured_at_s[rows[0]])
        while heard < len(reports) and probes.measured_at_s[reports[heard]] <= moment:
            _hear_row(tracker, probes, int(reports[heard]))
            heard += 1
        ids[rows] = tracker.see(
            int(tracks.unit[rows[0]]),
            moment,
            tracks.x_m[rows],
            tracks.y_m[rows],
            vx[rows],
            vy[rows],
            tracks.kind[rows],
        )
    for row in reports[heard:]:
        _hear_row(tracker, probes, int(row))
    return TrackBatch(
        unit=tracks.unit,
        object_id=ids,
        x_m=tracks.x_m,
        y_m=tracks.y_m,
        speed_mps=tracks.speed_mps,
        heading_rad=tracks.heading_rad,
        kind=tracks.kind,
        measured_at_s=tracks.measured_at_s,
        available_at_s=tracks.available_at_s,
    )


def _hear_row(tracker: Tracker, probes: ProbeBatch, row: int) -> None:
    speed, heading = float(probes.speed_mps[row]), float(probes.heading_rad[row])
    tracker.hear(
        int(probes.vehicle[row]),
        float(probes.measured_at_s[row]),
        float(probes.x_m[row]),
        float(probes.y_m[row]),
        speed * math.cos(heading),
        speed * math.sin(heading),
        int(probes.kind[row]),
    )
