"""Signal controllers: the lamps that one shows -> `SignalStateBatch`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from networks.batches import SignalStateBatch
from networks.errors import MessageError
from networks.graph import Network
from networks.messages import Frame, SignalReport
from twin.feeds.base import IMPOSSIBLE, UNKNOWN_ID, Decoded, Placed, decode_message

MAX_PLAN_VERSION = 2**62


class LampRow(NamedTuple):
    measured_at_s: float
    available_at_s: float
    signal: int
    state: str
    plan_version: int


class LampAdapter:
    feed = "signals"
    delivers = "signals"
    own_clock = True
    lateness_s = 30.0
    expected_every_s = 10.0
    source_every_s = math.inf

    def __init__(self, network: Network) -> None:
        self._signals = network.signal_index
        self._link_count = [signal.link_count for signal in network.signals]

    def decode(self, frame: Frame) -> Decoded[SignalReport]:
        return Decoded((decode_message(SignalReport, frame.payload),))

    def place(self, report: SignalReport, received_at_s: float) -> Placed[LampRow]:
        """Raises MessageError when the signal is unknown or has another number of lamps."""
        signal = self._signals.get(report.junction, -1)
        if signal < 0:
            raise MessageError(UNKNOWN_ID, "junction: not in this city")
        if len(report.state) != self._link_count[signal]:
            raise MessageError(
                IMPOSSIBLE, f"state: {len(report.state)} lamps, the signal has {self._link_count[signal]}"
            )
        if report.plan_version > MAX_PLAN_VERSION:
            raise MessageError(IMPOSSIBLE, "plan_version: beyond any that we issue")
        return Placed((LampRow(report.measured_at, received_at_s, signal, report.state, report.plan_version),))


def lamp_batch(rows: Sequence[LampRow]) -> SignalStateBatch:
    measured, available, signal, state, version = zip(*rows, strict=True) if rows else ((),) * len(LampRow._fields)
    return SignalStateBatch(
        signal=np.array(signal, np.int32),
        state=tuple(state),
        plan_version=np.array(version, np.int64),
        measured_at_s=np.array(measured, float),
        available_at_s=np.array(available, float),
    )
