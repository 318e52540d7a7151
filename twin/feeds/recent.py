"""Short memories with an end: keys seen lately, and where moving things were last seen."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from networks.graph import Bools, Floats
from twin.feeds.recent_kernels import EMPTY, believe_fixes, copy_since

K = TypeVar("K", bound=Hashable)

MAX_SPEED_MPS = 70.0
POSITION_SLACK_M = 30.0
"""Noise of two positions together; keeps a fix with some metres of error honest at ten fixes a second."""


class RecentKeys(Generic[K]):
    """Keys of the last `keep_s` seconds of event time, each once.

    The memory follows the newest event time; what lies more than `keep_s` behind it is forgotten.
    """

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._keys: dict[K, float] = {}
        self._order: deque[tuple[float, K]] = deque()
        self._newest_s = -math.inf

    def add(self, key: K, at_s: float) -> bool:
        """Remember a key; False when it was remembered already."""
        if key in self._keys:
            return False
        self._keys[key] = at_s
        self._order.append((at_s, key))
        if at_s > self._newest_s:
            self._newest_s = at_s
            while self._order and self._order[0][0] < at_s - self._keep_s:
                self._keys.pop(self._order.popleft()[1], None)
        return True

    def covers(self, at_s: float) -> bool:
        """A key of that time would still be remembered: its absence means that it is new."""
        return at_s >= self._newest_s - self._keep_s

    def __contains__(self, key: K) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)


class Fix(NamedTuple):
    at_s: float
    x_m: float
    y_m: float

    def reaches(self, other: Fix) -> bool:
        """Something at `self` can be at `other` then, before or after."""
        way_m = math.hypot(other.x_m - self.x_m, other.y_m - self.y_m)
        return way_m <= MAX_SPEED_MPS * abs(other.at_s - self.at_s) + POSITION_SLACK_M


class Whereabouts(Generic[K]):
    """Last believable fix of each moving thing; finds jumps that nothing on a road can make.

    A single wild fix is refused and the next good one accepted; a thing that really is elsewhere (its number given to
    another) is believed at the second fix from there.
    """

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._known: dict[K, Fix] = {}
        self._doubted: dict[K, Fix] = {}
        self._newest_s = -math.inf
        self._swept_s = -math.inf

    def believes(self, key: K, fix: Fix) -> bool:
        last = self._known.get(key)
        if last is not None and not last.reaches(fix):
            doubted = self._doubted.get(key)
            if doubted is None or not doubted.reaches(fix):
                self._doubted[key] = fix
                return False
            del self._doubted[key]
            last = None
        if last is None or fix.at_s >= last.at_s:
            self._known[key] = fix
        if fix.at_s > self._newest_s:
            self._newest_s = fix.at_s
            if fix.at_s > self._swept_s + self._keep_s:
                self._sweep()
        return True

    def _sweep(self) -> None:
        self._swept_s = self._newest_s
        oldest_s = self._newest_s - self._keep_s
        self._known = {key: fix for key, fix in self._known.items() if fix.at_s >= oldest_s}
        self._doubted = {key: fix for key, fix in self._doubted.items() if fix.at_s >= oldest_s}


class NumberedWhereabouts:
    """`Whereabouts` of things with numbers (0 <= n < 2**63), many at a time."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._newest_s = -math.inf
        self._count = 0
        self._keys, self._known, self._doubted = _table(_FIRST_SLOTS)

    def believes(self, key: NDArray[np.int64], at_s: Floats, x_m: Floats, y_m: Floats) -> Bools:
        """Which fixes (N,) are believable, each after those before it."""
        if 2 * (self._count + len(key)) > len(self._keys):
            self._rebuild(len(key))
        believed = np.empty(len(key), np.bool_)
        table = (self._keys, self._known, self._doubted)
        self._count += believe_fixes(key, at_s, x_m, y_m, MAX_SPEED_MPS, POSITION_SLACK_M, *table, believed)
        self._newest_s = max(self._newest_s, float(at_s.max(initial=-math.inf)))
        return believed

    def _rebuild(self, more: int) -> None:
        """Forget what is old; make more room where that is not enough."""
        slots = len(self._keys)
        while True:
            table = _table(slots)
            old = (self._keys, self._known, self._doubted)
            self._count = copy_since(self._newest_s - self._keep_s, *old, *table)
            if 4 * (self._count + more) <= slots:
                self._keys, self._known, self._doubted = table
                return
            slots *= 2


_FIRST_SLOTS = 1 << 12


def _table(slots: int) -> tuple[NDArray[np.int64], Floats, Floats]:
    return np.full(slots, EMPTY, np.int64), np.full((slots, 3), np.nan), np.full((slots, 3), np.nan)
