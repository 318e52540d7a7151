"""Counts as comma-separated values with a header, one row a detector and interval -> `CountBatch`."""

from __future__ import annotations

from networks.messages import Frame, LoopReport
from twin.feeds.base import Decoded
from twin.feeds.counts import CountAdapter
from twin.feeds.documents import table_of


class CountsCsvAdapter(CountAdapter):
    feed = "counts_csv"

    def decode(self, frame: Frame) -> Decoded[LoopReport]:
        return self._gather(frame, table_of(frame.payload, self._fields.columns))
