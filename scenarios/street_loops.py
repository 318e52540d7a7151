"""Induction loops worked out from where the vehicles are, for a SUMO run that was started without any."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from networks.city import Detector
from networks.graph import Bools, Floats, Ints, Network

Crossing = tuple[str, float, float, float, str]
"""As SUMO's `inductionloop.getVehicleData` says it: id, length, entered, left (-1: still there), type."""


SHORT_M = 30.0  # a lane no longer than this may be driven over between two looks


class _Over(NamedTuple):
    """A vehicle on a loop."""

    loop: str
    entered_s: float
    ahead_m: float  # its front is so far beyond the loop


class PositionLoops:
    """Stands in for `libsumo.inductionloop`: the same two questions, answered for the second looked at last.

    Steps are one second and SUMO's default (Euler) step method moves a vehicle by its speed, evenly over the second.
    As in SUMO, a vehicle changes lanes after it has moved. One that changes lanes off a loop, or ends its trip there,
    leaves it without being counted; one that changes lanes onto a loop is on it.
    """

    def __init__(self, sumo: Any, network: Network, detectors: Sequence[Detector]) -> None:
        self._vehicle = sumo.vehicle
        self._edge = network.lanes.edge
        self._loops: dict[int, list[tuple[str, float]]] = defaultdict(list)
        for detector in sorted(detectors, key=lambda d: d.position_m):
            self._loops[detector.lane].append((detector.id, detector.position_m))
        moves = network.movements
        self._lane_m = network.lanes.length_m
        short = [a for a in self._loops if self._lane_m[a] <= SHORT_M]
        self._beyond = {  # of a short lane: the lanes that follow, and the way through the junction between
            a: [(int(moves.to_lane[m]), float(moves.length_m[m])) for m in network.lane_movements[a].tolist()]
            for a in short
        }
        self._inner = {name: a for a in short for m in network.lane_movements[a] for name in moves.internal_lanes[m]}
        self._feeds: dict[int, list[int]] = defaultdict(list)
        for a in short:
            for m in network.lane_feeders[a].tolist():
                self._feeds[int(moves.from_lane[m])].append(a)
        self._near: dict[str, int] = {}  # lane from which one comes to a short one, for those not yet seen beyond it
        self._length_m: dict[str, float] = {}
        self._before: dict[str, tuple[int, float]] = {}  # dense lane and position of those on lanes with loops
        self._over: dict[str, list[_Over]] = {}
        self._said: dict[str, list[Crossing]] = {}

    def look(self, names: Sequence[str], lane: Ints, speed_mps: Floats, motor: Bools, now_s: float) -> None:
        """Follow all vehicles (V,) through the second that ended at `now_s`, simulated time."""
        before, over, near = self._before, self._over, self._near
        self._before, self._over, self._near, self._said = {}, {}, {}, defaultdict(list)
        loops = self._loops
        for name, here, moved_m, counts in zip(names, lane.tolist(), speed_mps.tolist(), motor.tolist(), strict=True):
            was = before.get(name)
            held = over.get(name)
            came = near.get(name)
            if here in self._feeds and counts:
                self._near[name] = here
            if not counts or (here not in loops and was is None and held is None and came is None):
                continue
            position_m = float(self._vehicle.getLanePosition(name)) if here in loops else 0.0
            if here in loops:
                self._before[name] = here, position_m
            changed = was is not None and here >= 0 and here != was[0] and self._edge[here] == self._edge[was[0]]
            length_m = self._length(name)
            touched = [] if held is None else [o._replace(ahead_m=o.ahead_m + moved_m) for o in held]
            if was is not None and was[0] != here:
                touched += self._touched(was[0], was[1], was[1] + moved_m, moved_m, now_s)
            if changed:  # SUMO moves first and changes lanes then
                touched = [o for o in touched if o.ahead_m >= length_m]
            if here in loops and not changed:
                begin_m = was[1] if was is not None and was[0] == here else max(position_m - moved_m, -1e-9)
                touched += self._touched(here, begin_m, position_m, moved_m, now_s)
            if came is not None and (was is None or was[0] == came):
                touched += self._driven_over(name, came, here, moved_m, now_s)
            if here in loops and changed:
                touched += [
                    _Over(loop, now_s, position_m - at_m)
                    for loop, at_m in loops[here]
                    if position_m - length_m < at_m <= position_m
                ]
            kept = []
            for loop, entered_s, ahead_m in touched:
                left = ahead_m >= length_m
                left_s = now_s - (ahead_m - length_m) / max(moved_m, 1e-6) if left else -1.0
                self._said[loop].append((name, length_m, entered_s, left_s, ""))
                if not left:
                    kept.append(_Over(loop, entered_s, ahead_m))
            if kept:
                self._over[name] = kept

    def getLastStepVehicleNumber(self, loop: str) -> int:  # noqa: N802 - SUMO's name
        return len(self._said.get(loop, ()))

    def getVehicleData(self, loop: str) -> list[Crossing]:  # noqa: N802 - SUMO's name
        return self._said.get(loop, [])

    def _touched(self, lane: int, begin_m: float, end_m: float, moved_m: float, now_s: float) -> list[_Over]:
        """Loops of a lane that a front reached while it drove from `begin_m` (not included) to `end_m`."""
        return [
            _Over(loop, now_s - (end_m - at_m) / max(moved_m, 1e-6), end_m - at_m)
            for loop, at_m in self._loops[lane]
            if begin_m < at_m <= end_m
        ]

    def _driven_over(self, name: str, came: int, here: int, moved_m: float, now_s: float) -> list[_Over]:
        """Loops of a short lane that one who came from the lane `came` was never seen on."""
        inside_m = float(self._vehicle.getLanePosition(name))
        if here < 0:
            lane = self._inner.get(self._vehicle.getLaneID(name), -1)
            if lane not in self._feeds[came]:
                self._near[name] = came  # still before it
                return []
        else:
            ways = [(a, m) for a in self._feeds[came] for to, m in self._beyond[a] if to == here]
            if here in self._beyond or not ways:
                return []
            lane, inner_m = ways[0]
            inside_m += inner_m
        ahead_m = [(loop, inside_m + self._lane_m[lane] - at_m) for loop, at_m in self._loops[lane]]
        return [_Over(loop, now_s - min(beyond_m / max(moved_m, 1e-6), 1.0), beyond_m) for loop, beyond_m in ahead_m]

    def _length(self, name: str) -> float:
        length_m = self._length_m.get(name)
        if length_m is None:
            length_m = self._length_m[name] = float(self._vehicle.getLength(name))
        return length_m
