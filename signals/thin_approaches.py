"""Vehicles to be expected where sensors follow none: a point queue per lane, fed by the mean flow. See below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from networks.graph import MOTOR, VEHICLE_SPACE_M, Bools, Floats, Ints, Network
from networks.state import Estimate, NetworkState, VehicleTable
from signals.lamps import GREEN, LampRecord

SATURATION_VPS = 0.5  # 1800 veh/h and lane
LONGEST_STEP_S = 10.0  # after a longer pause the queues start anew
MOST_COMING = 12  # vehicles on their way that are told of one lane
SERIAL_BASE = 1 << 40  # pseudonyms below minus this: nobody else's


class ThinApproaches:
    """Deterministic queues (Webster 1958, the uniform part) of lanes at signals, whatever the sensors there say.

    A lane's queue grows by its share of the edge's mean flow and shrinks at saturation flow by that part of its
    turns which has green. `fill` puts queue and next arrivals into the state as vehicles; reported ones stay, and
    stand in for as many expected ones.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        lanes, moves = network.lanes, network.movements
        self._motor = (lanes.allowed & MOTOR) != 0
        per_edge = np.bincount(lanes.edge, self._motor, len(network.edges.ids))
        self._part = np.where(self._motor, 1.0 / np.maximum(per_edge[lanes.edge], 1.0), 0.0)
        self._storage = np.maximum(lanes.length_m / VEHICLE_SPACE_M, 1.0)
        self._at_signal = np.flatnonzero(moves.signal >= 0)
        self._queue = np.zeros(len(lanes.ids))
        self._last_s = -np.inf

    def fill(self, state: NetworkState, thin: Bools, lamps: Sequence[LampRecord | None]) -> NetworkState:
        """The state with expected vehicles on the lanes of the thin edges (E,)."""
        lanes = self._network.lanes
        arriving_vps = np.where(state.edge_flow_vps.valid, state.edge_flow_vps.value, 0.0)[lanes.edge] * self._part
        elapsed_s = state.now_s - self._last_s
        self._last_s = state.now_s
        if not elapsed_s <= LONGEST_STEP_S:
            self._queue[:] = 0.0
            elapsed_s = 0.0
        leaving_vps = SATURATION_VPS * self._open_part(state, lamps)
        self._queue = np.clip(self._queue + (arriving_vps - leaving_vps) * elapsed_s, 0.0, self._storage)
        told = np.flatnonzero(thin[lanes.edge] & self._motor)
        if not len(told):
            return state
        table = _join(state.vehicles, self._expected(told, arriving_vps, state))
        vehicles = np.bincount(table.lane, table.certainty, len(lanes.ids)).astype(np.float64)
        queue = np.maximum(state.lane_queue_veh.value, self._queue)
        known = state.lane_vehicles.valid.copy()
        known[told] = True
        return replace(
            state,
            vehicles=table,
            lane_vehicles=_set(state.lane_vehicles, told, vehicles, known),
            lane_queue_veh=_set(state.lane_queue_veh, told, queue, known),
        )

    def _open_part(self, state: NetworkState, lamps: Sequence[LampRecord | None]) -> Floats:
        """(L,) share of the lane's vehicles that have green; all where the lamps are not known."""
        moves, answer = self._network.movements, np.zeros(len(self._network.lanes.ids))
        for m in self._at_signal:
            record = lamps[int(moves.signal[m])]
            if record is None or record.state[int(moves.link[m])] in GREEN:
                answer[moves.from_lane[m]] += state.movement_share.value[m]
        return np.minimum(answer, 1.0)

    def _expected(self, told: Ints | NDArray[np.intp], arriving_vps: Floats, state: NetworkState) -> VehicleTable:
        """Vehicles of the told lanes beyond those that the state has there already."""
        lanes, table = self._network.lanes, state.vehicles
        have = np.bincount(table.lane, table.certainty, len(lanes.ids))
        rows: list[tuple[int, int, float, float, float]] = []  # number, lane, position, speed, certainty
        for lane in told.tolist():
            length_m, limit_mps = float(lanes.length_m[lane]), float(lanes.speed_limit_mps[lane])
            queue, spare = float(self._queue[lane]), float(have[lane])
            each = [
                (length_m - 1.0 - k * VEHICLE_SPACE_M, 0.0, min(1.0, queue - k)) for k in range(int(np.ceil(queue)))
            ]
            tail_m = length_m - queue * VEHICLE_SPACE_M
            gap_m = limit_mps / max(float(arriving_vps[lane]), 1e-6)
            into_m = (state.now_s * limit_mps) % gap_m if gap_m < 1e5 else 0.0
            coming = np.arange(tail_m - gap_m + into_m, 0.0, -gap_m)[:MOST_COMING] if tail_m > 0 else ()
            each += [(float(position_m), limit_mps, 1.0) for position_m in coming]
            for k, (position_m, speed_mps, certainty) in enumerate(each):
                if spare >= 1.0:
                    spare -= 1.0
                elif position_m > 0.0:
                    rows.append((lane * 1000 + k, lane, position_m, speed_mps, certainty))
        columns = np.array(rows, np.float64).reshape(-1, 5)
        count = len(columns)
        return VehicleTable(
            id=-(columns[:, 0].astype(np.int64) + SERIAL_BASE),
            lane=columns[:, 1].astype(np.int32),
            position_m=columns[:, 2],
            speed_mps=columns[:, 3],
            kind=np.zeros(count, np.int32),
            movement=np.full(count, -1, np.int32),
            equipped=np.zeros(count, np.bool_),
            destination_edge=np.full(count, -1, np.int32),
            certainty=columns[:, 4],
            age_s=np.full(count, np.inf),
            movement_sure=np.zeros(count, np.bool_),
            wait_s=np.zeros(count),
        )


def _join(a: VehicleTable, b: VehicleTable) -> VehicleTable:
    return VehicleTable(*(_column(a, b, f.name) for f in fields(VehicleTable)))


_UNTOLD = {
    "movement_sure": True,
    "wait_s": 0.0,
    "late_s": np.nan,
    "platoon": -1,
    "line_movement": -1,
    "weight": 1.0,
}


def _column(a: VehicleTable, b: VehicleTable, name: str) -> Any:
    """One column of both tables; None where neither tells."""
    columns = [getattr(a, name), getattr(b, name)]
    if all(column is None for column in columns):
        return None
    return np.concatenate(
        [np.full(len(t.lane), _UNTOLD[name]) if c is None else c for t, c in zip((a, b), columns, strict=True)]
    )


def _set(estimate: Estimate, lanes: Ints | NDArray[np.intp], value: Floats, valid: Bools) -> Estimate:
    """The estimate with these lanes' values; their variance that of a Poisson count."""
    values, variance = estimate.value.copy(), estimate.variance.copy()
    values[lanes] = value[lanes]
    variance[lanes] = values[lanes] + 1.0
    return replace(estimate, value=values, variance=variance, valid=valid)
