"""The vehicle lists of all lanes, one second at a time: motion, loop events, loop occupancy, position reports.

Every lane keeps its vehicles front to back in `Lanes.order[Streets.offset[lane]:][:Lanes.listed[lane]]`, as indices
into the `Pool`. A position below 0 is still inside the junction before the lane; one beyond the lane's length has
crossed the stop line but its rear has not been counted yet. The rules are stated in `twin.fusion.Fusion`. All in one
file, since a cached kernel calls only kernels of its own.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from numba import njit

from networks.graph import Bools, Floats, Int64s, Ints


class Streets(NamedTuple):
    """What does not change. Lanes (L), movements (M)."""

    offset: Ints  # (L+1,) slots of the lane's list
    length_m: Floats
    limit_mps: Floats
    stop_m: Floats  # stop-line loop, -1 none
    up_m: Floats  # upstream loop, -1 none
    first: Ints  # first motor lane of the same edge
    last: Ints  # one past the last
    movement_offset: Ints  # (L+1,) CSR of the movements leaving each lane
    movement: Ints
    to_lane: Ints  # (M,)
    path_m: Floats  # (M,) inside the junction
    path_mps: Floats  # (M,)
    edge: Ints
    ends_frac: Floats  # share of those who come to the lane's end that end their trip on the edge
    beside: Ints  # lane that stands for all that share a first piece, until it is known who goes where
    parts: Bools  # the lane stands for others, too, and no loop tells who parts from it
    enters_m: Floats  # (M,) where on the lane it leads to a movement arrives: 0, but from a side street
    inner_offset: Ints  # (L+1,) CSR of the pieces (P,) that a street lane is made of, but for its last
    inner_end_m: Floats  # (P,)
    inner_edge: Ints  # (P,)
    inner_ends_frac: Floats  # (P,) share of those who come to the piece's end that end their trip on it


class Pool(NamedTuple):
    """Vehicles, one row each; `lane` -1 marks a free row."""

    lane: Ints
    position_m: Floats
    speed_mps: Floats
    length_m: Floats
    kind: Ints
    movement: Ints
    sure: Bools  # the movement follows from the destination told, or from what was seen at the line; else drawn
    destination: Ints
    certainty: Floats
    seen_s: Floats  # time of the newest evidence
    held_s: Floats  # seconds in contradiction to a loop or a roadside unit
    still_s: Floats  # seconds known to stand
    stood_s: Floats  # seconds believed to stand or crawl
    doubt: Floats  # log-odds against the lane believed
    counted: Bools  # has passed the upstream loop
    probe: Int64s  # pseudonym, 0 none
    probe_s: Floats
    track: Int64s  # key of the unit's track, 0 none
    track_s: Floats
    serial: Int64s
    free: Ints  # stack of free rows
    tally: Int64s  # (2,) free rows on the stack, last serial


class Lanes(NamedTuple):
    """What changes every second. Lanes (L), movements (M)."""

    order: Ints
    listed: Ints  # (L,) vehicles in the lane's list
    stop_live: Bools
    stop_count: Ints
    stop_share: Floats  # occupancy, share of the second; -1 not reported
    stop_mps: Floats
    stop_idle_s: Floats  # since it was last occupied
    stop_busy_s: Floats  # occupied without a break
    stop_held: Int64s  # serial of the vehicle on the stop loop, 0 none
    up_live: Bools
    up_count: Ints
    up_share: Floats
    up_mps: Floats
    up_idle_s: Floats
    up_busy_s: Floats
    open: Ints  # (M,) 0 red, 1 yellow, 2 gives way, 3 protected or unsignalised
    open_s: Floats  # (M,) seconds since it became protected
    share: Floats  # (M,)
    hits: Floats  # (M,) vehicles seen to take the movement, forgotten slowly
    draw: Floats  # (L,)
    up_cum: Floats  # (L,) upper end of the lane's part of the edge's vehicles at the upstream loops
    stop_cum: Floats  # (L,) the same at the stop line
    ending: Floats  # (L,) trips due to end at the lane's end
    inner_ending: Floats  # (P,) ... at the end of a piece
    debt: Floats  # (L,) at the edge's first lane: vehicles made at a stop line out of nothing
    seen_from_m: Floats  # (L,) part within a live roadside unit's sight
    seen_to_m: Floats
    left: Floats  # (L,) expected vehicles that left in the step


class Lists(NamedTuple):
    """All lists, in the order that kernels take them."""

    streets: Streets
    pool: Pool
    lanes: Lanes


class Reports(NamedTuple):
    """Position reports (N,) of one kind of sender, placed on street lanes as `twin.placing.Placement` tells it."""

    key: Int64s  # of a unit's track, or the pseudonym
    known: Ints  # pool row that carried the key when the reports came in, -1 none
    kind: Ints
    destination: Ints  # edge, -1 not told
    lane: Ints
    position_m: Floats
    lateral_m: Floats
    prior_position_m: Floats
    prior_lateral_m: Floats
    speed_mps: Floats
    measured_s: Floats


class FirstSights(NamedTuple):
    """Tracks (T,) that nobody on the lists carries yet, by `key % T`."""

    key: Int64s
    seen_s: Floats


GOLDEN = 0.6180339887498949  # step of the low-discrepancy draw


@njit(cache=True)
def draw_movement(streets, lanes, lane, least_open):  # type: ignore[no-untyped-def]
    """A movement of the lane by its shares, among those at least so open; -1 where there is none."""
    total = 0.0
    begin, end = streets.movement_offset[lane], streets.movement_offset[lane + 1]
    for j in range(begin, end):
        m = streets.movement[j]
        if lanes.open[m] >= least_open:
            total += lanes.share[m] + 1e-9
    if total == 0.0:
        return -1
    lanes.draw[lane] = (lanes.draw[lane] + GOLDEN) % 1.0
    mark = lanes.draw[lane] * total
    chosen = -1
    for j in range(begin, end):
        m = streets.movement[j]
        if lanes.open[m] >= least_open:
            chosen = m
            mark -= lanes.share[m] + 1e-9
            if mark <= 0.0:
                break
    return chosen


@njit(cache=True)
def settle_lane(streets, lanes, lane):  # type: ignore[no-untyped-def]
    """The lane at the stop line of a vehicle counted upstream on `lane`: the lanes' parts matched in order."""
    first, last = streets.first[lane], streets.last[lane]
    if last - first < 2:
        return lane
    low = lanes.up_cum[lane - 1] if lane > first else 0.0
    high = lanes.up_cum[lane]
    lanes.draw[lane] = (lanes.draw[lane] + GOLDEN) % 1.0
    mark = low + lanes.draw[lane] * (high - low)
    for other in range(first, last):
        if mark < lanes.stop_cum[other]:
            return other
    return lane


