"""GA/T 1049.2: plans, stages, signal groups and day plans between a control centre and the signal system, as XML.

The standard's text was not at hand; names, codes and the frame of a message come from implementations published on
GitHub by 2025 (two platforms after the 2013 issue, one after the 2024 issue, and a stored push of the former).
Agreeing in at least two of them: Message/Version, Token, From, To, Type, Seq, Body/Operation; CrossID; PlanNo,
CycleLen, OffSet; StageNo, StageName, Attribute (0 fixed, 1 actuated); LampGroupNo, Direction, Type. 2013 issue:
PlanParam/StageNoList, and Green, RedYellow, Yellow, AllRed in StageParam. 2024 issue: PlanName, CoordStageNo and
StageTimingList/StageTiming (StageNo, Green, Yellow, AllRed, MaxGreen, MinGreen) in PlanParam;
SignalGroupStatusList/SignalGroupStatus (SignalGroupNo, LampStatus: red, yellow, green; 1 dark, 2 lit, 3 flashing) in
StageParam; DayPlanParam/PeriodList/Period (StartTime HH:MM, PlanNo, CtrlMode).

NOT verified: whether OffSet is the start of the coordinated stage after the reference (taken so);
`LampGroupStatusList` (read like SignalGroupStatusList); PhaseNoList of the 2013 issue (taken as signal group
numbers); from one implementation each: LampGroupParam and SignalGroupParam (LampGroup in the 2013 issue), CtrlMode 21
("fixed by time of day"), lamp types 2x and 80. Schedules by weekday, and late starts and early ends of groups
(AdjustList), are not kept; an AdjustList that is not empty is refused.

Ours: signal group = link + 1. The centre knows green, not our G and g, so priorities are set from the network on
reading; and only the standard change of lamps can be said, so other ones come back as the standard one.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from networks.errors import InputError
from networks.graph import Network, Programme, ProgrammePhase, Signal
from signals.formats.book import NamedProgramme, PlanBook, Switch, TimedSignal, Timetable, Written, signal_of
from signals.formats.fields import index_of, number_text, readable, xml_document
from signals.formats.legs import COMPASS, Leg, LinkUse, legs_of, served_text, uses_of
from signals.formats.priorities import with_priorities
from signals.formats.stage_rows import StageRow, phases_of, stage_rows, standard_change_at
from signals.lamps import GREEN

_GREEN_LIT, _RED_LIT = "112", "211"
_FIXED_BY_TIME = "21"
_DAY_S = 86400.0
_LAMP_TYPES = {"through": "21", "left": "22", "right": "23", "u-turn": "80"}
_PLAIN_LAMP, _WALKERS_LAMP, _OTHER_SIDE = "10", "40", "8"


def book_to_gat1049(book: PlanBook, network: Network, *, sent_at: datetime) -> Written:
    """A PUSH message in the 2024 issue's shape. Whole seconds only: InputError where a stage has a fraction."""
    root = ET.Element("Message")
    _text(root, "Version", "2.0")
    _text(root, "Token", "")
    for end, system in (("From", "UTCS"), ("To", "TICP")):
        address = ET.SubElement(ET.SubElement(root, end), "Address")
        for name, value in (("Sys", system), ("SubSys", ""), ("Instance", "")):
            _text(address, name, value)
    _text(root, "Type", "PUSH")
    _text(root, "Seq", f"{sent_at:%Y%m%d%H%M%S}000001")
    operation = ET.SubElement(ET.SubElement(root, "Body"), "Operation", order="1", name="Notify")
    left_out: list[str] = []
    numbers: dict[tuple[str, str], int] = {}
    by_signal: dict[str, list[NamedProgramme]] = defaultdict(list)
    for named in book.programmes:
        by_signal[named.signal_id].append(named)
    for signal_id, members in by_signal.items():
        signal = signal_of(members[0], network)
        legs = legs_of(signal, network)
        uses = uses_of(signal, network, legs)
        _add_lamp_groups(operation, signal, legs, uses)
        wanted = [m.programme.id for m in members]
        for named in members:
            numbers[signal_id, named.programme.id] = _plan_number(named.programme.id, wanted)
            if named.programme.phases:
                left_out += _add_plan(operation, named, numbers[signal_id, named.programme.id], network, legs, uses)
            else:
                left_out.append(f"programme {named.programme.id!r} of signal {signal_id!r}: it shows nothing")
    for timetable in book.timetables:
        left_out += _add_day_plans(operation, timetable, numbers)
    return Written(xml_document(root), tuple(left_out))


