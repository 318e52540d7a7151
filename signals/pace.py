"""How often something may happen: a bucket that fills at a steady rate and lets short bursts through."""

from __future__ import annotations


class Pace:
    """At most `burst` at once and `per_s` a second in the long run."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._left, self._at_s = burst, 0.0

    def take(self, now_s: float) -> bool:
        """Whether one more is allowed now; counts it if so. A clock that runs back fills nothing."""
        self._left = min(self._burst, self._left + self._per_s * max(0.0, now_s - self._at_s))
        self._at_s = now_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