@njit(cache=True)
def draw_part(streets, lanes, lane):  # type: ignore[no-untyped-def]
    """The lane at the stop line of a vehicle that comes to the first piece of several: as many as pass each."""
    total = 0.0
    for other in range(streets.first[lane], streets.last[lane]):
        if streets.beside[other] == lane:
            total += lanes.stop_cum[other] - (lanes.stop_cum[other - 1] if other > streets.first[lane] else 0.0)
    lanes.draw[lane] = (lanes.draw[lane] + GOLDEN) % 1.0
    mark = lanes.draw[lane] * total
    for other in range(streets.first[lane], streets.last[lane]):
        if streets.beside[other] == lane:
            mark -= lanes.stop_cum[other] - (lanes.stop_cum[other - 1] if other > streets.first[lane] else 0.0)
            if mark < 0.0:
                return other
    return lane


@njit(cache=True)
def insert(streets, pool, lanes, v, lane):  # type: ignore[no-untyped-def]
    """Put v on the lane by its position; False (and v freed) when the lane is physically full."""
    start, count = streets.offset[lane], lanes.listed[lane]
    if start + count >= streets.offset[lane + 1]:
        release(pool, v)
        return False
    k = count
    while k > 0 and pool.position_m[lanes.order[start + k - 1]] < pool.position_m[v]:
        lanes.order[start + k] = lanes.order[start + k - 1]
        k -= 1
    lanes.order[start + k] = v
    lanes.listed[lane] = count + 1
    pool.lane[v] = lane
    return True


@njit(cache=True)
def take(streets, pool, lanes, v):  # type: ignore[no-untyped-def]
    """Take v off its lane's list; it stays allocated."""
    lane = pool.lane[v]
    start, count = streets.offset[lane], lanes.listed[lane]
    k = 0
    while lanes.order[start + k] != v:
        k += 1
    for j in range(k, count - 1):
        lanes.order[start + j] = lanes.order[start + j + 1]
    lanes.listed[lane] = count - 1


@njit(cache=True)
def release(pool, v):  # type: ignore[no-untyped-def]
    pool.lane[v] = -1
    pool.probe[v] = 0
    pool.track[v] = 0
    pool.free[pool.tally[0]] = v
    pool.tally[0] += 1


@njit(cache=True)
def make(streets, pool, lanes, lane, position_m, speed_mps, certainty, now_s):  # type: ignore[no-untyped-def]
    """A new vehicle on the lane; -1 when the pool or the lane is full."""
    if pool.tally[0] == 0:
        return -1
    pool.tally[0] -= 1
    v = pool.free[pool.tally[0]]
    pool.tally[1] += 1
    pool.serial[v] = pool.tally[1]
    pool.position_m[v] = position_m
    pool.speed_mps[v] = speed_mps
    pool.length_m[v] = 5.0
    pool.kind[v] = 0
    pool.destination[v] = -1
    pool.certainty[v] = certainty
    pool.seen_s[v] = now_s
    pool.held_s[v] = 0.0
    pool.doubt[v] = 0.0
    pool.still_s[v] = 0.0
    pool.stood_s[v] = 0.0
    pool.counted[v] = streets.up_m[lane] < 0 or position_m - pool.length_m[v] > streets.up_m[lane]
    pool.probe[v] = 0
    pool.probe_s[v] = -math.inf
    pool.track[v] = 0
    pool.track_s[v] = -math.inf
    pool.movement[v] = draw_movement(streets, lanes, lane, 0)
    pool.sure[v] = False
    if not insert(streets, pool, lanes, v, lane):
        return -1
    return v


@njit(cache=True)
def pass_on(streets, pool, lanes, v, now_s):  # type: ignore[no-untyped-def]
    """Move v, which has left its lane's end, to where its movement leads."""
    lane, m = pool.lane[v], pool.movement[v]
    take(streets, pool, lanes, v)
    lanes.left[lane] += pool.certainty[v]
    if m < 0:
        release(pool, v)
        return
    target = streets.to_lane[m]
    if streets.parts[target]:
        target = draw_part(streets, lanes, target)
    gone_m = min(pool.position_m[v] - streets.length_m[lane], streets.path_m[m])
    pool.position_m[v] = streets.enters_m[m] + gone_m - streets.path_m[m]
    pool.counted[v] = streets.up_m[target] < streets.enters_m[m]
    pool.held_s[v] = 0.0
    pool.doubt[v] = 0.0
    pool.movement[v] = draw_movement(streets, lanes, target, 0)
    pool.sure[v] = False
    insert(streets, pool, lanes, v, target)


@njit(cache=True)
def last_beyond(streets, pool, lanes, m):  # type: ignore[no-untyped-def]
    """The nearest vehicle ahead of who takes m, on the lane that it leads to; -1 none."""
    target = streets.to_lane[m]
    start = streets.offset[target]
    for k in range(lanes.listed[target] - 1, -1, -1):
        w = lanes.order[start + k]
        if pool.position_m[w] > streets.enters_m[m] - streets.path_m[m] or streets.enters_m[m] == 0.0:
            return w
    return -1


BORROW_LANE_S = 6.0  # cost of taking the vehicle from the next lane, in seconds of travel
BORROW_UNCOUNTED_S = 5.0  # cost of taking one that the upstream loop has not counted
SEEN_ELSEWHERE_S = 4.0  # for so long a report of a vehicle's place outweighs a count at another
BORROW_LIMIT_S = 14.0  # beyond this a count means a vehicle that the list did not know


