"""The rules of safety once more, second by second and link by link on the letters themselves.

Shares nothing with `signals.safety_kernels`, and is held against the plain Python version of the tests.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

R, U, Y, G_MINOR, G_MAJOR, S, DARK, FLASH = ord("r"), ord("u"), ord("y"), ord("g"), ord("G"), ord("s"), 79, 111

LETTERS, CONFLICT, PRIORITY, OFF, INTERGREEN, YELLOW, MIN_GREEN, MAX_GREEN, MAX_RED = 0, 1, 2, 3, 4, 5, 6, 7, 8
RULES = 9


class PlainRules(NamedTuple):
    """What the signal prescribes, as plain arrays on its K links. Letters: R for r, u, U; Y for Y."""

    conflict: NDArray[np.bool_]  # (K, K)
    foes: NDArray[np.bool_]  # (K, K)
    clearance_s: NDArray[np.float64]  # (K, K)
    phases: NDArray[np.uint8]  # (P, K) letters of all shipped phases
    both_open: NDArray[np.bool_]  # (K, K, 2, 2) i shows g (0) or G (1), j likewise: some phase shows that or stronger
    off_beside: NDArray[np.bool_]  # (K, K) some phase leaves i off while j is lit
    may_rise: NDArray[np.bool_]  # (K, K) some phase shows j as G while i is green
    waits: NDArray[np.bool_]  # (K,)
    min_green_s: NDArray[np.float64]  # (K,) whole
    yellow_s: float  # whole
    max_red_s: float
    grace_s: float


@njit(cache=True)
def tabulate(
    phases: NDArray[np.uint8],
    both_open: NDArray[np.bool_],
    off_beside: NDArray[np.bool_],
    may_rise: NDArray[np.bool_],
) -> None:
    """Fill the last three from the letters (P, K) of all phases."""
    count, links = phases.shape
    for p in range(count):
        for i in range(links):
            a = phases[p, i]
            for j in range(links):
                b = phases[p, j]
                if i == j:
                    continue
                if _off(a) and _lit(b):
                    off_beside[i, j] = True
                if _green(a) and _green(b):
                    both_open[i, j, 0, 0] = True
                    if a == G_MAJOR:
                        both_open[i, j, 1, 0] = True
                    if b == G_MAJOR:
                        both_open[i, j, 0, 1] = True
                        may_rise[i, j] = True
                    if a == G_MAJOR and b == G_MAJOR:
                        both_open[i, j, 1, 1] = True


@njit(cache=True)
def _green(letter: int) -> bool:
    return letter in (G_MINOR, G_MAJOR)


@njit(cache=True)
def _lit(letter: int) -> bool:
    return letter in (G_MINOR, G_MAJOR, Y)


@njit(cache=True)
def _off(letter: int) -> bool:
    return letter in (DARK, FLASH)


@njit(cache=True)
def _colour(letter: int) -> int:
    if _green(letter):
        return 1
    if letter == Y:
        return 2
    if letter == S:
        return 3
    if _off(letter):
        return 4
    return 0


@njit(cache=True)
def watch_plan(
    steps: NDArray[np.uint8],
    durations_s: NDArray[np.float64],
    start_s: float,
    seconds: int,
    repeats: bool,
    offset_s: float,
    rules: PlainRules,
    max_green_s: float,
    shown: NDArray[np.uint8],
    since_s: NDArray[np.float64],
    begin_s: NDArray[np.float64],
    finish_s: NDArray[np.float64],
    judged_from: int,
    found: NDArray[np.bool_],
) -> None:
    """Look at the lamps every second and mark what is broken.

    steps (S, K) letters, each shown for durations_s (S,); shown (K,) letters before `start_s`, and since_s, begin_s,
    finish_s (K,) of the record: all four are overwritten. Seconds before `judged_from` (counted from 0) only run in.
    found (RULES, K, K) is written; single links in [rule, k, k].
    """
    links = shown.shape[0]
    cycle_s = durations_s.sum()
    new = np.empty(links, np.uint8)
    for second in range(seconds):
        now_s = start_s + second
        into_s = (now_s - offset_s) % cycle_s if repeats else float(second)
        step = durations_s.shape[0] - 1
        for n in range(durations_s.shape[0]):
            if into_s < durations_s[n]:
                step = n
                break
            into_s -= durations_s[n]
        first = second == 0 or second == judged_from
        changes = first
        for k in range(links):
            new[k] = steps[step, k]
            changes = changes or new[k] != shown[k]
        if changes:
            for k in range(links):
                a, b = shown[k], new[k]
                if _green(a) and not _green(b):
                    green_s = now_s - begin_s[k]
                    if green_s < rules.min_green_s[k]:
                        found[MIN_GREEN, k, k] = True
                    if max_green_s < green_s < np.inf:
                        found[MAX_GREEN, k, k] = True
                    if b != Y:
                        found[YELLOW, k, k] = True
                if a == Y and b != Y and (now_s - since_s[k] < rules.yellow_s or _green(b)):
                    found[YELLOW, k, k] = True
                if not _green(a) and a != Y and b == Y:
                    found[YELLOW, k, k] = True
            for k in range(links):
                a, b = shown[k], new[k]
                if _colour(a) == _colour(b):
                    continue
                if _green(a) or _off(a):
                    finish_s[k] = now_s
                since_s[k] = now_s
                if _green(b):
                    begin_s[k] = now_s
                if _green(b) or _off(b):
                    finish_s[k] = np.inf
            for i in range(links):
                for j in range(links):
                    if i == j or not rules.foes[i, j]:
                        continue
                    _look_at_pair(i, j, shown, new, now_s, finish_s, first, rules, found)
        for k in range(links):
            waited_s = now_s + 1 - since_s[k] if new[k] == R and rules.waits[k] else 0.0
            if waited_s > rules.max_red_s and second + 1 > rules.grace_s:
                found[MAX_RED, k, k] = True
            if _green(new[k]) and max_green_s < now_s + 1 - begin_s[k] < np.inf:
                found[MAX_GREEN, k, k] = True
            shown[k] = new[k]
        if second == judged_from - 1:
            found[:] = False


@njit(cache=True, inline="always")
def _look_at_pair(
    i: int,
    j: int,
    shown: NDArray[np.uint8],
    new: NDArray[np.uint8],
    now_s: float,
    finish_s: NDArray[np.float64],
    first: bool,
    rules: PlainRules,
    found: NDArray[np.bool_],
) -> None:
    a, b = new[i], new[j]
    if not (first or shown[i] != a or shown[j] != b):
        return
    if i < j and rules.conflict[i, j] and _lit(a) and _lit(b):
        found[CONFLICT, i, j] = True
    both = i < j and not rules.conflict[i, j] and _green(a) and _green(b)
    if both and not rules.both_open[i, j, 1 if a == G_MAJOR else 0, 1 if b == G_MAJOR else 0]:
        found[PRIORITY, i, j] = True
    if _off(a) and _lit(b) and not rules.off_beside[i, j]:
        found[OFF, i, j] = True
    if _green(a) or _off(a):
        return
    opens = (not _green(shown[j]) and _green(b)) or (not _off(shown[j]) and _off(b))
    rises = shown[j] == G_MINOR and b == G_MAJOR and not rules.may_rise[i, j]
    if (opens or rises) and now_s - finish_s[i] < rules.clearance_s[i, j]:
        found[INTERGREEN, i, j] = True
