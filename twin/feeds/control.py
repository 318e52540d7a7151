"""The control centre: closures and works -> `ControlNotice`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from networks.batches import ControlNotice
from networks.errors import MessageError
from networks.graph import Network
from networks.messages import Frame, NoticeReport
from twin.feeds.base import IMPOSSIBLE, UNKNOWN_ID, Decoded, Placed, decode_message


class NoticeRow(NamedTuple):
    measured_at_s: float
    available_at_s: float
    id: str
    edge: int
    lanes: tuple[int, ...]
    begin_s: float
    end_s: float
    speed_limit_mps: float


class NoticeAdapter:
    feed = "control"
    delivers = "control"
    own_clock = False
    lateness_s = 3600.0
    expected_every_s = math.inf
    source_every_s = math.inf

    def __init__(self, network: Network) -> None:
        self._edges = network.edge_index
        self._first_lane = network.edges.first_lane

    def decode(self, frame: Frame) -> Decoded[NoticeReport]:
        return Decoded((decode_message(NoticeReport, frame.payload),))

    def place(self, report: NoticeReport, received_at_s: float) -> Placed[NoticeRow]:
        """Raises MessageError when the edge or a lane is unknown or the notice ends before it begins."""
        edge = self._edges.get(report.edge, -1)
        if edge < 0:
            raise MessageError(UNKNOWN_ID, "edge: not in this city")
        first, end = int(self._first_lane[edge]), int(self._first_lane[edge + 1])
        if any(not 0 <= position < end - first for position in report.lanes):
            raise MessageError(UNKNOWN_ID, f"lanes: the edge has lanes 0..{end - first - 1}")
        if report.end <= report.begin:
            raise MessageError(IMPOSSIBLE, "end: not after begin")
        row = NoticeRow(
            report.measured_at,
            received_at_s,
            report.id,
            edge,
            tuple(sorted({first + position for position in report.lanes})),
            report.begin,
            report.end,
            math.nan if report.speed_limit_mps is None else report.speed_limit_mps,
        )
        return Placed((row,))


def control_notices(rows: Sequence[NoticeRow]) -> tuple[ControlNotice, ...]:
    return tuple(
        ControlNotice(
            id=row.id,
            edge=row.edge,
            lanes=row.lanes,
            speed_limit_mps=row.speed_limit_mps,
            begin_s=row.begin_s,
            end_s=row.end_s,
            available_at_s=row.available_at_s,
        )
        for row in rows
    )