@njit(cache=True)
def find_front(streets, pool, lanes, lane, mark_m, uncounted, now_s):  # type: ignore[no-untyped-def]
    """The likeliest vehicle of the edge to be at mark_m of the lane, and its cost; -1 when there is none.

    Looks at each lane's first vehicle short of the mark (or on it); `uncounted` asks for one that the upstream loop
    has not counted yet.
    """
    best, best_cost = -1, math.inf
    for other in range(streets.first[lane], streets.last[lane]):
        start = streets.offset[other]
        for k in range(lanes.listed[other]):
            v = lanes.order[start + k]
            if other != lane and pool.position_m[v] > streets.length_m[other] - 1.0 and not uncounted:
                continue  # stands at, or is over, its own stop line
            if uncounted and pool.counted[v]:
                continue
            cost = _cost_s(streets, pool, lanes, v, lane, mark_m, now_s)
            if not uncounted and not pool.counted[v] and streets.up_m[other] >= 0:
                cost += BORROW_UNCOUNTED_S
            if other != lane and not uncounted and lanes.stop_live[other] and lanes.stop_busy_s[other] > 0 and k == 0:
                cost += 6.0  # its own stop loop is occupied: most likely by it
            if cost < best_cost:
                best, best_cost = v, cost
            age = now_s - max(pool.probe_s[v], pool.track_s[v])
            if age >= SEEN_ELSEWHERE_S:
                break  # the first that nobody has just seen elsewhere
            if other == lane and pool.position_m[v] < mark_m - _reach_m(pool, v, age):
                break  # seen short of the mark: those behind it are not there either
    return best, best_cost


@njit(cache=True)
def _cost_s(streets, pool, lanes, v, lane, mark_m, now_s):  # type: ignore[no-untyped-def]
    """Seconds by which v misses being at mark_m of the lane now, with a fine for what makes it unlikely."""
    gap = mark_m - pool.position_m[v]
    cost = abs(gap) / max(0.6 * streets.limit_mps[lane], 4.0)
    own = pool.lane[v]
    cost += BORROW_LANE_S * abs(own - lane)
    age = now_s - max(pool.probe_s[v], pool.track_s[v])
    if age < SEEN_ELSEWHERE_S and (own != lane or abs(gap) > _reach_m(pool, v, age)):
        cost += 30.0
    return cost


@njit(cache=True)
def _reach_m(pool, v, age_s):  # type: ignore[no-untyped-def]
    """How far a vehicle last seen so long ago may be from where it is thought to be, within a second's way."""
    return 2.5 + 0.5 * pool.speed_mps[v] + 1.5 * age_s


# Car following (Krauss 1998 with the means that its random part leaves), a street's ordinary values.
ACCELERATION_MPS2 = 2.1
DECELERATION_MPS2 = 4.5
STANDSTILL_GAP_M = 1.6
REACTION_S = 1.0

CRAWL_MPS = 1.0  # slower is standing


@njit(cache=True)
def _safe_speed(gap_m, leader_mps):  # type: ignore[no-untyped-def]
    """Krauss: the speed from which one still stops behind a leader that brakes as hard.

    Who is thought to overlap with the leader falls back to its gap; it does not stand still behind one that drives.
    """
    if gap_m <= 0.0:
        return max(0.0, leader_mps + gap_m)
    b = DECELERATION_MPS2 * REACTION_S
    return -b + math.sqrt(b * b + leader_mps * leader_mps + 2.0 * DECELERATION_MPS2 * gap_m)


@njit(cache=True)
def move_all(streets, pool, lanes, now_s):  # type: ignore[no-untyped-def]
    """Advance every vehicle by one second under its leader, its lamp and its loops; pass on those that cross."""
    lanes.left[:] = 0.0
    for lane in range(len(lanes.listed)):
        start = streets.offset[lane]
        length, limit = streets.length_m[lane], streets.limit_mps[lane]
        stop, up = streets.stop_m[lane], streets.up_m[lane]
        watched = stop >= 0 and lanes.stop_live[lane]
        k = 0
        rear_m, leader_mps = math.inf, 0.0  # of the one ahead as it was: drivers see it so when they decide
        while k < lanes.listed[lane]:
            v = lanes.order[start + k]
            position, speed, m = pool.position_m[v], pool.speed_mps[v], pool.movement[v]
            free = limit * 0.96
            if position < 0:
                free = min(free, 11.0)
            allowed = math.inf
            if rear_m < math.inf:
                allowed = _safe_speed(rear_m - STANDSTILL_GAP_M - position, leader_mps)
            rear_m, leader_mps = position - pool.length_m[v], speed
            if m >= 0 and position <= length:
                brake_m = speed * speed / (2.0 * DECELERATION_MPS2)
                closed = lanes.open[m] == 0 or (lanes.open[m] == 1 and brake_m < length - position)
                if closed:
                    allowed = min(allowed, _safe_speed(length - 0.3 - position, 0.0))
                else:
                    # slow down for the turn; stop for a full lane beyond
                    turn = streets.path_mps[m]
                    reach = length - position
                    allowed = min(allowed, math.sqrt(turn * turn + 2.0 * DECELERATION_MPS2 * 0.6 * reach) + 0.5)
                    w = last_beyond(streets, pool, lanes, m)
                    if w >= 0:
                        into = pool.position_m[w] - streets.enters_m[m]
                        tail = reach + streets.path_m[m] + into - pool.length_m[w]
                        if pool.speed_mps[w] < 2.0 and into < 8.0:
                            allowed = min(allowed, _safe_speed(tail - STANDSTILL_GAP_M, pool.speed_mps[w]))
            speed = max(0.0, min(min(speed + ACCELERATION_MPS2, free), allowed))
            if _ends_within(streets, pool, lanes, v, lane, position, position + speed):
                take(streets, pool, lanes, v)
                release(pool, v)
                continue
            position += speed
            if up >= 0 and lanes.up_live[lane] and not pool.counted[v]:
                edge_m = up - 0.2 if lanes.up_share[lane] == 0.0 else up + pool.length_m[v] - 0.2
                if position > edge_m:
                    position = edge_m
                    if lanes.up_share[lane] == 0.0:
                        pool.held_s[v] += 1.0
            pool.position_m[v], pool.speed_mps[v] = position, speed
            if position > length:
                if watched:
                    pool.position_m[v] = min(position, stop + pool.length_m[v] - 0.1)
                elif _ends_here(streets, pool, lanes, v, lane):
                    lanes.left[lane] += pool.certainty[v]
                    take(streets, pool, lanes, v)
                    release(pool, v)
                    continue
                else:
                    if m < 0 or lanes.open[m] == 0:
                        pool.movement[v] = draw_movement(streets, lanes, lane, 1)
                        pool.sure[v] = False
                        m = pool.movement[v]
                    if m < 0:
                        pool.position_m[v], pool.speed_mps[v] = length, 0.0
                    else:
                        target = streets.to_lane[m]
                        room = streets.offset[target + 1] - streets.offset[target]
                        if lanes.listed[target] >= room:
                            pool.position_m[v], pool.speed_mps[v] = length, 0.0
                        else:
                            pass_on(streets, pool, lanes, v, now_s)
                            continue
            k += 1


