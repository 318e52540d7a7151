"""Search over the sequences of stages of one junction, each rolled out over the vehicles in view, second by second.

All times are seconds from the moment the plan takes over. Lanes, links, stages and receiving lanes are numbered
within the junction. See `junction_choice` for where the numbers come from.

Vehicles are point queues with FIFO lanes (Vickrey 1969) and gap acceptance by critical gap (HCM 6th ed., ch. 19);
drivers who give way wait past the stop line where the junction has room for them, as they do in the street.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from signals.compiled import flat, inlined, making

CLOSED, PROTECTED, PERMISSIVE = 0, 1, 2
NEVER = 1e9
LONGEST = 12  # elements of a sequence that are kept; the base policy goes on from there
SPANS, SPAN_S = 6, 3.5  # over which the base policy compares stages: 3.5, 7, ... 21 s
LEAST_SPAN_S = 5.0  # of a stage that is changed to: its minimum green
KEEP_FAVOUR = 1.05
EQUAL = 1e-8
ONWARD_USE = 0.5  # what a vehicle at the stop line before counts when stages are picked
INSIDE_S = 5.0  # that one who waits inside the junction comes later to the next stop line
FINE_S = 20  # the base policy looks every second until then, and every other second after
FAR_S = 8.0  # behind a longer hold the base policy alone picks the next stage, unless signals are planned as one
LATE_ROOM_VEH = 4.0  # vehicles' room beyond, from which on one is counted on at the last moment
COUNTERS, NUMBERS = 5, 7  # of a roll-out that is kept

_F = NDArray[np.float64]
_I = NDArray[np.int64]


class Layout(NamedTuple):
    """The unchanging side of a junction: S stages, K links, L approach lanes, O receiving lanes."""

    stages: NDArray[np.uint8]  # (S, K) CLOSED, PROTECTED or PERMISSIVE
    change_s: _F  # (S, S) from the last end of minimum green in one stage to the start of the next
    tail_s: _F  # (S, S, K) of these, how long before the start of the next stage link k has to lose its green
    early_s: _F  # (S, S, K) of these, how long before it link k is open: it has cleared before others have
    clear_s: _F  # (K, K) end of green i to begin of green j
    longest_clear_s: _F  # (K,)
    min_green_s: _F  # (K,)
    link_lane: _I  # (K,) approach lane, -1 for a crossing
    link_out: _I  # (K,) receiving lane, -1 for a crossing
    yields_first: _I  # (K+1,) link k gives way to yields_to[yields_first[k]:yields_first[k + 1]]
    yields_to: _I
    inside_room: _F  # (K,) vehicles that wait for their gap inside the junction, clear of the lane behind
    storage_veh: _F  # (L,) vehicles between the stop line and the lane's begin
    out_storage_veh: _F  # (O,) vehicles that a receiving lane holds
    lane_out: _I  # (L,) the receiving lane that an approach lane is too, between signals planned as one; else -1
    crossings: _I  # links on which people walk


class Moment(NamedTuple):
    """What is known when the plan takes over. Vehicles of lane l are rows lane_first[l]..lane_first[l+1].

    On a lane between signals planned as one the rows from `places_from` on are empty places: roll-outs write into
    them (arrival, link and weight) whoever comes over the stop line before it. Until then they arrive NEVER.
    """

    stage: int  # stands at second 0
    age_s: float  # for how long
    link_from_s: _F  # (K,) begin of the latest green, <= 0 for links open now
    link_until_s: _F  # (K,) end of the latest green, NEVER while open
    lane_first: _I  # (L+1,)
    arrival_s: _F  # (V,) earliest at the stop line, ascending within a lane
    link: _I  # (V,)
    weight: _F  # (V,) persons or certainty
    stopped: NDArray[np.bool_]  # (V,) has already stopped
    lane_weight: _F  # (L,) urgency of a lane
    stalled_s: _F  # (L,) for how long its first driver will go on standing at green, 0 where nothing holds him
    space_veh: _F  # (O,) vehicles that still fit on each receiving lane
    refill_vps: _F  # (O, horizon) rate at which it empties, second by second
    jam_frac: _F  # (O,) share of a vehicle's delay that crossing into the receiving lane does not end
    inside: _F  # (K,) vehicles that wait inside the junction
    walkers: _F  # (K,) people waiting at each crossing
    walker_rate: _F  # (K,) people a second who come to it
    places_from: _I  # (L,) first empty place, the end of the lane's rows where it has none
    onward: _I  # (V,) link that the vehicle takes next in this model, -1: it leaves
    onward_s: _F  # (V,) from one stop line to the other


class Drivers(NamedTuple):
    """Behaviour and weights, see `junction_choice.Tuning`."""

    headway_s: float
    startup_s: float
    stop_penalty_s: float
    terminal_s: float
    gap_s: float
    foe_clear_s: float
    usable_yellow_s: float
    exact_ends: bool  # False: nobody is counted on who comes in the last part of a second of green, or later
    overflow_weight: float
    box_weight: float
    max_green_s: float
    horizon_s: int


class Desk(NamedTuple):
    """Working arrays of a search, made once a call.

    What a roll-out changes lies in two buffers, of which it is a view: so it is kept and taken up again in one copy.
    """

    floats: _F
    ints: _I
    head: _I  # (L,) first vehicle of the lane not yet over the stop line
    arrived: _I  # (L,) first vehicle still on its way
    filled: _I  # (L,) first place still empty
    mode: _I  # (K,)
    stage_now: _I  # (LONGEST,) sequence as realised by the latest roll-out
    counters: _I  # (COUNTERS,) where it stands
    ready_s: _F  # (L,) next departure at saturation flow
    look_s: _F  # (L,) nobody leaves before, whatever the others do, unless the stage changes
    begin_s: _F  # (K,)
    end_s: _F  # (K,)
    last_cross_s: _F  # (K,)
    inside: _F  # (K,)
    inside_weight: _F  # (K,)
    walkers: _F  # (K,)
    space: _F  # (O,)
    hold_now: _F  # (LONGEST,)
    numbers: _F  # (NUMBERS,) where it stands
    kept_floats: NDArray[np.float64]  # (rows, floats) see `_keep`
    kept_ints: NDArray[np.int64]  # (rows, ints)
    kept_places: NDArray[np.float64]  # (rows, 3, V) arrival, link and weight; nothing where there are no places
    useful: _I  # (S,) stages worth considering, the first `useful_count` rows
    crossing_s: _F  # (V,) of the latest roll-out
    spans: _F  # (S, SPANS + 1) weight that each useful stage serves in each span, and later
    coming: _I  # vehicles, places left out, in the order in which they arrive
    tight: _I  # (O,) receiving lanes without room for all who want to go there, the first `counts[0]` rows
    full: _I  # (L,) approach lanes that all their vehicles do not fit on, the first `counts[1]` rows
    walked: _I  # (K,) crossings that somebody comes to, the first `counts[2]` rows
    counts: _I  # (3,)
    lost_s: _F  # (S,) until each useful stage stands
    free_s: _F  # (S,) when the lane looked at lets its next vehicle go in each useful stage
    step_s: _F  # (K, S) from one vehicle of a link to the next in each useful stage, NEVER where it is closed
    most: int  # vehicles of a lane that leave within the spans
    held: NDArray[np.bool_]  # (L,) one who waits inside the junction stands in the way of the lane behind him


@making
def make_desk(layout: Layout, moment: Moment, drivers: Drivers, rows: int) -> Desk:
    stages, links = layout.stages.shape
    lanes, outs = len(moment.lane_first) - 1, len(moment.space_veh)
    wanted = np.zeros(outs)
    full, tight, walked = np.empty(lanes, np.int64), np.empty(outs, np.int64), np.empty(links, np.int64)
    counts = np.zeros(3, np.int64)
    for lane in range(lanes):
        for v in range(moment.lane_first[lane], moment.lane_first[lane + 1]):
            wanted[layout.link_out[moment.link[v]]] += 1.0
        if moment.lane_first[lane + 1] - moment.lane_first[lane] > layout.storage_veh[lane]:
            full[counts[1]] = lane
            counts[1] += 1
    for k in range(links):
        if moment.inside[k] > 0.0:
            wanted[layout.link_out[k]] += moment.inside[k]
    for o in range(outs):
        if moment.space_veh[o] < wanted[o] + 1.0:
            tight[counts[0]] = o
            counts[0] += 1
    for k in layout.crossings:
        if moment.walkers[k] > 0.0 or moment.walker_rate[k] > 0.0:
            walked[counts[2]] = k
            counts[2] += 1
    places = 0
    for lane in range(lanes):
        for v in range(moment.places_from[lane], moment.lane_first[lane + 1]):
            moment.arrival_s[v] = NEVER
            places += 1
    kept = len(moment.arrival_s) if places > 0 else 0
    floats = np.zeros(2 * lanes + 6 * links + outs + LONGEST + NUMBERS)
    ints = np.zeros(3 * lanes + links + LONGEST + COUNTERS, np.int64)
    f, i = 2 * lanes + 6 * links, 3 * lanes
    return Desk(
        floats,
        ints,
        ints[:lanes],
        ints[lanes : 2 * lanes],
        ints[2 * lanes : i],
        ints[i : i + links],
        ints[i + links : i + links + LONGEST],
        ints[i + links + LONGEST :],
        floats[:lanes],
        floats[lanes : 2 * lanes],
        floats[2 * lanes : 2 * lanes + links],
        floats[2 * lanes + links : 2 * lanes + 2 * links],
        floats[2 * lanes + 2 * links : 2 * lanes + 3 * links],
        floats[2 * lanes + 3 * links : 2 * lanes + 4 * links],
        floats[2 * lanes + 4 * links : 2 * lanes + 5 * links],
        floats[2 * lanes + 5 * links : f],
        floats[f : f + outs],
        floats[f + outs : f + outs + LONGEST],
        floats[f + outs + LONGEST :],
        np.empty((rows, len(floats))),
        np.empty((rows, len(ints)), np.int64),
        np.empty((rows, 3, kept)),
        np.empty(stages, np.int64),
        np.empty(len(moment.arrival_s)),
        np.empty((stages, SPANS + 1)),
        np.argsort(moment.arrival_s, kind="mergesort")[: len(moment.arrival_s) - places],  # places arrive NEVER: last
        tight,
        full,
        walked,
        counts,
        np.empty(stages),
        np.empty(stages),
        np.empty((links, stages)),
        int(SPANS * SPAN_S / drivers.headway_s) + 1,
        np.zeros(lanes, np.bool_),
    )


@making
def search(
    layout: Layout,
    moment: Moment,
    drivers: Drivers,
    allowed: NDArray[np.bool_],
    holds_s: _F,
    before_stage: _I,
    before_hold: _F,
    targets_max: int,
) -> tuple[_I, _F, float, float, float, _F]:
    """The best sequence found: (stages (N,), seconds each holds (N,), cost, next best, served, crossings (V,)).

    allowed       (S,) stages that may come next; where the present one is not among them it has to end now
    holds_s       seconds for which the present stage is tried to stay on, ascending; see FAR_S
    before_stage  sequence chosen a moment ago, less the time passed since: the search goes on from there
    targets_max   next stages tried, the most useful first

    Two kinds compete: those that end the present stage now and those that do not. `next best` is the cost of the
    better one of the other kind, NEVER where there is none. Roll-outs dearer than the best of their kind stop early.
    """
    desk = make_desk(layout, moment, drivers, len(holds_s) + 2)
    parting = len(holds_s) + 1
    useful_count = _find_useful(layout, moment, allowed, desk, drivers, targets_max)
    far_s = NEVER if (layout.lane_out >= 0).any() else FAR_S
    stage_of = np.empty((2, LONGEST), np.int64)  # row 0: stays, row 1: changes now
    hold_of = np.empty((2, LONGEST))
    length = np.zeros(2, np.int64)
    cost_of = np.full(2, np.inf)
    trial_stage, trial_hold = np.empty(LONGEST, np.int64), np.empty(LONGEST)
    may_stay = allowed[moment.stage]
    trial_stage[0], trial_hold[0] = moment.stage, NEVER
    _begin(layout, moment, desk)
    for h in range(len(holds_s)):
        if holds_s[h] < drivers.horizon_s and (may_stay or holds_s[h] <= 0.0):
            _roll(layout, moment, drivers, desk, useful_count, trial_stage, trial_hold, 1, False, np.inf,
                  h, int(holds_s[h]), h + 1)  # fmt: skip
    if len(before_stage) > 0 and before_stage[0] == moment.stage:  # first: a good bound for all that follow
        count = min(len(before_stage), LONGEST)
        trial_stage[:count], trial_hold[:count] = before_stage[:count], before_hold[:count]
        kind = 0 if before_hold[0] > 0.0 else 1
        if (kind == 1 and count > 1 and allowed[before_stage[1]]) or (kind == 0 and may_stay):
            _try(layout, moment, drivers, desk, useful_count, trial_stage, trial_hold, count, True,
                 0, parting, kind, stage_of, hold_of, length, cost_of)  # fmt: skip
            cost_of[kind] += EQUAL  # among equals the others: to stick to it made `cologne1` 0.3 s worse
    trial_stage[0] = moment.stage
    for h in range(len(holds_s)):
        trial_hold[0] = holds_s[h]
        kind = 0 if holds_s[h] > 0.0 else 1
        if holds_s[h] >= drivers.horizon_s or (kind == 0 and not may_stay):
            continue
        for u in range(-1, useful_count):  # -1: the base policy picks the next stage
            count = 1 if u < 0 else 2
            if (u < 0 and kind == 1) or (u >= 0 and (desk.useful[u] == moment.stage or holds_s[h] > far_s)):
                continue
            if u >= 0:
                trial_stage[1], trial_hold[1] = desk.useful[u], 5.0
            parts = _try(layout, moment, drivers, desk, useful_count, trial_stage, trial_hold, count, False,
                         h + 1, parting, kind, stage_of, hold_of, length, cost_of)  # fmt: skip
            if parts:
                _try(layout, moment, drivers, desk, useful_count, trial_stage, trial_hold, count, True,
                     parting, parting, kind, stage_of, hold_of, length, cost_of)  # fmt: skip
    best = 0 if length[0] > 0 and cost_of[0] <= cost_of[1] else 1  # among equals stay
    equal = length[1] > 1 and cost_of[1] <= cost_of[0] + 2.0 * EQUAL
    if best == 0 and equal and _only_opens(layout, moment, stage_of[1, 1]):
        best = 1
    count = int(length[best])
    if count == 0:
        return stage_of[best, :0], hold_of[best, :0], NEVER, NEVER, 0.0, desk.crossing_s
    cost, _, served, _ = _roll(
        layout, moment, drivers, desk, useful_count, stage_of[best], hold_of[best], count, True, np.inf,
        0, drivers.horizon_s, parting,
    )  # fmt: skip
    other = cost_of[1 - best] if length[1 - best] > 0 else NEVER
    return (
        stage_of[best, :count].copy(),
        hold_of[best, :count].copy(),
        cost,
        max(other, cost),
        served,
        desk.crossing_s,
    )


@inlined
def _only_opens(layout: Layout, moment: Moment, to: int) -> bool:
    """Does a change lose nobody his green, and give one to somebody who stands first in his lane?

    Whoever stands needs a second to the line whether it opens now or a second later: it costs the same to put it off,
    every second anew.
    """
    if layout.change_s[moment.stage, to] > 0.0:
        return False
    for lane in range(len(moment.lane_first) - 1):
        v = moment.lane_first[lane]
        if v < moment.lane_first[lane + 1] and moment.stopped[v]:
            k = moment.link[v]
            if layout.stages[moment.stage, k] == CLOSED and layout.stages[to, k] != CLOSED:
                return True
    return False


@flat
def _try(
    layout: Layout, moment: Moment, drivers: Drivers, desk: Desk, useful_count: int,
    trial_stage: _I, trial_hold: _F, count: int, exhaustive: bool, start: int, parting: int, kind: int,
    stage_of: NDArray[np.int64], hold_of: _F, length: _I, cost_of: _F,
) -> bool:  # fmt: skip
    """Roll one sequence out; note it as realised where it is the best of its kind. Answers `_roll`'s `parts`."""
    cost, realised, _, parts = _roll(
        layout, moment, drivers, desk, useful_count, trial_stage, trial_hold, count, exhaustive, cost_of[kind],
        start, drivers.horizon_s, parting,
    )  # fmt: skip
    if cost >= cost_of[kind] - 0.1 * EQUAL or (kind == 0 and desk.hold_now[0] <= 0.0):
        return bool(parts)
    cost_of[kind], length[kind] = cost, realised
    for i in range(realised):
        stage_of[kind, i], hold_of[kind, i] = desk.stage_now[i], desk.hold_now[i]
    return bool(parts)


