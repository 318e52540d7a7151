"""Judges the lamps of one signal, step by step, against its rules."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

RED, YELLOW, MINOR, MAJOR, ARROW, OFF = 0, 1, 2, 3, 4, 5  # lamp codes; ARROW: stop, then go; OFF: flashing or dark

# Bits of `SignalRules.pairs`.
CONFLICTS, MEETS, BOTH_MAJOR, MAJOR_MINOR, OFF_BESIDE, BOTH_OPEN = 1, 2, 4, 8, 16, 32

# Rule numbers in column 0 of the findings.
CONFLICT, PRIORITY, INTERGREEN, MISSING_YELLOW, SHORT_YELLOW, STRAY_YELLOW, YELLOW_TO_GREEN = 0, 1, 2, 3, 4, 5, 6
MIN_GREEN, MAX_GREEN, MAX_RED, UNLIT = 7, 8, 9, 10

EPSILON_S = 1e-6
UNREADABLE = -1


@njit(cache=True)
def judge_steps(
    steps: NDArray[np.uint8],
    durations_s: NDArray[np.float64],
    into_s: float,
    horizon_s: float,
    repeats: bool,
    alone: bool,
    pairs: NDArray[np.uint8],
    clear_s: NDArray[np.float64],
    min_green_s: NDArray[np.float64],
    served: NDArray[np.bool_],
    yellow_s: float,
    max_green_s: float,
    max_red_s: float,
    red_free_until_s: float,
    shown: NDArray[np.uint8],
    from_s: float,
    since_s: NDArray[np.float64],
    green_from_s: NDArray[np.float64],
    green_until_s: NDArray[np.float64],
    findings: NDArray[np.float64],
) -> int:
    """Follow the steps from 0.0 to the horizon and note what breaks a rule; returns how many findings there are.

    steps              (S, K) uint8   codes of the steps, each shown for durations_s (S,)
    into_s             float          a cycle starts this far into its steps
    horizon_s          float          the last lamps stand until then
    repeats, alone     bool           the steps are a cycle; it is to be judged in its steady state
    pairs, clear_s     (K, K)         `SignalRules`, as min_green_s, served (K,) and yellow_s
    max_green_s, max_red_s  float     inf switches a maximum off
    red_free_until_s   float          no red is called too long before this moment
    shown              (K,) uint8     lamps before the first step
    from_s             float          moment 0.0 on the clock of the record
    since_s            (K,)           begin of the present colour
    green_from_s, green_until_s (K,)  latest green, until = inf while green
    findings           (F, 6)         written: rule, link, other link or -1, moment, value, limit

    At most F findings are written; the number returned may be greater. UNREADABLE: a time of the record is NaN.
    """
    links = shown.shape[0]
    code = shown.copy()
    since, begin, until = np.empty(links), np.empty(links), np.empty(links)
    for k in range(links):
        since[k] = since_s[k] - from_s
        begin[k] = green_from_s[k] - from_s
        until[k] = green_until_s[k] - from_s
        if np.isnan(since[k]) or np.isnan(begin[k]) or np.isnan(until[k]):
            return UNREADABLE
    count = durations_s.shape[0]
    first, skipped_s = 0, 0.0
    if repeats:
        while first < count - 1 and skipped_s + durations_s[first] <= into_s:
            skipped_s += durations_s[first]
            first += 1
    if repeats and alone:
        cycle_s = durations_s.sum()
        _judge(
            steps, durations_s, first, skipped_s - into_s, cycle_s, True, pairs, clear_s, min_green_s, served,
            yellow_s, np.inf, np.inf, np.inf, code, since, begin, until, findings[:0],
        )  # fmt: skip
        for k in range(links):
            since[k] -= cycle_s
            begin[k] -= cycle_s
            until[k] -= cycle_s
        red_free_until_s -= cycle_s  # the steady state began a cycle ago
    return _judge(
        steps, durations_s, first, skipped_s - into_s, horizon_s, repeats, pairs, clear_s, min_green_s, served,
        yellow_s, max_green_s, max_red_s, red_free_until_s, code, since, begin, until, findings,
    )  # fmt: skip


@njit(cache=True)
def _judge(
    steps: NDArray[np.uint8],
    durations_s: NDArray[np.float64],
    first: int,
    first_begin_s: float,
    horizon_s: float,
    repeats: bool,
    pairs: NDArray[np.uint8],
    clear_s: NDArray[np.float64],
    min_green_s: NDArray[np.float64],
    served: NDArray[np.bool_],
    yellow_s: float,
    max_green_s: float,
    max_red_s: float,
    red_free_until_s: float,
    code: NDArray[np.uint8],
    since_s: NDArray[np.float64],
    green_from_s: NDArray[np.float64],
    green_until_s: NDArray[np.float64],
    findings: NDArray[np.float64],
) -> int:
    """As `judge_steps`, from step `first`, which began at `first_begin_s`; overwrites the four arrays of memory."""
    links = code.shape[0]
    room = findings.shape[0]
    found = 0
    opens = np.zeros(links, np.bool_)
    rises = np.zeros(links, np.bool_)
    n, now_s, next_s = first, 0.0, first_begin_s + durations_s[first]
    is_first = True
    while True:
        lamps = steps[n]
        anything = is_first
        for k in range(links):
            opens[k] = rises[k] = False
            old, new = code[k], lamps[k]
            if old == new:
                continue
            anything = True
            old_green, new_green = MINOR <= old <= MAJOR, MINOR <= new <= MAJOR
            if old_green and new_green:
                rises[k] = new == MAJOR
                continue
            rule, value, limit = -1, 0.0, 0.0
            if old_green:
                green_until_s[k] = now_s
                green_s = now_s - green_from_s[k]
                if green_s < min_green_s[k] - EPSILON_S:
                    if found < room:
                        _note(findings, found, MIN_GREEN, k, -1, now_s, green_s, min_green_s[k])
                    found += 1
                if green_s > max_green_s + EPSILON_S and green_s < np.inf:
                    if found < room:
                        _note(findings, found, MAX_GREEN, k, -1, now_s, green_s, max_green_s)
                    found += 1
                if new != YELLOW:
                    rule, value, limit = MISSING_YELLOW, 0.0, yellow_s
            elif old == YELLOW:
                if now_s - since_s[k] < yellow_s - EPSILON_S:
                    rule, value, limit = SHORT_YELLOW, now_s - since_s[k], yellow_s
                elif new_green:
                    rule, value, limit = YELLOW_TO_GREEN, 0.0, 1.0
            else:
                if old == OFF:
                    green_until_s[k] = now_s
                if new == YELLOW:
                    rule, value, limit = STRAY_YELLOW, 0.0, 0.0
                if old == RED and served[k]:
                    late_s = max(since_s[k] + max_red_s, red_free_until_s)
                    if now_s > late_s + EPSILON_S:
                        if found < room:
                            _note(findings, found, MAX_RED, k, -1, now_s, now_s - since_s[k], max_red_s)
                        found += 1
            if rule >= 0:
                if found < room:
                    _note(findings, found, rule, k, -1, now_s, value, limit)
                found += 1
            since_s[k] = now_s
            if new_green:
                opens[k] = True
                green_from_s[k] = now_s
                green_until_s[k] = np.inf
            elif new == OFF:
                opens[k] = True
                green_until_s[k] = np.inf
        if anything:
            for j in range(links):
                new_j = lamps[j]
                if not (YELLOW <= new_j <= MAJOR or new_j == OFF):
                    continue
                changed_j = code[j] != new_j or is_first
                for i in range(links):
                    pair = pairs[i, j]
                    if i == j or not pair & MEETS:
                        continue
                    new_i = lamps[i]
                    if new_i == OFF and new_j == OFF:
                        continue
                    lit_i, lit_j = YELLOW <= new_i <= MAJOR, YELLOW <= new_j <= MAJOR
                    changed = changed_j or code[i] != new_i
                    if changed and i < j and lit_i and lit_j:
                        rule = -1
                        if pair & CONFLICTS:
                            was_lit = not is_first and YELLOW <= code[i] <= MAJOR and YELLOW <= code[j] <= MAJOR
                            rule = -1 if was_lit else CONFLICT
                        elif new_i == MAJOR and new_j == MAJOR:
                            rule = -1 if pair & BOTH_MAJOR else PRIORITY
                        elif new_i == MAJOR and new_j == MINOR:
                            rule = -1 if pair & MAJOR_MINOR else PRIORITY
                        elif new_i == MINOR and new_j == MAJOR:
                            rule = -1 if pairs[j, i] & MAJOR_MINOR else PRIORITY
                        elif new_i == MINOR and new_j == MINOR:
                            rule = -1 if pair & BOTH_OPEN else PRIORITY
                        if rule >= 0:
                            if found < room:
                                _note(findings, found, rule, i, j, now_s, 0.0, 0.0)
                            found += 1
                    if new_i == OFF:
                        if changed and not pair & OFF_BESIDE:
                            if found < room:
                                _note(findings, found, UNLIT, i, j, now_s, 0.0, 0.0)
                            found += 1
                        continue
                    starts = opens[j] or (rises[j] and not pairs[j, i] & MAJOR_MINOR)
                    if starts and not MINOR <= new_i <= MAJOR:
                        cleared_s = now_s - green_until_s[i]
                        if cleared_s < clear_s[i, j] - EPSILON_S:
                            if found < room:
                                _note(findings, found, INTERGREEN, i, j, now_s, cleared_s, clear_s[i, j])
                            found += 1
            for k in range(links):
                code[k] = lamps[k]
        is_first = False
        n += 1
        if n == steps.shape[0]:
            if not repeats:
                break
            n = 0
        now_s = next_s
        next_s += durations_s[n]
        if now_s >= horizon_s:
            break
    for k in range(links):
        if code[k] == RED and served[k]:
            late_s = max(since_s[k] + max_red_s, red_free_until_s)
            if horizon_s > late_s + EPSILON_S:
                if found < room:
                    _note(findings, found, MAX_RED, k, -1, late_s, late_s - since_s[k], max_red_s)
                found += 1
        elif MINOR <= code[k] <= MAJOR and -np.inf < green_from_s[k] < horizon_s - max_green_s - EPSILON_S:
            if found < room:
                _note(findings, found, MAX_GREEN, k, -1, green_from_s[k] + max_green_s, max_green_s, max_green_s)
            found += 1
    return found


@njit(cache=True)
def _note(
    findings: NDArray[np.float64],
    row: int,
    rule: int,
    link: int,
    other: int,
    moment_s: float,
    value: float,
    limit: float,
) -> None:
    findings[row, 0] = rule
    findings[row, 1] = link
    findings[row, 2] = other
    findings[row, 3] = moment_s
    findings[row, 4] = value
    findings[row, 5] = limit


@njit(cache=True)
def is_past(
    since_s: NDArray[np.float64],
    green_from_s: NDArray[np.float64],
    green_until_s: NDArray[np.float64],
    now_s: float,
) -> bool:
    """Whether the times (K,) of a record can be ages: numbers, none later than now but the end of a running green."""
    for k in range(since_s.shape[0]):
        ended = green_until_s[k] <= now_s or green_until_s[k] == np.inf
        if not (since_s[k] <= now_s and green_from_s[k] <= now_s and ended):
            return False
    return True


@njit(cache=True)
def longest_red_since(code: NDArray[np.uint8], served: NDArray[np.bool_], since_s: NDArray[np.float64]) -> float:
    """Begin of the longest red among the links (K,) that are served, inf without any."""
    first_s = np.inf
    for k in range(code.shape[0]):
        if code[k] == RED and served[k]:
            first_s = min(first_s, since_s[k])
    return float(first_s)
