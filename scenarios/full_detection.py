"""Adaptive control of a running simulation in which every vehicle is seen.

Every change of lamps is proven by `signals.safety.approve` before it is shown. Without priorities the controller is
told rows of vehicles on their way to stop lines, with all that SUMO knows of them; with a policy a `NetworkState`, as
in the live loop, because priorities need to know who is who.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from networks.graph import Bools, Network
from networks.state import Estimate, NetworkState, VehicleTable
from scenarios.travellers import Travellers
from scenarios.waiting import Calls
from signals.arbiter import decide
from signals.controllers.approach_rows import NOWHERE, ApproachRows, LaneRoom
from signals.controllers.approaches import StopLineMap
from signals.controllers.junction_choice import Tuning, driven_speed_mps, travel_time_s
from signals.controllers.preemption import Preemption
from signals.controllers.rolling_horizon import RollingHorizon
from signals.lamps import LampRecord
from signals.plan import Proposal, SignalPlan
from signals.priority import Policy, expect_walkers
from signals.transitions import is_stage

SIGHT_M = 250.0


class DetectedControl:
    """Live control with full detection. To be called before each simulated second.

    A signal that no vehicle lane leads to, or that has no stage, is left to its own programme. A plan that is refused
    changes nothing: the lamps stand.
    """

    def __init__(
        self, libsumo: Any, network: Network, tuning: Tuning | None = None, *, policy: Policy | None = None
    ) -> None:
        """`policy` None: all count alike, who walks as well. Raises InputError, see `expect_walkers`."""
        self._network = network
        calls = Calls(libsumo, network, None if policy is None else expect_walkers(policy, network))
        self._horizon = RollingHorizon(network, tuning, walkers=calls)
        self._priority = None if policy is None else Preemption(network, self._horizon, policy)
        driven = [bool(len(m.lanes) and m.signal.stages) for m in self._horizon.models]
        self._street = FullDetection(
            libsumo, network, self._horizon.stop_lines, driven, calls, vouch_for_lanes=not self._horizon.may_lock
        )
        self._plans: dict[int, SignalPlan] = {}
        self._refused = 0

    def __call__(self, now_s: float) -> None:
        street = self._street
        records = street.look(now_s)
        proposals: Sequence[Proposal]
        if self._priority is None:
            proposals = self._horizon.plan(street.rows(), street.room(), records, valid_from_s=now_s)
        else:
            proposals = self._priority.propose(street.state(now_s), None, records, valid_from_s=now_s)
        decision = decide(proposals, self._network.signals, records, now_s=now_s, first_version=int(now_s))
        self._refused += len(decision.refused)
        for approved in decision.approved:
            plan, record = approved.plan, records[approved.plan.signal]
            if record is not None and (plan.steps[0].state != record.state or not is_stage(record.state)):
                self._plans[plan.signal] = plan
        for index, plan in self._plans.items():
            street.show(index, plan.state_at(now_s))

    def in_charge(self, signal: int) -> bool:
        """The lamps of this signal are ours, not its own programme's."""
        return self._street.records[signal] is not None

    def report(self) -> dict[str, Any]:
        return {"refused": self._refused}