@making
def _find_useful(
    layout: Layout, moment: Moment, allowed: NDArray[np.bool_], desk: Desk, drivers: Drivers, targets_max: int
) -> int:
    """Fill `desk.useful` and `desk.step_s`; answer the number of useful stages.

    A stage is useful when no other one opens all that it opens, and more, among the links that somebody wants within
    the horizon. More than `targets_max` are cut by the weight they serve; the present stage always stays.
    """
    links = layout.stages.shape[1]
    wanted = np.zeros(links)
    for lane in range(len(moment.lane_first) - 1):
        for v in range(moment.lane_first[lane], moment.lane_first[lane + 1]):
            if moment.arrival_s[v] < drivers.horizon_s:
                rank = v - moment.lane_first[lane]
                useful = moment.weight[v] / (1.0 + 0.1 * rank + 0.05 * max(moment.arrival_s[v], 0.0))
                wanted[moment.link[v]] += useful
                if moment.onward[v] >= 0:
                    wanted[moment.onward[v]] += ONWARD_USE * useful
    for k in layout.crossings:
        wanted[k] += moment.walkers[k] + 20.0 * moment.walker_rate[k]
    for k in range(links):
        wanted[k] += moment.inside[k]
    count = 0
    forced = not allowed[moment.stage]  # some link has to be served, whether or not anybody is known to want it
    score = np.zeros(layout.stages.shape[0])
    for s in range(layout.stages.shape[0]):
        for k in range(links):
            if layout.stages[s, k] == PROTECTED:
                score[s] += wanted[k]
            elif layout.stages[s, k] == PERMISSIVE:
                score[s] += 0.4 * wanted[k]
    for s in range(layout.stages.shape[0]):
        if s == moment.stage:
            desk.useful[count] = s
            count += 1
            continue
        if not allowed[s] or (score[s] <= 0.0 and not forced):
            continue
        kept = True
        for r in range(layout.stages.shape[0]):
            if r == s or not allowed[r] or score[r] < score[s]:
                continue
            covers, more = True, False
            for k in range(links):
                if wanted[k] <= 0.0 or layout.stages[s, k] == layout.stages[r, k]:
                    continue
                if layout.stages[r, k] == PROTECTED or layout.stages[s, k] == CLOSED:
                    more = True
                else:
                    covers = False
                    break
            if covers and (more or r < s):
                kept = False
                break
        if kept:
            desk.useful[count] = s
            count += 1
    while count > targets_max:
        worst, at = NEVER, -1
        for u in range(count):
            s = desk.useful[u]
            if s != moment.stage and score[s] < worst:
                worst, at = score[s], u
        if at < 0:
            break
        count -= 1
        desk.useful[at] = desk.useful[count]
    for u in range(count):
        for k in range(links):
            mode = layout.stages[desk.useful[u], k]
            if mode == CLOSED:
                desk.step_s[k, u] = NEVER
            else:
                desk.step_s[k, u] = drivers.headway_s if mode == PROTECTED else 2.0 * drivers.headway_s
    return count


