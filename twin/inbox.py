"""The border: frames in, batches out, everything else to quarantine.

A frame passes: known feed, decodes, not a duplicate, not late, not from the future, known ids, possible values.
Event time (`measured_at`) drives order and lateness; `received_at` drives what a cycle may know. A list with some bad
rows keeps the good ones. A device whose clock is off is heard with its times set right. Nothing that comes in raises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from networks.batches import Batches, FeedHealth
from networks.city import Detector
from networks.errors import MessageError
from networks.graph import Network
from networks.messages import Frame
from twin.clock_skew import ClockSkews
from twin.feeds import make_adapters
from twin.feeds.base import MALFORMED, AnyAdapter, Decoded, Placed, Rejected, at_time, find_envelope_defect
from twin.feeds.cap import weather_warnings
from twin.feeds.control import control_notices
from twin.feeds.loops import count_batch
from twin.feeds.receipts import Receipt
from twin.feeds.recent import RecentKeys
from twin.feeds.roadside import track_batch
from twin.feeds.signals import lamp_batch
from twin.feeds.v2x import probe_batch
from twin.feeds.weather import weather_batch
from twin.privacy import Pseudonyms
from twin.quarantine import Quarantine, Refused

MAX_CLOCK_LEAD_S = 2.0
SILENT_AFTER_PAUSES = 3.0
MAX_SOURCES = 20_000
UNKNOWN_FEED = "(unknown)"


@dataclass(slots=True)
class Tally:
    """What came in so far. frames: offered = accepted + refused; rows likewise.

    A frame is accepted when any row of it is, or when it is an honest empty list. A frame refused as a whole counts
    as one refused row, so that `rows_refused` is the number of entries in quarantine.
    """

    frames_offered: int = 0
    frames_accepted: int = 0
    frames_refused: int = 0
    rows_offered: int = 0
    rows_accepted: int = 0
    rows_refused: int = 0


@dataclass(slots=True)
class _Feed:
    adapter: AnyAdapter
    seen: RecentKeys[tuple[str, int, float]]
    tally: Tally
    rows: list[Any]
    blocks: list[NDArray[Any]]  # rows that came as arrays
    last_measured_s: float = math.nan
    last_received_s: float = math.nan


class Inbox:
    """All feeds of one city. `pseudonyms` None: fresh random ones.

    `formats`: adapters for feeds in the formats of others, besides our own; each delivers to one of `FEEDS`.
    """

    def __init__(
        self,
        network: Network,
        detectors: Sequence[Detector],
        *,
        pseudonyms: Pseudonyms | None = None,
        quarantine: Quarantine | None = None,
        formats: Sequence[AnyAdapter] = (),
    ) -> None:
        self.quarantine = quarantine or Quarantine()
        self._pseudonyms = pseudonyms or Pseudonyms()
        native = make_adapters(network, detectors, self._pseudonyms)
        self._feeds = {
            adapter.feed: _Feed(adapter, RecentKeys(3 * adapter.lateness_s), Tally(), [], [])
            for adapter in (*native.values(), *formats)
        }
        self._clocks = ClockSkews()
        self._strays = Tally()
        self._heard_s: dict[tuple[str, str], float] = {}
        self._started_s = math.nan

    def offer(self, frame: Frame, now_s: float) -> bool:
        """Take in one frame; False when all of it went to quarantine. Never raises for what a frame holds."""
        if math.isnan(self._started_s):
            self._started_s = now_s
        feed = self._feeds.get(frame.feed) if isinstance(frame.feed, str) else None
        tally = feed.tally if feed else self._strays
        tally.frames_offered += 1
        try:
            if feed is None:
                raise MessageError("unknown_feed", f"feed: {str(frame.feed)[:40]!r} is none of ours")
            accepted = self._admit(feed, frame, now_s)
        except MessageError as error:
            self._refuse(frame, (Rejected(error.reason, error.detail, b""),), now_s)
            tally.rows_offered += 1
            tally.rows_refused += 1
            accepted = False
        if accepted:
            tally.frames_accepted += 1
        else:
            tally.frames_refused += 1
        return accepted

    def refuse(self, frame: Frame, error: MessageError, now_s: float) -> None:
        """Account for what came in over a line and is not even a frame of one of our feeds."""
        self._strays.frames_offered += 1
        self._strays.frames_refused += 1
        self._strays.rows_offered += 1
        self._strays.rows_refused += 1
        self._refuse(frame, (Rejected(error.reason, error.detail, b""),), now_s)

    def take(self, available_by_s: float) -> Batches:
        """Everything received up to a time and not taken yet, each batch in order of event time."""
        return Batches(
            counts=count_batch(self._take_rows("loops", available_by_s)),
            tracks=track_batch(self._take_rows("roadside", available_by_s), self._take_blocks(available_by_s)),
            probes=probe_batch(self._take_rows("v2x", available_by_s)),
            signals=lamp_batch(self._take_rows("signals", available_by_s)),
            notices=control_notices(self._take_rows("control", available_by_s)),
            weather=weather_batch(self._take_rows("weather", available_by_s)),
            health=self.health(available_by_s),
            warnings=weather_warnings(self._take_rows("warnings", available_by_s)),
        )

    def take_receipts(self, available_by_s: float) -> tuple[Receipt, ...]:
        """Controllers' answers received up to a time and not taken yet."""
        return tuple(self._take_rows("receipts", available_by_s))

    def health(self, now_s: float) -> tuple[FeedHealth, ...]:
        """Every feed: messages accepted, refusals, and for how long it has been silent."""
        return tuple(
            FeedHealth(
                name,
                feed.tally.frames_accepted,
                feed.tally.rows_refused,
                feed.last_measured_s,
                self._silent_s(feed, now_s),
            )
            for name, feed in self._feeds.items()
        )

    def silent_feeds(self, now_s: float) -> tuple[str, ...]:
        """Feeds that have said nothing acceptable for three times their longest honest pause."""
        return tuple(
            name
            for name, feed in self._feeds.items()
            if self._silent_s(feed, now_s) > SILENT_AFTER_PAUSES * feed.adapter.expected_every_s
        )

    def silent_sources(self, now_s: float) -> tuple[tuple[str, str], ...]:
        """(feed, device) of fixed devices once heard that have fallen silent."""
        return tuple(
            key
            for key, heard_s in self._heard_s.items()
            if now_s - heard_s > SILENT_AFTER_PAUSES * self._feeds[key[0]].adapter.source_every_s
        )

    @property
    def clock_skews(self) -> Mapping[tuple[str, str], float]:
        """(feed, device) of those whose clock is off, and the seconds that are being added to their times."""
        return self._clocks.wrong

    @property
    def tallies(self) -> Mapping[str, Tally]:
        """By feed; frames of unknown feeds under "(unknown)"."""
        return {name: feed.tally for name, feed in self._feeds.items()} | {UNKNOWN_FEED: self._strays}

    @property
    def waiting(self) -> int:
        """Rows accepted and not taken yet."""
        return sum(len(f.rows) + sum(len(b) for b in f.blocks) for f in self._feeds.values())

    def _admit(self, feed: _Feed, frame: Frame, now_s: float) -> bool:
        """Raises MessageError for what condemns the whole frame."""
        if defect := find_envelope_defect(frame):
            raise MessageError(MALFORMED, defect)
        decoded = feed.adapter.decode(frame)
        skew_s = 0.0
        if feed.adapter.own_clock:
            skew_s = self._clocks.note(frame.feed, frame.source, frame.sent_at_s, frame.received_at_s)
        if len(decoded.reports) == 1:
            placed = self._place(feed, frame, decoded, 0, skew_s)
            count, rejected = len(placed.rows), (*decoded.rejected, *placed.rejected)
        else:
            count, rejected = self._place_all(feed, frame, decoded, skew_s)
        feed.tally.rows_offered += count + len(rejected)
        feed.tally.rows_accepted += count
        feed.tally.rows_refused += len(rejected)
        if rejected:
            self._refuse(frame, rejected, now_s)
        return bool(count) or not rejected

    def _place_all(
        self, feed: _Feed, frame: Frame, decoded: Decoded[Any], skew_s: float
    ) -> tuple[int, tuple[Rejected, ...]]:
        """Every report of a document; one that cannot be used costs only itself."""
        count, rejected = 0, [*decoded.rejected]
        for number in range(len(decoded.reports)):
            try:
                placed = self._place(feed, frame, decoded, number, skew_s)
            except MessageError as error:
                rejected.append(Rejected(error.reason, error.detail, b""))
            else:
                count += len(placed.rows)
                rejected.extend(placed.rejected)
        return count, tuple(rejected)

    def _place(self, feed: _Feed, frame: Frame, decoded: Decoded[Any], number: int, skew_s: float) -> Placed[Any]:
        """Keep the rows of one report. Raises MessageError for what condemns it."""
        report = decoded.reports[number]
        measured_s: float = report.measured_at
        key = (frame.source, frame.counter, measured_s)
        if decoded.tellers:
            key = (decoded.tellers[number], -1, measured_s)
        if key in feed.seen:
            raise MessageError("duplicate", f"counter: {frame.counter} was here already")
        late_s = frame.received_at_s - measured_s - skew_s
        if late_s > feed.adapter.lateness_s or not feed.seen.covers(measured_s + skew_s):
            raise MessageError("late", f"measured_at: {late_s:.1f} s before it came in")
        if -late_s > MAX_CLOCK_LEAD_S:
            raise MessageError("future", f"measured_at: {-late_s:.1f} s after it came in")
        if skew_s:
            report = at_time(report, measured_s + skew_s)
        placed = feed.adapter.place(report, frame.received_at_s)
        if isinstance(placed.rows, np.ndarray):
            feed.blocks.append(placed.rows)
        else:
            feed.rows.extend(placed.rows)
        if len(placed.rows) or not (placed.rejected or decoded.rejected):
            self._remember(feed, frame, key, measured_s + skew_s)
        return placed

    def _remember(self, feed: _Feed, frame: Frame, key: tuple[str, int, float], measured_s: float) -> None:
        feed.seen.add(key, measured_s)
        feed.last_measured_s = _later(feed.last_measured_s, measured_s)
        feed.last_received_s = _later(feed.last_received_s, frame.received_at_s)
        if math.isfinite(feed.adapter.source_every_s):
            device = (frame.feed, frame.source)
            if device in self._heard_s or len(self._heard_s) < MAX_SOURCES:
                self._heard_s[device] = _later(self._heard_s.get(device, math.nan), frame.received_at_s)

    def _refuse(self, frame: Frame, rejected: Sequence[Rejected], now_s: float) -> None:
        feed = frame.feed if isinstance(frame.feed, str) and frame.feed in self._feeds else UNKNOWN_FEED
        whole = Frame(feed, "", 0, now_s, now_s, b"") if find_envelope_defect(frame) else frame._replace(feed=feed)
        masked = self._pseudonyms.mask(whole)
        for part in rejected:
            self.quarantine.add(
                Refused(now_s, feed, masked.source, part.reason, part.detail, part.payload or masked.payload)
            )

    def _take_rows(self, name: str, available_by_s: float) -> list[Any]:
        due: list[Any] = []
        for feed in self._feeds.values():
            if feed.adapter.delivers == name and feed.rows:
                due += [row for row in feed.rows if row.available_at_s <= available_by_s]
                feed.rows = [row for row in feed.rows if row.available_at_s > available_by_s]
        return sorted(due)

    def _take_blocks(self, available_by_s: float) -> list[NDArray[Any]]:
        due: list[NDArray[Any]] = []
        for feed in self._feeds.values():
            if feed.blocks:
                due += [block for block in feed.blocks if block["available_at_s"][0] <= available_by_s]
                feed.blocks = [block for block in feed.blocks if block["available_at_s"][0] > available_by_s]
        return due

    def _silent_s(self, feed: _Feed, now_s: float) -> float:
        since_s = self._started_s if math.isnan(feed.last_received_s) else feed.last_received_s
        return 0.0 if math.isnan(since_s) else max(0.0, now_s - since_s)


def _later(known_s: float, new_s: float) -> float:
    return new_s if math.isnan(known_s) else max(known_s, new_s)