@njit(cache=True)
def _ends_here(streets, pool, lanes, v, lane):  # type: ignore[no-untyped-def]
    """Does the trip of v, which has come to the end of the lane, end there: as it told, else by the lane's share?"""
    if streets.movement_offset[lane] == streets.movement_offset[lane + 1]:
        return True
    return _ends_on(pool, v, streets.edge[lane], lanes.ending, lane, streets.ends_frac[lane])


@njit(cache=True)
def _ends_on(pool, v, edge, due, k, share):  # type: ignore[no-untyped-def]
    """Does the trip of v end on the edge: as it told, else by the share of those who do, added up in `due[k]`?"""
    if pool.destination[v] >= 0:
        return pool.destination[v] == edge
    due[k] += share
    if due[k] < 1.0:
        return False
    due[k] -= 1.0
    return True


@njit(cache=True)
def _ends_within(streets, pool, lanes, v, lane, from_m, to_m):  # type: ignore[no-untyped-def]
    """Does the trip of v, which drives so far, end on a piece of the street that it leaves meanwhile?"""
    for j in range(streets.inner_offset[lane], streets.inner_offset[lane + 1]):
        if not from_m <= streets.inner_end_m[j] < to_m:
            continue
        if _ends_on(pool, v, streets.inner_edge[j], lanes.inner_ending, j, streets.inner_ends_frac[j]):
            return True
    return False


@njit(cache=True)
def apply_upstream_counts(streets, pool, lanes, now_s):  # type: ignore[no-untyped-def]
    """Each vehicle counted at an upstream loop: the one expected there is found, or made, and set behind it."""
    for lane in range(len(lanes.listed)):
        if streets.up_m[lane] < 0:
            continue
        for _ in range(lanes.up_count[lane]):
            speed = lanes.up_mps[lane]
            if not speed >= 0:
                speed = 0.7 * streets.limit_mps[lane]
            up = streets.up_m[lane]
            v, cost = find_front(streets, pool, lanes, lane, up + 5.0, True, now_s)
            position = up + 5.0 + 0.5 * speed
            if v >= 0 and cost < BORROW_LIMIT_S:
                take(streets, pool, lanes, v)
                position = up + pool.length_m[v] + 0.5 * speed
                fresh = now_s - max(pool.probe_s[v], pool.track_s[v]) < 4.0
                target = lane if fresh else settle_lane(streets, lanes, lane)
                pool.position_m[v] = _behind_tail(streets, pool, lanes, target, position, up + pool.length_m[v])
                pool.certainty[v] = 1.0
                pool.seen_s[v] = now_s
                pool.counted[v] = True
                pool.speed_mps[v] = speed
                pool.held_s[v] = 0.0
                if target != pool.lane[v] or pool.movement[v] < 0:
                    pool.movement[v] = draw_movement(streets, lanes, target, 0)
                    pool.sure[v] = False
                insert(streets, pool, lanes, v, target)
            else:
                target = settle_lane(streets, lanes, lane)
                position = _behind_tail(streets, pool, lanes, target, position, up + 5.0)
                v = make(streets, pool, lanes, target, position, speed, 1.0, now_s)
                if v >= 0:
                    pool.counted[v] = True


@njit(cache=True)
def _behind_tail(streets, pool, lanes, lane, position_m, least_m):  # type: ignore[no-untyped-def]
    """The position, or less where the last counted vehicle of the lane still stands; never below least_m."""
    start = streets.offset[lane]
    for k in range(lanes.listed[lane] - 1, -1, -1):
        w = lanes.order[start + k]
        if pool.counted[w]:
            return max(min(position_m, pool.position_m[w] - pool.length_m[w] - 1.0), least_m)
    return position_m


@njit(cache=True)
def apply_stop_counts(streets, pool, lanes, now_s):  # type: ignore[no-untyped-def]
    """Each vehicle counted at a stop line leaves: the front one, or the likeliest of the neighbour lanes."""
    for lane in range(len(lanes.listed)):
        if streets.stop_m[lane] < 0:
            continue
        if lanes.stop_count[lane] > 0:
            lanes.stop_held[lane] = 0
        for _ in range(lanes.stop_count[lane]):
            length = streets.length_m[lane]
            v, cost = find_front(streets, pool, lanes, lane, length, False, now_s)
            if v < 0 or cost > BORROW_LIMIT_S:
                v = make(streets, pool, lanes, lane, length, 5.0, 1.0, now_s)
                if v < 0:
                    continue
                lanes.debt[streets.first[lane]] += 1.0
            elif pool.lane[v] != lane:
                take(streets, pool, lanes, v)
                pool.position_m[v] = length + 1.0
                pool.movement[v] = -1
                if not insert(streets, pool, lanes, v, lane):
                    continue
            m = pool.movement[v]
            if m < 0 or lanes.open[m] == 0:
                other = draw_movement(streets, lanes, lane, 1)
                if other >= 0:
                    m = other
                elif m < 0:
                    m = draw_movement(streets, lanes, lane, 0)
                pool.movement[v] = m
            _credit_movements(streets, lanes, lane)
            if lanes.stop_mps[lane] >= 0:
                pool.speed_mps[v] = lanes.stop_mps[lane]
            pool.position_m[v] = streets.stop_m[lane] + pool.length_m[v] + 0.5 * pool.speed_mps[v]
            pool.certainty[v] = max(pool.certainty[v], 0.9)
            pool.seen_s[v] = now_s
            pass_on(streets, pool, lanes, v, now_s)