@inlined
def _begin(layout: Layout, moment: Moment, desk: Desk) -> None:
    """Keep, as row 0, where every roll-out begins."""
    links, lanes, inside_any = layout.stages.shape[1], len(moment.lane_first) - 1, 0.0
    for lane in range(lanes):
        desk.head[lane] = desk.arrived[lane] = moment.lane_first[lane]
        desk.ready_s[lane] = moment.stalled_s[lane]
        desk.look_s[lane] = 0.0
        desk.filled[lane] = moment.places_from[lane]
    for k in range(links):
        desk.begin_s[k], desk.end_s[k] = moment.link_from_s[k], moment.link_until_s[k]
        desk.mode[k] = layout.stages[moment.stage, k]
        desk.last_cross_s[k] = -NEVER
        desk.inside[k] = desk.inside_weight[k] = moment.inside[k]
        inside_any += moment.inside[k]
    for k in layout.crossings:
        desk.walkers[k] = moment.walkers[k]
    for o in range(len(desk.space)):
        desk.space[o] = moment.space_veh[o]
    _keep(0, moment, desk, (0, moment.stage, 0, 0, 0), (moment.age_s, 0.0, -1.0, 0.0, 0.0, 0.0, inside_any))


@inlined
def _keep(
    row: int,
    moment: Moment,
    desk: Desk,
    counters: tuple[int, int, int, int, int],
    numbers: tuple[float, float, float, float, float, float, float],
) -> None:
    """Keep where a roll-out stands, to be taken up again."""
    for i in range(COUNTERS):
        desk.counters[i] = counters[i]
    for i in range(NUMBERS):
        desk.numbers[i] = numbers[i]
    for i in range(len(desk.floats)):
        desk.kept_floats[row, i] = desk.floats[i]
    for i in range(len(desk.ints)):
        desk.kept_ints[row, i] = desk.ints[i]
    for v in range(desk.kept_places.shape[2]):
        desk.kept_places[row, 0, v] = moment.arrival_s[v]
        desk.kept_places[row, 1, v] = moment.link[v]
        desk.kept_places[row, 2, v] = moment.weight[v]


