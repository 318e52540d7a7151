"""What goes wrong between a device and the twin: spoilt, doubled, late, lost and false messages, by shares."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from typing import Any, Literal

from networks.messages import Frame
from networks.sensors import stable_share
from scenarios.street_terms import Faults

_ID_FIELDS = ("detector", "junction", "edge")
_CLOCKED = ("loops", "roadside", "signals")

Lie = Literal["biased", "stuck", "shuffled"]


class FaultLine:
    """The line from the devices to the twin. `sent` counts frames by feed and faults by kind."""

    def __init__(self, faults: Faults, *, begin_s: float, seed: str) -> None:
        self.sent: Counter[str] = Counter()
        self.liars = Liars(faults.lying_frac, seed)
        self._faults, self._begin_s, self._rng, self._seed = faults, begin_s, random.Random(seed), seed
        self._garbage_due = 0.0

    def carry(self, frame: Frame) -> list[Frame]:
        """The frames that reach the twin of one that was sent: none, one or more."""
        faults, rng = self._faults, self._rng
        self.sent[frame.feed] += 1
        into_s = frame.sent_at_s - self._begin_s
        if faults.silent and any(f == frame.feed and start <= into_s < end for f, start, end in faults.silent):
            self.sent["silenced"] += 1
            return []
        if faults.lying_frac and frame.feed == "loops" and into_s >= faults.lying_from_s:
            frame = self.liars.falsify(frame)
        if faults.skewed_frac and frame.feed in _CLOCKED:
            frame = self._skew(frame)
        if rng.random() < faults.malformed_frac:
            self.sent["malformed"] += 1
            frame = frame._replace(payload=spoil(frame.payload, rng))
        if rng.random() < faults.delayed_frac:
            self.sent["delayed"] += 1
            frame = frame._replace(received_at_s=frame.received_at_s + rng.uniform(1.0, 5.0))
        carried = [frame]
        if rng.random() < faults.duplicate_frac:
            self.sent["duplicate"] += 1
            carried.append(frame._replace(received_at_s=frame.received_at_s + rng.uniform(0.0, 2.0)))
        self._garbage_due += faults.garbage_per_frame
        while self._garbage_due >= 1.0:
            self._garbage_due -= 1.0
            self.sent["garbage"] += 1
            carried.append(nonsense(frame, rng))
        return carried

    def _skew(self, frame: Frame) -> Frame:
        """The same message of a device whose clock may be off."""
        share = stable_share(f"{self._seed}/skew/{frame.feed}/{frame.source}")
        if share >= self._faults.skewed_frac:
            return frame
        self.sent["skewed"] += 1
        off_s = self._faults.skew_s * (1.0 if share < 0.5 * self._faults.skewed_frac else -1.0)
        document = json.loads(frame.payload)
        document["measured_at"] += off_s
        return frame._replace(sent_at_s=frame.sent_at_s + off_s, payload=json.dumps(document).encode())


class Liars:
    """Loops whose reports are well formed and false. `kinds` names those met so far.

    Biased: about half, or about twice, of the vehicles. Stuck: never a vehicle, or always one. Shuffled: what another
    of the shuffled loops measured the second before.
    """

    def __init__(self, share: float, seed: str) -> None:
        self.kinds: dict[str, Lie] = {}
        self._share, self._seed = share, seed
        self._honest: set[str] = set()
        self._owed: Counter[str] = Counter()
        self._last: dict[str, dict[str, Any]] = {}  # of the shuffled: their own honest readings
        self._shuffled: list[str] = []

    def falsify(self, frame: Frame) -> Frame:
        """A loop frame as it arrives."""
        document = json.loads(frame.payload)
        told = [self._told(reading) for reading in document["readings"]]
        return frame._replace(payload=json.dumps({**document, "readings": told}).encode())

    def _told(self, reading: dict[str, Any]) -> dict[str, Any]:
        name: str = reading["detector"]
        if name in self._honest:
            return reading
        kind = self.kinds.get(name) or self._judge(name)
        draw = stable_share(f"{self._seed}/how/{name}")
        match kind:
            case "biased":
                owed = self._owed[name] + reading["count"] * (0.5 if draw < 0.5 else 1.9)
                count = math.floor(owed + 0.5)
                self._owed[name] = owed - count
                return {**reading, "count": max(0, count), "speed_mps": reading["speed_mps"] if count > 0 else None}
            case "stuck":
                return {"detector": name, "count": 0, "occupancy": 0.0 if draw < 0.5 else 1.0, "speed_mps": None}
            case "shuffled":
                self._last[name] = reading
                place = self._shuffled.index(name)
                other = self._last.get(self._shuffled[(place + 1) % len(self._shuffled)], reading)
                return {**other, "detector": name}
        self._honest.add(name)
        return reading

    def _judge(self, name: str) -> Lie | None:
        share = stable_share(f"{self._seed}/liar/{name}")
        if share >= self._share:
            return None
        kind: Lie = ("biased", "stuck", "shuffled")[min(2, int(3.0 * share / self._share))]
        self.kinds[name] = kind
        if kind == "shuffled":
            self._shuffled = sorted(
                [*self._shuffled, name], key=lambda other: stable_share(f"{self._seed}/order/{other}")
            )
        return kind


def nonsense(frame: Frame, rng: random.Random) -> Frame:
    """A frame beside another that nobody may accept."""
    counter = frame.counter + rng.randrange(1, 1 << 40)
    match rng.randrange(4):
        case 0:
            return frame._replace(counter=counter, payload=rng.randbytes(rng.randrange(1, 200)))
        case 1:
            return frame._replace(counter=counter, payload=frame.payload[: rng.randrange(1, len(frame.payload))])
        case 2:
            return frame._replace(feed=f"feed{rng.randrange(100)}", counter=counter)
        case _:
            return frame._replace(counter=counter, payload=b"{}")


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
