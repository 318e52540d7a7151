"""SPAT, MAP and RSI for roadside units, each as the frame and topic under which a unit takes it. See `Broadcast`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from networks import day_one
from networks.batches import ControlNotice
from networks.graph import Network
from signals.plan import ApprovedPlan
from twin.numbering import Numbering
from twin.road_messages import MOST_EVENTS, map_value, rsi_value, spat_value


class Sending(NamedTuple):
    topic: str
    payload: bytes


class Broadcast:
    """Tells every unit of the signal at which it stands. Takes only `ApprovedPlan`s."""

    def __init__(self, network: Network, numbering: Numbering, units: Mapping[int, str]) -> None:
        """`units`: the unit's name at each signal that has one."""
        self._network = network
        self._numbering = numbering
        self._units = dict(units)
        self._counts: Counter[tuple[str, str]] = Counter()

    def spat(self, plans: Sequence[ApprovedPlan], now_s: float, *, sure_until_s: float = math.inf) -> list[Sending]:
        """The lamps of signals with a unit; plans that begin later or are over are left out."""
        sendings = []
        for approved in plans:
            plan = approved.plan
            if plan.signal in self._units and plan.valid_from_s <= now_s < plan.valid_until_s:
                unit = self._units[plan.signal]
                value = spat_value(
                    self._network,
                    self._numbering,
                    [plan],
                    now_s=now_s,
                    count=self._next(unit, "SPAT"),
                    sure_until_s=sure_until_s,
                )
                sendings.append(self._send(unit, "SPAT", value, now_s))
        return sendings

    def map(self, now_s: float) -> list[Sending]:
        """The map of every signal with a unit."""
        return [
            self._send(
                unit,
                "MAP",
                map_value(self._network, self._numbering, signal, now_s=now_s, count=self._next(unit, "MAP")),
                now_s,
            )
            for signal, unit in self._units.items()
        ]

    def rsi(self, notices: Sequence[ControlNotice], now_s: float, *, event_type: int) -> list[Sending]:
        """Closures and works, to every unit; `event_type`: the code of GB/T 29100 under which to tell them."""
        current = [n for n in notices if n.end_s > now_s]
        sendings = []
        for unit in self._units.values():
            for first in range(0, len(current), MOST_EVENTS):
                value = rsi_value(
                    self._network,
                    self._numbering,
                    unit,
                    current[first : first + MOST_EVENTS],
                    event_type=event_type,
                    now_s=now_s,
                    count=self._next(unit, "RSI"),
                )
                sendings.append(self._send(unit, "RSI", value, now_s))
        return sendings

    def _next(self, unit: str, kind: str) -> int:
        self._counts[unit, kind] += 1
        return (self._counts[unit, kind] - 1) % 128

    def _send(self, unit: str, kind: str, value: Mapping[str, object], now_s: float) -> Sending:
        message = day_one.encode(kind, dict(value))
        return Sending(day_one.down_topic(kind, unit), day_one.pack_envelope(unit, now_s, kind, [message]))