def book_from_gat1049(path: Path, network: Network) -> PlanBook:
    """Plans and day plans of a message, or of any XML with PlanParam and StageParam in it.

    Raises InputError naming file, element and field.
    """
    with readable(path):
        root = ET.parse(path).getroot()
    stages: dict[tuple[str, int], ET.Element] = {}
    for element in root.iter("StageParam"):
        where = f"{path}: StageParam"
        stages[_said(element, "CrossID", where), _whole(element, "StageNo", where)] = element
    programmes: list[NamedProgramme] = []
    names: dict[tuple[str, int], str] = {}
    for element in root.iter("PlanParam"):
        cross = _said(element, "CrossID", f"{path}: PlanParam")
        number = _whole(element, "PlanNo", f"{path}: PlanParam {cross!r}")
        where = f"{path}: PlanParam {cross!r} {number}"
        if (cross, number) in names:
            raise InputError(f"{where}: PlanNo: stands there twice")
        names[cross, number] = element.findtext("PlanName") or str(number)
        signal = network.signals[index_of(cross, network.signal_index, f"{where}: CrossID")]
        programmes.append(_programme(element, names[cross, number], signal, stages, where))
    if not programmes:
        raise InputError(f"{path}: holds no PlanParam")
    return PlanBook(tuple(programmes), tuple(_timetable(day, names, path) for day in root.iter("DayPlanParam")))


def _add_lamp_groups(operation: ET.Element, signal: Signal, legs: Sequence[Leg], uses: Sequence[LinkUse]) -> None:
    for use in uses:
        group = ET.SubElement(operation, "LampGroupParam")
        _text(group, "CrossID", signal.id)
        _text(group, "LampGroupNo", str(use.link + 1))
        side = legs[use.leg].name.rstrip("23456789") if use.leg >= 0 else ""
        _text(group, "Direction", str(COMPASS.index(side)) if side in COMPASS else _OTHER_SIDE)
        kind = _WALKERS_LAMP if use.turns == ("walk",) else _PLAIN_LAMP
        if len(use.turns) == 1:
            kind = _LAMP_TYPES.get(use.turns[0], kind)
        _text(group, "Type", kind)
    for use in uses:
        group = ET.SubElement(operation, "SignalGroupParam")
        _text(group, "CrossID", signal.id)
        _text(group, "SignalGroupNo", str(use.link + 1))
        _text(ET.SubElement(group, "LampGroupNoList"), "LampGroupNo", str(use.link + 1))


def _add_plan(
    operation: ET.Element,
    named: NamedProgramme,
    number: int,
    network: Network,
    legs: Sequence[Leg],
    uses: Sequence[LinkUse],
) -> list[str]:
    """StageParams and the PlanParam of one programme; returns what could not be said."""
    programme, signal = named.programme, signal_of(named, network)
    where = f"programme {programme.id!r} of signal {signal.id!r}"
    before_s, rows = stage_rows(programme)
    left_out = []
    for k, row in enumerate(rows):
        stage = ET.SubElement(operation, "StageParam")
        _text(stage, "CrossID", signal.id)
        _text(stage, "StageNo", str(_stage_number(number, k)))
        _text(stage, "StageName", served_text(row.green.state, uses, legs, chinese=True)[:50])
        _text(stage, "Attribute", "0" if programme.kind == "static" else "1")
        statuses = ET.SubElement(stage, "SignalGroupStatusList")
        for link, lamp in enumerate(row.green.state[: signal.link_count]):
            status = ET.SubElement(statuses, "SignalGroupStatus")
            _text(status, "SignalGroupNo", str(link + 1))
            _text(status, "LampStatus", _GREEN_LIT if lamp in GREEN else _RED_LIT)
        opened = [k for k, lamp in enumerate(row.green.state[: signal.link_count]) if lamp in GREEN]
        if with_priorities(signal, opened) != row.green.state[: signal.link_count]:
            left_out.append(f"{where}: who gives way in stage {k + 1}")
        following = rows[(k + 1) % len(rows)].green.state
        if row.change != standard_change_at(row.green.state, following, signal, row.yellow_s, row.all_red_s):
            left_out.append(f"{where}: the lamps between stages {k + 1} and {(k + 1) % len(rows) + 1}")
    plan = ET.SubElement(operation, "PlanParam")
    for name, value in (("CrossID", signal.id), ("PlanNo", str(number)), ("PlanName", programme.id)):
        _text(plan, name, value)
    _text(plan, "CycleLen", _whole_text(programme.cycle_s, f"{where}: cycle"))
    _text(plan, "CoordStageNo", str(_stage_number(number, 0)))
    _text(plan, "OffSet", _whole_text((programme.offset_s + before_s) % programme.cycle_s, f"{where}: offset"))
    timings = ET.SubElement(plan, "StageTimingList")
    for k, row in enumerate(rows):
        timing = ET.SubElement(timings, "StageTiming")
        _text(timing, "StageNo", str(_stage_number(number, k)))
        for name, seconds in (
            ("Green", row.green.duration_s),
            ("Yellow", row.yellow_s),
            ("AllRed", row.all_red_s),
            ("MaxGreen", row.green.max_s),
            ("MinGreen", row.green.min_s),
        ):
            _text(timing, name, _whole_text(seconds, f"{where}: stage {k + 1}: {name}"))
    return left_out


