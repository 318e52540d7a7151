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

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

F64: TypeAlias = NDArray[np.float64]
I32: TypeAlias = NDArray[np.int32]
U8: TypeAlias = NDArray[np.uint8]

# Counting references to arrays takes nine tenths of the time here (12 million vehicle-seconds a second on cologne8,
# 100 without), because kernels reach into tuples of arrays at every event. The arrays outlive each run. A call that is
# not inlined copies the tuples, three hundred words, on the stack: inlining every kernel halves the time again.
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "_nrt": False, "error_model": "numpy"}
flat: Any = njit(**_OPTIONS)
inlined: Any = njit(forceinline=True, **_OPTIONS)

CLOSED, PERMISSIVE, PROTECTED, YELLOW, FREE = 0, 1, 2, 3, 4  # lamp codes of one link
WHEEL = 512  # buckets, a power of two
NEVER = 1e18

# Columns of the vehicle arrays. Static, live and whole numbers.
V_SPACE, V_TAU, V_START, V_ACCEL, V_TOP, V_DAWDLE, V_WEIGHT, V_DEPART = range(8)
V_ARRIVES, V_IDEAL, V_FACTOR, V_ENTERED, V_SPEED = range(5)
V_STEP, V_MOVE = range(2)
# Columns of the lane arrays.
L_LENGTH, L_LIMIT, L_HOLE_S, L_ROOM = range(4)
L_SLOT, L_IN_SLOT, L_USED_M, L_FIRST_TRY = range(4)
Q_HEAD, Q_TAIL, Q_FREED, Q_RUN, Q_BLOCKED, Q_WAITER, Q_NEXT_WAITER, Q_WAITS_FOR = range(8)
# Columns of the movement arrays.
M_LENGTH, M_SPEED, M_HEADWAY, M_GAP, M_YELLOW, M_CLEAR, M_BOX_GAP = range(7)
M_TO, M_LINK, M_BOX, M_FROM = range(4)
# Results.
R_DELAY, R_INSERTION, R_VEHICLE_S, R_STOPS, R_ARRIVED, R_RUNNING, R_NEVER, R_STUCK = range(8)

RECONSIDER_S = 60.0
MEMORY_S = 90.0  # of drivers about edge speeds: the mean age of a sample in SUMO's window of 180 s
FLOWS_FRAC = 0.999  # of the vehicles of an edge move: all of them, to its drivers
LANE_CHANGE_S = 1.0
QUEUE_S_PER_M = 0.27  # time a metre of queue ahead costs: 2 s a vehicle
RETRY_S = 4.0  # a blocked lane looks again this often, besides being told
STUCK_S = 300.0
EMPTY_M = 0.1  # less than any vehicle: what rounding leaves on an empty lane
ASIDE_VEH, ASIDE_S = 2.0, 1.0  # who starts on another lane than its own changes at once
MOVING = 12  # vehicles after which a discharging queue has reached its pace
# Per vehicle of a discharging queue, over V_START: its headway, and its speed at the stop line over V_SPACE / V_START.
SWING = np.concatenate([[0.72], np.sqrt(np.arange(2.0, MOVING + 1.0)) - np.sqrt(np.arange(1.0, MOVING))])
PACE = 2.0 * np.sqrt(np.arange(0.0, MOVING))


class Streets(NamedTuple):
    """What never changes between runs. N lanes: streets, then boxes, then sources."""

    lane: F64  # (N, 4) L_LENGTH ...
    lane_edge: I32  # (N,)
    ring_first: NDArray[np.int64]  # (N+1,)
    streets: int
    boxes: int
    movement: F64  # (M, 7)
    movement_to: I32  # (M, 4)
    foe_first: I32  # (M+1,)
    foe: I32
    link_lane_first: I32  # (X+1,) lanes to wake when a link opens
    link_lane: I32
    link_first: I32  # (S+1,) links of signal s


