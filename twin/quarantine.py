"""What was refused at the border: counted for ever, kept raw for a while."""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple

MAX_PAYLOAD_BYTES = 2048
MAX_NAME_LENGTH = 64
MAX_COUNTERS = 10_000
OTHER = "(other)"


class Refused(NamedTuple):
    """One message, or one part of a message, that was not let in."""

    at_s: float  # when we judged it
    feed: str
    source: str
    reason: str  # stable key
    detail: str  # names the field
    payload: bytes  # the start of it as it came, identities masked


class Quarantine:
    """A ring of the newest refusals and counts of all; bounded whatever comes in."""

    def __init__(self, capacity: int = 5000) -> None:
        self._ring: deque[Refused] = deque(maxlen=capacity)
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._undrained: deque[Refused] = deque(maxlen=capacity)
        self.total = 0

    def add(self, refused: Refused) -> None:
        kept = refused._replace(
            source=refused.source[:MAX_NAME_LENGTH],
            detail=refused.detail[:256],
            payload=refused.payload[:MAX_PAYLOAD_BYTES],
        )
        self._ring.append(kept)
        self._undrained.append(kept)
        key = (kept.feed, kept.source, kept.reason)
        if key not in self._counts and len(self._counts) >= MAX_COUNTERS:
            key = (kept.feed, OTHER, kept.reason)
        self._counts[key] += 1
        self.total += 1

    @property
    def counts(self) -> dict[tuple[str, str, str], int]:
        """Refusals so far by (feed, source, reason); sources beyond a bound are together under "(other)"."""
        return dict(self._counts)

    def count_reasons(self) -> dict[tuple[str, str], int]:
        """Refusals so far by (feed, reason), most frequent first."""
        reasons: Counter[tuple[str, str]] = Counter()
        for (feed, _, reason), count in self._counts.items():
            reasons[feed, reason] += count
        return dict(reasons.most_common())

    def newest(self, count: int = 100) -> tuple[Refused, ...]:
        """The newest refusals, newest last."""
        return tuple(self._ring)[-count:]

    def drain(self) -> tuple[Refused, ...]:
        """What came since the last call, for the store; in a flood the newest of it."""
        drained = tuple(self._undrained)
        self._undrained.clear()
        return drained
