"""Where numbered things were last seen, many at once, in a table with open addressing. Imports numba and numpy."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Keys = NDArray[np.int64]

EMPTY = -1
_PRIME, _STIR = 2_147_483_647, 1_103_515_245  # their product stays within 63 bits


@njit(cache=True)
def _slot_of(key: int, keys: Keys) -> int:
    """The slot of a key, or the empty one where it belongs. `keys` has a power of two slots, one empty at least."""
    mask = len(keys) - 1
    slot = int((key % _PRIME * _STIR >> 12) & mask)
    while keys[slot] != key and keys[slot] != EMPTY:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True)
def _reaches(fix: Floats, at_s: float, x_m: float, y_m: float, speed_mps: float, slack_m: float) -> bool:
    return bool(math.hypot(x_m - fix[1], y_m - fix[2]) <= speed_mps * abs(at_s - fix[0]) + slack_m)


@njit(cache=True)
def believe_fixes(
    key: Keys,
    at_s: Floats,
    x_m: Floats,
    y_m: Floats,
    speed_mps: float,
    slack_m: float,
    keys: Keys,
    known: Floats,
    doubted: Floats,
    believed: NDArray[np.bool_],
) -> int:
    """Judge fixes (N,) one after the other as `twin.feeds.recent.Whereabouts.believes` does; how many keys are new.

    keys      (S,)    the table
    known     (S, 3)  time, x, y of the last believed fix, NaN none
    doubted   (S, 3)  the same of the last doubted one
    believed  (N,)    written
    """
    fresh = 0
    for i in range(len(key)):
        slot = _slot_of(key[i], keys)
        if keys[slot] == EMPTY:
            keys[slot] = key[i]
            known[slot, 0] = doubted[slot, 0] = np.nan
            fresh += 1
        last = known[slot]
        has_last = not math.isnan(last[0])
        if has_last and not _reaches(last, at_s[i], x_m[i], y_m[i], speed_mps, slack_m):
            other = doubted[slot]
            if math.isnan(other[0]) or not _reaches(other, at_s[i], x_m[i], y_m[i], speed_mps, slack_m):
                other[0], other[1], other[2] = at_s[i], x_m[i], y_m[i]
                believed[i] = False
                continue
            other[0] = np.nan
            has_last = False
        if not has_last or at_s[i] >= last[0]:
            last[0], last[1], last[2] = at_s[i], x_m[i], y_m[i]
        believed[i] = True
    return fresh


@njit(cache=True)
def copy_since(
    oldest_s: float, keys: Keys, known: Floats, doubted: Floats, to_keys: Keys, to_known: Floats, to_doubted: Floats
) -> int:
    """Copy what was seen at or after a time into an empty table; how many keys that are."""
    count = 0
    for slot in range(len(keys)):
        if keys[slot] == EMPTY or not (known[slot, 0] >= oldest_s or doubted[slot, 0] >= oldest_s):
            continue
        target = _slot_of(keys[slot], to_keys)
        to_keys[target] = keys[slot]
        to_known[target] = known[slot]
        to_doubted[target] = doubted[slot]
        count += 1
    return count
