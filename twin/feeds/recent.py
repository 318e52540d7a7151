"""Short memories with an end: keys seen lately, and where moving things were last seen."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

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
