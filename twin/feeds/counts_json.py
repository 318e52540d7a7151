"""Counts as a JSON list of objects, or an object with one such list, one object a detector and interval.

-> `CountBatch`.
"""

from __future__ import annotations

from networks.errors import MessageError
from networks.messages import Frame, LoopReport
from twin.feeds.base import MALFORMED, Decoded
from twin.feeds.counts import CountAdapter
from twin.feeds.documents import MOST_ROWS, json_of


class CountsJsonAdapter(CountAdapter):
    feed = "counts_json"

    def decode(self, frame: Frame) -> Decoded[LoopReport]:
        document = json_of(frame.payload)
        if isinstance(document, dict):
            lists = [value for value in document.values() if isinstance(value, list)]
            document = lists[0] if len(lists) == 1 else None
        if not isinstance(document, list) or len(document) > MOST_ROWS:
            raise MessageError(MALFORMED, "document: neither a list of readings nor an object with one such list")
        return self._gather(frame, document)
