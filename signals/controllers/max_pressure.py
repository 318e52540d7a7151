"""Acyclic max pressure: always the stage that moves the most vehicles to where there is room.

P. Varaiya, "Max pressure control of a network of signalized intersections", Transportation Research C 36 (2013). The
pressure of a movement is the vehicles that it could move less those already standing where it leads; a stage has the
sum over its open movements. Two changes for real streets: on a lane shared by several movements only those vehicles
count that stand before the first one whose movement stays closed; and streams whose waits near the maximum red are
served first (`longest_reds`), since pressure alone may starve them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from networks.graph import Bools, Floats, Ints, Network, Signal
from networks.state import Forecast, NetworkState
from signals.controllers.junction_choice import change_times
from signals.controllers.longest_reds import next_stages
from signals.lamps import GREEN, LampRecord
from signals.plan import LampStep, Proposal, SignalPlan
from signals.rules import encode, rules_of
from signals.safety_kernels import MAJOR, MINOR
from signals.transitions import length_s, settle

SEEN_M = 150.0  # vehicles farther from the stop line do not press yet
HOLD_S = 15.0  # how long a plan stands after its interstage if nothing replaces it
SATURATION_VPS = 0.5  # 1800 veh/h and lane
MINOR_WEIGHT = 0.5  # a permissive green moves about half of what a protected one does
WALKER_VEH = 0.2  # a crossing presses a little: nobody counts who waits there
SPARE_S = 2.0 * HOLD_S  # beside what one more change may take: with less, a link near its longest red comes next
ADVANTAGE = 0.1  # share by which another stage must be better before the lamps change


@dataclass(frozen=True, slots=True)
class _Approach:
    """The signal's movements (n) and their lanes, as arrays."""

    movement: Ints  # (n,) dense movement index
    lane: Ints  # (n,) row into `lanes`
    lanes: Ints  # (A,) dense lane indices of the approach
    to_lane: Ints  # (n,) dense lane index
    weight: Floats  # (S, n) of the movement in each stage: 1 protected, less permissive, 0 closed
    crossings: Floats  # (S,) pedestrian links open in each stage
    opens: Bools  # (S, K) links green in each stage
    change_s: Floats  # (S, S) from one stage to the next
    stay_s: Floats  # (S,) minimum green of the stage


class MaxPressure:
    """Controller for every signal that has at least two stages."""

    name = "max_pressure"

    def __init__(self, network: Network) -> None:
        self._network = network
        self._seen_share = np.minimum(1.0, SEEN_M / np.maximum(network.lanes.length_m, 1.0))
        self._approaches = [_approach(network, signal) for signal in network.signals]

    def propose(
        self,
        state: NetworkState,
        forecast: Forecast | None,
        lamps: Sequence[LampRecord | None],
        *,
        valid_from_s: float,
    ) -> list[Proposal]:
        vehicles = np.where(state.lane_vehicles.valid, state.lane_vehicles.value * self._seen_share, 0.0)
        vehicles = np.maximum(vehicles, np.where(state.lane_queue_veh.valid, state.lane_queue_veh.value, 0.0))
        share = np.where(state.movement_share.valid, state.movement_share.value, 0.0)
        proposals: list[Proposal] = []
        for index, (signal, record) in enumerate(zip(self._network.signals, lamps, strict=True)):
            if record is None or len(signal.stages) < 2:
                continue
            approach = self._approaches[index]
            pressure, served = stage_pressures(approach, vehicles, share)
            proposals.append(_proposal(index, signal, approach, record, pressure, served, valid_from_s))
        return proposals


def stage_pressures(approach: _Approach, vehicles: Floats, share: Floats) -> tuple[Floats, Floats]:
    """Pressure and vehicles that could move, per stage (S,), from vehicles a lane (L,) and shares a movement (M,).

    With share p of a lane's vehicles open and n of them waiting, p (1 - p^n) / (1 - p) stand before the first closed
    one, if movements are mixed at random.
    """
    share_here = share[approach.movement]
    of_lane = np.bincount(approach.lane, share_here, len(approach.lanes))[approach.lane]
    count = np.bincount(approach.lane, minlength=len(approach.lanes))[approach.lane]
    share_here = np.where(of_lane > 0.0, share_here / np.maximum(of_lane, 1e-9), 1.0 / count)  # unknown: even
    waiting = vehicles[approach.lanes]
    is_open = approach.weight > 0.0
    lanes = len(approach.lanes)
    open_share = np.stack([np.bincount(approach.lane, share_here * row, lanes) for row in is_open])
    closed = 1.0 - open_share
    mixed = open_share * (1.0 - open_share**waiting) / np.maximum(closed, 1e-9)
    movable = np.where(closed < 1e-6, waiting, np.minimum(mixed, waiting))  # (S, A)
    part = share_here / np.maximum(open_share[:, approach.lane], 1e-9)
    served = np.where(is_open, movable[:, approach.lane] * part, 0.0)  # (S, n)
    ahead = share_here * vehicles[approach.to_lane]
    gain = approach.weight * np.maximum(0.0, served - ahead)
    return gain.sum(axis=1) + WALKER_VEH * approach.crossings, served.sum(axis=1)