def _add_day_plans(operation: ET.Element, timetable: Timetable, numbers: Mapping[tuple[str, str], int]) -> list[str]:
    switches = timetable.switches
    daily = timetable.period_s in (0.0, _DAY_S) and timetable.reference_s == 0.0
    if not daily or any(not 0.0 <= s.at_s < _DAY_S or s.at_s % 60.0 for s in switches):
        return [f"timetable {timetable.id!r}: no day plan of whole minutes"]
    periods = [(s.at_s, s.programme) for s in sorted(switches, key=lambda s: s.at_s)]
    if not periods or periods[0][0] > 0.0:
        periods.insert(0, (0.0, timetable.start))
    left_out = []
    for timed in timetable.signals:
        day = ET.Element("DayPlanParam")
        _text(day, "CrossID", timed.signal_id)
        _text(day, "DayPlanNo", "1")
        _text(day, "DayPlanName", timetable.id)
        listed = ET.SubElement(day, "PeriodList")
        for at_s, programme in periods:
            period = ET.SubElement(listed, "Period")
            _text(period, "StartTime", f"{int(at_s // 3600):02d}:{int(at_s % 3600 // 60):02d}")
            _text(period, "PlanNo", str(numbers.get((timed.signal_id, programme), 0)))
            _text(period, "CtrlMode", _FIXED_BY_TIME)
        unknown = {p for _, p in periods if (timed.signal_id, p) not in numbers}
        if unknown:
            left_out.append(f"timetable {timetable.id!r} at {timed.signal_id!r}: the file has no {min(unknown)!r}")
            continue
        operation.append(day)
    return left_out


def _programme(
    element: ET.Element, name: str, signal: Signal, stages: Mapping[tuple[str, int], ET.Element], where: str
) -> NamedProgramme:
    timings = element.findall("StageTimingList/StageTiming")
    listed = timings or element.findall("StageNoList/StageNo")
    if not listed:
        raise InputError(f"{where}: StageTimingList: no stage")
    order, rows = [], []
    for k, item in enumerate(listed):
        here = f"{where}: stage {k + 1}"
        number = _whole(item, "StageNo", here) if timings else _as_whole(item.text, f"{here}: StageNo")
        stage = stages.get((signal.id, number))
        if stage is None:
            raise InputError(f"{here}: StageNo: there is no StageParam {number} of {signal.id!r}")
        source = item if timings else stage
        if source.find("AdjustList/*") is not None:
            raise InputError(f"{here}: AdjustList: late starts and early ends are not understood")
        if _whole(source, "RedYellow", here, 0):
            raise InputError(f"{here}: RedYellow: red with yellow is not understood")
        green_s = _whole(source, "Green", here)
        if green_s == 0:
            raise InputError(f"{here}: Green: 0 s")
        least_s, most_s = _whole(source, "MinGreen", here, green_s), _whole(source, "MaxGreen", here, green_s)
        state = with_priorities(signal, _open_groups(stage, signal, here))
        row = (
            ProgrammePhase(state, green_s, least_s, most_s),
            _whole(source, "Yellow", here),
            _whole(source, "AllRed", here, 0),
        )
        order.append(number)
        rows.append(row)
    built = [
        StageRow(
            green, standard_change_at(green.state, rows[(k + 1) % len(rows)][0].state, signal, yellow_s, all_red_s)
        )
        for k, (green, yellow_s, all_red_s) in enumerate(rows)
    ]
    coordinated = _whole(element, "CoordStageNo", where, 0)
    if coordinated and coordinated not in order:
        raise InputError(f"{where}: CoordStageNo: {coordinated} is no stage of the plan")
    ahead = built[: order.index(coordinated)] if coordinated else []
    offset = element.find("OffSet") if element.find("OffSet") is not None else element.find("Offset")
    offset_s = float(_as_whole("0" if offset is None else offset.text, f"{where}: OffSet"))
    offset_s -= sum(p.duration_s for p in phases_of(ahead))
    kind = "static" if all((stages[signal.id, n].findtext("Attribute") or "0") == "0" for n in order) else "actuated"
    programme = Programme(name, kind, offset_s, phases_of(built))
    cycle_s = _whole(element, "CycleLen", where)
    if cycle_s != programme.cycle_s:
        raise InputError(f"{where}: CycleLen: {cycle_s}, but the stages add up to {number_text(programme.cycle_s)} s")
    return NamedProgramme(signal.id, programme)