class Traffic(NamedTuple):
    """The demand over the streets. Vehicle rows are sorted by departure."""

    vehicle: F64  # (V, 8) V_SPACE ...
    way_first: I32  # (V+1,) ways that a vehicle may choose from when it sets off
    way_step: I32  # (W,) first step of a way
    step_edge: I32  # (R,)
    dwell_s: F64  # (R,)
    context: I32  # (R,)
    last: NDArray[np.bool_]  # (R,) the route ends on this edge
    turn_s: F64  # (R,) time inside the junction behind the edge
    edge_free_s: F64  # (E,)
    choice_first: I32  # (C+1,)
    choice_lane: I32
    choice_move: I32
    choice_cost: F64
    source_first: I32  # (sources+1,)
    source_vehicle: I32
    source_lane: I32  # (sources,) rightmost lane of the edge that cars may use
    start_kind: U8  # (V,) bit 0: enters at speed, bit 1: on any lane


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

    vehicle: F64  # (V, 5)
    vehicle_at: I32  # (V, 2)
    lane: F64  # (N, 4)
    queue: I32  # (N, 8)
    ring: I32  # (sum of ring sizes,)
    ring_out_s: F64
    wheel_prev: I32  # (N + WHEEL,)
    wheel_next: I32
    wake_s: F64  # (N,) NEVER: asleep
    lamp: U8  # (X,)
    lamp_since_s: F64  # (X,)
    last_cross_s: F64  # (M,)
    signal_next_s: F64  # (S,)
    signal_phase: I32  # (S,)
    signal_plan: I32  # (S,)
    edge_delay_s: F64  # (E,)
    edge_insertion_s: F64  # (E,) the part of edge_delay_s spent waiting to enter
    edge_left: F64  # (E,)
    edge_now: I32  # (E,) vehicles in the queue, sampled
    edge_count: I32  # (E,) vehicles on the edge, sampled
    edge_moving: F64  # (E,) share of them that move, smoothed
    edge_s: F64  # (E,) time on the edge that follows from it: what drivers know when they choose their way
    edge_max: F64  # (E,)
    result: F64  # (8,)


@inlined
def _put(state: State, lane: int, at_s: float, now: int) -> None:
    """(Re)schedule a lane; a moment before `now` (whole seconds) is served now."""
    prev, following = state.wheel_prev, state.wheel_next
    if state.wake_s[lane] < NEVER:
        p, n = prev[lane], following[lane]
        following[p] = n
        prev[n] = p
    k = int(min(max(at_s, float(now)), float(now + WHEEL - 1)))
    sentinel = len(state.wake_s) + (k & (WHEEL - 1))
    p = prev[sentinel]
    following[p] = lane
    prev[lane] = p
    following[lane] = sentinel
    prev[sentinel] = lane
    state.wake_s[lane] = at_s


@inlined
def _release(streets: Streets, state: State, traffic: Traffic, lane: int, t: float) -> None:
    """Let the space of vehicles that left reach the upstream end of the lane."""
    queue, size = state.queue, streets.ring_first[lane + 1] - streets.ring_first[lane] - 1
    base, freed, head = streets.ring_first[lane], queue[lane, Q_FREED], queue[lane, Q_HEAD]
    hole_s = streets.lane[lane, L_HOLE_S]
    while freed != head and state.ring_out_s[base + (freed & size)] + hole_s <= t:
        state.lane[lane, L_USED_M] -= traffic.vehicle[state.ring[base + (freed & size)], V_SPACE]
        freed += 1
    queue[lane, Q_FREED] = freed


@inlined
def _wait_for(streets: Streets, state: State, lane: int, blocker: int, t: float, t1: float) -> None:
    """Put a lane to sleep until space shows up on `blocker`; it looks by itself after RETRY_S at the latest."""
    queue = state.queue
    if queue[lane, Q_WAITS_FOR] < 0:
        queue[lane, Q_NEXT_WAITER] = queue[blocker, Q_WAITER]
        queue[blocker, Q_WAITER] = lane
        queue[lane, Q_WAITS_FOR] = blocker
    at_s = t + RETRY_S
    freed = queue[blocker, Q_FREED]
    if freed != queue[blocker, Q_HEAD]:
        base = streets.ring_first[blocker]
        size = streets.ring_first[blocker + 1] - base - 1
        at_s = min(at_s, state.ring_out_s[base + (freed & size)] + streets.lane[blocker, L_HOLE_S])
    _put(state, lane, max(at_s, t1), np.int64(t))


@inlined
def _tell_waiters(streets: Streets, state: State, lane: int, at_s: float, now: int) -> None:
    """Space of `lane` shows up at `at_s`."""
    queue = state.queue
    w = queue[lane, Q_WAITER]
    queue[lane, Q_WAITER] = -1
    while w >= 0:
        following = queue[w, Q_NEXT_WAITER]
        queue[w, Q_WAITS_FOR] = -1
        if at_s < state.wake_s[w]:
            _put(state, w, at_s, now)
        w = following


