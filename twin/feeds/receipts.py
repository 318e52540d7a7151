"""Controllers' answers to plans -> `Receipt`."""

from __future__ import annotations

import math
from typing import NamedTuple

from networks.errors import MessageError
from networks.graph import Network
from networks.messages import Frame, PlanReceipt
from twin.feeds.base import IMPOSSIBLE, UNKNOWN_ID, Decoded, Placed, decode_message
from twin.feeds.signals import MAX_PLAN_VERSION


class Receipt(NamedTuple):
    """A controller took or refused a plan."""

    measured_at_s: float
    available_at_s: float
    signal: int
    plan_version: int
    accepted: bool
    reason: str


class ReceiptAdapter:
    feed = "receipts"
    delivers = "receipts"
    own_clock = True
    lateness_s = 60.0
    expected_every_s = math.inf
    source_every_s = math.inf

    def __init__(self, network: Network) -> None:
        self._signals = network.signal_index

    def decode(self, frame: Frame) -> Decoded[PlanReceipt]:
        return Decoded((decode_message(PlanReceipt, frame.payload),))

    def place(self, report: PlanReceipt, received_at_s: float) -> Placed[Receipt]:
        """Raises MessageError when the signal is unknown."""
        signal = self._signals.get(report.junction, -1)
        if signal < 0:
            raise MessageError(UNKNOWN_ID, "junction: not in this city")
        if report.plan_version > MAX_PLAN_VERSION:
            raise MessageError(IMPOSSIBLE, "plan_version: beyond any that we issue")
        return Placed(
            (
                Receipt(
                    report.measured_at,
                    received_at_s,
                    signal,
                    report.plan_version,
                    report.accepted,
                    report.reason,
                ),
            )
        )
