"""Signal phase and timing (SPAT, T/CSAE-53): the lamps that a C-V2X roadside unit tells -> `SignalStateBatch`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from networks import day_one
from networks import day_one_kernels as kernels
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
        near_s = day_one.moment_near(frame)
        reports = read_intersections(frame.payload, near_s)
        return Decoded(reports, tellers=[f"{frame.source}/{one.region}/{one.node}" for one in reports])

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


def read_intersections(payload: bytes, near_s: float) -> list[SpatReport]:
    """The intersections of a message. Raises MessageError("malformed")."""
    head = np.zeros(kernels.SPAT_HEAD, np.int64)
    rows = np.zeros((kernels.MOST_INTERSECTIONS, kernels.INTERSECTION_COLUMNS), np.int64)
    phases = np.zeros((kernels.MOST_PHASES, kernels.PHASE_COLUMNS), np.int64)
    count = kernels.read_spat(np.frombuffer(payload, np.uint8), head, rows, phases)
    if count == kernels.EXTENDED:
        return read_by_decoder(payload, near_s)
    if count < 0:
        reason = "cut off" if count == kernels.CUT_OFF else "a component is out of range, or it is another message"
        raise MessageError(MALFORMED, f"message: not a SPAT: {reason}")
    reports: list[SpatReport] = []
    first = 0
    for region, node, minute, second_ms, phase_count in rows[:count].tolist():
        told = phases[first : first + phase_count].tolist()
        first += phase_count
        moments = ((minute, second_ms), (head[kernels.SPAT_MINUTE], head[kernels.SPAT_SECOND_MS]))
        place = None if region == kernels.ABSENT else region
        lamps = {number: _LAMPS[light] if light != kernels.ABSENT else "" for number, light in told}
        reports.append(SpatReport(_moment(moments, near_s), place, node, lamps))
    return reports


def read_by_decoder(payload: bytes, near_s: float) -> list[SpatReport]:
    """The same by the general decoder, which can step over what later releases add."""
    kind, value = day_one.decode(payload)
    if kind != "SPAT":
        raise MessageError(MALFORMED, f"message: {kind}, expected a SPAT")
    try:
        lamps = lamps_of_spat(value)
    except InputError as defect:
        raise MessageError(MALFORMED, str(defect)) from None
    told = {(one["intersectionId"].get("region"), one["intersectionId"]["id"]): one for one in value["intersections"]}
    reports = []
    for (region, node), phases in lamps.items():
        stamps = [
            (part.get("moy", kernels.ABSENT), part.get("timeStamp", kernels.ABSENT))
            for part in (told[region, node], value)
        ]
        reports.append(SpatReport(_moment(stamps, near_s), region, node, phases))
    return reports


def _moment(told: Sequence[tuple[int, int]], near_s: float) -> float:
    """When an intersection's lamps were so: by its own time, else the message's, else when it was sent."""
    for minute, second_ms in told:
        if 0 <= second_ms <= day_one.LAST_MS:
            if 0 <= minute < _NO_MINUTE:
                return day_one.from_minute_of_year(int(minute), int(second_ms), near_s)
            return day_one.nearest_second(int(second_ms), near_s)
    return near_s


_NO_MINUTE = 527_040
_LAMPS = ("", "O", "s", "r", "G", "g", "G", "y", "o")
"""Lamp letter of each LightState, as `signals.formats.spat_csae53` reads them."""