@flat
def _roll(
    layout: Layout, moment: Moment, drivers: Drivers, desk: Desk, useful_count: int,
    seq_stage: _I, seq_hold: _F, count: int, exhaustive: bool, bound: float,
    start: int, until_s: int, parting: int,
) -> tuple[float, int, float, bool]:  # fmt: skip
    """(Cost, elements realised into `desk.stage_now` and `desk.hold_now`, weight served, `parts`) of a sequence.

    Stops as soon as the cost passes `bound`. Behind the sequence a base policy goes on: serve most per second, the
    change paid for; with `exhaustive` a stage that discharges a queue is not ended. `parts`: the other way of the two
    goes another way from some second on, which without `exhaustive` is kept as row `parting`. Goes on from what is
    kept as row `start`; an end before the horizon is kept as row `parting` as well.
    """
    links, lanes, places = layout.stages.shape[1], len(moment.lane_first) - 1, desk.kept_places.shape[2]
    for i in range(len(desk.floats)):
        desk.floats[i] = desk.kept_floats[start, i]
    for i in range(len(desk.ints)):
        desk.ints[i] = desk.kept_ints[start, i]
    if places > 0:
        for v in range(places):
            moment.arrival_s[v] = desk.kept_places[start, 0, v]
            moment.link[v] = int(desk.kept_places[start, 1, v])
            moment.weight[v] = desk.kept_places[start, 2, v]
    begin, current, element, realised, upcoming = (
        desk.counters[0],
        desk.counters[1],
        desk.counters[2],
        desk.counters[3],
        desk.counters[4],
    )
    age_s, since_s, ready_s, total, done, waiting, inside_any = (
        desk.numbers[0],
        desk.numbers[1],
        desk.numbers[2],
        desk.numbers[3],
        desk.numbers[4],
        desk.numbers[5],
        desk.numbers[6],
    )
    parts = False
    for second in range(begin, until_s):
        t = float(second)
        if t >= ready_s:
            to = current
            if element < count and t >= since_s + seq_hold[element]:
                element += 1
                if element < count:
                    to = seq_stage[element]
            if element >= count and age_s >= 5.0 and (second < FINE_S or second % 2 == 0):
                if exhaustive and age_s < drivers.max_green_s and _is_discharging(current, t, layout, moment, desk):
                    parts = True
                else:
                    to = _base_choice(current, age_s, t, layout, moment, drivers, desk, useful_count)
                    if to != current and age_s < drivers.max_green_s and not parts:
                        parts = _is_discharging(current, t, layout, moment, desk)
                        if parts and not exhaustive:
                            _keep(
                                parting, moment, desk, (second, current, element, realised, upcoming),
                                (age_s, since_s, ready_s, total, done, waiting, inside_any),
                            )  # fmt: skip
            if to != current:
                if realised < LONGEST:
                    desk.stage_now[realised], desk.hold_now[realised] = current, t - since_s
                    realised += 1
                ready_s = _change(current, to, t, layout, desk, drivers)
                desk.look_s[:] = 0.0
                current, age_s, since_s = to, t - ready_s, ready_s
        age_s += 1.0
        while upcoming < len(desk.coming):
            v = desk.coming[upcoming]
            if moment.arrival_s[v] > t:
                break
            lane = layout.link_lane[moment.link[v]]
            desk.arrived[lane] = v + 1
            waiting += moment.weight[v] * moment.lane_weight[lane]
            upcoming += 1
        if places > 0:
            for lane in range(lanes):
                while moment.places_from[lane] <= desk.arrived[lane] < desk.filled[lane]:
                    v = desk.arrived[lane]
                    if moment.arrival_s[v] > t:
                        break
                    desk.arrived[lane] = v + 1
                    waiting += moment.weight[v] * moment.lane_weight[lane]
        for i in range(desk.counts[0]):
            o = desk.tight[i]
            desk.space[o] = min(layout.out_storage_veh[o], desk.space[o] + moment.refill_vps[o, second])
        # departures: protected links first, so that those who give way see them
        if inside_any > 0.0:
            _find_held(layout, desk)
        gives_way = False
        for turn in range(2):
            if turn == 1 and not gives_way and inside_any <= 0.0:
                break
            if turn == 1 and inside_any > 0.0:
                inside_any = 0.0
                for k in range(links):
                    if desk.inside[k] > 0.0:
                        o = layout.link_out[k]
                        if desk.space[o] >= 1.0 and _has_gap(k, t, layout, moment, drivers, desk):
                            leaves = min(1.0, desk.inside[k])
                            desk.inside_weight[k] *= 1.0 - leaves / desk.inside[k]
                            desk.inside[k] -= leaves
                            desk.space[o] -= leaves
                            desk.last_cross_s[k] = t
                        inside_any += desk.inside[k]
                        total += desk.inside_weight[k]
            for lane in range(lanes):
                if desk.look_s[lane] > t or (inside_any > 0.0 and desk.held[lane]):
                    continue
                while True:
                    v = desk.head[lane]
                    if v >= desk.arrived[lane]:
                        desk.look_s[lane] = moment.arrival_s[v] if v < moment.lane_first[lane + 1] else NEVER
                        break
                    if desk.ready_s[lane] > t:
                        desk.look_s[lane] = desk.ready_s[lane]
                        break
                    k = moment.link[v]
                    if t < desk.begin_s[k]:
                        desk.look_s[lane] = desk.begin_s[k]
                        break
                    if _is_stopped(v, lane, t, layout, moment, drivers, desk):
                        desk.look_s[lane] = NEVER
                        break
                    permissive = layout.stages[current, k] == PERMISSIVE
                    if permissive != (turn == 1):
                        gives_way = True
                        break
                    o = layout.link_out[k]
                    comes_s = t + moment.onward_s[v]
                    if permissive:
                        if (
                            desk.inside[k] >= 1.0
                            or desk.space[o] < 1.0
                            or not _has_gap(k, t, layout, moment, drivers, desk)
                        ):
                            if desk.inside[k] + 1.0 > layout.inside_room[k]:
                                break
                            desk.inside[k] += 1.0
                            comes_s += INSIDE_S
                            desk.inside_weight[k] += moment.weight[v]
                            inside_any += 1.0
                            desk.space[o] += 1.0
                    elif desk.space[o] < 1.0:  # a driver who goes all the same stands in everybody's way
                        desk.ready_s[lane] = t + 1.0
                        total += drivers.box_weight
                        break
                    delayed = t - moment.arrival_s[v] > 2.0
                    leaves_s = max(t, moment.arrival_s[v])
                    if delayed and t - desk.begin_s[k] < 1.0:
                        leaves_s += drivers.startup_s
                    desk.ready_s[lane] = leaves_s + drivers.headway_s
                    if not moment.stopped[v]:
                        # a driver who sees green less than three seconds before the line has braked already
                        late_s = t - moment.arrival_s[v]
                        braked = max((desk.begin_s[k] - moment.arrival_s[v] + 3.0) / 5.0, (late_s - 1.0) / 1.5)
                        if braked > 0.0:
                            total += min(braked, 1.0) * drivers.stop_penalty_s * moment.weight[v]
                    desk.last_cross_s[k] = t
                    desk.space[o] -= 1.0
                    desk.crossing_s[v] = t
                    waiting -= moment.weight[v] * moment.lane_weight[lane]
                    total += moment.jam_frac[o] * moment.weight[v] * (drivers.horizon_s - t)
                    done += moment.weight[v]
                    desk.head[lane] = v + 1
                    if layout.lane_out[lane] >= 0:
                        desk.space[layout.lane_out[lane]] += 1.0
                    if moment.onward[v] >= 0:
                        _take_place(moment, layout, desk, moment.onward[v], moment.weight[v], comes_s)
        total += waiting
        for i in range(desk.counts[1]):
            lane = desk.full[i]
            over = desk.arrived[lane] - desk.head[lane] - layout.storage_veh[lane]
            if over > 0.0:
                total += over * drivers.overflow_weight
        for i in range(desk.counts[2]):
            k = desk.walked[i]
            if desk.mode[k] != CLOSED and t >= desk.begin_s[k]:
                desk.walkers[k] = 0.0
            else:
                desk.walkers[k] += moment.walker_rate[k]
                total += desk.walkers[k]
        if total >= bound:
            return total, 0, 0.0, parts
    if until_s < drivers.horizon_s:
        _keep(
            parting, moment, desk, (until_s, current, element, realised, upcoming),
            (age_s, since_s, ready_s, total, done, waiting, inside_any),
        )  # fmt: skip
        return total, 0, 0.0, parts
    if realised < LONGEST:
        desk.stage_now[realised], desk.hold_now[realised] = current, max(1.0, drivers.horizon_s - since_s)
        realised += 1
    for lane in range(lanes):
        for v in range(desk.head[lane], moment.lane_first[lane + 1]):
            desk.crossing_s[v] = NEVER
            if v < desk.arrived[lane]:
                total += moment.weight[v] * drivers.terminal_s * moment.lane_weight[lane]
                if not moment.stopped[v]:
                    total += drivers.stop_penalty_s * moment.weight[v]
    for k in range(links):
        total += desk.inside_weight[k] * drivers.terminal_s
    for k in layout.crossings:
        total += desk.walkers[k] * drivers.terminal_s
    return total, realised, done, parts