@inlined
def _clear_at(streets: Streets, state: State, m: int, t: float, gap_s: float) -> float:
    """`t` when nobody goes before movement m, else the moment to look again."""
    again = t
    for j in range(streets.foe_first[m], streets.foe_first[m + 1]):
        f = streets.foe[j]
        link = streets.movement_to[f, M_LINK]
        after = state.last_cross_s[f] + streets.movement[f, M_CLEAR]
        if after > again:
            again = after
        if link >= 0:
            lamp = state.lamp[link]
            if lamp in (CLOSED, YELLOW):
                continue
        lane = streets.movement_to[f, M_FROM]
        head = state.queue[lane, Q_HEAD]
        if head == state.queue[lane, Q_TAIL] or state.queue[lane, Q_BLOCKED]:
            continue
        base = streets.ring_first[lane]
        w = state.ring[base + (head & (streets.ring_first[lane + 1] - base - 1))]
        if state.vehicle_at[w, V_MOVE] != f:
            continue
        comes = max(state.vehicle[w, V_ARRIVES], state.lane[lane, L_SLOT])
        if comes < t + gap_s:
            after = max(comes, t) + streets.movement[f, M_CLEAR]
            if after > again:
                again = after
    return again


@inlined
def _choose(
    streets: Streets,
    traffic: Traffic,
    state: State,
    v: int,
    step: int,
    landing: int,
    t: float,
    need_m: float,
    beyond_m: float,
) -> int:
    """Index of the best choice for the edge to be entered, -1 - (lane that blocks) when there is no room.

    Cost of a lane: the queue on it, lane changes to reach it and, from the route ahead, those it leads to.
    """
    best, best_cost = -1, NEVER
    full, full_cost = -1, NEVER
    c = traffic.context[step]
    for i in range(traffic.choice_first[c], traffic.choice_first[c + 1]):
        lane = traffic.choice_lane[i]
        _release(streets, state, traffic, lane, t)
        used = state.lane[lane, L_USED_M]
        cost = traffic.choice_cost[i] + QUEUE_S_PER_M * used + max(state.lane[lane, L_IN_SLOT] - t, 0.0)
        if landing >= 0:
            cost += LANE_CHANGE_S * abs(lane - landing)
        if used > EMPTY_M and used + need_m > streets.lane[lane, L_ROOM] + beyond_m:
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
    streets: Streets,
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
    lane = traffic.choice_lane[choice]
    static, live = traffic.vehicle, state.vehicle
    desired = min(streets.lane[lane, L_LIMIT] * live[v, V_FACTOR], static[v, V_TOP])
    length, accel, dawdle = streets.lane[lane, L_LENGTH], static[v, V_ACCEL], static[v, V_DAWDLE]
    arrives, ideal, at_mps = t + traffic.dwell_s[step], t + traffic.dwell_s[step], own_mps
    if inside_m > 0.0:
        inside_s, at_mps = _drive_s(inside_m, own_mps, max(inside_mps - dawdle, 1.0), accel)
        arrives += inside_s
        ideal += inside_m / inside_mps
    lane_s, at_mps = _drive_s(length, at_mps, max(desired - dawdle, 1.0), accel)
    live[v, V_ARRIVES] = arrives + lane_s
    live[v, V_IDEAL] = ideal + length / desired
    live[v, V_SPEED] = at_mps
    state.vehicle_at[v, V_STEP] = step
    state.vehicle_at[v, V_MOVE] = traffic.choice_move[choice]
    _append(streets, traffic, state, v, lane)


@inlined
def _append(streets: Streets, traffic: Traffic, state: State, v: int, lane: int) -> None:
    queue, base = state.queue, streets.ring_first[lane]
    tail = queue[lane, Q_TAIL]
    state.ring[base + (tail & (streets.ring_first[lane + 1] - base - 1))] = v
    queue[lane, Q_TAIL] = tail + 1
    state.lane[lane, L_USED_M] += traffic.vehicle[v, V_SPACE]