class FullDetection:
    """Everything a detector in every lane and vehicle would tell, read from the running simulation."""

    def __init__(
        self,
        libsumo: Any,
        network: Network,
        stop_lines: StopLineMap,
        driven: Sequence[bool] | None = None,
        calls: Calls | None = None,
        *,
        vouch_for_lanes: bool = True,
    ) -> None:
        """`driven`: signals to take over; None: all. `calls`: told of who is in sight at every look; None: nobody.

        `vouch_for_lanes` False: detectors vouch for empty crossings alone. Where two signals a few metres apart can
        lock, they locked more often when empty lanes no longer got their green by the clock.
        """
        self.ls, self.network, self.stop_lines = libsumo, network, stop_lines
        self._driven = [True] * len(network.signals) if driven is None else driven
        self.records: list[LampRecord | None] = [None] * len(network.signals)
        movements = network.movements
        at_signals = np.concatenate([x[movements.signal >= 0] for x in (movements.from_lane, movements.to_lane)])
        self._lane_index = network.lane_index
        self._boxes = [
            (m, movements.internal_lanes[m][0])
            for m in np.flatnonzero((movements.signal >= 0) & (movements.inner_m > 0.0)).tolist()
        ]
        self._ways = [
            (m, movements.internal_lanes[m])
            for m in np.flatnonzero(movements.signal >= 0).tolist()
            if movements.internal_lanes[m]
        ]
        watched = np.unique(np.concatenate([at_signals, stop_lines.gap_beyond]))
        self._watched_lanes = [int(lane) for lane in watched[watched >= 0]]
        self._travellers = Travellers(libsumo, network)
        self._calls, self._vouch_for_lanes = calls, vouch_for_lanes
        self._ahead: dict[str, Any] = {}  # signals ahead of each vehicle
        self._links_of_lane: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for m in np.flatnonzero(movements.signal >= 0).tolist():
            place = (int(movements.signal[m]), int(movements.link[m]))
            self._links_of_lane[network.lanes.ids[movements.from_lane[m]]].append(place)

    def look(self, now_s: float) -> list[LampRecord | None]:
        """The lamps, and a look at the vehicles. A red that detectors vouch nobody waits at counts from now."""
        vehicle = self.ls.vehicle
        self._ahead = {name: vehicle.getNextTLS(name) for name in vehicle.getIDList()}
        if self._calls is not None:
            self._calls.look(self._wanted_links() if self._vouch_for_lanes else ())
        for index, signal in enumerate(self.network.signals):
            record = self.records[index]
            if not self._driven[index]:
                continue
            if record is None:
                state = signal.stages[0].state
                self.ls.trafficlight.setRedYellowGreenState(signal.id, state)
                self.records[index] = LampRecord.start(state, now_s)
            else:
                record = record.then(record.state, now_s)
                self.records[index] = record if self._calls is None else record.vouched(self._unwanted(index), now_s)
        return self.records

    def _unwanted(self, signal: int) -> Bools:
        assert self._calls is not None
        return self._calls.unwanted(signal) if self._vouch_for_lanes else self._calls.nobody_on_foot(signal)

    def _wanted_links(self) -> Iterator[tuple[int, int]]:
        """Signal and link for every vehicle: where its way leads, and all that its lane leads to.

        Whoever stands on the wrong lane waits at its lamp as well, and may be in the way of others until it opens.
        """
        ids = self.network.signal_index
        for name, ahead in self._ahead.items():
            if ahead and ahead[0][0] in ids:
                yield ids[ahead[0][0]], ahead[0][1]
                yield from self._links_of_lane.get(self.ls.vehicle.getLaneID(name), ())

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
        for name, ahead in self._ahead.items():
            if not ahead:
                continue
            signal_id, link, distance, _ = ahead[0]
            index = ids.get(signal_id)
            if index is None or distance > SIGHT_M or lane_of[offset[index] + link] < 0:
                continue
            limit = float(limits[lane_of[offset[index] + link]])
            onward = (NOWHERE, -1, 0.0)
            if len(ahead) > 1 and ahead[1][0] in ids:
                onward = (ids[ahead[1][0]], ahead[1][1], ahead[1][2] - distance)
            speed, waits = vehicle.getSpeed(name), vehicle.getWaitingTime(name)
            here, here_m, limit_here = self._lane_index.get(vehicle.getLaneID(name), -1), 0.0, limit
            movement = self._movement(name, here, index, link)
            if here >= 0:
                limit_here = float(limits[here])
                here_m = float(self.network.lanes.length_m[here]) - vehicle.getLanePosition(name)
            gap_lane = -1
            if here >= 0 and self.stop_lines.signal[here] == index:
                gap_lane = int(self.stop_lines.gap_lane[here])
            driven = (limit, limit_here, here_m)
            columns.append((index, link, distance, speed, waits, *onward, movement, *driven, gap_lane))
        table = np.array(columns, np.float64).reshape(-1, 13)
        speed = driven_speed_mps(table[:, 2], table[:, 11], (table[:, 10], table[:, 9]), table[:, 3])
        return ApproachRows(
            signal=table[:, 0].astype(np.int32),
            link=table[:, 1].astype(np.int32),
            movement=table[:, 8].astype(np.int32),
            distance_m=table[:, 2],
            arrival_s=travel_time_s(table[:, 2], table[:, 3], speed),
            wait_s=table[:, 4],
            weight=np.ones(len(table)),
            stopped=table[:, 3] < 0.5,
            onward_signal=table[:, 5].astype(np.int32),
            onward_link=table[:, 6].astype(np.int32),
            onward_m=table[:, 7],
            gap_lane=table[:, 12].astype(np.int32),
        )

    def _movement(self, name: str, lane: int, signal: int, link: int) -> int:
        """The movement of a vehicle in an approach lane, -1 where lane and link do not tell."""
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
        inside, caught = np.zeros((2, len(self.network.movements.turn)))
        for m, names in self._ways:
            caught[m] = sum(lane.getLastStepHaltingNumber(name) for name in names)
        for m, name in self._boxes:
            inside[m] = lane.getLastStepHaltingNumber(name)
        return LaneRoom(vehicles, moving, inside, caught)

    @cached_property
    def _inside(self) -> dict[str, tuple[int, float]]:
        """Of each lane inside a junction the lane that it leads to, and its begin as a position on that, below 0."""
        found: dict[str, tuple[int, float]] = {}
        moves = self.network.movements
        for lane, names in zip(moves.to_lane.tolist(), moves.internal_lanes, strict=True):
            begin_m = 0.0
            for name in reversed(names):
                begin_m -= self.ls.lane.getLength(name)
                found[name] = lane, begin_m
        return found

    def state(self, now_s: float) -> NetworkState:
        """The same as a state: every vehicle on a lane or in a junction, with its kind, destination and lateness."""
        vehicle, network = self.ls.vehicle, self.network
        columns: list[tuple[float, ...]] = []
        for name, ahead in self._ahead.items():
            where, movement, line = vehicle.getLaneID(name), -1, -1
            lane, begin_m = self._inside.get(where, (self._lane_index.get(where, -1), 0.0))
            if lane < 0 or vehicle.isStopped(name):
                continue  # in a junction on its way to no lane of the network, or at a bus stop
            if ahead and ahead[0][0] in network.signal_index:
                signal, link = network.signal_index[ahead[0][0]], ahead[0][1]
                line = movement = self._movement(name, lane, signal, link)
                if line < 0 and len(network.signals[signal].link_movements[link]) == 1:
                    line = network.signals[signal].link_movements[link][0]
            who = self._travellers.look(name, now_s)
            place = (begin_m + vehicle.getLanePosition(name), vehicle.getSpeed(name), vehicle.getWaitingTime(name))
            columns.append((who.number, lane, who.kind, movement, who.destination_edge, line, *place, who.late_s))
        table = np.array(columns, np.float64).reshape(-1, 10)
        ints = table[:, :6].astype(np.int32)
        count, lanes, edges = len(table), len(network.lanes.ids), len(network.edges.ids)
        vehicles = VehicleTable(
            id=ints[:, 0].astype(np.int64),
            lane=ints[:, 1],
            position_m=table[:, 6],
            speed_mps=table[:, 7],
            kind=ints[:, 2],
            movement=ints[:, 3],
            equipped=np.ones(count, np.bool_),
            destination_edge=ints[:, 4],
            certainty=np.ones(count),
            age_s=np.zeros(count),
            late_s=table[:, 9],
            wait_s=table[:, 8],
            line_movement=ints[:, 5],
        )
        on_lane = table[:, 6] >= 0.0
        held = np.bincount(ints[on_lane, 1], minlength=lanes).astype(np.float64)
        queue = np.bincount(ints[on_lane, 1], table[on_lane, 7] < 2.0, minlength=lanes).astype(np.float64)
        sure, none, unknown = np.ones(lanes, np.bool_), np.zeros(lanes), Estimate.unknown(edges)
        return NetworkState(
            now_s,
            unknown,
            unknown,
            unknown,
            Estimate(queue, none, none, sure),
            Estimate(held, none, none, sure),
            Estimate.unknown(len(network.movements.turn)),
            vehicles,
            (None,) * len(network.signals),
            1.0,
            (),
        )