@njit(cache=True)
def _credit_movements(streets, lanes, lane):  # type: ignore[no-untyped-def]
    """One vehicle took one of the open movements: share it among them (expectation step)."""
    total = 0.0
    begin, end = streets.movement_offset[lane], streets.movement_offset[lane + 1]
    for j in range(begin, end):
        m = streets.movement[j]
        if lanes.open[m] > 0:
            total += lanes.share[m] + 1e-9
    if total > 0.0:
        for j in range(begin, end):
            m = streets.movement[j]
            if lanes.open[m] > 0:
                lanes.hits[m] += (lanes.share[m] + 1e-9) / total


STARTED_AFTER_S = 3.0  # who still stands at the line after so much protected green is bound elsewhere
SURE_FRAC = 0.9  # of the movements left: that one is taken for certain
AT_LINE_M = 9.0  # ... with the front so close to it


@njit(cache=True)
def doubt_movements(streets, pool, lanes, now_s):  # type: ignore[no-untyped-def]
    """Who stands first at the line although its movement has long been open takes another one.

    Evidence is a covered stop loop or a fresh report. A standing tail just beyond the junction explains it as well,
    and so does a movement that gives way: then nothing is learned.
    """
    for lane in range(len(lanes.listed)):
        begin, end = streets.movement_offset[lane], streets.movement_offset[lane + 1]
        if lanes.listed[lane] == 0 or end - begin < 2:
            continue
        v = lanes.order[streets.offset[lane]]
        m = pool.movement[v]
        seen = now_s - max(pool.probe_s[v], pool.track_s[v]) < 2.0
        if m < 0 or pool.position_m[v] < streets.length_m[lane] - AT_LINE_M:
            continue
        if not (seen and pool.speed_mps[v] < 0.5) and lanes.stop_busy_s[lane] < STARTED_AFTER_S - 1.0:
            continue
        gone = False  # some movement would have taken it away by now
        for j in range(begin, end):
            other = streets.movement[j]
            if lanes.open_s[other] >= STARTED_AFTER_S:
                gone = True
                if _tail_stands(streets, pool, lanes, other):
                    gone = False
                    break
        if not gone or pool.sure[v]:
            continue
        total, most = 0.0, 0.0
        for j in range(begin, end):
            other = streets.movement[j]
            if lanes.open_s[other] < STARTED_AFTER_S:
                total += lanes.share[other] + 1e-9
                most = max(most, lanes.share[other] + 1e-9)
        if total == 0.0:
            continue
        if lanes.open_s[m] >= STARTED_AFTER_S:
            lanes.draw[lane] = (lanes.draw[lane] + GOLDEN) % 1.0
            mark = lanes.draw[lane] * total
            for j in range(begin, end):
                other = streets.movement[j]
                if lanes.open_s[other] < STARTED_AFTER_S:
                    m = other
                    mark -= lanes.share[other] + 1e-9
                    if mark <= 0.0:
                        break
            pool.movement[v] = m
            pool.sure[v] = True
        elif most > SURE_FRAC * total:
            pool.sure[v] = True


@njit(cache=True)
def _tail_stands(streets, pool, lanes, m):  # type: ignore[no-untyped-def]
    """Whoever is next beyond the movement stands near where it arrives."""
    w = last_beyond(streets, pool, lanes, m)
    if w < 0:
        return False
    return pool.speed_mps[w] < 2.0 and pool.position_m[w] - streets.enters_m[m] - pool.length_m[w] < 8.0


HELD_STANDS_S = 2.0  # a front vehicle that the stop loop denies for so long stands before it
HELD_MOVE_S = 4.0  # a front vehicle that the stop loop denies for so long is on another lane
HELD_DROP_S = 9.0  # ... and for so long does not exist


@njit(cache=True)
def apply_occupancy(streets, pool, lanes, now_s):  # type: ignore[no-untyped-def]
    """Loops that are covered, or not covered, correct where the vehicles near them stand."""
    for lane in range(len(lanes.listed)):
        if streets.stop_m[lane] >= 0 and lanes.stop_live[lane]:
            if lanes.stop_share[lane] == 0.0:
                _clear_stop_line(streets, pool, lanes, lane, now_s)
            elif lanes.stop_share[lane] > 0.95 or (lanes.stop_share[lane] > 0.0 and lanes.stop_count[lane] == 0):
                _fill_stop_line(streets, pool, lanes, lane, now_s)
        if streets.up_m[lane] >= 0 and lanes.up_live[lane] and lanes.up_busy_s[lane] >= 3.0:
            _fill_upstream(streets, pool, lanes, lane, now_s)


@njit(cache=True)
def _clear_stop_line(streets, pool, lanes, lane, now_s):  # type: ignore[no-untyped-def]
    """Nothing covers the stop loop: whoever was thought to do so waits before it, moves over, or goes.

    A vehicle that was on the loop a second ago and was not counted has ended its trip there, or the loop missed it.
    """
    start, stop = streets.offset[lane], streets.stop_m[lane]
    first = streets.first[lane]
    if lanes.listed[lane] == 0:
        lanes.stop_held[lane] = 0
        return
    v = lanes.order[start]
    if lanes.stop_held[lane] == pool.serial[v]:
        lanes.left[lane] += pool.certainty[v]
        take(streets, pool, lanes, v)
        release(pool, v)
        lanes.stop_held[lane] = 0
        return
    lanes.stop_held[lane] = 0
    if pool.position_m[v] < stop - 1.0:
        return
    pool.position_m[v] = stop - 0.3
    if pool.held_s[v] >= HELD_STANDS_S:
        pool.speed_mps[v] = 0.0
    ahead = stop + 2.0
    k = 0
    while k < lanes.listed[lane]:
        v = lanes.order[start + k]
        if k > 0 and (pool.speed_mps[v] > 2.0 or ahead - pool.position_m[v] > 4.0):
            return  # not standing behind those who are not there
        ahead = pool.position_m[v] - pool.length_m[v]
        pool.held_s[v] += 1.0
        fresh = now_s - max(pool.probe_s[v], pool.track_s[v]) < 3.0
        if fresh:
            return
        if pool.held_s[v] > HELD_MOVE_S and _move_over(streets, pool, lanes, v, lane, first):
            continue
        k += 1