@inlined
def _is_stopped(v: int, lane: int, t: float, layout: Layout, moment: Moment, drivers: Drivers, desk: Desk) -> bool:
    """Does the end of green, which is over at t, stop this driver?

    He has passed if he came a part of a second before. Who drives freely, with nobody to give way to, uses a little
    of the yellow as well: he could not stop any more.
    """
    k = moment.link[v]
    over: bool = t >= desk.end_s[k]
    if not over or not drivers.exact_ends or desk.space[layout.link_out[k]] < LATE_ROOM_VEH:
        return over
    comes_s, free_s, last_s = moment.arrival_s[v], desk.ready_s[lane], desk.end_s[k]
    if comes_s >= free_s and layout.yields_first[k] == layout.yields_first[k + 1]:
        last_s += drivers.usable_yellow_s
    late: bool = t >= last_s + 1.0 or max(comes_s, free_s) >= last_s
    return late


@inlined
def _find_held(layout: Layout, desk: Desk) -> None:
    """Set `desk.held`: more wait inside than there is room for clear of their lane."""
    desk.held[:] = False
    for k in range(len(desk.inside)):
        if desk.inside[k] > layout.inside_room[k] and layout.link_lane[k] >= 0:
            desk.held[layout.link_lane[k]] = True


@inlined
def _take_place(moment: Moment, layout: Layout, desk: Desk, link: int, weight: float, comes_s: float) -> None:
    """One who has crossed a stop line comes to the lane before the next."""
    lane = layout.link_lane[link]
    place = desk.filled[lane]
    if place < moment.lane_first[lane + 1]:
        if place > moment.lane_first[lane]:
            before_s = moment.arrival_s[place - 1]
            comes_s = max(comes_s, before_s if before_s < NEVER else comes_s)
        moment.arrival_s[place], moment.link[place], moment.weight[place] = comes_s, link, weight
        desk.filled[lane] = place + 1
        desk.look_s[lane] = min(desk.look_s[lane], comes_s)