@inlined
def _serve(streets: Streets, traffic: Traffic, state: State, lane: int, now: int, end_s: float) -> None:
    """Let vehicles leave `lane` during the second `now`."""
    t0, t1 = float(now), min(now + 1.0, end_s)
    queue, live, static = state.queue, state.vehicle, traffic.vehicle
    base = streets.ring_first[lane]
    size = streets.ring_first[lane + 1] - base - 1
    is_box = lane >= streets.streets
    while queue[lane, Q_HEAD] != queue[lane, Q_TAIL]:
        head = queue[lane, Q_HEAD]
        v = state.ring[base + (head & size)]
        slot = state.lane[lane, L_SLOT]
        arrives = live[v, V_ARRIVES]
        ready = max(slot, arrives)
        if ready >= t1:
            _put(state, lane, ready, now)
            return
        t = max(ready, t0)
        m = state.vehicle_at[v, V_MOVE]
        if m < 0:
            _leave(streets, traffic, state, v, lane, t, t + 0.5 * static[v, V_TAU], now)
            state.result[R_ARRIVED] += 1.0
            state.result[R_VEHICLE_S] += t - live[v, V_ENTERED]
            continue
        speed = min(streets.movement[m, M_SPEED], streets.lane[lane, L_LIMIT]) * live[v, V_FACTOR]
        lamp = FREE
        link = streets.movement_to[m, M_LINK]
        if link >= 0 and not is_box:
            lamp = state.lamp[link]
            if lamp == CLOSED or (lamp == YELLOW and t > state.lamp_since_s[link] + streets.movement[m, M_YELLOW]):
                queue[lane, Q_RUN] = 0
                queue[lane, Q_BLOCKED] = 0
                return  # asleep until the link opens
            if lamp != YELLOW and arrives < state.lamp_since_s[link]:
                first = state.lamp_since_s[link] + 0.5
                if t < first:
                    t = first
                    if t >= t1:
                        _put(state, lane, t, now)
                        return
        waited = t - ready
        box = -1
        if lamp != PROTECTED and lamp != YELLOW:
            if lamp == PERMISSIVE:
                box = streets.movement_to[m, M_BOX]
            gap_s = streets.movement[m, M_BOX_GAP if is_box else M_GAP]
            if waited < 1.0 and arrives >= slot:
                gap_s = streets.movement[m, M_LENGTH] / speed + 1.0
            elif state.lane[lane, L_FIRST_TRY] < t - 60.0:
                gap_s *= 0.6
            again = _clear_at(streets, state, m, t, gap_s)
            if box >= 0 and queue[box, Q_HEAD] != queue[box, Q_TAIL]:
                again = max(again, t + 0.1)
            if again > t:
                if box >= 0:
                    _release(streets, state, traffic, box, t)
                    used = state.lane[box, L_USED_M]
                    if used <= EMPTY_M or used + static[v, V_SPACE] <= streets.lane[box, L_ROOM]:
                        _into_box(streets, traffic, state, v, lane, box, t, speed, now)
                        continue
                if state.lane[lane, L_FIRST_TRY] > t:
                    state.lane[lane, L_FIRST_TRY] = t
                queue[lane, Q_BLOCKED] = 1
                queue[lane, Q_RUN] = 0
                if again >= t1:
                    _put(state, lane, again, now)
                    return
                state.lane[lane, L_SLOT] = again
                continue
        step = state.vehicle_at[v, V_STEP] + 1
        landing = streets.movement_to[m, M_TO]
        choice = _choose(streets, traffic, state, v, step, landing, t, static[v, V_SPACE], 0.0)
        if choice < 0:
            queue[lane, Q_BLOCKED] = 1
            queue[lane, Q_RUN] = 0
            if state.lane[lane, L_FIRST_TRY] > t:
                state.lane[lane, L_FIRST_TRY] = t
            _wait_for(streets, state, lane, -1 - choice, t, t1)
            return
        target = traffic.choice_lane[choice]
        if state.lane[target, L_IN_SLOT] > t:
            if state.lane[target, L_IN_SLOT] >= t1:
                _put(state, lane, state.lane[target, L_IN_SLOT], now)
                return
            t = state.lane[target, L_IN_SLOT]
            waited = t - ready
        if waited > 1.0:
            queue[lane, Q_RUN] = 0
        run = queue[lane, Q_RUN]
        # Headway: what drivers keep at this speed, or while the queue sets off what their acceleration allows.
        keep_s = static[v, V_TAU]
        override = streets.movement[m, M_HEADWAY]
        pace_s = static[v, V_SPACE] / max(speed - static[v, V_DAWDLE], 1.0)
        own_mps = min(speed, live[v, V_SPEED])
        if run < MOVING and (arrives < slot or waited > 1.0):
            pace_s = max(pace_s, static[v, V_START] * SWING[run])
            own_mps = min(speed, PACE[run] * static[v, V_SPACE] / static[v, V_START])
            queue[lane, Q_RUN] = run + 1
        elif arrives >= slot:
            queue[lane, Q_RUN] = MOVING
        headway_s = keep_s + pace_s
        if override > 0.0:
            headway_s += override - keep_s - static[v, V_SPACE] / max(speed - static[v, V_DAWDLE], 1.0)
        if t - arrives > 2.0:
            state.result[R_STOPS] += 1.0
        length = streets.movement[m, M_LENGTH]
        if is_box:
            length -= streets.lane[lane, L_LENGTH]
        _leave(streets, traffic, state, v, lane, t, t + headway_s, now)
        state.last_cross_s[m] = t
        _enter(streets, traffic, state, v, step, choice, t, length, speed, own_mps)
        state.lane[target, L_IN_SLOT] = t + headway_s
        if queue[target, Q_TAIL] - queue[target, Q_HEAD] == 1 and state.wake_s[target] > live[v, V_ARRIVES]:
            _put(state, target, live[v, V_ARRIVES], now)


