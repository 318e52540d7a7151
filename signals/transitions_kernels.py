"""The moments at which each link closes, clears and starts between two sets of greens."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

RED, YELLOW, MINOR, MAJOR, ARROW, OFF = 0, 1, 2, 3, 4, 5  # as in `safety_kernels`
MEETS = 2


@njit(cache=True)
def lead(
    old: NDArray[np.uint8],
    new: NDArray[np.uint8],
    since_s: NDArray[np.float64],
    green_from_s: NDArray[np.float64],
    green_until_s: NDArray[np.float64],
    at_s: float,
    pairs: NDArray[np.uint8],
    clear_s: NDArray[np.float64],
    min_green_s: NDArray[np.float64],
    yellow_s: float,
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """The way from `old` to `new`: moments after `at_s` (M+1,) and the codes shown between them (M, K).

    old, new           (K,) uint8     lamps shown at `at_s`, and the stage to reach
    since_s, green_from_s, green_until_s  (K,)  `LampRecord`
    pairs, clear_s     (K, K)         `SignalRules`, as min_green_s (K,) and yellow_s

    The last moment is when `new` may be shown; M is 0 when it may be shown at once.
    """
    links = old.shape[0]
    closes_s, red_s, starts_s = np.full(links, np.inf), np.full(links, np.inf), np.full(links, np.inf)
    ends_s = np.empty(links)  # end of green of what is closed or closing
    for k in range(links):
        if MINOR <= old[k] <= MAJOR:
            if not MINOR <= new[k] <= MAJOR:
                closes_s[k] = np.ceil(max(0.0, green_from_s[k] + min_green_s[k] - at_s))
            ends_s[k] = closes_s[k]
        elif old[k] == OFF:
            ends_s[k] = np.inf if new[k] == OFF else 0.0
        else:
            ends_s[k] = green_until_s[k] - at_s
        if old[k] == YELLOW:
            red_s[k] = np.ceil(max(0.0, since_s[k] + yellow_s - at_s))
        else:
            red_s[k] = closes_s[k] + yellow_s
    last_s = -np.inf  # start of the latest green
    for j in range(links):
        was_green, gets_green = MINOR <= old[j] <= MAJOR, MINOR <= new[j] <= MAJOR
        rises = old[j] == MINOR and new[j] == MAJOR
        opens = (gets_green and not was_green) or (new[j] == OFF and old[j] != OFF)
        if not (rises or opens):
            if was_green and gets_green:
                starts_s[j] = 0.0
            continue
        cleared_s = 0.0
        for i in range(links):
            if pairs[i, j] & MEETS and np.isfinite(ends_s[i]):
                cleared_s = max(cleared_s, np.ceil(ends_s[i] + clear_s[i, j]))
        if opens and np.isfinite(red_s[j]):
            cleared_s = max(cleared_s, red_s[j] + 1.0)  # a yellow ends in red, be it for a second
        starts_s[j] = cleared_s
        last_s = max(last_s, cleared_s)
    if last_s > -np.inf:
        _put_off(old, new, closes_s, red_s, starts_s, pairs, clear_s, yellow_s, last_s)
    moments = np.empty(3 * links + 1)
    count = 1
    moments[0] = 0.0
    for k in range(links):
        for moment_s in (closes_s[k], red_s[k], starts_s[k]):
            if moment_s > 0.0 and np.isfinite(moment_s):
                moments[count] = moment_s
                count += 1
    moments[:count].sort()
    lamps = np.empty((count, links), np.uint8)
    kept = 0
    for n in range(count - 1):
        if moments[n + 1] == moments[n]:
            continue
        _show(moments[n], old, new, closes_s, red_s, starts_s, lamps[kept])
        if kept > 0 and np.all(lamps[kept] == lamps[kept - 1]):
            continue
        moments[kept] = moments[n]
        kept += 1
    moments[kept] = moments[count - 1]
    return moments[: kept + 1], lamps[:kept]


@njit(cache=True)
def _put_off(
    old: NDArray[np.uint8],
    new: NDArray[np.uint8],
    closes_s: NDArray[np.float64],
    red_s: NDArray[np.float64],
    starts_s: NDArray[np.float64],
    pairs: NDArray[np.uint8],
    clear_s: NDArray[np.float64],
    yellow_s: float,
    last_s: float,
) -> None:
    """Let greens run on as far as nothing is delayed: while walkers clear, the traffic beside them drives."""
    links = old.shape[0]
    for i in range(links):
        if not np.isfinite(closes_s[i]) or new[i] == OFF:
            continue
        need_s = np.inf
        for j in range(links):
            if not pairs[i, j] & MEETS or not np.isfinite(starts_s[j]):
                continue
            stays = MINOR <= old[j] <= MAJOR and MINOR <= new[j] <= MAJOR
            if not stays or (old[j] == MINOR and new[j] == MAJOR):
                need_s = min(need_s, starts_s[j] - clear_s[i, j])
        later_s = np.floor(need_s if np.isfinite(need_s) else last_s - yellow_s)
        closes_s[i] = max(closes_s[i], later_s)
        red_s[i] = closes_s[i] + yellow_s


@njit(cache=True)
def _show(
    moment_s: float,
    old: NDArray[np.uint8],
    new: NDArray[np.uint8],
    closes_s: NDArray[np.float64],
    red_s: NDArray[np.float64],
    starts_s: NDArray[np.float64],
    lamps: NDArray[np.uint8],
) -> None:
    """Codes (K,) shown at a moment."""
    for k in range(old.shape[0]):
        code = RED
        if MINOR <= old[k] <= MAJOR and moment_s < closes_s[k]:
            if not MINOR <= new[k] <= MAJOR:
                code = old[k]
            else:
                code = new[k] if moment_s >= starts_s[k] else min(old[k], new[k])
        elif moment_s < red_s[k] and (old[k] == YELLOW or closes_s[k] <= moment_s):
            code = YELLOW
        elif old[k] == OFF and new[k] == OFF:
            code = OFF
        elif moment_s >= starts_s[k]:
            code = new[k]
        elif new[k] == ARROW:
            code = ARROW
        lamps[k] = code