@njit(cache=True)
def _move_over(streets, pool, lanes, v, lane, first):  # type: ignore[no-untyped-def]
    """Take v, which is not where it was thought, off its lane: to a queue beside it, or out. False: it stays."""
    if lanes.debt[first] >= 0.7:
        lanes.debt[first] -= 1.0
        take(streets, pool, lanes, v)
        release(pool, v)
        return True
    best, best_tail = -1, -math.inf
    for other in range(max(first, lane - 1), min(streets.last[lane], lane + 2)):
        if other == lane or streets.stop_m[other] < 0 or not lanes.stop_live[other]:
            continue
        if lanes.stop_share[other] <= 0.0 or lanes.listed[other] == 0:
            continue
        if streets.offset[other] + lanes.listed[other] >= streets.offset[other + 1]:
            continue
        w = lanes.order[streets.offset[other] + lanes.listed[other] - 1]
        if pool.position_m[w] > best_tail:
            best, best_tail = other, pool.position_m[w]
    if best >= 0:
        take(streets, pool, lanes, v)
        w = lanes.order[streets.offset[best] + lanes.listed[best] - 1]
        pool.position_m[v] = min(pool.position_m[v], pool.position_m[w] - pool.length_m[w] - 1.0)
        pool.held_s[v] = 0.0
        pool.movement[v] = draw_movement(streets, lanes, best, 0)
        pool.sure[v] = False
        insert(streets, pool, lanes, v, best)
        return True
    if pool.held_s[v] > HELD_DROP_S:
        take(streets, pool, lanes, v)
        release(pool, v)
        return True
    return False


@njit(cache=True)
def _fill_stop_line(streets, pool, lanes, lane, now_s):  # type: ignore[no-untyped-def]
    """Something covers the stop loop: the front vehicle is there."""
    start, stop, length = streets.offset[lane], streets.stop_m[lane], streets.length_m[lane]
    busy = lanes.stop_busy_s[lane]
    v = lanes.order[start] if lanes.listed[lane] > 0 else -1
    if v < 0 or pool.position_m[v] < stop:
        w, cost = find_front(streets, pool, lanes, lane, stop, False, now_s)
        if w < 0 or cost > 0.6 * BORROW_LIMIT_S:
            w = make(streets, pool, lanes, lane, stop + 1.0, 2.0, 0.95, now_s)
            if w < 0:
                return
            lanes.debt[streets.first[lane]] += 1.0
        elif w != v:
            changes_lane = pool.lane[w] != lane
            take(streets, pool, lanes, w)
            pool.position_m[w] = stop + 1.0
            if changes_lane:
                pool.movement[w] = draw_movement(streets, lanes, lane, 0)
                pool.sure[w] = False
            if not insert(streets, pool, lanes, w, lane):
                return
        v = w
        pool.position_m[v] = stop + 1.0
    lanes.stop_held[lane] = pool.serial[v]
    pool.counted[v] = True
    pool.held_s[v] = 0.0
    pool.certainty[v] = max(pool.certainty[v], 0.95)
    pool.seen_s[v] = now_s
    if busy >= 2.0:
        m = pool.movement[v]
        starts = m >= 0 and 0.0 < lanes.open_s[m] <= STARTED_AFTER_S
        pool.speed_mps[v] = min(pool.speed_mps[v], 1.5 if starts else 0.0)
        if pool.position_m[v] > length:
            pool.position_m[v] = length - 0.1


@njit(cache=True)
def _fill_upstream(streets, pool, lanes, lane, now_s):  # type: ignore[no-untyped-def]
    """The upstream loop stays covered: a standing vehicle is on it, the queue reaches it."""
    start, up = streets.offset[lane], streets.up_m[lane]
    nearest, gap = -1, math.inf
    for k in range(lanes.listed[lane]):
        v = lanes.order[start + k]
        off = abs(pool.position_m[v] - up - 2.5)
        if not pool.counted[v] and off < gap:
            nearest, gap = v, off
    if nearest < 0 or gap > 40.0:
        nearest = make(streets, pool, lanes, lane, up + 2.5, 0.0, 0.95, now_s)
        if nearest < 0:
            return
    elif gap > 3.0:
        take(streets, pool, lanes, nearest)
        pool.position_m[nearest] = up + 2.5
        insert(streets, pool, lanes, nearest, lane)
    pool.counted[nearest] = False
    pool.speed_mps[nearest] = 0.0
    pool.certainty[nearest] = max(pool.certainty[nearest], 0.95)
    pool.seen_s[nearest] = now_s
    pool.held_s[nearest] = 0.0


FILL_AFTER_S = 3.0  # standing for so long is standing in a queue
FILL_SPACING_M = 6.9  # front to front of queued cars 4.7 m long, 2.2 m apart


@njit(cache=True)
def fill_queues(streets, pool, lanes, now_s):  # type: ignore[no-untyped-def]
    """A vehicle known to stand in a queue has no gap before it: the vehicles missing there are put in."""
    for lane in range(len(lanes.listed)):
        start = streets.offset[lane]
        k = 0
        while k < lanes.listed[lane]:
            v = lanes.order[start + k]
            sure = now_s - max(pool.probe_s[v], pool.track_s[v]) < 2.0 and pool.kind[v] != 1
            up = streets.up_m[lane]
            on_loop = lanes.up_busy_s[lane] >= FILL_AFTER_S and not pool.counted[v]
            on_loop = on_loop and up >= 0.0 and 0.0 <= pool.position_m[v] - up <= pool.length_m[v]
            stands = (sure or on_loop) and pool.speed_mps[v] < 0.5 and pool.position_m[v] >= 0.0
            pool.still_s[v] = pool.still_s[v] + 1.0 if stands else 0.0
            if pool.still_s[v] < FILL_AFTER_S:
                k += 1
                continue
            if k > 0:
                w = lanes.order[start + k - 1]
                front, still = pool.position_m[w] - pool.length_m[w], pool.speed_mps[w] < 1.5
            else:
                front, still = streets.length_m[lane], lanes.stop_busy_s[lane] >= FILL_AFTER_S
            gap = front - STANDSTILL_GAP_M - pool.position_m[v]
            missing = int(gap / FILL_SPACING_M + 0.25) if still else 0
            room = streets.offset[lane + 1] - start - lanes.listed[lane]
            for j in range(min(missing, room)):
                position = pool.position_m[v] + (j + 1) * FILL_SPACING_M
                if lanes.seen_from_m[lane] < position < lanes.seen_to_m[lane]:
                    continue  # a roadside unit would have seen it
                w = make(streets, pool, lanes, lane, position, 0.0, 0.85, now_s)
                if w >= 0:
                    lanes.debt[streets.first[lane]] += 0.7
                    k += 1
            k += 1


