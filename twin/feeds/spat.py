"""Signal phase and timing (SPAT, T/CSAE-53): the lamps that a C-V2X roadside unit tells -> `SignalStateBatch`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from networks import day_one
from networks.errors import InputError, MessageError
from networks.graph import Network, Signal
from networks.messages import Frame
from signals.formats.spat_csae53 import lamps_of_spat
from twin.feeds.base import MALFORMED, UNKNOWN_ID, Decoded, Placed
from twin.feeds.signals import LampRow
from twin.numbering import Numbering

_NO_PLAN = -1  # the message does not say whose plan it is


class SpatReport(NamedTuple):
    """One intersection of a message."""

    measured_at: float
    region: int | None
    node: int
    phases: Mapping[int, str]  # lamp letter of each phase, "" not known


class SpatAdapter:
    feed = "spat"
    delivers = "signals"
    own_clock = True
    lateness_s = 30.0
    expected_every_s = 10.0
    source_every_s = math.inf

    def __init__(self, network: Network, numbering: Numbering) -> None:
        self._numbering = numbering
        self._network = network

    def decode(self, frame: Frame) -> Decoded[SpatReport]:
        kind, value = day_one.decode(frame.payload)
        if kind != "SPAT":
            raise MessageError(MALFORMED, f"message: {kind}, expected a SPAT")
        near_s = day_one.moment_near(frame)
        try:
            lamps = lamps_of_spat(value)
        except InputError as defect:
            raise MessageError(MALFORMED, str(defect)) from None
        reports, tellers = [], []
        for intersection, ((region, node), phases) in zip(value["intersections"], lamps.items(), strict=False):
            reports.append(SpatReport(_moment(intersection, value, near_s), region, node, phases))
            tellers.append(f"{frame.source}/{region}/{node}")
        return Decoded(reports, tellers=tellers)

    def place(self, report: SpatReport, received_at_s: float) -> Placed[LampRow]:
        """Raises MessageError when the intersection is not ours or one of its phases is not told."""
        signal = self._numbering.signal_of.get((report.region, report.node), -1)
        if signal < 0:
            raise MessageError(UNKNOWN_ID, f"intersectionId: {report.region}/{report.node} is not in this city")
        state = complete_state(self._network.signals[signal], self._numbering.signals[signal].groups, report.phases)
        return Placed((LampRow(report.measured_at, received_at_s, signal, state, _NO_PLAN),))


def complete_state(signal: Signal, groups: Sequence[int], phases: Mapping[int, str]) -> str:
    """The lamps of all links of a signal (K,) from the phases that a message tells.

    A link without a phase of its own (walkers, mostly) shows what it shows in every shipped phase that agrees with
    all links told. Raises MessageError where a phase that should be told is not, or where that is not one lamp.
    """
    told = [phases.get(group, "") if group else "" for group in groups]
    missing = sorted({group for group, lamp in zip(groups, told, strict=True) if group and not lamp})
    if missing:
        raise MessageError(UNKNOWN_ID, f"phases of {signal.id}: phase {missing[0]} is not told")
    if all(told):
        return "".join(told)
    fitting = [
        phase.state
        for programme in signal.programmes
        for phase in programme.phases
        if all(not lamp or lamp.upper() == shown.upper() for lamp, shown in zip(told, phase.state, strict=True))
    ]
    state = ""
    for link, lamp in enumerate(told):
        shown = {lamp} if lamp else {one[link] for one in fitting}
        if len(shown) != 1:
            raise MessageError(UNKNOWN_ID, f"phases of {signal.id}: the message does not say what link {link} shows")
        state += shown.pop()
    return state


def _moment(intersection: Mapping[str, object], message: Mapping[str, object], near_s: float) -> float:
    """When an intersection's lamps were so: by its own time, else the message's, else when it was sent."""
    for told in (intersection, message):
        minute, second_ms = told.get("moy"), told.get("timeStamp")
        if isinstance(second_ms, int) and second_ms <= day_one.LAST_MS:
            if isinstance(minute, int) and minute < _NO_MINUTE:
                return day_one.from_minute_of_year(minute, second_ms, near_s)
            return day_one.nearest_second(second_ms, near_s)
    return near_s


_NO_MINUTE = 527_040
