"""What loops tell the vehicle lists, second by second; those that seem to lie are not heard. See `HeardLoops`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from networks.batches import CountBatch
from networks.city import Detector
from networks.graph import Bools, Floats, Ints, Network
from networks.pieces import StreetPieces
from twin.fusion_kernels import Lists
from twin.lane_vehicles import street_loops
from twin.loop_record import LoopRecord
from twin.sensor_health import LoopHealth

UNSURE_GREEN = 0.3  # of a green under which whoever stands first may have to give way, to walkers too, all the time
BUSY_S = 3.0  # an upstream loop covered for so long: there is no room on the lane
FULL_FRAC = 0.7  # of a lane's places


class _Role(NamedTuple):
    """The loops of one role that lists go by, and what lists are told of them (L,), see `Lanes`."""

    loops: Ints
    live: Bools
    counted: Ints
    share: Floats
    mps: Floats
    idle_s: Floats
    busy_s: Floats


class HeardLoops:
    """Keeps the record of all loops and writes what street lanes are told of them into the lists."""

    def __init__(
        self, network: Network, detectors: Sequence[Detector], lists: Lists, pieces: StreetPieces, health: LoopHealth
    ) -> None:
        self._moves, self._line = network.movements, pieces.line
        self._lane = np.array([d.lane for d in detectors], dtype=np.int32)
        self._street = pieces.line[self._lane]
        self._places = np.diff(lists.streets.offset)
        self._lanes = lanes = lists.lanes
        self._shut_s = np.zeros(len(network.lanes.ids))  # for how long no link of the lane has been open
        self._stop = _Role(
            street_loops(pieces, detectors, "stop"),
            lanes.stop_live,
            lanes.stop_count,
            lanes.stop_share,
            lanes.stop_mps,
            lanes.stop_idle_s,
            lanes.stop_busy_s,
        )
        self._up = _Role(
            street_loops(pieces, detectors, "upstream"),
            lanes.up_live,
            lanes.up_count,
            lanes.up_share,
            lanes.up_mps,
            lanes.up_idle_s,
            lanes.up_busy_s,
        )
        self.record = LoopRecord(detectors, -math.inf)
        self.health = health

    def step(self, second: int, batch: CountBatch, rows: Ints, heard: Bools) -> None:
        """The reports `rows` of the batch as those of this second; `heard`: the signals whose lamps are known."""
        loops = self.record
        rows = self._trusted(second, batch, rows, heard)
        loops.step(second, batch, rows, self._may_leave()[self._lane])
        live = loops.live(float(second))
        for role in (self._stop, self._up):
            lane, speaks = self._street[role.loops], live[role.loops]
            role.live[lane] = speaks
            role.counted[lane] = np.where(speaks, loops.count[role.loops], 0)
            role.share[lane] = np.where(speaks, loops.share[role.loops], -1.0)
            role.mps[lane] = loops.speed_mps[role.loops]
            role.idle_s[lane], role.busy_s[lane] = loops.idle_s[role.loops], loops.busy_s[role.loops]
        passed = np.zeros(len(self._lane))
        passed[self._up.loops] = self._stop.counted[self._street[self._up.loops]]
        loops.note_passed(passed)

    def _may_leave(self) -> Floats:
        """(L,) how surely vehicles may leave the lane and have room beyond, 0 to 1."""
        lanes, moves = self._lanes, self._moves
        room = (lanes.up_busy_s < BUSY_S) & (lanes.listed < FULL_FRAC * self._places)
        room = room[self._line]
        some, sure = np.zeros(len(lanes.listed), np.bool_), np.ones(len(lanes.listed), np.bool_)
        np.logical_or.at(some, moves.from_lane, (lanes.open >= 2) & room[moves.to_lane])
        np.logical_and.at(sure, moves.from_lane, (lanes.open == 3) & room[moves.to_lane])
        return np.where(some & sure, 1.0, UNSURE_GREEN * some)

    def _trusted(self, second: int, batch: CountBatch, rows: Ints, heard: Bools) -> Ints:
        """The rows of loops that are believed; what those that are not told lately is taken back."""
        moves, health = self._moves, self.health
        told = (moves.signal >= 0) & heard[moves.signal] if len(heard) else np.zeros(len(moves.signal), np.bool_)
        may_go = ~told | (self._lanes.open >= 1)
        shut = np.bincount(moves.from_lane, may_go, len(self._shut_s)) == 0
        self._shut_s = np.where(shut, self._shut_s + 1.0, 0.0)
        before = health.excluded.copy()
        health.note(second, batch, rows, self._shut_s, self.record.stuck)
        excluded = health.excluded
        self.record.discard(excluded & ~before)
        return rows[~excluded[batch.detector[rows]]]

    def forget(self, seconds: int, second: int) -> None:
        """Nothing was heard for so many seconds up to `second`."""
        self.record.forget(seconds, second)
        self.health.forget()

    def faults(self, now_s: float) -> list[str]:
        """One line a loop that is not trusted now."""
        return self.health.reasons() + self.record.faults(now_s, self.health.excluded)