DRIVING_DOUBT = 3.0  # log-odds against the lane believed from which a vehicle is taken to be beside it
STANDING_DOUBT = 9.0  # ... of one that stands: it changed lanes while it drove, or not at all


@njit(cache=True)
def apply_reports(streets, pool, lanes, now_s, is_track, reports, first_sights):  # type: ignore[no-untyped-def]
    """Each report moves the vehicle that carries its key, or adopts the nearest, or makes one.

    A track is believed at its second sight within 2.5 s.
    """
    variance = 0.25 if is_track else 1.0
    gain = 0.7 if is_track else 0.5
    for i in range(len(reports.key)):
        key, v = reports.key[i], reports.known[i]
        speed, measured_s = reports.speed_mps[i], reports.measured_s[i]
        names = pool.track if is_track else pool.probe
        if v >= 0 and (pool.lane[v] < 0 or names[v] != key):
            v = -1
        if reports.lane[i] < 0:
            if v >= 0:
                _note_in_junction(streets, pool, lanes, v, is_track, measured_s, now_s)
            continue
        lag = min(max(now_s - measured_s, -3.0), 3.0)
        target, position = reports.lane[i], reports.position_m[i]
        if v >= 0 and _is_behind(streets, pool, v, target, position):
            _note_in_junction(streets, pool, lanes, v, is_track, measured_s, now_s)
            continue
        if v >= 0 and target != pool.lane[v] and streets.first[target] == streets.first[pool.lane[v]]:
            if reports.prior_lateral_m[i] < math.inf:
                pool.doubt[v] += (reports.prior_lateral_m[i] ** 2 - reports.lateral_m[i] ** 2) / (2.0 * variance)
                stands = speed < CRAWL_MPS and pool.speed_mps[v] < CRAWL_MPS
                if pool.doubt[v] < (STANDING_DOUBT if stands else DRIVING_DOUBT):
                    target, position = pool.lane[v], reports.prior_position_m[i]
        elif v >= 0:
            pool.doubt[v] = max(0.0, pool.doubt[v] - 1.0)
        position = min(max(position + speed * lag, 0.0), streets.length_m[target] + 3.0)
        if v < 0:
            v = _adopt(streets, pool, lanes, target, position, is_track, now_s)
            if v < 0:
                if is_track:
                    slot = key % len(first_sights.key)
                    fresh = first_sights.key[slot] == key and now_s - first_sights.seen_s[slot] <= 2.5
                    first_sights.key[slot], first_sights.seen_s[slot] = key, now_s
                    if not fresh:
                        continue
                v = make(streets, pool, lanes, target, position, speed, 1.0, now_s)
                if v < 0:
                    continue
            else:
                pool.position_m[v] = position
            names[v] = key
            pool.doubt[v] = 0.0
        origin = pool.lane[v]
        if origin != target:
            _relocate(streets, pool, lanes, v, target, position, now_s)
            if pool.lane[v] < 0:
                continue
        else:
            take(streets, pool, lanes, v)
            off = position - pool.position_m[v]
            pool.position_m[v] = position if abs(off) > 8.0 else pool.position_m[v] + gain * off
            if not insert(streets, pool, lanes, v, target):
                continue
        pool.speed_mps[v] = speed
        pool.kind[v] = reports.kind[i]
        pool.length_m[v] = 12.0 if reports.kind[i] == 1 or reports.kind[i] == 2 else 5.0
        if reports.destination[i] >= 0:
            pool.destination[v] = reports.destination[i]
        pool.certainty[v] = 1.0
        pool.seen_s[v] = max(pool.seen_s[v], measured_s)
        if streets.stop_m[target] < 0 or pool.position_m[v] < streets.stop_m[target] - 2.0:
            pool.held_s[v] = 0.0
        up = streets.up_m[target]
        if up >= 0:
            rear = pool.position_m[v] - pool.length_m[v]
            if rear > up + 3.0:
                pool.counted[v] = True
            elif rear < up - 6.0:
                pool.counted[v] = False
        if is_track:
            pool.track_s[v] = max(pool.track_s[v], measured_s)
        else:
            pool.probe_s[v] = max(pool.probe_s[v], measured_s)


@njit(cache=True)
def _is_behind(streets, pool, v, lane, position_m):  # type: ignore[no-untyped-def]
    """Is the place just before the stop line that v, still inside the junction, has crossed? Nobody drives back."""
    if pool.position_m[v] >= 0.0 or position_m < streets.length_m[lane] - AT_LINE_M:
        return False
    fed = False
    for origin in range(streets.first[lane], streets.last[lane]):
        fed = fed or _link(streets, origin, pool.lane[v]) >= 0
    return fed


@njit(cache=True)
def _note_in_junction(streets, pool, lanes, v, is_track, measured_s, now_s):  # type: ignore[no-untyped-def]
    """A known vehicle is reported on no lane: if it stood near the end of its lane it has crossed the line."""
    lane = pool.lane[v]
    pool.seen_s[v] = max(pool.seen_s[v], measured_s)
    if is_track:
        pool.track_s[v] = max(pool.track_s[v], measured_s)
    else:
        pool.probe_s[v] = max(pool.probe_s[v], measured_s)
    if pool.position_m[v] > streets.length_m[lane] - 25.0:
        if streets.stop_m[lane] >= 0 and lanes.stop_live[lane]:
            take(streets, pool, lanes, v)
            pool.position_m[v] = streets.length_m[lane] + 1.0
            insert(streets, pool, lanes, v, lane)
        else:
            pool.position_m[v] = streets.length_m[lane] + 1.0
            pass_on(streets, pool, lanes, v, now_s)