@inlined
def _leave(
    streets: Streets, traffic: Traffic, state: State, v: int, lane: int, t: float, slot_s: float, now: int
) -> None:
    """Take the head off a lane and note what it lost there."""
    lost_s = t - state.vehicle[v, V_IDEAL]
    state.result[R_DELAY] += lost_s * traffic.vehicle[v, V_WEIGHT]
    edge = streets.lane_edge[lane]
    state.edge_delay_s[edge] += lost_s
    if lane < streets.streets:
        state.edge_left[edge] += 1.0
    base = streets.ring_first[lane]
    queue = state.queue
    head = queue[lane, Q_HEAD]
    state.ring_out_s[base + (head & (streets.ring_first[lane + 1] - base - 1))] = t
    queue[lane, Q_HEAD] = head + 1
    queue[lane, Q_BLOCKED] = 0
    state.lane[lane, L_SLOT] = slot_s
    state.lane[lane, L_FIRST_TRY] = NEVER
    if queue[lane, Q_WAITER] >= 0:
        _tell_waiters(streets, state, lane, t + streets.lane[lane, L_HOLE_S], now)


@inlined
def _into_box(
    streets: Streets, traffic: Traffic, state: State, v: int, lane: int, box: int, t: float, speed: float, now: int
) -> None:
    """A vehicle that gives way drives to its waiting place inside the junction."""
    _leave(streets, traffic, state, v, lane, t, t + traffic.vehicle[v, V_TAU] + 1.0, now)
    length = streets.lane[box, L_LENGTH]
    state.vehicle[v, V_ARRIVES] = t + length / max(speed, 1.0)
    state.vehicle[v, V_IDEAL] = state.vehicle[v, V_ARRIVES]
    state.vehicle[v, V_SPEED] = 0.0
    _append(streets, traffic, state, v, box)
    if state.wake_s[box] > state.vehicle[v, V_ARRIVES]:
        _put(state, box, state.vehicle[v, V_ARRIVES], now)


