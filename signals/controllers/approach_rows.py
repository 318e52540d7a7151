"""Vehicles on the way to stop lines and the room on lanes, as arrays: what live control is told of traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from networks.graph import VEHICLE_SPACE_M, Bools, Floats, Ints, Network
from networks.state import NetworkState, VehicleTable
from signals.controllers.approaches import StopLineMap
from signals.controllers.junction_choice import driven_speed_mps, travel_time_s
from signals.lamps import LampRecord

UNKNOWN, NOWHERE = -1, -2  # in place of the signal after this one: by the shares of the lanes; there is none


@dataclass(frozen=True, slots=True)
class ApproachRows:
    """Vehicles on the way to stop lines, all junctions together, in any order."""

    signal: Ints  # (R,)
    link: Ints  # (R,) link it will use
    movement: Ints  # (R,) dense movement it will use, -1 unknown: some lane of the link
    distance_m: Floats  # (R,) to the stop line
    arrival_s: Floats  # (R,) earliest arrival after the plan's begin
    wait_s: Floats  # (R,) how long it has stood
    weight: Floats  # (R,) persons, or the certainty that it exists
    stopped: Bools  # (R,)
    onward_signal: Ints  # (R,) signal after this one on its way, UNKNOWN or NOWHERE
    onward_link: Ints  # (R,) link it will use there
    onward_m: Floats  # (R,) from this stop line to that one
    sure: Bools | None = None  # (R,) False: link and movement are guesses; None: known of all
    gap_lane: Ints | None = None  # (R,) lane at whose end it gives way before, see `StopLineMap`; None: nobody does


Rows = TypeVar("Rows", ApproachRows, VehicleTable)


@dataclass(frozen=True, slots=True)
class LaneRoom:
    """Receiving side, per dense lane of the network."""

    vehicles: Floats  # (L,) on the lane now
    moving_frac: Floats  # (L,) share of them that is not queued
    inside: Floats | None = None  # (M,) vehicles of each movement that wait inside the junction, None: not seen
    caught: Floats | None = None  # (M,) that stand anywhere on their way through the junction, None: not seen

    def fits_one(self, lanes: Ints, length_m: Floats) -> Bools:
        """One more vehicle fits on each of the lanes; `length_m` (L,) of all."""
        return length_m[lanes] / VEHICLE_SPACE_M - self.vehicles[lanes] >= 1.0


def room_from_state(state: NetworkState) -> LaneRoom:
    vehicles = state.lane_vehicles.value
    queue = np.where(state.lane_queue_veh.valid, state.lane_queue_veh.value, 0.0)
    moving = np.clip(1.0 - queue / np.maximum(vehicles, 1.0), 0.0, 1.0)
    return LaneRoom(np.where(state.lane_vehicles.valid, vehicles, 0.0), moving)


def rows_from_state(
    state: NetworkState, lamps: Sequence[LampRecord | None], network: Network, lines: StopLineMap, valid_from_s: float
) -> ApproachRows:
    """Those of the state's vehicles that come to a stop line; their arrivals count from `valid_from_s`."""
    table = state.vehicles
    use = (lines.signal[table.lane] >= 0) & (table.certainty > 0.05)
    table = pick(table, use)
    lane, onward_m = lines.lead(table, network)
    table, onward_m, lane = pick(table, lane >= 0), onward_m[lane >= 0], lane[lane >= 0]
    here_m = network.lanes.length_m[table.lane] - table.position_m
    distance = here_m + onward_m
    limits = network.lanes.speed_limit_mps
    speed_mps = driven_speed_mps(distance, here_m, (limits[table.lane], limits[lane]), table.speed_mps)
    signal = lines.signal[lane]
    movement = lines.pick_movements(table, lane)
    link = lines.movement_link[movement]
    stopped = table.speed_mps < 1.0
    red_s = _red_for_s(lamps, lines, valid_from_s)
    ahead_s = max(0.0, valid_from_s - state.now_s)
    own_wait_s = red_s[lines.link_offset[signal] + link] if table.wait_s is None else table.wait_s
    unknown = np.full(len(signal), UNKNOWN, np.int32)
    sure = lines.known_movements(table) >= 0
    if table.movement_sure is not None:
        sure &= table.movement_sure
    return ApproachRows(
        signal=signal,
        link=link,
        movement=movement,
        distance_m=distance,
        arrival_s=travel_time_s(np.maximum(distance, 0.0), table.speed_mps, speed_mps) - ahead_s,
        wait_s=np.where(stopped, own_wait_s, 0.0),
        weight=table.certainty if table.weight is None else table.certainty * table.weight,
        stopped=stopped,
        onward_signal=unknown,
        onward_link=unknown,
        onward_m=np.zeros(len(signal)),
        sure=sure,
        gap_lane=lines.gap_lane[table.lane],
    )


def _red_for_s(lamps: Sequence[LampRecord | None], lines: StopLineMap, now_s: float) -> Floats:
    """Per link of all signals: how long it has been red."""
    red = np.zeros(lines.link_offset[-1])
    for index, record in enumerate(lamps):
        if record is not None:
            since = np.where(np.isfinite(record.green_until_s), now_s - record.green_until_s, 0.0)
            first = lines.link_offset[index]
            red[first : first + len(since)] = np.clip(since, 0.0, 300.0)
    return red


def with_movements(rows: ApproachRows, lines: StopLineMap) -> ApproachRows:
    """The rows with a movement each, some lane of the link where none is known."""
    guess = lines.pick_by_link(rows.signal, rows.link)
    return replace(rows, movement=np.where(rows.movement >= 0, rows.movement, guess))


def join(a: ApproachRows, b: ApproachRows) -> ApproachRows:
    if a.sure is None:
        a = replace(a, sure=np.ones(len(a.link), np.bool_))
    columns = [f.name for f in fields(ApproachRows) if getattr(a, f.name) is not None]
    return ApproachRows(**{name: np.concatenate([getattr(a, name), getattr(b, name)]) for name in columns})


def pick(table: Rows, use: Bools) -> Rows:
    picked: dict[str, Any] = {}
    for f in fields(table):
        column = getattr(table, f.name)
        picked[f.name] = None if column is None else column[use]
    return type(table)(**picked)