def _open_groups(stage: ET.Element, signal: Signal, where: str) -> list[int]:
    """Links with green: signal groups are links counted from 1."""
    opened = []
    statuses = stage.findall("SignalGroupStatusList/SignalGroupStatus")
    statuses += stage.findall("LampGroupStatusList/LampGroupStatus")
    for status in statuses:
        name = "SignalGroupNo" if status.tag == "SignalGroupStatus" else "LampGroupNo"
        group, lit = _whole(status, name, where), _said(status, "LampStatus", where)
        if len(lit) != 3 or set(lit) - set("0123"):
            raise InputError(f"{where}: LampStatus: {lit!r} is not three digits from 0 to 3")
        if lit[2] in "23":
            opened.append(group)
    if not statuses:
        opened = [_as_whole(e.text, f"{where}: PhaseNo") for e in stage.findall("PhaseNoList/PhaseNo")]
    for group in opened:
        if not 1 <= group <= signal.link_count:
            raise InputError(f"{where}: signal group {group}: {signal.id!r} has {signal.link_count} links")
    return [group - 1 for group in opened]


def _timetable(day: ET.Element, names: Mapping[tuple[str, int], str], path: Path) -> Timetable:
    cross = _said(day, "CrossID", f"{path}: DayPlanParam")
    where = f"{path}: DayPlanParam {cross!r} {_whole(day, 'DayPlanNo', f'{path}: DayPlanParam {cross!r}')}"
    switches = []
    for period in day.findall("PeriodList/Period"):
        number = _whole(period, "PlanNo", where)
        if (cross, number) not in names:
            raise InputError(f"{where}: PlanNo: there is no plan {number}")
        start = _said(period, "StartTime", where)
        hours, _, minutes = start.partition(":")
        if not (hours.isdecimal() and minutes.isdecimal() and int(hours) < 24 and int(minutes) < 60):
            raise InputError(f"{where}: StartTime: {start!r} is not HH:MM")
        switches.append(Switch(int(hours) * 3600.0 + int(minutes) * 60.0, names[cross, number]))
    if not switches:
        raise InputError(f"{where}: PeriodList: no period")
    switches.sort(key=lambda s: s.at_s)
    name = day.findtext("DayPlanName") or _said(day, "DayPlanNo", where)
    follower = (TimedSignal(cross),)
    return Timetable(f"{name} {cross}", switches[-1].programme, tuple(switches), follower, 0.0, _DAY_S)


def _plan_number(programme: str, wanted: Sequence[str]) -> int:
    """The number a programme has by its name, else one that no name of the signal asks for."""
    if (
        programme.isdecimal()
        and programme.isascii()
        and 0 < int(programme) <= 999
        and str(int(programme)) == programme
    ):
        return int(programme)
    free = [n for n in range(1, 1000) if str(n) not in wanted]
    return free[wanted.index(programme)]


def _stage_number(plan: int, index: int) -> int:
    return plan * 100 + index + 1


def _text(parent: ET.Element, name: str, text: str) -> None:
    ET.SubElement(parent, name).text = text


def _whole_text(seconds: float, where: str) -> str:
    if seconds != int(seconds):
        raise InputError(f"{where}: {seconds} s; GA/T 1049.2 holds whole seconds")
    return str(int(seconds))


def _said(element: ET.Element, name: str, where: str) -> str:
    text = (element.findtext(name) or "").strip()
    if not text:
        raise InputError(f"{where}: {name}: missing")
    return text


def _whole(element: ET.Element, name: str, where: str, default: int | None = None) -> int:
    text = element.findtext(name)
    if default is not None and not (text or "").strip():
        return default
    return _as_whole(text, f"{where}: {name}")


def _as_whole(text: str | None, where: str) -> int:
    text = (text or "").strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 7):
        raise InputError(f"{where}: {text!r} is no whole number")
    return int(text)