@inlined
def _insert(streets: Streets, traffic: Traffic, state: State, lane: int, now: int, end_s: float) -> None:
    """Let vehicles due at a source enter their first edge during the second `now`."""
    t0, t1 = float(now), min(now + 1.0, end_s)
    queue, static = state.queue, traffic.vehicle
    source = lane - streets.streets - streets.boxes
    rightmost = traffic.source_lane[source]
    last = traffic.source_first[source + 1] - traffic.source_first[source]
    while queue[lane, Q_HEAD] < last:
        v = traffic.source_vehicle[traffic.source_first[source] + queue[lane, Q_HEAD]]
        t = static[v, V_DEPART]
        if t >= t1:
            _put(state, lane, t, now)
            return
        t = max(t, t0)
        any_lane = traffic.start_kind[v] & 2 > 0
        step = _pick_way(traffic, state, v, t)
        space_m = static[v, V_SPACE]
        if any_lane:
            choice = _choose(streets, traffic, state, v, step, -1, t, space_m, 0.0)
        else:  # it starts on the rightmost lane, be its own full: a few wait there for their turn to change
            choice = _choose(streets, traffic, state, v, step, rightmost, t, space_m, ASIDE_VEH * space_m)
        blocker = -1 - choice
        if choice >= 0 and not any_lane:
            _release(streets, state, traffic, rightmost, t)
            used = state.lane[rightmost, L_USED_M]
            if used > EMPTY_M and used + space_m > streets.lane[rightmost, L_ROOM]:
                choice, blocker = -1, rightmost
        if choice < 0:
            _wait_for(streets, state, lane, blocker, t, t1)
            return
        target = traffic.choice_lane[choice]
        gate = target if any_lane else rightmost
        free_s = max(state.lane[gate, L_IN_SLOT], state.lane[target, L_IN_SLOT])
        if free_s > t:
            if free_s >= t1:
                _put(state, lane, free_s, now)
                return
            t = free_s
        desired = min(streets.lane[target, L_LIMIT] * state.vehicle[v, V_FACTOR], static[v, V_TOP])
        if traffic.start_kind[v] & 1:
            own_mps = desired
            gap_s = static[v, V_TAU] + static[v, V_SPACE] / desired
        else:
            own_mps = 0.0
            gap_s = static[v, V_START] + 0.3
        waited_s = (t - static[v, V_DEPART]) * static[v, V_WEIGHT]
        state.result[R_INSERTION] += waited_s
        state.result[R_DELAY] += waited_s
        state.edge_delay_s[streets.lane_edge[target]] += t - static[v, V_DEPART]
        state.edge_insertion_s[streets.lane_edge[target]] += t - static[v, V_DEPART]
        queue[lane, Q_HEAD] += 1
        state.vehicle[v, V_ENTERED] = t
        _enter(streets, traffic, state, v, step, choice, t, 0.0, 1.0, own_mps)
        state.lane[gate, L_IN_SLOT] = t + ASIDE_S
        state.lane[target, L_IN_SLOT] = t + gap_s
        if queue[target, Q_TAIL] - queue[target, Q_HEAD] == 1 and state.wake_s[target] > state.vehicle[v, V_ARRIVES]:
            _put(state, target, state.vehicle[v, V_ARRIVES], now)


@inlined
def _show(streets: Streets, plans: Plans, state: State, s: int, phase: int, t: float, now: int) -> None:
    """Light the lamps of a phase and wake the lanes whose link opened."""
    first = streets.link_first[s]
    lamps = plans.lamp_first[phase]
    for k in range(streets.link_first[s + 1] - first):
        code, x = plans.lamps[lamps + k], first + k
        old = state.lamp[x]
        if code == old:
            continue
        was_open = old in (PERMISSIVE, PROTECTED, FREE)
        is_open = code in (PERMISSIVE, PROTECTED, FREE)
        state.lamp[x] = code
        if was_open and is_open:
            continue
        state.lamp_since_s[x] = t
        if is_open:
            for i in range(streets.link_lane_first[x], streets.link_lane_first[x + 1]):
                lane = streets.link_lane[i]
                if state.queue[lane, Q_HEAD] != state.queue[lane, Q_TAIL] and state.wake_s[lane] > t:
                    _put(state, lane, t, now)


@inlined
def _switch(streets: Streets, plans: Plans, state: State, s: int, begin_s: float, now: int) -> None:
    """Bring signal s up to the end of the second `now`."""
    while state.signal_next_s[s] < now + 1.0:
        t = state.signal_next_s[s]
        plan, phase = state.signal_plan[s], state.signal_phase[s]
        last = plans.plan_first[s + 1] - 1
        while plan < last and plans.from_s[plan + 1] - begin_s <= t + 1e-6:
            plan += 1
        if plan != state.signal_plan[s]:
            state.signal_plan[s] = plan
            _locate(streets, plans, state, s, plan, begin_s, t, now)
            continue
        phase += 1
        if phase == plans.phase_first[plan + 1]:
            phase = plans.phase_first[plan]
        state.signal_phase[s] = phase
        until = t + plans.phase_s[phase]
        if plan < last:
            until = min(until, plans.from_s[plan + 1] - begin_s)
        state.signal_next_s[s] = until
        if plans.phase_s[phase] > 0.0:
            _show(streets, plans, state, s, phase, t, now)