@inlined
def _change(current: int, to: int, t: float, layout: Layout, desk: Desk, drivers: Drivers) -> float:
    """Set begin and end of green of every link for a change that starts at t; answer when the new stage stands.

    As in `signals.transitions`: minimum greens are kept, each link starts once all that it meets has cleared, and one
    that nothing waits for closes late.
    """
    links = layout.stages.shape[1]
    change_s: float = t
    for i in range(links):
        if desk.mode[i] != CLOSED and layout.stages[to, i] == CLOSED:
            change_s = max(change_s, desk.begin_s[i] + layout.min_green_s[i])
    stands_s: float = change_s + layout.change_s[current, to]
    for j in range(links):
        if layout.stages[to, j] != CLOSED and desk.mode[j] == CLOSED:
            desk.begin_s[j] = stands_s - layout.early_s[current, to, j]
    ready_s: float = stands_s
    for i in range(links):
        if desk.mode[i] == CLOSED and desk.end_s[i] + layout.longest_clear_s[i] > change_s:
            for j in range(links):
                if layout.stages[to, j] != CLOSED and desk.mode[j] == CLOSED and j != i:
                    desk.begin_s[j] = max(desk.begin_s[j], desk.end_s[i] + layout.clear_s[i, j])
                    ready_s = max(ready_s, desk.begin_s[j])
    for i in range(links):
        if layout.stages[to, i] == CLOSED:
            if desk.mode[i] != CLOSED:
                desk.end_s[i] = max(change_s, stands_s - layout.tail_s[current, to, i])
        elif desk.mode[i] == CLOSED:
            desk.end_s[i] = NEVER
        desk.mode[i] = layout.stages[to, i]
    return ready_s


