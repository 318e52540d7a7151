"""A drawn crossroads with walkers, vehicles on it by hand, and the second-by-second life of its lamps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from networks.batches import VEHICLE_KINDS
from networks.graph import Network
from networks.state import Estimate, NetworkState, VehicleTable
from signals.arbiter import decide
from signals.controllers.base import Controller
from signals.lamps import LampRecord
from signals.plan import ApprovedPlan

T0_S = 1_772_000_000.0


class Vehicle(NamedTuple):
    lane: int
    before_m: float  # the lane's end
    kind: str = "car"
    movement: int = -1
    destination: int = -1
    speed_mps: float = 0.0
    late_s: float = float("nan")
    platoon: int = -1
    id: int = 0


def table_of(network: Network, vehicles: Sequence[Vehicle]) -> VehicleTable:
    count = len(vehicles)
    lane = np.array([v.lane for v in vehicles], np.int32)
    return VehicleTable(
        id=np.array([v.id or i + 1 for i, v in enumerate(vehicles)], np.int64),
        lane=lane,
        position_m=network.lanes.length_m[lane] - np.array([v.before_m for v in vehicles], float),
        speed_mps=np.array([v.speed_mps for v in vehicles], float),
        kind=np.array([VEHICLE_KINDS.index(v.kind) for v in vehicles], np.int32),
        movement=np.array([v.movement for v in vehicles], np.int32),
        equipped=np.zeros(count, np.bool_),
        destination_edge=np.array([v.destination for v in vehicles], np.int32),
        certainty=np.ones(count),
        age_s=np.zeros(count),
        late_s=np.array([v.late_s for v in vehicles], float),
        platoon=np.array([v.platoon for v in vehicles], np.int64),
    )


def state_of(network: Network, vehicles: Sequence[Vehicle], now_s: float) -> NetworkState:
    lanes, edges, moves = len(network.lanes.ids), len(network.edges.ids), len(network.movements.turn)
    table = table_of(network, vehicles)
    count = np.bincount(table.lane, minlength=lanes).astype(float)
    queue = np.bincount(table.lane[table.speed_mps < 2.0], minlength=lanes).astype(float)
    none, sure = np.zeros(lanes), np.ones(lanes, np.bool_)
    unknown = Estimate.unknown(edges)
    return NetworkState(
        now_s,
        unknown,
        unknown,
        unknown,
        Estimate(queue, none, none, sure),
        Estimate(count, none, none, sure),
        Estimate(np.full(moves, 0.5), np.zeros(moves), np.zeros(moves), np.ones(moves, np.bool_)),
        table,
        (None,) * len(network.signals),
        1.0,
        (),
    )


def motor_lanes(network: Network, edge: str) -> list[int]:
    index = network.edge_index[edge]
    lanes = range(int(network.edges.first_lane[index]), int(network.edges.first_lane[index + 1]))
    return [lane for lane in lanes if network.lanes.allowed[lane] & 1]


def movement_between(network: Network, edge: str, onto: str) -> int:
    moves, lanes = network.movements, network.lanes
    return next(
        m
        for m in range(len(moves.turn))
        if lanes.edge[moves.from_lane[m]] == network.edge_index[edge]
        and lanes.edge[moves.to_lane[m]] == network.edge_index[onto]
        and lanes.allowed[moves.from_lane[m]] & 1
    )


def live(
    network: Network,
    controller: Controller,
    vehicles_at: Callable[[int, str], Sequence[Vehicle]],
    seconds: int,
    lamps: LampRecord,
) -> list[str]:
    """The lamps of signal 0 for so many seconds under a controller asked each second; every plan has to be proven.

    `vehicles_at(second, lamps)` tells what is on the street.
    """
    plan: ApprovedPlan | None = None
    record, shown = lamps, []
    for second in range(seconds):
        now_s = T0_S + second
        state = state_of(network, vehicles_at(second, record.state), now_s)
        others: list[LampRecord | None] = [None] * (len(network.signals) - 1)
        proposals = controller.propose(state, None, [record, *others], valid_from_s=now_s + 1.0)
        decision = decide(proposals, network.signals, [record, *others], now_s=now_s, first_version=second)
        assert [str(v) for _, violations in decision.refused for v in violations] == []
        plan = decision.approved[0] if decision.approved else plan
        if plan is not None:
            record = record.then(plan.plan.state_at(now_s + 1.0), now_s + 1.0)
        shown.append(record.state)
    return shown
