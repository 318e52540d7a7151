"""Who cannot go although the lamp is green, or would be: held up beyond the line, or waiting for a gap before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from networks.graph import Bools, Network
from signals.controllers.approach_rows import ApproachRows, LaneRoom, pick
from signals.controllers.approaches import StopLineMap
from signals.lamps import GREEN, LampRecord

STALL_AFTER_S = 8.0  # first at the line at a protected green for so long: something beyond the line is in the way
STALL_LASTS_S = 15  # as far as anybody can tell
STALL_WITHIN_M = 8.0
GAP_WITHIN_M = 10.0  # of a line without a signal: who stands so near to it waits for a gap


def find_stalled(
    rows: ApproachRows, room: LaneRoom, lamps: Sequence[LampRecord | None], network: Network, now_s: float
) -> Bools:
    """Per lane: the first driver stands at a protected green, and has for longer than setting off takes.

    Nobody sees what holds him: a blocked box, another who gives way to him, a lane he has to leave. But as long
    as he stands his lane does not empty, whatever the lamps say, and two junctions can wait for each other.
    """
    lane = network.movements.from_lane[rows.movement]
    nearest_m = np.full(len(network.lanes.ids), np.inf)
    np.minimum.at(nearest_m, lane, rows.distance_m)
    first = rows.stopped & (rows.wait_s >= STALL_AFTER_S) & (rows.distance_m < STALL_WITHIN_M)
    answer = np.zeros(len(nearest_m), np.bool_)
    for row in np.flatnonzero(first & (rows.distance_m == nearest_m[lane])).tolist():
        record = lamps[rows.signal[row]]
        link = int(rows.link[row])
        if record is None or record.state[link] != "G" or now_s - record.green_from_s[link] < STALL_AFTER_S:
            continue
        answer[lane[row]] = not _waits_for_gap(int(rows.movement[row]), room, lamps, network)
    return answer


def _waits_for_gap(movement: int, room: LaneRoom, lamps: Sequence[LampRecord | None], network: Network) -> bool:
    """Has whoever stands at a green room beyond, and somebody to give way to whose lamp is green as well?"""
    moves = network.movements
    if not room.fits_one(moves.to_lane[movement], network.lanes.length_m):
        return False
    foes = moves.gives_way_to[movement] if len(moves.gives_way_to) else ()
    for foe in foes:
        record = lamps[moves.signal[foe]] if moves.signal[foe] >= 0 else None
        if record is None or record.state[moves.link[foe]] in GREEN:
            return True
    return False


def without_held_back(rows: ApproachRows, room: LaneRoom, network: Network, lines: StopLineMap) -> ApproachRows:
    """The rows without those who wait for a gap at a line without a signal, and whoever is behind them there.

    Nobody knows when the traffic they give way to lets them go, and a green kept for them is lost. Where there is
    no room beyond that line, it is the signal that they wait for.
    """
    if rows.gap_lane is None:
        return rows
    gap_lane, count = rows.gap_lane, len(network.lanes.ids)
    first_m = np.full(count, np.inf)
    before = np.flatnonzero(gap_lane >= 0)
    np.minimum.at(first_m, gap_lane[before], rows.distance_m[before])
    first = before[rows.distance_m[before] == first_m[gap_lane[before]]]
    beyond = lines.gap_beyond[gap_lane[first]]
    has_room = room.fits_one(beyond, network.lanes.length_m)
    at_line = rows.distance_m[first] - lines.ahead_m[gap_lane[first]] < GAP_WITHIN_M
    held = np.zeros(count + 1, np.bool_)  # the last: of no lane
    held[gap_lane[first[rows.stopped[first] & at_line & has_room]]] = True
    return replace(pick(rows, ~held[gap_lane]), gap_lane=None)