@inlined
def _locate(
    streets: Streets, plans: Plans, state: State, s: int, plan: int, begin_s: float, t: float, now: int
) -> None:
    """Start a plan at `t` in the phase it would show had it always run."""
    first, last = plans.phase_first[plan], plans.phase_first[plan + 1]
    cycle = 0.0
    for q in range(first, last):
        cycle += plans.phase_s[q]
    into = (t + begin_s - plans.offset_s[plan]) % cycle
    phase = first
    while phase < last - 1 and into >= plans.phase_s[phase] - 1e-9:
        into -= plans.phase_s[phase]
        phase += 1
    state.signal_phase[s] = phase
    until = t + max(plans.phase_s[phase] - into, 0.0)
    if plan < plans.plan_first[s + 1] - 1:
        until = min(until, plans.from_s[plan + 1] - begin_s)
    state.signal_next_s[s] = until
    _show(streets, plans, state, s, phase, t, now)


@inlined
def _reset(streets: Streets, traffic: Traffic, plans: Plans, state: State, factor: F64, begin_s: float) -> None:
    """Empty streets at second 0."""
    lanes = len(state.wake_s)
    state.lane[:] = 0.0
    state.queue[:] = 0
    for lane in range(lanes):
        state.wake_s[lane] = NEVER
        state.queue[lane, Q_WAITER] = -1
        state.queue[lane, Q_WAITS_FOR] = -1
        state.lane[lane, L_FIRST_TRY] = NEVER
    for k in range(lanes, lanes + WHEEL):
        state.wheel_prev[k] = k
        state.wheel_next[k] = k
    for v in range(len(factor)):
        state.vehicle[v, V_FACTOR] = factor[v]
        state.vehicle[v, V_ENTERED] = -NEVER
    state.last_cross_s[:] = -1e9
    state.edge_delay_s[:] = 0.0
    state.edge_insertion_s[:] = 0.0
    state.edge_left[:] = 0.0
    state.edge_max[:] = 0.0
    state.edge_moving[:] = 1.0
    for e in range(len(state.edge_s)):
        state.edge_s[e] = traffic.edge_free_s[e]
    state.result[:] = 0.0
    state.lamp[:] = CLOSED
    state.lamp_since_s[:] = -1e9
    for s in range(len(state.signal_next_s)):
        plan = plans.plan_first[s]
        while plan < plans.plan_first[s + 1] - 1 and plans.from_s[plan + 1] <= begin_s:
            plan += 1
        state.signal_plan[s] = plan
        _locate(streets, plans, state, s, plan, begin_s, 0.0, 0)
    for source in range(len(traffic.source_lane)):
        lane = streets.streets + streets.boxes + source
        v = traffic.source_vehicle[traffic.source_first[source]]
        _put(state, lane, traffic.vehicle[v, V_DEPART], 0)


@inlined
def _look(streets: Streets, traffic: Traffic, state: State, t: float, weight: float) -> None:
    """Count queues at a moment: the longest of each edge, and the smoothed share of its vehicles that move.

    SUMO lets drivers of trips choose by edge speeds averaged over the last three minutes; so does this, weighing a
    new sample by `weight`.
    """
    state.edge_now[:] = 0
    state.edge_count[:] = 0
    for lane in range(streets.streets + streets.boxes):
        head, tail = state.queue[lane, Q_HEAD], state.queue[lane, Q_TAIL]
        if head == tail:
            continue
        base, edge = streets.ring_first[lane], streets.lane_edge[lane]
        size = streets.ring_first[lane + 1] - base - 1
        state.edge_count[edge] += tail - head
        for i in range(head, tail):
            if state.vehicle[state.ring[base + (i & size)], V_ARRIVES] > t:
                break
            state.edge_now[edge] += 1
    for e in range(len(state.edge_now)):
        waiting, known = state.edge_now[e], state.edge_moving[e]
        if waiting == 0 and known > FLOWS_FRAC:
            continue
        state.edge_max[e] = max(state.edge_max[e], float(waiting))
        moving = 1.0 - waiting / max(state.edge_count[e], 1)
        state.edge_moving[e] = known + weight * (moving - known)
        state.edge_s[e] = traffic.edge_free_s[e] / max(state.edge_moving[e], 0.05)


