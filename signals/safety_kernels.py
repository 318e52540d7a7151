"""Judges a sequence of lamp changes of one signal against its rules."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

RED, YELLOW, MINOR, MAJOR, OTHER = 0, 1, 2, 3, 4  # lamp codes; OTHER: stop-then-go arrow, switched off

# Rule numbers in column 0 of the findings.
CONFLICT, PRIORITY, INTERGREEN, MISSING_YELLOW, SHORT_YELLOW, STRAY_YELLOW, YELLOW_TO_GREEN = 0, 1, 2, 3, 4, 5, 6
MIN_GREEN, MAX_GREEN, MAX_RED = 7, 8, 9

EPSILON_S = 1e-6


class RuleArrays(NamedTuple):
    """`SignalRules` as the kernel reads it; see there."""

    conflicts: NDArray[np.bool_]  # (K, K)
    meets: NDArray[np.bool_]  # (K, K)
    clear_s: NDArray[np.float64]  # (K, K)
    both_major: NDArray[np.bool_]  # (K, K)
    major_minor: NDArray[np.bool_]  # (K, K)
    min_green_s: NDArray[np.float64]  # (K,)
    served: NDArray[np.bool_]  # (K,)


@njit(cache=True)
def judge_changes(
    times_s: NDArray[np.float64],
    lamps: NDArray[np.uint8],
    horizon_s: float,
    rules: RuleArrays,
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
    """Walk through the changes and note what breaks a rule; returns how many findings there are.

    times_s            (N,) float64   moments of change, ascending
    lamps              (N, K) uint8   codes shown from then on
    horizon_s          float          the last lamps stand until then
    yellow_s, max_green_s, max_red_s  floats; inf switches a maximum off
    red_free_until_s   float          no red is called too long before this moment
    code               (K,) uint8     in: lamps before the first change; overwritten
    since_s            (K,)           in: begin of the present colour; overwritten
    green_from_s, green_until_s (K,)  in: latest green, until = inf while green; overwritten
    findings           (F, 6)         written: rule, link, other link or -1, moment, value, limit

    At most F findings are written; the number returned may be greater.
    """
    links = code.shape[0]
    room = findings.shape[0]
    found = 0
    opens = np.zeros(links, np.bool_)
    rises = np.zeros(links, np.bool_)
    for n in range(times_s.shape[0]):
        now_s = times_s[n]
        anything = n == 0
        for k in range(links):
            opens[k] = rises[k] = False
            old, new = code[k], lamps[n, k]
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
                since = now_s
                green_s = now_s - green_from_s[k]
                if green_s < rules.min_green_s[k] - EPSILON_S:
                    if found < room:
                        _note(findings, found, MIN_GREEN, k, -1, now_s, green_s, rules.min_green_s[k])
                    found += 1
                if green_s > max_green_s + EPSILON_S and green_s < np.inf:
                    if found < room:
                        _note(findings, found, MAX_GREEN, k, -1, now_s, green_s, max_green_s)
                    found += 1
                if new != YELLOW:
                    rule, value, limit = MISSING_YELLOW, 0.0, yellow_s
            elif old == YELLOW:
                since = now_s
                if now_s - since_s[k] < yellow_s - EPSILON_S:
                    rule, value, limit = SHORT_YELLOW, now_s - since_s[k], yellow_s
                elif new_green:
                    rule, value, limit = YELLOW_TO_GREEN, 0.0, 1.0
            else:
                since = now_s if new == YELLOW or new_green else since_s[k]
                if new == YELLOW:
                    rule, value, limit = STRAY_YELLOW, 0.0, 0.0
                if new_green or new == OTHER:
                    red_from_s = since_s[k]
                    late_s = max(red_from_s + max_red_s, red_free_until_s)
                    if rules.served[k] and old == RED and now_s > late_s + EPSILON_S:
                        rule, value, limit = MAX_RED, now_s - red_from_s, max_red_s
                elif old == OTHER:
                    since = now_s  # the wait at red begins when the free arrow goes out
            if rule >= 0:
                if found < room:
                    _note(findings, found, rule, k, -1, now_s, value, limit)
                found += 1
            since_s[k] = since
            if new_green:
                opens[k] = True
                green_from_s[k] = now_s
                green_until_s[k] = np.inf
        if not anything:
            continue
        for j in range(links):
            new_j = lamps[n, j]
            lit_j = YELLOW <= new_j <= MAJOR
            if not lit_j:
                continue
            changed_j = code[j] != new_j or n == 0
            for i in range(links):
                if i == j or not rules.meets[i, j]:
                    continue
                new_i = lamps[n, i]
                lit_i = YELLOW <= new_i <= MAJOR
                green_i = MINOR <= new_i <= MAJOR
                if i < j and lit_i and (changed_j or code[i] != new_i):
                    rule = -1
                    if rules.conflicts[i, j]:
                        was_lit = n > 0 and YELLOW <= code[i] <= MAJOR and YELLOW <= code[j] <= MAJOR
                        rule = -1 if was_lit else CONFLICT
                    elif new_i == MAJOR and new_j == MAJOR:
                        rule = -1 if rules.both_major[i, j] else PRIORITY
                    elif new_i == MAJOR and new_j == MINOR:
                        rule = -1 if rules.major_minor[i, j] else PRIORITY
                    elif new_i == MINOR and new_j == MAJOR:
                        rule = -1 if rules.major_minor[j, i] else PRIORITY
                    if rule >= 0:
                        if found < room:
                            _note(findings, found, rule, i, j, now_s, 0.0, 0.0)
                        found += 1
                if not green_i and (opens[j] or (rises[j] and not rules.major_minor[j, i])):
                    cleared_s = now_s - green_until_s[i]
                    if cleared_s < rules.clear_s[i, j] - EPSILON_S:
                        if found < room:
                            _note(findings, found, INTERGREEN, i, j, now_s, cleared_s, rules.clear_s[i, j])
                        found += 1
        for k in range(links):
            code[k] = lamps[n, k]
    for k in range(links):
        if code[k] == RED and rules.served[k]:
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
