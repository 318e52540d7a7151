"""A recorded log through the same inbox as the street, with time taken from the log."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from networks.batches import Batches
from networks.city import Detector
from networks.graph import Network
from networks.messages import FEEDS, FORMATS, Frame
from twin.feed_declarations import Declaration, make_formats
from twin.feeds.receipts import Receipt
from twin.inbox import UNKNOWN_FEED, Inbox
from twin.privacy import Pseudonyms
from twin.recorder import LogHeader, Recording

LONGEST_GAP_S = 3600.0
"""A longer pause in the log is passed over instead of being lived through cycle by cycle."""

_SECRET = b"replay"  # of a log that holds pseudonyms already; the same every time, so that two replays agree


class ReplayedCycle(NamedTuple):
    now_s: float
    batches: Batches
    receipts: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """What is in a log, and, when its city is at hand, what the inbox makes of it."""

    header: LogHeader
    frames: dict[str, int]  # by feed
    first_received_s: float  # NaN: empty
    last_received_s: float
    damage: tuple[str, ...]
    accepted: dict[str, int] | None  # messages by feed; None: not judged
    refused: dict[tuple[str, str], int]  # messages and rows by feed and reason
    fingerprint: str  # of everything that came out of the inbox, "" when not judged


def replay(frames: Iterable[Frame], inbox: Inbox, *, cycle_s: float) -> Iterator[ReplayedCycle]:
    """Offer frames in their order and take a batch at every multiple of `cycle_s`, as the live loop would."""
    now_s = math.nan
    for frame in frames:
        if math.isnan(now_s):
            now_s = _next_multiple(frame.received_at_s, cycle_s)
        while frame.received_at_s > now_s:
            yield ReplayedCycle(now_s, inbox.take(now_s), inbox.take_receipts(now_s))
            gap = frame.received_at_s - now_s > LONGEST_GAP_S
            now_s = _next_multiple(frame.received_at_s, cycle_s) if gap else now_s + cycle_s
        inbox.offer(frame, now_s)
    if not math.isnan(now_s):
        yield ReplayedCycle(now_s, inbox.take(now_s), inbox.take_receipts(now_s))


def survey(
    path: Path,
    *,
    network: Network | None = None,
    detectors: Sequence[Detector] = (),
    cycle_s: float = 5.0,
    declared: Sequence[Declaration] = (),
) -> Survey:
    """Read a whole log; `declared`: feeds in others' formats. Raises InputError when there is none at `path`."""
    recording = Recording(path)
    counted = _Counted(recording)
    accepted: dict[str, int] | None = None
    refused: dict[tuple[str, str], int] = {}
    digest = hashlib.blake2b(digest_size=16)
    if network is None:
        for _ in counted:
            pass
    else:
        names = Pseudonyms(_SECRET)
        formats = make_formats(declared, network, detectors, names)
        inbox = Inbox(network, detectors, pseudonyms=names, formats=formats)
        for cycle in replay(counted, inbox, cycle_s=cycle_s):
            _digest_cycle(digest, cycle)
        accepted = {feed: tally.frames_accepted for feed, tally in inbox.tallies.items() if tally.frames_offered}
        refused = inbox.quarantine.count_reasons()
    return Survey(
        header=recording.header,
        frames=dict(counted.frames),
        first_received_s=counted.first_s,
        last_received_s=counted.last_s,
        damage=tuple(recording.damage),
        accepted=accepted,
        refused=refused,
        fingerprint=digest.hexdigest() if network is not None else "",
    )


class _Counted:
    """Frames passing by, counted."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        self._frames = frames
        self.frames: Counter[str] = Counter()
        self.first_s = self.last_s = math.nan

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._frames:
            self.frames[frame.feed if frame.feed in FEEDS or frame.feed in FORMATS else UNKNOWN_FEED] += 1
            self.first_s = min(frame.received_at_s, self.first_s) if self.frames.total() > 1 else frame.received_at_s
            self.last_s = max(frame.received_at_s, self.last_s) if self.frames.total() > 1 else frame.received_at_s
            yield frame


def _digest_cycle(digest: hashlib.blake2b, cycle: ReplayedCycle) -> None:
    digest.update(repr((cycle.now_s, cycle.receipts, cycle.batches.notices)).encode())
    if cycle.batches.warnings:
        digest.update(repr(cycle.batches.warnings).encode())
    for field in fields(cycle.batches):
        batch: Any = getattr(cycle.batches, field.name)
        if is_dataclass(batch):
            for column in fields(batch):
                values = getattr(batch, column.name)
                digest.update(values.tobytes() if isinstance(values, np.ndarray) else repr(values).encode())


def _next_multiple(time_s: float, step_s: float) -> float:
    return math.ceil(time_s / step_s) * step_s