@njit(cache=True)
def _adopt(streets, pool, lanes, lane, position_m, is_track, now_s):  # type: ignore[no-untyped-def]
    """The listed vehicle that a new report most likely is; -1 when none is near enough."""
    best, best_cost = -1, math.inf
    for other in range(streets.first[lane], streets.last[lane]):
        start = streets.offset[other]
        for k in range(lanes.listed[other]):
            v = lanes.order[start + k]
            if is_track:
                if pool.track[v] != 0 and now_s - pool.track_s[v] < 3.0:
                    continue
                sure = pool.probe[v] != 0 and now_s - pool.probe_s[v] < 3.0
            else:
                if pool.probe[v] != 0 and now_s - pool.probe_s[v] < 5.0:
                    continue
                sure = pool.track[v] != 0 and now_s - pool.track_s[v] < 3.0
            off = abs(pool.position_m[v] - position_m)
            gate = 4.5 if sure else (18.0 if pool.counted[v] else 35.0)
            if sure and other != lane:
                gate = 3.0
            if off > gate:
                continue
            cost = off + (0.0 if other == lane else 8.0)
            if cost < best_cost:
                best, best_cost = v, cost
    return best


@njit(cache=True)
def _relocate(streets, pool, lanes, v, target, position_m, now_s):  # type: ignore[no-untyped-def]
    """v is reported on another lane. If that is another edge, the vehicle sent there in its place goes back."""
    origin, old = pool.lane[v], pool.position_m[v]
    other_edge = streets.first[origin] != streets.first[target]
    take(streets, pool, lanes, v)
    if other_edge:
        start = streets.offset[target]
        for k in range(lanes.listed[target]):
            w = lanes.order[start + k]
            plain = pool.probe[w] == 0 and now_s - pool.track_s[w] > 3.0
            if plain and abs(pool.position_m[w] - position_m) < 25.0 and old <= streets.length_m[origin]:
                take(streets, pool, lanes, w)
                pool.position_m[w] = old
                pool.movement[w] = draw_movement(streets, lanes, origin, 0)
                pool.sure[w] = False
                pool.counted[w] = pool.counted[v]
                insert(streets, pool, lanes, w, origin)
                break
        m = _link(streets, origin, target)
        if m >= 0:
            lanes.hits[m] += 2.0
        pool.counted[v] = streets.up_m[target] < 0
    pool.position_m[v] = position_m
    pool.movement[v] = draw_movement(streets, lanes, target, 0)
    pool.sure[v] = False
    pool.doubt[v] = 0.0
    pool.held_s[v] = 0.0
    insert(streets, pool, lanes, v, target)


@njit(cache=True)
def _link(streets, origin, target):  # type: ignore[no-untyped-def]
    for j in range(streets.movement_offset[origin], streets.movement_offset[origin + 1]):
        m = streets.movement[j]
        if streets.to_lane[m] == target:
            return m
    return -1


PROBE_SILENT_S = 4.0  # an equipped vehicle reports every second: whoever has not for so long is somebody else
SURPLUS_M = 3.5  # so much overlap with a vehicle just seen means one too many


@njit(cache=True)
def tidy(streets, pool, lanes, now_s, half_life_s):  # type: ignore[no-untyped-def]
    """Keep order and spacing, let unseen certainty fade, drop what no longer is believed."""
    fade = 0.5 ** (1.0 / half_life_s)
    for lane in range(len(lanes.listed)):
        lanes.debt[lane] *= 0.99
        start = streets.offset[lane]
        k = 0
        ahead = math.inf
        while k < lanes.listed[lane]:
            v = lanes.order[start + k]
            up = streets.up_m[lane]
            watched = streets.stop_m[lane] >= 0 and lanes.stop_live[lane] and (up < 0 or lanes.up_live[lane])
            if not watched and now_s - pool.seen_s[v] > 3.0:
                pool.certainty[v] *= fade
            gone = pool.certainty[v] < 0.15
            if pool.probe[v] != 0 and now_s - pool.probe_s[v] > PROBE_SILENT_S:
                _forget_name(streets, pool, lanes, v, lane)
            if up >= 0 and not pool.counted[v] and pool.held_s[v] > 8.0:
                gone = True
            if pool.position_m[v] >= 0.0:
                low, high = lanes.seen_from_m[lane], lanes.seen_to_m[lane]
                unseen = now_s - max(pool.track_s[v], pool.probe_s[v]) > 3.0
                if unseen and low + 6.0 < pool.position_m[v] < high - 6.0:
                    pool.held_s[v] += 1.0
                    if pool.held_s[v] > 3.0:
                        gone = True
            if gone:
                take(streets, pool, lanes, v)
                release(pool, v)
                continue
            if (
                pool.position_m[v] > ahead + SURPLUS_M
                and now_s - max(pool.probe_s[v], pool.track_s[v]) < 1.5
                and k > 0
            ):
                # seen where the list has somebody else: one of those ahead is not there
                w = lanes.order[start + k - 1]
                if now_s - max(pool.probe_s[w], pool.track_s[w]) > 3.0:
                    lanes.debt[streets.first[lane]] -= 0.7
                    take(streets, pool, lanes, w)
                    release(pool, w)
                    k -= 1
                    ahead = math.inf
                    if k > 0:
                        w = lanes.order[start + k - 1]
                        ahead = pool.position_m[w] - pool.length_m[w] - 0.5
            if pool.position_m[v] > ahead:
                pool.position_m[v] = ahead
            ahead = pool.position_m[v] - pool.length_m[v] - 0.5
            k += 1


@njit(cache=True)
def _forget_name(streets, pool, lanes, v, lane):  # type: ignore[no-untyped-def]
    """v is not, or no longer, the equipped vehicle that it was taken for: what that one told does not hold for it."""
    pool.probe[v] = 0
    if pool.destination[v] >= 0:
        pool.destination[v] = -1
        pool.movement[v] = draw_movement(streets, lanes, lane, 0)
        pool.sure[v] = False
