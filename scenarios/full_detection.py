"""Adaptive control of a running simulation in which every vehicle is seen.

Every change of lamps is proven by `signals.safety.approve` before it is shown.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from networks.graph import Network
from signals.controllers.approaches import StopLineMap
from signals.controllers.junction_choice import Tuning, travel_time_s
from signals.controllers.rolling_horizon import ApproachRows, LaneRoom, RollingHorizon
from signals.lamps import LampRecord
from signals.plan import SignalPlan
from signals.safety import approve
from signals.transitions import is_stage

SIGHT_M = 250.0


class DetectedControl:
    """Rolling-horizon control with full detection. To be called before each simulated second."""

    def __init__(self, libsumo: Any, network: Network, tuning: Tuning | None = None) -> None:
        self._network = network
        self._controller = RollingHorizon(network, tuning)
        self._street = FullDetection(libsumo, network, self._controller.stop_lines)
        self._plans: dict[int, SignalPlan] = {}

    def __call__(self, now_s: float) -> None:
        street = self._street
        records = street.look(now_s)
        for proposal in self._controller.plan(street.rows(), street.room(), records, valid_from_s=now_s):
            plan = proposal.plan
            record = records[plan.signal]
            if record is None or plan.steps[0].state == record.state or not is_stage(record.state):
                continue
            approved = approve(plan, self._network.signals[plan.signal], record, now_s=now_s, version=int(now_s))
            self._plans[plan.signal] = approved.plan
        for index, plan in self._plans.items():
            street.show(index, plan.state_at(now_s))


class FullDetection:
    """Everything a detector in every lane and vehicle would tell, read from the running simulation."""

    def __init__(self, libsumo: Any, network: Network, stop_lines: StopLineMap) -> None:
        self.ls, self.network, self.stop_lines = libsumo, network, stop_lines
        self.records: list[LampRecord | None] = [None] * len(network.signals)
        movements = network.movements
        at_signals = np.concatenate([x[movements.signal >= 0] for x in (movements.from_lane, movements.to_lane)])
        self._lane_index = network.lane_index
        self._boxes = [
            (m, movements.internal_lanes[m][0])
            for m in np.flatnonzero((movements.signal >= 0) & (movements.inner_m > 0.0)).tolist()
        ]
        self._watched_lanes = [int(lane) for lane in np.unique(at_signals[at_signals >= 0])]

    def look(self, now_s: float) -> list[LampRecord | None]:
        for index, signal in enumerate(self.network.signals):
            record = self.records[index]
            if record is None:
                state = signal.stages[0].state
                self.ls.trafficlight.setRedYellowGreenState(signal.id, state)
                self.records[index] = LampRecord.start(state, now_s)
            else:
                self.records[index] = record.then(record.state, now_s)
        return self.records

    def show(self, index: int, state: str) -> None:
        record = self.records[index]
        if record is not None and record.state != state:
            self.records[index] = record.then(state, record.at_s)
            self.ls.trafficlight.setRedYellowGreenState(self.network.signals[index].id, state)

    def rows(self) -> ApproachRows:
        vehicle, ids = self.ls.vehicle, self.network.signal_index
        lane_of, limits, offset = (
            self.stop_lines.link_lane,
            self.network.lanes.speed_limit_mps,
            self.stop_lines.link_offset,
        )
        columns: list[tuple[float, ...]] = []
        for name in vehicle.getIDList():
            ahead = vehicle.getNextTLS(name)
            if not ahead:
                continue
            signal_id, link, distance, _ = ahead[0]
            index = ids.get(signal_id)
            if index is None or distance > SIGHT_M or lane_of[offset[index] + link] < 0:
                continue
            limit = float(limits[lane_of[offset[index] + link]])
            onward = (-1, -1, 0.0)
            if len(ahead) > 1 and ahead[1][0] in ids:
                onward = (ids[ahead[1][0]], ahead[1][1], ahead[1][2] - distance)
            speed, waits = vehicle.getSpeed(name), vehicle.getWaitingTime(name)
            columns.append((index, link, distance, speed, waits, limit, *onward, self._movement(name, index, link)))
        table = np.array(columns, np.float64).reshape(-1, 10)
        return ApproachRows(
            signal=table[:, 0].astype(np.int32),
            link=table[:, 1].astype(np.int32),
            movement=table[:, 9].astype(np.int32),
            distance_m=table[:, 2],
            arrival_s=travel_time_s(table[:, 2], table[:, 3], np.maximum(table[:, 5], 3.0)),
            wait_s=table[:, 4],
            weight=np.ones(len(table)),
            stopped=table[:, 3] < 0.5,
            onward_signal=table[:, 6].astype(np.int32),
            onward_link=table[:, 7].astype(np.int32),
            onward_m=table[:, 8],
        )

    def _movement(self, name: str, signal: int, link: int) -> int:
        """The movement of a vehicle in an approach lane, -1 where lane and link do not tell."""
        lane = self._lane_index.get(self.ls.vehicle.getLaneID(name), -1)
        found = [
            m
            for m in self.network.signals[signal].link_movements[link]
            if self.network.movements.from_lane[m] == lane
        ]
        if len(found) == 1:
            return found[0]
        if found:
            for ahead in self.ls.vehicle.getNextLinks(name):
                for m in found:
                    if self._lane_index.get(ahead[0]) == self.network.movements.to_lane[m]:
                        return m
        return -1

    def room(self) -> LaneRoom:
        lane = self.ls.lane
        count = len(self.network.lanes.ids)
        vehicles, moving = np.zeros(count), np.ones(count)
        for index in self._watched_lanes:
            name = self.network.lanes.ids[index]
            vehicles[index] = lane.getLastStepVehicleNumber(name)
            if vehicles[index]:
                moving[index] = 1.0 - lane.getLastStepHaltingNumber(name) / vehicles[index]
        inside = np.zeros(len(self.network.movements.turn))
        for m, name in self._boxes:
            inside[m] = lane.getLastStepHaltingNumber(name)
        return LaneRoom(vehicles, moving, inside)
