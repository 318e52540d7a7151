"""The moving part of the mesoscopic model: vehicles hop from lane to lane, and a lane is touched only when it acts.

Every lane is a first-in-first-out queue with a free travel time, a length that standing vehicles fill, and a stop
line that lets one vehicle pass per headway. Space that a leaving vehicle frees reaches the upstream end with the
backward wave. Lanes wait in a time wheel of one bucket a second; within its second a lane serves at exact times.

Three kinds of rows share the lane arrays: street lanes, boxes (places inside a junction where a vehicle that gives
way waits with its lane free behind it) and sources (vehicles due to enter at an edge).

Numbers without a source were fitted to the discharge of a queue in SUMO's default car-following model (Krauss 1998)
on a single approach at limits from 6.5 to 19.4 m/s; see docs/decisions/meso.md.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from signals.compiled import flat, inlined

F64: TypeAlias = NDArray[np.float64]
I32: TypeAlias = NDArray[np.int32]
U8: TypeAlias = NDArray[np.uint8]
Rows: TypeAlias = NDArray[np.void]

CLOSED, PERMISSIVE, PROTECTED, YELLOW, FREE, STOP = 0, 1, 2, 3, 4, 5  # lamp codes of one link
WHEEL = 512  # buckets, a power of two
NEVER = 1e18

# What an event touches together lies together: a large city does not fit the cache, the lines fetched are the cost.
VEHICLE = np.dtype(
    [
        ("arrives_s", "f8"),  # at the stop line, were nobody before it
        ("ideal_s", "f8"),  # the same at its desired speed: what its delay counts from
        ("entered_s", "f8"),  # before that: when it last looked for a way
        ("depart_s", "f8"),
        ("factor", "f8"),  # desired speed over the limit
        ("speed_mps", "f8"),  # at the stop line
        ("weight", "f4"),
        ("step", "i4"),
        ("move", "i4"),  # it takes next, -1: leaves the network
        ("driver", "i4"),
    ]
)
DRIVER = np.dtype(
    [
        ("space_m", "f8"), ("tau_s", "f8"), ("start_s", "f8"), ("accel_mps2", "f8"), ("top_mps", "f8"),
        ("dawdle_mps", "f8"), ("rolls", "i4"), ("any_lane", "i4"),
    ]
)  # fmt: skip
LANE = np.dtype(
    [
        ("slot_s", "f8"),  # the stop line is free again
        ("in_slot_s", "f8"),  # the upstream end is free again
        ("used_m", "f8"),
        ("first_try_s", "f8"),  # since when the first waits for a gap or for room
        ("length_m", "f8"),
        ("limit_mps", "f8"),
        ("hole_s", "f8"),  # that freed space takes upstream
        ("room_m", "f8"),
        ("wake_s", "f8"),  # NEVER: asleep
        ("ring", "i4"),  # first of its places in the ring
        ("mask", "i4"),  # number of places, a power of two, less one
        ("edge", "i4"),
        ("head", "i4"),  # vehicles that have left; of a source, that have entered
        ("tail", "i4"),  # vehicles that have come
        ("freed", "i4"),  # vehicles that have left and whose space has shown up
        ("run", "i4"),  # vehicles of this discharge
        ("blocked", "i4"),
        ("waiter", "i4"),  # first of the lanes that wait for room here
        ("next_waiter", "i4"),
        ("waits_for", "i4"),
        ("spare", "i4", 3),  # a row fills two cache lines
    ]
)
RING = np.dtype([("out_s", "f8"), ("space_m", "f4"), ("vehicle", "i4")])
MOVE = np.dtype(
    [
        ("last_s", "f8"),  # somebody crossed
        ("length_m", "f4"), ("speed_mps", "f4"), ("headway_s", "f4"), ("gap_s", "f4"), ("yellow_s", "f4"),
        ("clear_s", "f4"), ("box_gap_s", "f4"),
        ("open_frac", "f4"),  # of the time that walkers leave free while they have the way
        ("to", "i4"), ("link", "i4"), ("box", "i4"), ("from", "i4"), ("foe_first", "i4"), ("foe_end", "i4"),
    ]
)  # fmt: skip
LINK = np.dtype([("since_s", "f8"), ("lamp", "i4")], align=True)
EDGE = np.dtype(
    [
        ("delay_s", "f8"),
        ("insertion_s", "f8"),  # of that, waiting to enter
        ("left_veh", "f8"),
        ("longest_veh", "f8"),
        ("free_s", "f8"),
        ("moving_frac", "f8"),  # of its vehicles, smoothed
        ("time_s", "f8"),  # that follows from it: what drivers know when they choose their way
        ("waiting", "i4"),
        ("present", "i4"),
    ]
)
STEP = np.dtype(
    [("choice", "i4"), ("choices", "i4"), ("edge", "i4"), ("last", "i4"), ("dwell_s", "f8"), ("turn_s", "f8")]
)
CHOICE = np.dtype([("lane", "i4"), ("move", "i4"), ("cost_s", "f8")])
WALKED = np.dtype(
    [
        ("walkers_vph", "f8"),
        ("felt_frac", "f8"),  # of their time on the crossing, 1 where the turn cannot pick another lane
        ("move", "i4"),
        ("link", "i4"),
    ]
)
SIGNAL = np.dtype([("next_s", "f8"), ("phase", "i4"), ("plan", "i4")])
# Results.
R_DELAY, R_INSERTION, R_VEHICLE_S, R_STOPS, R_ARRIVED, R_RUNNING, R_NEVER, R_STUCK = range(8)

RECONSIDER_S = 60.0
MEMORY_S = 90.0  # of drivers about edge speeds: the mean age of a sample in SUMO's window of 180 s
CACHED_LANES = 4000  # rows of a city that fits the cache anyway
FLOWS_FRAC = 0.999  # of the vehicles of an edge move: all of them, to its drivers
LANE_CHANGE_S = 1.0
QUEUE_S_PER_M = 0.27  # time a metre of queue ahead costs: 2 s a vehicle
RETRY_S = 4.0  # a blocked lane looks again this often, besides being told
STUCK_S = 300.0
STOP_S = 1.0  # who may turn on red stands that long first, as in SUMO
EMPTY_M = 0.1  # less than any vehicle: what rounding leaves on an empty lane
ASIDE_VEH, ASIDE_S = 2.0, 1.0  # who starts on another lane than its own changes at once
MOVING = 12  # vehicles after which a discharging queue has reached its pace
# Per vehicle of a discharging queue, over `start_s`: its headway; its speed at the stop line over space_m / start_s.
SWING = np.concatenate([[0.72], np.sqrt(np.arange(2.0, MOVING + 1.0)) - np.sqrt(np.arange(1.0, MOVING))])
PACE = 2.0 * np.sqrt(np.arange(0.0, MOVING))


class Streets(NamedTuple):
    """What never changes between runs. N lanes: streets, then boxes, then sources."""

    lane: Rows  # (N,) LANE as every run begins
    streets: int
    boxes: int
    ring: int  # places of all lanes
    move: Rows  # (M,) MOVE as every run begins
    foe: I32
    crossing: I32  # (M, 2) link of the walkers to whom the movement gives way, and its signal; -1: none
    walked: Rows  # WALKED, movements that give way to walkers, signal by signal
    walked_first: I32  # (S+1,)
    link_lane_first: I32  # (X+1,) lanes to wake when a link opens
    link_lane: I32
    link_first: I32  # (S+1,) links of signal s


class Traffic(NamedTuple):
    """The demand over the streets. Vehicle rows are sorted by departure."""

    vehicle: Rows  # (V,) VEHICLE as every run begins
    driver: Rows  # (D,) DRIVER
    way_first: I32  # (V+1,) ways that a vehicle may choose from when it sets off
    way_step: I32  # (W,) first step of a way
    step: Rows  # (R,) STEP
    choice: Rows  # (C,) CHOICE
    source_first: I32  # (sources+1,)
    source_vehicle: I32
    source_lane: I32  # (sources,) rightmost lane of the edge that cars may use


class Plans(NamedTuple):
    """A Timing, as the kernel reads it."""

    plan_first: I32
    from_s: F64
    offset_s: F64
    phase_first: I32
    phase_s: F64
    lamp_first: I32
    lamps: U8


class State(NamedTuple):
    """Working memory of one thread, made once."""

    vehicle: Rows  # (V,) VEHICLE
    lane: Rows  # (N,) LANE
    ring: Rows  # RING, all lanes
    wheel_prev: I32  # (N + WHEEL,)
    wheel_next: I32
    link: Rows  # (X,) LINK
    move: Rows  # (M,) MOVE
    signal: Rows  # (S,) SIGNAL
    edge: Rows  # (E,) EDGE
    result: F64  # (8,)
    ahead: I32  # (rows at a time, 3)


@inlined
def _put(state: State, lane: int, at_s: float, now: int) -> None:
    """(Re)schedule a lane; a moment before `now` (whole seconds) is served now."""
    prev, following, row = state.wheel_prev, state.wheel_next, state.lane[lane]
    if row["wake_s"] < NEVER:
        p, n = prev[lane], following[lane]
        following[p] = n
        prev[n] = p
    k = int(min(max(at_s, float(now)), float(now + WHEEL - 1)))
    sentinel = len(state.lane) + (k & (WHEEL - 1))
    p = prev[sentinel]
    following[p] = lane
    prev[lane] = p
    following[lane] = sentinel
    prev[sentinel] = lane
    row["wake_s"] = at_s


@inlined
def _release(state: State, lane: int, t: float) -> None:
    """Let the space of vehicles that left reach the upstream end of the lane."""
    row = state.lane[lane]
    freed, head = row["freed"], row["head"]
    while freed != head:
        place = state.ring[row["ring"] + (freed & row["mask"])]
        if place["out_s"] + row["hole_s"] > t:
            break
        row["used_m"] -= place["space_m"]
        freed += 1
    row["freed"] = freed


@inlined
def _wait_for(state: State, lane: int, blocker: int, t: float, t1: float) -> None:
    """Put a lane to sleep until space shows up on `blocker`; it looks by itself after RETRY_S at the latest."""
    own, other = state.lane[lane], state.lane[blocker]
    if own["waits_for"] < 0:
        own["next_waiter"] = other["waiter"]
        other["waiter"] = lane
        own["waits_for"] = blocker
    at_s = t + RETRY_S
    if other["freed"] != other["head"]:
        at_s = min(at_s, state.ring[other["ring"] + (other["freed"] & other["mask"])]["out_s"] + other["hole_s"])
    _put(state, lane, max(at_s, t1), np.int64(t))


@inlined
def _tell_waiters(state: State, lane: int, at_s: float, now: int) -> None:
    """Space of `lane` shows up at `at_s`."""
    w = state.lane[lane]["waiter"]
    state.lane[lane]["waiter"] = -1
    while w >= 0:
        row = state.lane[w]
        following = row["next_waiter"]
        row["waits_for"] = -1
        if at_s < row["wake_s"]:
            _put(state, w, at_s, now)
        w = following


@inlined
def _clear_at(streets: Streets, state: State, m: int, t: float, gap_s: float) -> float:
    """`t` when nobody goes before movement m, else the moment to look again."""
    again = t
    for j in range(state.move[m]["foe_first"], state.move[m]["foe_end"]):
        f = streets.foe[j]
        foe = state.move[f]
        after = foe["last_s"] + foe["clear_s"]
        if after > again:
            again = after
        if foe["link"] >= 0:
            lamp = state.link[foe["link"]]["lamp"]
            if lamp in (CLOSED, YELLOW):
                continue
        row = state.lane[foe["from"]]
        head = row["head"]
        if head == row["tail"] or row["blocked"]:
            continue
        other = state.vehicle[state.ring[row["ring"] + (head & row["mask"])]["vehicle"]]
        if other["move"] != f:
            continue
        comes = max(other["arrives_s"], row["slot_s"])
        if comes < t + gap_s:
            after = max(comes, t) + foe["clear_s"]
            if after > again:
                again = after
    return again


@inlined
def _choose(traffic: Traffic, state: State, step: int, landing: int, t: float, need_m: float, beyond_m: float) -> int:
    """Index of the best choice for the edge to be entered, -1 - (lane that blocks) when there is no room.

    Cost of a lane: the queue on it, lane changes to reach it and, from the route ahead, those it leads to.
    """
    best, best_cost = -1, NEVER
    full, full_cost = -1, NEVER
    entered = traffic.step[step]
    for i in range(entered["choice"], entered["choice"] + entered["choices"]):
        choice = traffic.choice[i]
        lane = choice["lane"]
        _release(state, lane, t)
        row = state.lane[lane]
        used = row["used_m"]
        cost = choice["cost_s"] + QUEUE_S_PER_M * used + max(row["in_slot_s"] - t, 0.0)
        if landing >= 0:
            cost += LANE_CHANGE_S * abs(lane - landing)
        if used > EMPTY_M and used + need_m > row["room_m"] + beyond_m:
            if cost < full_cost:
                full, full_cost = lane, cost
        elif cost < best_cost:
            best, best_cost = i, cost
    if best < 0 or full_cost + 8.0 < best_cost:
        return -1 - full
    return best


@inlined
def _drive_s(way_m: float, from_mps: float, to_mps: float, accel_mps2: float) -> tuple[float, float]:
    """Time for a way when speeding up from one speed to another, and the speed at its end."""
    if from_mps >= to_mps:
        return way_m / to_mps, to_mps
    reach_mps = np.sqrt(from_mps * from_mps + 2.0 * accel_mps2 * way_m)
    if reach_mps <= to_mps:
        return (reach_mps - from_mps) / accel_mps2, reach_mps
    reach_m = (to_mps * to_mps - from_mps * from_mps) / (2.0 * accel_mps2)
    return (to_mps - from_mps) / accel_mps2 + (way_m - reach_m) / to_mps, to_mps


@inlined
def _enter(
    traffic: Traffic,
    state: State,
    v: int,
    step: int,
    choice: int,
    t: float,
    inside_m: float,
    inside_mps: float,
    own_mps: float,
) -> None:
    """Append a vehicle to the lane of a choice; it has `inside_m` of junction to cross first, at `own_mps` now."""
    chosen, live = traffic.choice[choice], state.vehicle[v]
    row, driver = state.lane[chosen["lane"]], traffic.driver[live["driver"]]
    desired = min(row["limit_mps"] * live["factor"], driver["top_mps"])
    length, accel, dawdle = row["length_m"], driver["accel_mps2"], driver["dawdle_mps"]
    arrives = t + traffic.step[step]["dwell_s"]
    ideal, at_mps = arrives, own_mps
    if inside_m > 0.0:
        inside_s, at_mps = _drive_s(inside_m, own_mps, max(inside_mps - dawdle, 1.0), accel)
        arrives += inside_s
        ideal += inside_m / inside_mps
    lane_s, at_mps = _drive_s(length, at_mps, max(desired - dawdle, 1.0), accel)
    live["arrives_s"] = arrives + lane_s
    live["ideal_s"] = ideal + length / desired
    live["speed_mps"] = at_mps
    live["step"] = step
    live["move"] = chosen["move"]
    _append(state, v, chosen["lane"], driver["space_m"])


@inlined
def _append(state: State, v: int, lane: int, space_m: float) -> None:
    row = state.lane[lane]
    place = state.ring[row["ring"] + (row["tail"] & row["mask"])]
    place["vehicle"] = v
    place["space_m"] = space_m
    row["tail"] += 1
    row["used_m"] += space_m


@inlined
def _serve(streets: Streets, traffic: Traffic, state: State, lane: int, now: int, end_s: float) -> None:
    """Let vehicles leave `lane` during the second `now`."""
    t0, t1 = float(now), min(now + 1.0, end_s)
    row = state.lane[lane]
    is_box = lane >= streets.streets
    while row["head"] != row["tail"]:
        v = state.ring[row["ring"] + (row["head"] & row["mask"])]["vehicle"]
        live = state.vehicle[v]
        driver = traffic.driver[live["driver"]]
        slot, arrives = row["slot_s"], live["arrives_s"]
        ready = max(slot, arrives)
        if ready >= t1:
            _put(state, lane, ready, now)
            return
        t = max(ready, t0)
        m = live["move"]
        if m < 0:
            _leave(streets, state, v, lane, t, t + 0.5 * driver["tau_s"], now)
            state.result[R_ARRIVED] += 1.0
            state.result[R_VEHICLE_S] += t - live["entered_s"]
            continue
        move = state.move[m]
        speed = min(float(move["speed_mps"]), row["limit_mps"]) * live["factor"]
        lamp = FREE
        link = move["link"]
        if link >= 0 and not is_box:
            lamp, since = state.link[link]["lamp"], state.link[link]["since_s"]
            if lamp == CLOSED or (lamp == YELLOW and t > since + move["yellow_s"]):
                row["run"] = 0
                row["blocked"] = 0
                return  # asleep until the link opens
            first = since + 0.5 if lamp != YELLOW and arrives < since else t
            if lamp == STOP:
                first = max(first, ready + STOP_S)
            if t < first:
                t = first
                if t >= t1:
                    _put(state, lane, t, now)
                    return
        waited = t - ready
        box = -1
        if lamp != PROTECTED and lamp != YELLOW:
            if lamp == PERMISSIVE:
                box = move["box"]
            gap_s = float(move["box_gap_s"] if is_box else move["gap_s"])
            if waited < 1.0 and arrives >= slot:
                gap_s = move["length_m"] / speed + 1.0
            elif row["first_try_s"] < t - 60.0:
                gap_s *= 0.6
            again = _clear_at(streets, state, m, t, gap_s)
            if box >= 0 and state.lane[box]["head"] != state.lane[box]["tail"]:
                again = max(again, t + 0.1)
            if again > t:
                if box >= 0:
                    _release(state, box, t)
                    used = state.lane[box]["used_m"]
                    if used <= EMPTY_M or used + driver["space_m"] <= state.lane[box]["room_m"]:
                        _into_box(streets, traffic, state, v, lane, box, t, speed, now)
                        continue
                if row["first_try_s"] > t:
                    row["first_try_s"] = t
                row["blocked"] = 1
                row["run"] = 0
                if again >= t1:
                    _put(state, lane, again, now)
                    return
                row["slot_s"] = again
                continue
        step = live["step"] + 1
        choice = _choose(traffic, state, step, move["to"], t, driver["space_m"], 0.0)
        if choice < 0:
            row["blocked"] = 1
            row["run"] = 0
            if row["first_try_s"] > t:
                row["first_try_s"] = t
            _wait_for(state, lane, -1 - choice, t, t1)
            return
        target = traffic.choice[choice]["lane"]
        entry = state.lane[target]
        if entry["in_slot_s"] > t:
            if entry["in_slot_s"] >= t1:
                _put(state, lane, entry["in_slot_s"], now)
                return
            t = entry["in_slot_s"]
            waited = t - ready
        stood = waited > 1.0 or lamp == STOP
        if stood:
            row["run"] = 0
        run = row["run"]
        # Headway: what drivers keep at this speed, or while the queue sets off what their acceleration allows.
        keep_s, space_m = driver["tau_s"], driver["space_m"]
        moving_s = space_m / max(speed - driver["dawdle_mps"], 1.0)
        pace_s = moving_s
        own_mps = min(speed, live["speed_mps"])
        if run < MOVING and (arrives < slot or stood):
            pace_s = max(pace_s, driver["start_s"] * SWING[run])
            own_mps = min(speed, PACE[run] * space_m / driver["start_s"])
            row["run"] = run + 1
        elif arrives >= slot:
            row["run"] = MOVING
        headway_s = keep_s + pace_s
        if move["headway_s"] > 0.0:
            headway_s += move["headway_s"] - keep_s - moving_s
        if move["open_frac"] < 1.0 and state.link[streets.crossing[m, 0]]["lamp"] in (PERMISSIVE, PROTECTED):
            walk_s = state.signal[streets.crossing[m, 1]]["next_s"] - t
            headway_s = min(headway_s / move["open_frac"], headway_s + walk_s * (1.0 - move["open_frac"]))
        if t - arrives > 2.0:
            state.result[R_STOPS] += 1.0
        length = float(move["length_m"])
        if is_box:
            length -= row["length_m"]
        _leave(streets, state, v, lane, t, t + headway_s, now)
        move["last_s"] = t
        _enter(traffic, state, v, step, choice, t, length, speed, own_mps)
        entry["in_slot_s"] = t + headway_s
        if entry["tail"] - entry["head"] == 1 and entry["wake_s"] > live["arrives_s"]:
            _put(state, target, live["arrives_s"], now)


@inlined
def _leave(streets: Streets, state: State, v: int, lane: int, t: float, slot_s: float, now: int) -> None:
    """Take the head off a lane and note what it lost there."""
    row, live = state.lane[lane], state.vehicle[v]
    edge = state.edge[row["edge"]]
    lost_s = t - live["ideal_s"]
    state.result[R_DELAY] += lost_s * live["weight"]
    edge["delay_s"] += lost_s
    if lane < streets.streets:
        edge["left_veh"] += 1.0
    state.ring[row["ring"] + (row["head"] & row["mask"])]["out_s"] = t
    row["head"] += 1
    row["blocked"] = 0
    row["slot_s"] = slot_s
    row["first_try_s"] = NEVER
    if row["waiter"] >= 0:
        _tell_waiters(state, lane, t + row["hole_s"], now)


@inlined
def _into_box(
    streets: Streets, traffic: Traffic, state: State, v: int, lane: int, box: int, t: float, speed: float, now: int
) -> None:
    """A vehicle that gives way drives to its waiting place inside the junction."""
    live, row = state.vehicle[v], state.lane[box]
    driver = traffic.driver[live["driver"]]
    _leave(streets, state, v, lane, t, t + driver["tau_s"] + 1.0, now)
    live["arrives_s"] = t + row["length_m"] / max(speed, 1.0)
    live["ideal_s"] = live["arrives_s"]
    live["speed_mps"] = 0.0
    _append(state, v, box, driver["space_m"])
    if row["wake_s"] > live["arrives_s"]:
        _put(state, box, live["arrives_s"], now)


@inlined
def _pick_way(traffic: Traffic, state: State, v: int, t: float) -> int:
    """First step of the way that looks fastest now; who waits to enter looks again once a minute."""
    first, end = traffic.way_first[v], traffic.way_first[v + 1]
    live = state.vehicle[v]
    if end == first + 1:
        return int(traffic.way_step[first])
    if t < live["entered_s"] + RECONSIDER_S:
        return int(live["step"])
    best, best_s = int(traffic.way_step[first]), NEVER
    for w in range(first, end):
        step, total_s = traffic.way_step[w], 0.0
        while True:
            row = traffic.step[step]
            total_s += state.edge[row["edge"]]["time_s"] + row["turn_s"]
            if row["last"] or total_s >= best_s:
                break
            step += 1
        if total_s < best_s:
            best, best_s = int(traffic.way_step[w]), total_s
    live["entered_s"], live["step"] = t, best
    return best


@inlined
def _insert(
    streets: Streets, traffic: Traffic, state: State, lane: int, now: int, from_s: float, end_s: float
) -> None:
    """Let vehicles due at a source enter their first edge during the second `now`."""
    t0, t1 = float(now), min(now + 1.0, end_s)
    source, row = lane - streets.streets - streets.boxes, state.lane[lane]
    rightmost = traffic.source_lane[source]
    last = traffic.source_first[source + 1] - traffic.source_first[source]
    while row["head"] < last:
        v = traffic.source_vehicle[traffic.source_first[source] + row["head"]]
        live = state.vehicle[v]
        driver = traffic.driver[live["driver"]]
        t = live["depart_s"]
        if t >= t1:
            _put(state, lane, t, now)
            return
        t = max(t, t0)
        any_lane, space_m = driver["any_lane"] != 0, driver["space_m"]
        step = _pick_way(traffic, state, v, t)
        # Who starts on the rightmost lane waits there for its turn to change, be its own full: a few do.
        beyond_m = 0.0 if any_lane else ASIDE_VEH * space_m
        choice = _choose(traffic, state, step, -1 if any_lane else rightmost, t, space_m, beyond_m)
        blocker = -1 - choice
        if choice >= 0 and not any_lane:
            _release(state, rightmost, t)
            used = state.lane[rightmost]["used_m"]
            if used > EMPTY_M and used + space_m > state.lane[rightmost]["room_m"]:
                choice, blocker = -1, rightmost
        if choice < 0:
            _wait_for(state, lane, blocker, t, t1)
            return
        target = traffic.choice[choice]["lane"]
        gate, entry = state.lane[target if any_lane else rightmost], state.lane[target]
        free_s = max(gate["in_slot_s"], entry["in_slot_s"])
        if free_s > t:
            if free_s >= t1:
                _put(state, lane, free_s, now)
                return
            t = free_s
        desired = min(entry["limit_mps"] * live["factor"], driver["top_mps"])
        if driver["rolls"]:
            own_mps = desired
            gap_s = driver["tau_s"] + space_m / desired
        else:
            own_mps = 0.0
            gap_s = driver["start_s"] + 0.3
        waited_s = t - max(live["depart_s"], from_s)
        state.result[R_INSERTION] += waited_s * live["weight"]
        state.result[R_DELAY] += waited_s * live["weight"]
        edge = state.edge[entry["edge"]]
        edge["delay_s"] += waited_s
        edge["insertion_s"] += waited_s
        row["head"] += 1
        live["entered_s"] = t
        _enter(traffic, state, v, step, choice, t, 0.0, 1.0, own_mps)
        gate["in_slot_s"] = t + ASIDE_S
        entry["in_slot_s"] = t + gap_s
        if entry["tail"] - entry["head"] == 1 and entry["wake_s"] > live["arrives_s"]:
            _put(state, target, live["arrives_s"], now)


@inlined
def _opens(code: int) -> bool:
    """Vehicles may leave under this lamp."""
    return code in (PERMISSIVE, PROTECTED, FREE, STOP)


@inlined
def _show(streets: Streets, plans: Plans, state: State, s: int, phase: int, t: float, now: int) -> None:
    """Light the lamps of a phase and wake the lanes whose link opened."""
    first = streets.link_first[s]
    lamps = plans.lamp_first[phase]
    for k in range(streets.link_first[s + 1] - first):
        code, x = np.int32(plans.lamps[lamps + k]), first + k
        link = state.link[x]
        old = link["lamp"]
        if code == old:
            continue
        link["lamp"] = code
        if _opens(old) and _opens(code):
            continue
        link["since_s"] = t
        if _opens(code):
            for i in range(streets.link_lane_first[x], streets.link_lane_first[x + 1]):
                lane = streets.link_lane[i]
                row = state.lane[lane]
                if row["head"] != row["tail"] and row["wake_s"] > t:
                    _put(state, lane, t, now)


@inlined
def _part_of_walkers(streets: Streets, plans: Plans, state: State, s: int) -> None:
    """Share of the time that walkers leave free to each turn at signal s, under its plan.

    Source: Highway Capacity Manual 2010, chapter 31, pedestrian occupancy of the conflict zone and the adjustment
    factor for turning vehicles; applied while the walkers have green, which averages to its A_pbT over the turn's.
    """
    plan = state.signal[s]["plan"]
    for i in range(streets.walked_first[s], streets.walked_first[s + 1]):
        walked = streets.walked[i]
        cycle_s, walk_s = 0.0, 0.0
        for q in range(plans.phase_first[plan], plans.phase_first[plan + 1]):
            cycle_s += plans.phase_s[q]
            code = plans.lamps[plans.lamp_first[q] + walked["link"] - streets.link_first[s]]
            if code in (PERMISSIVE, PROTECTED):
                walk_s += plans.phase_s[q]
        walkers_vph = min(walked["walkers_vph"] * cycle_s / max(walk_s, 1.0), 5000.0)
        occupied = walkers_vph / 2000.0 if walkers_vph <= 1000.0 else 0.4 + walkers_vph / 10000.0
        state.move[walked["move"]]["open_frac"] = 1.0 - walked["felt_frac"] * min(occupied, 0.9)


@inlined
def _locate(streets: Streets, plans: Plans, state: State, s: int, begin_s: float, t: float, now: int) -> None:
    """Start the plan of signal s at `t` in the phase it would show had it always run."""
    signal = state.signal[s]
    plan = signal["plan"]
    first, last = plans.phase_first[plan], plans.phase_first[plan + 1]
    cycle = 0.0
    for q in range(first, last):
        cycle += plans.phase_s[q]
    into = (t + begin_s - plans.offset_s[plan]) % cycle
    phase = first
    while phase < last - 1 and into >= plans.phase_s[phase] - 1e-9:
        into -= plans.phase_s[phase]
        phase += 1
    signal["phase"] = phase
    until = t + max(plans.phase_s[phase] - into, 0.0)
    if plan < plans.plan_first[s + 1] - 1:
        until = min(until, plans.from_s[plan + 1] - begin_s)
    signal["next_s"] = until
    _show(streets, plans, state, s, phase, t, now)
    _part_of_walkers(streets, plans, state, s)


@inlined
def _switch(streets: Streets, plans: Plans, state: State, s: int, begin_s: float, now: int) -> None:
    """Bring signal s up to the end of the second `now`."""
    signal = state.signal[s]
    while signal["next_s"] < now + 1.0:
        t = signal["next_s"]
        plan, phase = signal["plan"], signal["phase"]
        last = plans.plan_first[s + 1] - 1
        while plan < last and plans.from_s[plan + 1] - begin_s <= t + 1e-6:
            plan += 1
        if plan != signal["plan"]:
            signal["plan"] = plan
            _locate(streets, plans, state, s, begin_s, t, now)
            continue
        phase += 1
        if phase == plans.phase_first[plan + 1]:
            phase = plans.phase_first[plan]
        signal["phase"] = phase
        until = t + plans.phase_s[phase]
        if plan < last:
            until = min(until, plans.from_s[plan + 1] - begin_s)
        signal["next_s"] = until
        if plans.phase_s[phase] > 0.0:
            _show(streets, plans, state, s, phase, t, now)


@inlined
def _look_back(streets: Streets, plans: Plans, state: State, s: int, t: float) -> None:
    """Let the links of signal s have opened or closed when the plan running at `t` did so, a cycle ago at most."""
    plan, now_phase = state.signal[s]["plan"], state.signal[s]["phase"]
    first, last = plans.phase_first[plan], plans.phase_first[plan + 1]
    for k in range(streets.link_first[s + 1] - streets.link_first[s]):
        link = state.link[streets.link_first[s] + k]
        phase, since = now_phase, state.signal[s]["next_s"] - plans.phase_s[now_phase]
        for _ in range(last - first - 1):
            phase = last - 1 if phase == first else phase - 1
            if plans.phase_s[phase] == 0.0:
                continue
            code = plans.lamps[plans.lamp_first[phase] + k]
            if _opens(code) != _opens(link["lamp"]) or (code == YELLOW) != (link["lamp"] == YELLOW):
                break
            since -= plans.phase_s[phase]
        link["since_s"] = min(since, t)


@inlined
def _reset(state: State, factor: F64) -> None:
    """Empty streets at second 0."""
    for lane in range(len(state.lane)):
        row = state.lane[lane]
        row["slot_s"], row["in_slot_s"], row["used_m"], row["first_try_s"] = 0.0, 0.0, 0.0, NEVER
        row["head"], row["tail"], row["freed"], row["run"], row["blocked"] = 0, 0, 0, 0, 0
        row["wake_s"] = NEVER
    for v in range(len(factor)):
        state.vehicle[v]["factor"] = factor[v]
        state.vehicle[v]["entered_s"] = -NEVER
    for m in range(len(state.move)):
        state.move[m]["last_s"] = -1e9
    for e in range(len(state.edge)):
        state.edge[e]["moving_frac"] = 1.0
        state.edge[e]["time_s"] = state.edge[e]["free_s"]


@inlined
def _resume(state: State, from_s: float) -> None:
    """Go on from rows that a run left behind or that were made from what is known now: delays count from here."""
    for lane in range(len(state.lane)):
        row = state.lane[lane]
        for i in range(row["head"], row["tail"]):
            live = state.vehicle[state.ring[row["ring"] + (i & row["mask"])]["vehicle"]]
            live["entered_s"] = from_s
            live["ideal_s"] = max(live["ideal_s"], from_s)


@inlined
def _begin(streets: Streets, traffic: Traffic, plans: Plans, state: State, begin_s: float, from_s: float) -> None:
    """Light the signals as they stand at `from_s`, wake all lanes with vehicles, forget what was counted."""
    lanes, now = len(state.lane), int(from_s)
    for k in range(lanes, lanes + WHEEL):
        state.wheel_prev[k] = k
        state.wheel_next[k] = k
    for lane in range(lanes):
        row = state.lane[lane]
        wake_s = row["wake_s"]
        row["wake_s"], row["waiter"], row["waits_for"] = NEVER, -1, -1
        if wake_s < NEVER:
            _put(state, lane, max(wake_s, from_s), now)
    for e in range(len(state.edge)):
        edge = state.edge[e]
        edge["delay_s"], edge["insertion_s"], edge["left_veh"], edge["longest_veh"] = 0.0, 0.0, 0.0, 0.0
    state.result[:] = 0.0
    for x in range(len(state.link)):
        state.link[x]["lamp"] = CLOSED
        state.link[x]["since_s"] = -1e9
    for s in range(len(state.signal)):
        plan = plans.plan_first[s]
        while plan < plans.plan_first[s + 1] - 1 and plans.from_s[plan + 1] <= begin_s + from_s:
            plan += 1
        state.signal[s]["plan"] = plan
        _locate(streets, plans, state, s, begin_s, from_s, now)
        _look_back(streets, plans, state, s, from_s)
    first_source = streets.streets + streets.boxes
    for source in range(len(traffic.source_lane)):
        row = state.lane[first_source + source]
        due = traffic.source_first[source] + row["head"]
        if row["wake_s"] == NEVER and due < traffic.source_first[source + 1]:
            depart_s = state.vehicle[traffic.source_vehicle[due]]["depart_s"]
            _put(state, first_source + source, max(depart_s, from_s), now)


@inlined
def _look(streets: Streets, state: State, t: float, weight: float) -> None:
    """Count queues at a moment: the longest of each edge, and the smoothed share of its vehicles that move.

    SUMO lets drivers of trips choose by edge speeds averaged over the last three minutes; so does this, weighing a
    new sample by `weight`.
    """
    for e in range(len(state.edge)):
        state.edge[e]["waiting"], state.edge[e]["present"] = 0, 0
    for lane in range(streets.streets + streets.boxes):
        row = state.lane[lane]
        head, tail = row["head"], row["tail"]
        if head == tail:
            continue
        edge = state.edge[row["edge"]]
        edge["present"] += tail - head
        for i in range(head, tail):
            if state.vehicle[state.ring[row["ring"] + (i & row["mask"])]["vehicle"]]["arrives_s"] > t:
                break
            edge["waiting"] += 1
    for e in range(len(state.edge)):
        edge = state.edge[e]
        waiting, known = edge["waiting"], edge["moving_frac"]
        if waiting == 0 and known > FLOWS_FRAC:
            continue
        edge["longest_veh"] = max(edge["longest_veh"], float(waiting))
        moving = 1.0 - waiting / max(edge["present"], 1)
        edge["moving_frac"] = known + weight * (moving - known)
        edge["time_s"] = edge["free_s"] / max(edge["moving_frac"], 0.05)


@inlined
def _settle(streets: Streets, traffic: Traffic, state: State, from_s: float, end_s: float) -> None:
    """Count what is still driving or waiting at the end."""
    for lane in range(streets.streets + streets.boxes):
        row = state.lane[lane]
        for i in range(row["head"], row["tail"]):
            live = state.vehicle[state.ring[row["ring"] + (i & row["mask"])]["vehicle"]]
            state.result[R_RUNNING] += 1.0
            state.result[R_VEHICLE_S] += end_s - live["entered_s"]
            lost_s = max(end_s - live["ideal_s"], 0.0)
            state.result[R_DELAY] += lost_s * live["weight"]
            state.edge[row["edge"]]["delay_s"] += lost_s
            if lost_s > STUCK_S:
                state.result[R_STUCK] += 1.0
    for source in range(len(traffic.source_lane)):
        row = state.lane[streets.streets + streets.boxes + source]
        edge = state.edge[row["edge"]]
        for i in range(traffic.source_first[source] + row["head"], traffic.source_first[source + 1]):
            live = state.vehicle[traffic.source_vehicle[i]]
            if live["depart_s"] >= end_s:
                break
            waited_s = end_s - max(live["depart_s"], from_s)
            state.result[R_NEVER] += 1.0
            state.result[R_INSERTION] += waited_s * live["weight"]
            state.result[R_DELAY] += waited_s * live["weight"]
            edge["delay_s"] += waited_s
            edge["insertion_s"] += waited_s


@inlined
def _fetch(traffic: Traffic, state: State, sentinel: int, first_source: int) -> None:
    """Bring into the cache what this second will touch, many rows at a time: a row's address hides in another row.

    Waiting for memory row by row is half the time in a city of 500 junctions; this takes a quarter of it away.
    """
    ahead, read, n = state.ahead, 0, 0
    lane = state.wheel_next[sentinel]
    while lane != sentinel and n < len(ahead) - 1:
        if lane < first_source:
            ahead[n, 0] = lane
            n += 1
        lane = state.wheel_next[lane]
    for i in range(n):
        row = state.lane[ahead[i, 0]]
        ahead[i, 1] = row["ring"] + (row["head"] & row["mask"])
    for i in range(n):
        ahead[i, 1] = state.ring[ahead[i, 1]]["vehicle"]
    for i in range(n):
        live = state.vehicle[ahead[i, 1]]
        ahead[i, 1], ahead[i, 2] = live["step"] + 1, live["move"]
    for i in range(n):
        if ahead[i, 2] >= 0:
            ahead[i, 1] = traffic.step[ahead[i, 1]]["choice"]
            ahead[i, 2] = state.move[ahead[i, 2]]["link"]
            read += state.link[max(ahead[i, 2], 0)]["lamp"] if len(state.link) else 0
            ahead[i, 0] = traffic.choice[ahead[i, 1]]["lane"]
    for i in range(n):
        row = state.lane[ahead[i, 0]]
        ahead[i, 1] = row["ring"] + (row["freed"] & row["mask"])
        ahead[i, 2] = row["ring"] + (row["tail"] & row["mask"])
        read += state.edge[row["edge"]]["waiting"]
    for i in range(n):
        read += state.ring[ahead[i, 1]]["vehicle"] + state.ring[ahead[i, 2]]["vehicle"]
    ahead[len(ahead) - 1, 0] = read  # what nobody keeps, compilers do not read


@flat
def run_streets(
    streets: Streets,
    traffic: Traffic,
    plans: Plans,
    factor: F64,
    begin_s: float,
    from_s: float,
    end_s: float,
    sample_s: int,
    resumed: bool,
    state: State,
) -> None:
    """Drive the traffic over the streets under one timing; writes `state`, its `result` above all.

    streets   Streets
    traffic   Traffic
    plans     Plans
    factor    (V,) float64  desired speed of each driver over the limit
    begin_s   float         clock of second 0, for the phases of the plans
    from_s    float         whole seconds from begin to the first one driven
    end_s     float         seconds from begin to the end
    sample_s  int           seconds between samples of queue lengths, 0: none
    resumed   bool          go on from the rows of vehicle, lane, ring, move and edge in `state`, their drivers too
    state     State         working memory
    """
    if resumed:
        _resume(state, from_s)
    else:
        _reset(state, factor)
    _begin(streets, traffic, plans, state, begin_s, from_s)
    lanes = len(state.lane)
    first_source = streets.streets + streets.boxes
    for now in range(int(from_s), int(np.ceil(end_s))):
        for s in range(len(state.signal)):
            if state.signal[s]["next_s"] < now + 1.0:
                _switch(streets, plans, state, s, begin_s, now)
        sentinel = lanes + (now & (WHEEL - 1))
        if lanes > CACHED_LANES:
            _fetch(traffic, state, sentinel, first_source)
        lane = state.wheel_next[sentinel]
        while lane != sentinel:
            following = state.wheel_next[lane]
            state.wheel_next[sentinel] = following
            state.wheel_prev[following] = sentinel
            wakes_s = state.lane[lane]["wake_s"]
            state.lane[lane]["wake_s"] = NEVER
            if wakes_s < end_s:  # else: within the last second, and after the end
                if lane >= first_source:
                    _insert(streets, traffic, state, lane, now, from_s, end_s)
                else:
                    _serve(streets, traffic, state, lane, now, end_s)
            lane = state.wheel_next[sentinel]
        if sample_s > 0 and now % sample_s == 0:
            _look(streets, state, now + 1.0, 1.0 - np.exp(-sample_s / MEMORY_S))
    _settle(streets, traffic, state, from_s, end_s)
