"""The vehicle lists as everybody else reads them: one row a vehicle, by the network's own lanes."""

from __future__ import annotations

import numpy as np

from networks.graph import Network
from networks.state import VehicleTable
from twin.fusion_kernels import Pool
from twin.street_places import StreetPlaces

HELD_BELIEF = 0.5  # a second, in a vehicle that a loop or a roadside unit denies


def read_off(pool: Pool, places: StreetPlaces, network: Network, now_s: float) -> VehicleTable:
    """Vehicles on lanes and in the junctions before them; those over a stop line but still before it are left out."""
    rows = np.flatnonzero(pool.lane >= 0)
    rows = rows[pool.position_m[rows] <= places.pieces.end_m[pool.lane[rows]]]
    lane, position_m = places.of_pool(pool, rows)
    order = np.lexsort((-position_m, lane))
    rows, lane, position_m = rows[order], lane[order], position_m[order]
    street, movement = pool.lane[rows], pool.movement[rows]
    probe, track = pool.probe[rows], pool.track[rows]
    name = np.where(probe != 0, probe, np.where(track != 0, track, -pool.serial[rows]))
    due = HELD_BELIEF ** pool.held_s[rows]
    at_line = (movement >= 0) & (network.movements.signal[movement] >= 0)
    return VehicleTable(
        name,
        lane,
        position_m,
        pool.speed_mps[rows].copy(),
        pool.kind[rows].copy(),
        np.where(lane == street, movement, places.onward(lane, street)).astype(np.int32),
        probe != 0,
        pool.destination[rows].copy(),
        np.clip(pool.certainty[rows], 0.0, 1.0) * due,
        np.maximum(now_s - pool.seen_s[rows], 0.0),
        pool.sure[rows].copy(),
        pool.stood_s[rows].copy(),
        line_movement=np.where(at_line, movement, -1).astype(np.int32),
    )
