"""Position reports of roadside units and equipped vehicles, taken into the vehicle lists. See `ListReports`."""

from __future__ import annotations

import numpy as np

from networks.batches import ProbeBatch, TrackBatch
from networks.graph import Bools, Floats, Int64s, Ints, Network
from networks.route_book import RouteBook
from twin.fusion_kernels import FirstSights, Lists, Reports, apply_reports
from twin.loop_witnesses import LoopWitnesses
from twin.placing import LaneFinder
from twin.street_places import StreetPlaces

DRIVING_KINDS = (0, 1, 2, 5, 6)  # VEHICLE_KINDS that use motor lanes
FIRST_SIGHTS = 4093
FRESH_S = 1.5  # a report so old still tells where a vehicle is


class ListReports:
    """Places reports on lanes and lists, shows them to the witnesses of loops, and says who is confirmed by them."""

    def __init__(self, network: Network, lists: Lists, places: StreetPlaces, witnesses: LoopWitnesses) -> None:
        self._lists, self._places, self._witnesses = lists, places, witnesses
        self._finder = LaneFinder(network, bridges=places.pieces.bridges())
        self._routes = RouteBook(network)
        self._first_sights = FirstSights(np.zeros(FIRST_SIGHTS, np.int64), np.full(FIRST_SIGHTS, -np.inf))
        self.lane_s = np.full(len(network.lanes.ids), -np.inf)  # (L,) newest report from the lane

    def compile(self) -> None:
        """Have the kernels compiled, or loaded from their cache, on no reports."""
        ints, floats, longs = np.zeros(0, np.int32), np.zeros(0), np.zeros(0, np.int64)
        none = Reports(longs, ints, ints, ints, *self._finder.place(floats, floats, floats, ints), floats, floats)
        for is_track in (True, False):
            apply_reports(*self._lists, 0.0, is_track, none, self._first_sights)

    def take_tracks(self, batch: TrackBatch, rows: Ints, now_s: float) -> Bools:
        """Tracks of driving vehicles; answers which rows belong to one known before."""
        key = (batch.unit[rows].astype(np.int64) + 1 << 44) | (batch.object_id[rows] & ((1 << 44) - 1))
        return self._take(True, key, batch, rows, np.full(len(rows), -1, np.int32), now_s)

    def take_probes(self, batch: ProbeBatch, rows: Ints, now_s: float) -> None:
        """Reports of equipped vehicles, which take the way that leads to the destination they told."""
        key = np.where(batch.vehicle[rows] == 0, 1, batch.vehicle[rows])
        self._take(False, key, batch, rows, batch.destination_edge[rows].astype(np.int32), now_s)
        self._follow_routes()

    def _take(
        self, is_track: bool, key: Int64s, batch: TrackBatch | ProbeBatch, rows: Ints, destination: Ints, now_s: float
    ) -> Bools:
        if not len(rows):
            return np.zeros(0, np.bool_)
        pool, speed_mps, measured_s = self._lists.pool, batch.speed_mps[rows], batch.measured_at_s[rows]
        known = _look_up(pool.track if is_track else pool.probe, pool.lane, key)
        street = np.where(known >= 0, pool.lane[known], -1).astype(np.int32)
        believed = np.where(known >= 0, self._places.of_pool(pool, known)[0], -1).astype(np.int32)
        placed = self._finder.place(batch.x_m[rows], batch.y_m[rows], batch.heading_rad[rows], believed)
        self._witnesses.see(is_track, key, placed.lane, placed.position_m, placed.lateral_m, speed_mps, measured_s)
        reports = Reports(
            key,
            known,
            batch.kind[rows].astype(np.int32),
            destination,
            *self._places.of_reports(placed, street, believed),
            speed_mps,
            measured_s,
        )
        apply_reports(*self._lists, now_s, is_track, reports, self._first_sights)
        on_lane = placed.lane >= 0
        np.maximum.at(self.lane_s, placed.lane[on_lane], measured_s[on_lane])
        return known >= 0

    def _follow_routes(self) -> None:
        pool = self._lists.pool
        for v in np.flatnonzero((pool.lane >= 0) & (pool.destination >= 0) & ~pool.sure):
            movement = self._routes.movement(int(pool.lane[v]), int(pool.destination[v]))
            if movement >= 0:
                pool.movement[v] = movement
                pool.sure[v] = True

    def confirmed(self, now_s: float) -> tuple[Ints, Floats]:
        """Lanes and speeds of the vehicles that reports have just confirmed."""
        pool = self._lists.pool
        fresh = (pool.lane >= 0) & (pool.position_m >= 0.0)
        fresh &= now_s - np.maximum(pool.probe_s, pool.track_s) <= FRESH_S
        rows = np.flatnonzero(fresh)
        lane, position_m = self._places.of_pool(pool, rows)
        return lane[position_m >= 0.0], pool.speed_mps[rows][position_m >= 0.0]


def driving(batch: TrackBatch | ProbeBatch, rows: Ints) -> Ints:
    """Those of the rows that tell of somebody on a motor lane."""
    return rows[np.isin(batch.kind[rows], DRIVING_KINDS)]


def _look_up(names: Int64s, lane: Ints, key: Int64s) -> Ints:
    """Pool row that carries each key, -1 none."""
    used = np.flatnonzero((lane >= 0) & (names != 0))
    if not len(used):
        return np.full(len(key), -1, np.int32)
    order = used[np.argsort(names[used], kind="stable")]
    at = np.minimum(np.searchsorted(names[order], key), len(order) - 1)
    return np.where(names[order[at]] == key, order[at], -1).astype(np.int32)
