"""Rows of all junctions as the view that the roll-outs of one take: by lane, front first, streams numbered within.

Where vehicles stay among the stop lines of what is planned, they are followed to the next one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from networks.graph import VEHICLE_SPACE_M, Bools, Floats, Int64s, Network
from signals.controllers import junction_choice_kernels as kernels
from signals.controllers.approach_rows import ApproachRows, LaneRoom
from signals.controllers.approaches import StopLineMap
from signals.controllers.held_back import STALL_LASTS_S
from signals.controllers.junction_choice import ApproachView, Choice, Tuning
from signals.controllers.planned_units import Unit

PRESS_M = 60.0
PRESS_MAX = 20.0


@dataclass(frozen=True, slots=True)
class Arrivals:
    """All who come to stop lines when plans begin, and the lanes that they come from and go to."""

    rows: ApproachRows  # with a movement each
    order: Int64s  # (R,) the rows by signal, approach lane and distance
    first: Int64s  # (signals+1,) where each signal begins in that order
    urgency: Floats  # (R,) weight, the more the longer it has stood
    room: LaneRoom
    press: Floats  # (dense lanes,) see `ApproachView`
    stalled: Bools  # (dense lanes,) see `held_back`


@dataclass(frozen=True, slots=True)
class UnitView:
    """What the roll-outs of a unit see, and which rows of the arrivals those are."""

    view: ApproachView  # of V
    span: Int64s  # (N,) rows of the arrivals, in the order of the view
    onward: Int64s  # (N,) stream of the unit that it takes at its next stop line, -1: it leaves the unit
    place: Bools  # (V,) no vehicle but the empty place of one on its next lane

    def leaving(self, choice: Choice, horizon_s: int) -> tuple[Int64s, Floats]:
        """Rows that cross a stop line within the horizon and leave the unit, and when."""
        crossing_s = choice.crossing_s[~self.place]
        gone = (crossing_s < horizon_s) & (self.onward < 0)
        return self.span[gone], crossing_s[gone]


def order_arrivals(rows: ApproachRows, room: LaneRoom, stalled: Bools, network: Network, tuning: Tuning) -> Arrivals:
    lane = network.movements.from_lane[rows.movement]
    order = np.lexsort((rows.distance_m, lane, rows.signal))
    first = np.searchsorted(rows.signal[order], np.arange(len(network.signals) + 1))
    urgency = rows.weight * _patience(rows.wait_s, tuning)
    press = _press(rows, urgency, room, network)
    return Arrivals(rows, order.astype(np.int64), first.astype(np.int64), urgency, room, press, stalled)


def _patience(wait_s: Floats, tuning: Tuning) -> Floats:
    """Weight of a vehicle that has stood so long: nobody is forgotten for the sake of the many."""
    grown: Floats = 1.0 + (wait_s / tuning.wait_scale_s) ** 2
    return np.minimum(tuning.wait_weight_max, grown)


def _press(rows: ApproachRows, urgency: Floats, room: LaneRoom, network: Network) -> Floats:
    """Per lane: the weight of those who stand at the stop line before it and want to come in, per vehicle in it.

    A junction does not see the queue that its own full approach holds up further upstream; this tells it.
    """
    stands = rows.stopped & (rows.distance_m < PRESS_M)
    lane = network.movements.to_lane[rows.movement[stands]]
    press = np.bincount(lane, weights=urgency[stands], minlength=len(room.vehicles))
    return np.minimum(press / np.maximum(room.vehicles, 1.0), PRESS_MAX)


def view_of(unit: Unit, arrivals: Arrivals, refill_vps: Floats, walkers: tuple[Floats, Floats]) -> UnitView:
    """What comes to one unit. `walkers`: who waits at each of its links, and who comes to it a second."""
    model, rows, room = unit.model, arrivals.rows, arrivals.room
    span = np.concatenate([arrivals.order[arrivals.first[i] : arrivals.first[i + 1]] for i in unit.signals])
    stream = unit.streams(rows.movement[span], None if rows.sure is None else rows.sure[span])
    if len(unit.signals) > 1:
        by_lane = np.argsort(model.layout.link_lane[stream], kind="stable")
        span, stream = span[by_lane], stream[by_lane]
    lane = model.layout.link_lane[stream]
    step = lane * 1e7  # ascending arrivals within each lane: a running maximum that restarts per lane
    vehicles, moving = room.vehicles[model.outs], room.moving_frac[model.outs]
    view = ApproachView(
        lane_first=np.searchsorted(lane, np.arange(len(model.lanes) + 1)).astype(np.int64),
        arrival_s=np.maximum.accumulate(np.maximum(rows.arrival_s[span], 0.0) + step) - step,
        link=stream,
        weight=arrivals.urgency[span],
        stopped=rows.stopped[span],
        lane_fill=np.minimum(
            1.5,
            room.vehicles[model.lanes]
            * (1.0 - room.moving_frac[model.lanes])
            * VEHICLE_SPACE_M
            / np.maximum(model.lane_length_m, VEHICLE_SPACE_M),
        ),
        press=arrivals.press[model.lanes],
        stalled_s=np.where(arrivals.stalled[model.lanes], float(STALL_LASTS_S), 0.0),
        space_veh=np.maximum(0.0, model.layout.out_storage_veh - vehicles),
        refill_vps=refill_vps,
        jam_frac=np.minimum(1.0, vehicles * (1.0 - moving) / model.layout.out_storage_veh),
        inside=np.zeros(len(model.link_of))
        if room.inside is None
        else np.where(model.movement >= 0, room.inside[model.movement], 0.0),
        walkers=walkers[0][model.link_of],
        walker_rate=walkers[1][model.link_of],
    )
    return UnitView(view, span, np.full(len(span), -1), np.zeros(len(span), np.bool_))


def with_places(seen: UnitView, unit: Unit, rows: ApproachRows, network: Network, lines: StopLineMap) -> UnitView:
    """The same with an empty place on its next lane for each vehicle that stays in the unit."""
    model, view = unit.model, seen.view
    if not model.coupled:
        return seen
    onward = _onward(unit, rows, seen.span, network, lines)
    between_m = network.lanes.length_m[network.movements.to_lane[rows.movement[seen.span]]]
    onward_m = np.where(rows.onward_m[seen.span] > 0.0, rows.onward_m[seen.span], between_m)
    stays = np.flatnonzero(onward >= 0)
    link_lane = model.layout.link_lane
    lane = np.concatenate([link_lane[view.link], link_lane[onward[stays]]])
    place = np.arange(len(lane)) >= len(view.link)
    order = np.lexsort((place, lane))  # stable: vehicles as they are, places behind them

    def extended(column: NDArray[Any], places: NDArray[Any] | float) -> NDArray[Any]:
        return np.concatenate([column, np.broadcast_to(np.asarray(places, column.dtype), len(stays))])[order]

    limit_mps = np.maximum(network.lanes.speed_limit_mps[model.lanes[link_lane[onward]]], 3.0)
    counted = np.arange(len(model.lanes) + 1)
    between = np.isin(model.outs, model.lanes)
    grown = replace(
        view,
        lane_first=np.searchsorted(lane[order], counted).astype(np.int64),
        arrival_s=extended(view.arrival_s, kernels.NEVER),
        link=extended(view.link, onward[stays]),
        weight=extended(view.weight, 0.0),
        stopped=extended(view.stopped, 0.0),
        places_from=np.searchsorted((2 * lane + place)[order], 2 * counted[:-1] + 1).astype(np.int64),
        onward=extended(onward, -1),
        onward_s=extended(np.where(onward >= 0, onward_m / limit_mps, 0.0), 0.0),
        refill_vps=np.where(between[:, None], 0.0, view.refill_vps),  # roll-outs see themselves how these empty
        jam_frac=np.where(between, 0.0, view.jam_frac),
    )
    return UnitView(grown, seen.span, onward, place[order])


def _onward(unit: Unit, rows: ApproachRows, span: Int64s, network: Network, lines: StopLineMap) -> Int64s:
    """The stream of the unit that each vehicle takes at its next stop line, -1 where it leaves the unit."""
    model, moves = unit.model, network.movements
    lane = moves.to_lane[rows.movement[span]]
    inner = np.isin(lane, model.lanes)
    signal = lines.signal[lane]
    known = inner & (rows.onward_signal[span] == signal)
    answer = np.full(len(span), -1, np.int64)
    guess = lines.pick_by_share(np.where(inner, lane, model.lanes[0]), np.arange(len(span)))
    answer[inner] = unit.stream_of[guess[inner]]
    for row in np.flatnonzero(known).tolist():
        links = network.signals[int(signal[row])].link_movements[int(rows.onward_link[span[row]])]
        own = [m for m in links if moves.from_lane[m] == lane[row]] or list(links)
        answer[row] = unit.stream_of[own[0]]
    return answer
