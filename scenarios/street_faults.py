"""What goes wrong between a device and the twin: spoilt, doubled, late and lost messages, by declared shares."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

from networks.messages import Frame
from scenarios.street_terms import Faults

_ID_FIELDS = ("detector", "junction", "edge")


class FaultLine:
    """The line from the devices to the twin. `sent` counts frames by feed and faults by kind."""

    def __init__(self, faults: Faults, *, begin_s: float, seed: str) -> None:
        self.sent: Counter[str] = Counter()
        self._faults, self._begin_s, self._rng = faults, begin_s, random.Random(seed)

    def carry(self, frame: Frame) -> list[Frame]:
        """The frames that reach the twin of one that was sent: none, one or two."""
        faults, rng = self._faults, self._rng
        self.sent[frame.feed] += 1
        into_s = frame.sent_at_s - self._begin_s
        if faults.silent and any(f == frame.feed and start <= into_s < end for f, start, end in faults.silent):
            self.sent["silenced"] += 1
            return []
        if rng.random() < faults.malformed_frac:
            self.sent["malformed"] += 1
            frame = frame._replace(payload=spoil(frame.payload, rng))
        if rng.random() < faults.delayed_frac:
            self.sent["delayed"] += 1
            frame = frame._replace(received_at_s=frame.received_at_s + rng.uniform(1.0, 5.0))
        if rng.random() < faults.duplicate_frac:
            self.sent["duplicate"] += 1
            return [frame, frame._replace(received_at_s=frame.received_at_s + rng.uniform(0.0, 2.0))]
        return [frame]


def spoil(payload: bytes, rng: random.Random) -> bytes:
    """A payload that no adapter may accept: cut, wrongly typed, not a number, from the future, of unknown ids."""
    document = json.loads(payload)
    match rng.randrange(5):
        case 0:
            return payload[: max(1, len(payload) // 2)]
        case 1:
            document["measured_at"] = "yesterday"
        case 2:
            document["measured_at"] = float("nan")
        case 3:
            document["measured_at"] += 86400.0
        case _:
            if not _estrange(document):
                document["surprise"] = 1
    return json.dumps(document).encode()


def _estrange(document: Any) -> bool:
    """Replace the first identity found by one that no city holds."""
    found = next((f for f in _ID_FIELDS if isinstance(document.get(f), str)), None)
    if found:
        document[found] = "nowhere-at-all"
        return True
    return any(_estrange(reading) for reading in document.get("readings", [])[:1])