@inlined
def _pick_way(traffic: Traffic, state: State, v: int, t: float) -> int:
    """First step of the way that looks fastest now; who waits to enter looks again once a minute."""
    first, end = traffic.way_first[v], traffic.way_first[v + 1]
    if end == first + 1:
        return int(traffic.way_step[first])
    if t < state.vehicle[v, V_ENTERED] + RECONSIDER_S:
        return int(state.vehicle_at[v, V_STEP])
    best, best_s = int(traffic.way_step[first]), NEVER
    for w in range(first, end):
        step, total_s = traffic.way_step[w], 0.0
        while True:
            edge = traffic.step_edge[step]
            total_s += state.edge_s[edge] + traffic.turn_s[step]
            if traffic.last[step] or total_s >= best_s:
                break
            step += 1
        if total_s < best_s:
            best, best_s = int(traffic.way_step[w]), total_s
    state.vehicle[v, V_ENTERED], state.vehicle_at[v, V_STEP] = t, best
    return best


@inlined
def _settle(streets: Streets, traffic: Traffic, state: State, end_s: float) -> None:
    """Count what is still driving or waiting at the end."""
    for lane in range(streets.streets + streets.boxes):
        base = streets.ring_first[lane]
        size = streets.ring_first[lane + 1] - base - 1
        for i in range(state.queue[lane, Q_HEAD], state.queue[lane, Q_TAIL]):
            v = state.ring[base + (i & size)]
            state.result[R_RUNNING] += 1.0
            state.result[R_VEHICLE_S] += end_s - state.vehicle[v, V_ENTERED]
            lost_s = max(end_s - state.vehicle[v, V_IDEAL], 0.0)
            state.result[R_DELAY] += lost_s * traffic.vehicle[v, V_WEIGHT]
            state.edge_delay_s[streets.lane_edge[lane]] += lost_s
            if lost_s > STUCK_S:
                state.result[R_STUCK] += 1.0
    for source in range(len(traffic.source_lane)):
        lane = streets.streets + streets.boxes + source
        edge = streets.lane_edge[lane]
        for i in range(traffic.source_first[source] + state.queue[lane, Q_HEAD], traffic.source_first[source + 1]):
            v = traffic.source_vehicle[i]
            waited_s = end_s - traffic.vehicle[v, V_DEPART]
            state.result[R_NEVER] += 1.0
            state.result[R_INSERTION] += waited_s * traffic.vehicle[v, V_WEIGHT]
            state.result[R_DELAY] += waited_s * traffic.vehicle[v, V_WEIGHT]
            state.edge_delay_s[edge] += waited_s
            state.edge_insertion_s[edge] += waited_s


@flat
def run_streets(
    streets: Streets,
    traffic: Traffic,
    plans: Plans,
    factor: F64,
    begin_s: float,
    end_s: float,
    sample_s: int,
    state: State,
) -> None:
    """Drive the traffic over the streets under one timing; writes `state`, its `result` above all.

    streets   Streets
    traffic   Traffic
    plans     Plans
    factor    (V,) float64  desired speed of each driver over the limit
    begin_s   float         clock of second 0, for the phases of the plans
    end_s     float         seconds from begin to the end
    sample_s  int           seconds between samples of queue lengths, 0: none
    state     State         working memory; every field is set anew
    """
    _reset(streets, traffic, plans, state, factor, begin_s)
    lanes = len(state.wake_s)
    first_source = streets.streets + streets.boxes
    for now in range(int(np.ceil(end_s))):
        for s in range(len(state.signal_next_s)):
            if state.signal_next_s[s] < now + 1.0:
                _switch(streets, plans, state, s, begin_s, now)
        sentinel = lanes + (now & (WHEEL - 1))
        lane = state.wheel_next[sentinel]
        while lane != sentinel:
            following = state.wheel_next[lane]
            state.wheel_next[sentinel] = following
            state.wheel_prev[following] = sentinel
            state.wake_s[lane] = NEVER
            if lane >= first_source:
                _insert(streets, traffic, state, lane, now, end_s)
            else:
                _serve(streets, traffic, state, lane, now, end_s)
            lane = state.wheel_next[sentinel]
        if sample_s > 0 and now % sample_s == 0:
            _look(streets, traffic, state, now + 1.0, 1.0 - np.exp(-sample_s / MEMORY_S))
    _settle(streets, traffic, state, end_s)