@inlined
def _has_gap(k: int, t: float, layout: Layout, moment: Moment, drivers: Drivers, desk: Desk) -> bool:
    """May link k go at t, seen from the streams that it gives way to?

    Not while the last of them is still inside, nor before one that comes within the critical gap, whether first in
    its lane or behind others that will be gone by then.
    """
    for y in range(layout.yields_first[k], layout.yields_first[k + 1]):
        j = layout.yields_to[y]
        if t < desk.begin_s[j] or t >= desk.end_s[j] + drivers.usable_yellow_s:
            continue
        if desk.last_cross_s[j] >= t - drivers.foe_clear_s:
            return False
        lane = layout.link_lane[j]
        if lane < 0:
            continue
        # who cannot go still keeps the others from going
        free_s = 0.0 if t < moment.stalled_s[lane] else desk.ready_s[lane]
        for w in range(desk.head[lane], moment.lane_first[lane + 1]):
            free_s = max(free_s, moment.arrival_s[w])
            if free_s >= t + drivers.gap_s:
                break
            if moment.link[w] == j:
                return False
            if desk.mode[moment.link[w]] != PROTECTED:
                break  # holds up those behind
            free_s += drivers.headway_s
    return True


@inlined
def _base_choice(
    current: int,
    age_s: float,
    t: float,
    layout: Layout,
    moment: Moment,
    drivers: Drivers,
    desk: Desk,
    useful_count: int,
) -> int:
    """Base policy: the stage that serves most weight per second, over the best of several spans, the change paid for.

    As Smith's rule orders jobs by weight over time (Smith 1956): a stage is a batch whose time includes the change.
    """
    longest_s = 0.0
    for u in range(useful_count):
        s = desk.useful[u]
        desk.lost_s[u] = 0.0 if s == current else layout.change_s[current, s]
        longest_s = max(longest_s, desk.lost_s[u])
        for n in range(SPANS + 1):
            desk.spans[u, n] = 0.0
    far_s = t + longest_s + SPANS * SPAN_S
    for lane in range(len(desk.head)):
        head = desk.head[lane]
        if head == moment.lane_first[lane + 1]:
            continue
        for u in range(useful_count):
            desk.free_s[u] = max(t + desk.lost_s[u], moment.stalled_s[lane])
        for v in range(head, min(moment.lane_first[lane + 1], head + desk.most)):
            arrival_s, weight, link = moment.arrival_s[v], moment.weight[v], moment.link[v]
            if arrival_s >= far_s:
                break
            for u in range(useful_count):  # all at once: a loop over vehicles ends at a guess
                step_s = desk.step_s[link, u]
                free_s = max(desk.free_s[u], arrival_s) if step_s < NEVER else NEVER
                n = min(int((free_s - t - desk.lost_s[u]) * (1.0 / SPAN_S)), SPANS)
                desk.spans[u, n] += weight
                desk.free_s[u] = free_s + step_s
    best, best_weight, best_s = current, -1.0, 1.0
    for u in range(useful_count):
        s = desk.useful[u]
        lost_s, least_s, favour = desk.lost_s[u], LEAST_SPAN_S, 1.0
        if s == current:
            if age_s > drivers.max_green_s:
                continue
            least_s, favour = 0.0, KEEP_FAVOUR
        served = 0.0
        for n in range(SPANS):
            served += desk.spans[u, n]
            span_s = lost_s + max(SPAN_S * (n + 1.0), least_s)
            weight = favour * served
            if s == current:
                weight += 1e-3 * span_s
            if weight * best_s > best_weight * span_s:  # more a second
                best, best_weight, best_s = s, weight, span_s
    return best


@inlined
def _is_discharging(current: int, t: float, layout: Layout, moment: Moment, desk: Desk) -> bool:
    """Is a vehicle that had to wait about to leave in the present stage?"""
    for lane in range(len(desk.head)):
        v = desk.head[lane]
        if (
            v < moment.lane_first[lane + 1]
            and moment.arrival_s[v] < t - 1.0
            and layout.stages[current, moment.link[v]] == PROTECTED
        ):
            return True
    return False
