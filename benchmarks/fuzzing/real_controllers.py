"""The project's own controllers on real networks, fed with random traffic through sensors that fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np

from benchmarks.fuzzing.switching import Thinker
from networks.graph import Network
from networks.state import Estimate, NetworkState, VehicleTable
from signals.controllers.base import Controller
from signals.controllers.max_pressure import MaxPressure
from signals.controllers.rolling_horizon import RollingHorizon
from signals.lamps import LampRecord
from signals.plan import Proposal

MAKERS: dict[str, Callable[[Network], Controller]] = {"rolling": RollingHorizon, "pressure": MaxPressure}
_VEHICLES_A_LANE = 3.0


class RealController(Thinker):
    """One controller over a whole network; every think it sees another state of the streets."""

    def __init__(self, kind: str, network: Network, rng: Random) -> None:
        self.name = kind
        self._make = MAKERS[kind]
        self._network = network
        self._numbers = np.random.default_rng(rng.getrandbits(63))
        used = np.unique(network.movements.from_lane[network.movements.signal >= 0])
        self._lanes = used.astype(np.int32)
        self._demand = self._numbers.uniform(0.0, 2.0, len(self._lanes))
        self.restart()

    def restart(self) -> None:
        self._controller = self._make(self._network)

    def propose(self, lamps: Sequence[LampRecord | None], now_s: float, valid_from_s: float) -> list[Proposal]:
        state = self._broken(self._state(now_s))
        return list(self._controller.propose(state, None, lamps, valid_from_s=valid_from_s))

    def _state(self, now_s: float) -> NetworkState:
        numbers, network = self._numbers, self._network
        lanes, edges = len(network.lanes.ids), len(network.edges.ids)
        self._demand = np.clip(self._demand + numbers.normal(0.0, 0.1, len(self._lanes)), 0.0, 3.0)
        many = numbers.poisson(_VEHICLES_A_LANE * self._demand)
        lane = np.repeat(self._lanes, many).astype(np.int32)
        count = len(lane)
        position_m = network.lanes.length_m[lane] * numbers.random(count)
        speed_mps = np.where(numbers.random(count) < 0.4, 0.0, numbers.uniform(0.0, 15.0, count))
        integers = np.full(count, -1, np.int32)
        vehicles = VehicleTable(
            id=np.arange(count, dtype=np.int64),
            lane=lane,
            position_m=position_m,
            speed_mps=speed_mps,
            kind=np.zeros(count, np.int32),
            movement=integers,
            equipped=np.zeros(count, np.bool_),
            destination_edge=integers,
            certainty=np.ones(count),
            age_s=np.zeros(count),
        )
        on_lane = np.bincount(lane, minlength=lanes).astype(np.float64)
        queue = np.bincount(lane, speed_mps < 1.0, lanes)
        return NetworkState(
            now_s=now_s,
            edge_flow_vps=Estimate.unknown(edges),
            edge_speed_mps=Estimate.unknown(edges),
            edge_density_vpm=Estimate.unknown(edges),
            lane_queue_veh=_known(queue),
            lane_vehicles=_known(on_lane),
            movement_share=Estimate.unknown(len(network.movements.turn)),
            vehicles=vehicles,
            lamps=(None,) * len(network.signals),
            coverage=1.0,
            unhealthy=(),
        )

    def _broken(self, state: NetworkState) -> NetworkState:
        """Sensors missing, stuck, absurd or without a number."""
        numbers, table = self._numbers, state.vehicles
        count = len(table.id)
        fault = numbers.integers(0, 12)
        some = numbers.random(count) < 0.3
        if fault == 0:
            return replace(state, vehicles=VehicleTable.empty(), lane_vehicles=_none_of(state.lane_vehicles))
        if fault == 1:
            return replace(state, vehicles=_change(table, speed_mps=np.where(some, np.nan, table.speed_mps)))
        if fault == 2:
            return replace(state, vehicles=_change(table, position_m=np.where(some, np.nan, table.position_m)))
        if fault == 3:
            absurd = replace(state.lane_vehicles, value=state.lane_vehicles.value * 1e6 - 5.0)
            return replace(state, lane_vehicles=absurd, lane_queue_veh=absurd)
        if fault == 4:
            lost = replace(state.lane_queue_veh, value=np.full_like(state.lane_queue_veh.value, np.nan))
            return replace(state, lane_queue_veh=lost, lane_vehicles=lost)
        if fault == 5:
            return replace(state, vehicles=_change(table, certainty=np.where(some, 1e9, table.certainty)))
        if fault == 6:
            return replace(state, now_s=state.now_s + float(numbers.integers(-100, 100)))
        return state


def _known(value: np.ndarray) -> Estimate:
    count = len(value)
    return Estimate(value, np.zeros(count), np.zeros(count), np.ones(count, np.bool_))


def _none_of(estimate: Estimate) -> Estimate:
    return Estimate.unknown(len(estimate.value))


def _change(table: VehicleTable, **columns: Any) -> VehicleTable:
    return replace(table, **columns)
