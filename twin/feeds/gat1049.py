"""Signal states as GA/T 1049.2 has them: CrossSignalGroupStatus in a message's operations -> `SignalStateBatch`.

CrossID, and SignalGroupStatusList of SignalGroupNo and LampStatus, whose three digits are red, yellow and green
(0 no lamp, 1 dark, 2 lit, 3 flashing). The object has no time of its own: the first fourteen digits of the message's
Seq are its sender's local time. Names and codes were taken as `signals.formats.gat1049` says; group = link + 1.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from networks.errors import MessageError
from networks.graph import Network
from networks.messages import Frame
from signals.formats.priorities import with_priorities
from twin.feeds.base import MALFORMED, UNKNOWN_ID, Decoded, Placed
from twin.feeds.documents import child_text, children, local_name, read_each, xml_of
from twin.feeds.signals import LampRow

CHINA_H = 8.0
_NO_PLAN = -1


class CrossReport(NamedTuple):
    """The lamps of one junction."""

    measured_at: float
    cross: str
    lamps: Mapping[int, str]  # by signal group: r, y, u (red and yellow), G, o (flashing yellow), O (dark)


class Gat1049Adapter:
    feed = "gat1049"
    delivers = "signals"
    own_clock = False
    lateness_s = 30.0
    expected_every_s = 10.0
    source_every_s = math.inf

    def __init__(
        self, network: Network, *, crosses: Mapping[str, str] | None = None, zone_h: float = CHINA_H
    ) -> None:
        """`crosses`: the signal of a CrossID, where it is not its name; `zone_h`: the sender's hours east."""
        self._network = network
        self._crosses = dict(crosses or {})
        self._zone = timezone(timedelta(hours=zone_h))

    def decode(self, frame: Frame) -> Decoded[CrossReport]:
        root = xml_of(frame.payload)
        if local_name(root) != "Message":
            raise MessageError(MALFORMED, "Message: not a message of GA/T 1049")
        measured_at = self._sent(child_text(root, "Seq"))
        found = [element for element in root.iter() if local_name(element) == "CrossSignalGroupStatus"]
        reports, rejected = read_each(
            found, "CrossSignalGroupStatus", lambda element, where: _cross(element, measured_at, where), ET.tostring
        )
        return Decoded(reports, rejected, [f"{frame.source}/{report.cross}" for report in reports])

    def place(self, report: CrossReport, received_at_s: float) -> Placed[LampRow]:
        """Raises MessageError when the junction is unknown or one of its groups is not told."""
        network = self._network
        index = network.signal_index.get(self._crosses.get(report.cross, report.cross), -1)
        if index < 0:
            raise MessageError(UNKNOWN_ID, "CrossID: not in this city")
        signal = network.signals[index]
        missing = [link + 1 for link in range(signal.link_count) if link + 1 not in report.lamps]
        if missing:
            raise MessageError(UNKNOWN_ID, f"SignalGroupNo: {missing[0]} of {signal.id!r} is not told")
        opened = [link for link in range(signal.link_count) if report.lamps[link + 1] == "G"]
        green = with_priorities(signal, opened)
        state = "".join(green[k] if k in set(opened) else report.lamps[k + 1] for k in range(signal.link_count))
        return Placed((LampRow(report.measured_at, received_at_s, index, state, _NO_PLAN),))

    def _sent(self, sequence: str) -> float:
        try:
            when = datetime.strptime(sequence[:14], "%Y%m%d%H%M%S").replace(tzinfo=self._zone)
            return when.timestamp()
        except (ValueError, OverflowError):
            raise MessageError(MALFORMED, "Seq: does not begin with a time") from None


def _cross(element: ET.Element, measured_at: float, where: str) -> CrossReport:
    cross = child_text(element, "CrossID")
    if not cross:
        raise MessageError(MALFORMED, f"{where}CrossID: missing")
    lamps: dict[int, str] = {}
    for group in (one for group_list in children(element, "SignalGroupStatusList") for one in group_list):
        number = child_text(group, "SignalGroupNo")
        if not (number.isascii() and number.isdigit() and len(number) < 6):
            raise MessageError(MALFORMED, f"{where}SignalGroupNo: not a number")
        lamps[int(number)] = _lamp(child_text(group, "LampStatus"), f"{where}LampStatus of group {int(number)}")
    if not lamps:
        raise MessageError(MALFORMED, f"{where}SignalGroupStatusList: empty")
    return CrossReport(measured_at, cross[:128], lamps)


def _lamp(code: str, where: str) -> str:
    if len(code) != 3 or not set(code) <= set("0123"):
        raise MessageError(MALFORMED, f"{where}: not three digits from 0 to 3")
    red, yellow, green = code[0], code[1], code[2]
    if green in "23":
        return "G"
    if red in "23":
        return "u" if yellow == "2" else "r"
    if yellow in "23":
        return "y" if yellow == "2" else "o"
    return "O"
