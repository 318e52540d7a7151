"""Roll-outs of one junction: vehicle-level point queues behind each stop line, second by second.

All times are seconds from the moment the plan takes over. Lanes, links, stages and receiving lanes are numbered
within the junction. See `junction_choice` for what the numbers mean and where they come from.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

CLOSED, PROTECTED, PERMISSIVE = 0, 1, 2
NEVER = 1e9


@njit(cache=True)
def score_candidates(
    holds_s: NDArray[np.float64],
    targets: NDArray[np.int64],
    exhaustive: NDArray[np.bool_],
    stage: int,
    stage_age_s: float,
    stages: NDArray[np.uint8],
    link_from_s: NDArray[np.float64],
    link_until_s: NDArray[np.float64],
    intergreen_s: NDArray[np.float64],
    yellow_s: float,
    min_green_s: NDArray[np.float64],
    max_green_s: float,
    link_lane: NDArray[np.int64],
    link_out: NDArray[np.int64],
    gives_way: NDArray[np.bool_],
    lane_first: NDArray[np.int64],
    arrival_s: NDArray[np.float64],
    vehicle_link: NDArray[np.int64],
    weight: NDArray[np.float64],
    stopped: NDArray[np.bool_],
    lane_weight: NDArray[np.float64],
    storage_veh: NDArray[np.float64],
    space_veh: NDArray[np.float64],
    refill_vps: NDArray[np.float64],
    jam_frac: NDArray[np.float64],
    parameters: NDArray[np.float64],
    horizon_s: int,
    cost: NDArray[np.float64],
    served: NDArray[np.float64],
    crossing_s: NDArray[np.float64],
) -> None:
    """Cost and vehicles served of "hold the stage for holds_s[c], then go to targets[c]", for every candidate c.

    holds_s      (C,) float64   seconds the present stage stays
    targets      (C,) int64     stage after that; equal to `stage`: only the base policy ends it
    exhaustive   (C,) bool      base policy after that: clear standing queues first, or serve most at any moment
    stage        int            stage that stands at second 0
    stage_age_s  float          for how long it has stood
    stages       (S, K) uint8   CLOSED, PROTECTED or PERMISSIVE per link
    link_from_s  (K,) float64   begin of the latest green, <= 0 for links open now
    link_until_s (K,) float64   end of the latest green, NEVER while open
    intergreen_s (K, K) float64 end of green i to begin of green j
    yellow_s     float
    min_green_s  (K,) float64
    max_green_s  float          longest green in the base policy
    link_lane    (K,) int64     approach lane of the link, -1 for a crossing
    link_out     (K,) int64     receiving lane, -1 for a crossing
    gives_way    (K, K) bool    link i waits for gaps in link j while both are open
    lane_first   (L+1,) int64   vehicles of lane l are rows lane_first[l]..lane_first[l+1], front first
    arrival_s    (V,) float64   earliest at the stop line, ascending within a lane
    vehicle_link (V,) int64
    weight       (V,) float64   persons or certainty
    stopped      (V,) bool      has already stopped
    lane_weight  (L,) float64   urgency of a lane (spill-back)
    storage_veh  (L,) float64   vehicles that fit between the stop line and the lane's begin; more block other lanes
    space_veh    (O,) float64   vehicles that still fit on each receiving lane
    refill_vps   (O,) float64   rate at which it empties
    jam_frac     (O,) float64   share of a vehicle's delay that crossing into the receiving lane does not end
    parameters   (8,) float64   headway_s, startup_s, stop_penalty_s, terminal_s, window_s, gap_s, usable_yellow_s,
                                overflow_weight
    horizon_s    int
    cost         (C,) float64   written: weighted vehicle seconds
    served       (C,) float64   written
    crossing_s   (V,) float64   written by the last candidate: when each vehicle crosses, NEVER if not

    Point queue with FIFO lanes (Vickrey 1969), gap acceptance by critical gap (HCM 6th ed., ch. 19).
    """
    count, links, lanes = len(holds_s), stages.shape[1], len(lane_first) - 1
    outs = len(space_veh)
    headway_s, startup_s, stop_penalty_s, terminal_s = parameters[0], parameters[1], parameters[2], parameters[3]
    window_s, gap_s, usable_yellow_s, overflow_weight = parameters[4], parameters[5], parameters[6], parameters[7]
    head = np.empty(lanes, np.int64)
    arrived = np.empty(lanes, np.int64)
    waiting = np.empty(lanes, np.float64)
    ready_s = np.empty(lanes, np.float64)
    begin_s = np.empty(links, np.float64)
    end_s = np.empty(links, np.float64)
    mode = np.empty(links, np.uint8)
    last_cross_s = np.empty(links, np.float64)
    space = np.empty(outs, np.float64)
    for c in range(count):
        current, age_s, hold_s, target = stage, stage_age_s, holds_s[c], targets[c]
        first = True
        for lane in range(lanes):
            head[lane] = lane_first[lane]
            arrived[lane] = lane_first[lane]
            waiting[lane] = 0.0
            ready_s[lane] = 0.0
        for k in range(links):
            begin_s[k], end_s[k], mode[k] = link_from_s[k], link_until_s[k], stages[stage, k]
            last_cross_s[k] = -NEVER
        for o in range(outs):
            space[o] = space_veh[o]
        switch_until_s = -1.0  # inside a transition before this second
        total, done = 0.0, 0.0
        for second in range(horizon_s):
            t = float(second)
            # decide
            if t >= switch_until_s:
                to = current
                if first:
                    if t >= hold_s:
                        to, first = target, False
                elif age_s >= 5.0 and not (
                    exhaustive[c]
                    and age_s < max_green_s
                    and _is_discharging(current, t, stages, lane_first, head, arrival_s, vehicle_link)
                ):
                    to = _base_choice(
                        current, age_s, t, stages, yellow_s, lane_first, head, arrival_s, vehicle_link, weight,
                        headway_s, window_s, max_green_s,
                    )  # fmt: skip
                if to != current:
                    # minimum green of the links that close, and intergreen before the links that open
                    change_s = t
                    for i in range(links):
                        if mode[i] != CLOSED and stages[to, i] == CLOSED:
                            change_s = max(change_s, begin_s[i] + min_green_s[i])
                    ready = change_s
                    for i in range(links):
                        if stages[to, i] != CLOSED:
                            continue
                        closes = mode[i] != CLOSED
                        ends = change_s if closes else end_s[i]
                        if closes:
                            ready = max(ready, change_s + yellow_s)
                        if ends < t - 60.0:
                            continue
                        for j in range(links):
                            if stages[to, j] != CLOSED and mode[j] == CLOSED and intergreen_s[i, j] > 0.0:
                                ready = max(ready, ends + intergreen_s[i, j])
                    for i in range(links):
                        if mode[i] != CLOSED and stages[to, i] == CLOSED:
                            need = yellow_s
                            for j in range(links):
                                if stages[to, j] != CLOSED and mode[j] == CLOSED:
                                    need = max(need, intergreen_s[i, j])
                            end_s[i] = max(change_s, ready - need)
                        elif mode[i] == CLOSED and stages[to, i] != CLOSED:
                            begin_s[i], end_s[i] = ready, NEVER
                    for i in range(links):
                        mode[i] = stages[to, i]
                    current, age_s, switch_until_s = to, t - ready, ready
            age_s += 1.0
            # arrivals
            for lane in range(lanes):
                i = arrived[lane]
                while i < lane_first[lane + 1] and arrival_s[i] <= t:
                    waiting[lane] += weight[i]
                    i += 1
                arrived[lane] = i
            for o in range(outs):
                space[o] += refill_vps[o]
            # departures: protected links first, so that permissive ones see them
            for turn in range(2):
                for lane in range(lanes):
                    while head[lane] < arrived[lane] and ready_s[lane] <= t:
                        v = head[lane]
                        k = vehicle_link[v]
                        opened = t >= begin_s[k] and t < end_s[k] + usable_yellow_s
                        if not opened:
                            break
                        permissive = stages[current, k] == PERMISSIVE
                        if permissive != (turn == 1):
                            break
                        o = link_out[k]
                        if space[o] < 1.0:
                            ready_s[lane] = t + 1.0
                            break
                        if permissive:
                            free = True
                            for j in range(links):
                                if not gives_way[k, j] or t < begin_s[j] or t >= end_s[j]:
                                    continue
                                if last_cross_s[j] >= t - 1.0:
                                    free = False
                                    break
                                other = link_lane[j]
                                if other < 0:
                                    continue
                                w = head[other]
                                comes = w < lane_first[other + 1] and vehicle_link[w] == j
                                if comes and max(arrival_s[w], ready_s[other]) < t + gap_s:
                                    free = False
                                    break
                            if not free:
                                break
                        delayed = t - arrival_s[v] > 2.0
                        start = max(t, arrival_s[v])
                        if delayed and t - begin_s[k] < 1.0:
                            start += startup_s
                        ready_s[lane] = start + headway_s
                        if delayed and not stopped[v]:
                            total += stop_penalty_s * weight[v]
                        last_cross_s[k] = t
                        space[o] -= 1.0
                        crossing_s[v] = t
                        waiting[lane] -= weight[v]
                        total += jam_frac[o] * weight[v] * (horizon_s - t)
                        done += weight[v]
                        head[lane] = v + 1
            for lane in range(lanes):
                total += waiting[lane] * lane_weight[lane]
                over = arrived[lane] - head[lane] - storage_veh[lane]
                if over > 0.0:
                    total += over * overflow_weight
        for lane in range(lanes):
            for v in range(head[lane], lane_first[lane + 1]):
                crossing_s[v] = NEVER
                if v < arrived[lane]:
                    total += weight[v] * terminal_s * lane_weight[lane]
                    if not stopped[v]:
                        total += stop_penalty_s * weight[v]
        cost[c], served[c] = total, done


@njit(cache=True)
def _base_choice(
    current: int,
    age_s: float,
    t: float,
    stages: NDArray[np.uint8],
    yellow_s: float,
    lane_first: NDArray[np.int64],
    head: NDArray[np.int64],
    arrival_s: NDArray[np.float64],
    vehicle_link: NDArray[np.int64],
    weight: NDArray[np.float64],
    headway_s: float,
    window_s: float,
    max_green_s: float,
) -> int:
    """Base policy: the stage that serves most vehicles over the next `window_s`, the change paid for."""
    best, best_score = current, -1.0
    for s in range(stages.shape[0]):
        usable_s = window_s
        if s != current:
            usable_s = window_s - yellow_s - 2.0
        elif age_s > max_green_s:
            continue
        score = 0.0
        for lane in range(len(head)):
            v = head[lane]
            if v >= lane_first[lane + 1]:
                continue
            if stages[s, vehicle_link[v]] == CLOSED:
                continue
            room = usable_s / headway_s
            if stages[s, vehicle_link[v]] == PERMISSIVE:
                room *= 0.5
            reach_s = t + (3.0 if s == current else 4.0)
            n = 0.0
            while v < lane_first[lane + 1] and arrival_s[v] <= reach_s and n < room:
                n += 1.0
                score += weight[v]
                v += 1
        if s == current:
            score += 0.01
        if score > best_score:
            best, best_score = s, score
    return best


@njit(cache=True)
def _is_discharging(
    current: int,
    t: float,
    stages: NDArray[np.uint8],
    lane_first: NDArray[np.int64],
    head: NDArray[np.int64],
    arrival_s: NDArray[np.float64],
    vehicle_link: NDArray[np.int64],
) -> bool:
    """Is a vehicle that had to wait about to leave in the present stage?"""
    for lane in range(len(head)):
        v = head[lane]
        if v < lane_first[lane + 1] and arrival_s[v] < t - 1.0 and stages[current, vehicle_link[v]] == PROTECTED:
            return True
    return False