def _proposal(
    index: int,
    signal: Signal,
    approach: _Approach,
    record: LampRecord,
    pressure: Floats,
    served: Floats,
    valid_from_s: float,
) -> Proposal:
    states = [stage.state for stage in signal.stages]
    current = states.index(record.state) if record.state in states else -1
    best, why = _choose(signal, approach, record, pressure, current, valid_from_s)
    steps = () if best == current else settle(signal, record, states[best], valid_from_s)
    lost_s = length_s(steps)
    plan = SignalPlan(
        signal=index,
        signal_id=signal.id,
        steps=(*steps, LampStep(states[best], HOLD_S)),
        valid_from_s=valid_from_s,
        valid_until_s=valid_from_s + lost_s + HOLD_S,
        source=MaxPressure.name,
        reason=f"stage {best}: {why}",
    )
    total = float(served.max(initial=0.0))
    others = np.delete(served, best)
    most_veh = SATURATION_VPS * HOLD_S * max(1, sum(c in GREEN for c in states[best]))
    return Proposal(
        plan=plan,
        cost_veh_s=(total - float(served[best])) * HOLD_S + total * lost_s,
        next_best_veh_s=(total - float(others.max(initial=0.0))) * HOLD_S + total * lost_s,
        served_veh=min(float(served[best]), most_veh),
    )


def _choose(
    signal: Signal, approach: _Approach, record: LampRecord, pressure: Floats, current: int, at_s: float
) -> tuple[int, str]:
    """The stage to show next and why."""
    rules = rules_of(signal)
    closed = ~np.array([c in GREEN for c in record.state])
    if current >= 0 and np.any(~closed & (at_s - record.green_from_s < rules.min_green_s)):
        return current, "minimum green"
    red_since_s = np.where(np.isfinite(record.since_s), record.since_s, record.at_s)
    left_s = np.where(closed & rules.served, rules.max_red_s - (at_s - red_since_s), np.inf)
    due, serving = next_stages(
        approach.opens, approach.change_s, approach.stay_s, max(current, 0), left_s, rules.shortest_wait_s + SPARE_S
    )
    if due:
        longest = int(np.argmin(np.where(approach.opens.any(axis=0), left_s, np.inf)))
        return int(np.argmax(np.where(serving, 1.0 + pressure, 0.0))), f"link {longest} waits"
    best = int(np.argmax(pressure))
    if current >= 0 and pressure[best] <= pressure[current] * (1.0 + ADVANTAGE):
        return current, f"pressure {pressure[current]:.1f} veh"
    return best, f"pressure {pressure[best]:.1f} veh"


def _approach(network: Network, signal: Signal) -> _Approach:
    pairs = [(m, link) for link, moves in enumerate(signal.link_movements) for m in moves]
    movement = np.array([m for m, _ in pairs], np.int32)
    links = np.array([link for _, link in pairs], np.int32)
    lanes, lane = np.unique(network.movements.from_lane[movement], return_inverse=True)
    codes = encode([stage.state for stage in signal.stages]) if signal.stages else np.zeros((0, signal.link_count))
    has_major = (codes == MAJOR).any(axis=0)
    minor = np.where(has_major, MINOR_WEIGHT, 1.0)  # never protected: g is all it ever gets
    weight = np.where(codes == MAJOR, 1.0, np.where(codes == MINOR, minor, 0.0))[:, links]
    opens = (codes == MAJOR) | (codes == MINOR)
    crossings = opens[:, signal.pedestrian].sum(axis=1).astype(np.float64)
    rules = rules_of(signal)
    change_s, _, _ = change_times(opens.astype(np.uint8), rules.clear_s, rules.yellow_s)
    stay_s = np.where(opens, rules.min_green_s, 0.0).max(axis=1, initial=0.0)
    to_lane = network.movements.to_lane[movement]
    return _Approach(
        movement, lane.astype(np.int32), lanes.astype(np.int32), to_lane, weight, crossings, opens, change_s, stay_s
    )
