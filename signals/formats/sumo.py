"""SUMO's programmes (tlLogic) and timetables (WAUT), of a network or an additional file.

SUMO holds cyclic programmes only, so a rolling plan can be written as JSON but not as tlLogic. SUMO's clock counts
from its own second 0; `epoch_of_zero_s` is the epoch of that second. Parameters of actuated programmes (`param`
children, detectors), names of phases, phases that no jump (`next`) leads to, and all but the first of several
followers of a phase are not kept. Formats: SUMO documentation, "Simulation/Traffic Lights".
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from networks.errors import InputError
from networks.graph import Programme, ProgrammePhase
from networks.readers.phase_jumps import shown_cycle
from networks.readers.sumo_xml import read_seconds
from signals.formats.book import NamedProgramme, PlanBook, Switch, TimedSignal, Timetable, Written
from signals.formats.fields import (
    LONGEST_S,
    check_state,
    index_of,
    iterate_xml,
    number_text,
    seconds_of,
    xml_document,
)
from signals.plan import LampStep, SignalPlan

_DONE_WITH = {"tlLogic", "edge", "junction", "connection", "vehicle", "person", "WAUT"}  # emptied to save memory


def book_from_sumo(path: Path) -> PlanBook:
    """Programmes in the order of the file, and timetables. Raises InputError naming file, element and field."""
    programmes: list[NamedProgramme] = []
    timetables: dict[str, Timetable] = {}
    followers: defaultdict[str, list[TimedSignal]] = defaultdict(list)
    root = ""
    for element in iterate_xml(path):
        root = element.tag
        match element.tag:
            case "tlLogic":
                programmes.append(_programme(element, f"{path}: tlLogic {_get(element, 'id', str(path))!r}"))
            case "WAUT":
                timetable = _timetable(element, f"{path}: WAUT {_get(element, 'id', str(path))!r}")
                if timetable.id in timetables:
                    raise InputError(f"{path}: WAUT {timetable.id!r} stands there twice")
                timetables[timetable.id] = timetable
            case "wautJunction":
                where = f"{path}: wautJunction"
                follower = TimedSignal(
                    _get(element, "junctionID", where),
                    element.get("procedure", ""),
                    element.get("synchron", "false").lower() in ("true", "1", "t", "yes"),
                )
                followers[_get(element, "wautID", where)].append(follower)
        if element.tag in _DONE_WITH:
            element.clear()
    if root not in ("additional", "net", "tlLogics", "add"):
        raise InputError(f"{path}: <{root}> is neither a SUMO network nor an additional file")
    unknown = sorted(followers.keys() - timetables.keys())
    if unknown:
        raise InputError(f"{path}: wautJunction: there is no WAUT {unknown[0]!r}")
    (signal, programme), count = max(
        Counter((p.signal_id, p.programme.id) for p in programmes).items(), key=lambda c: c[1], default=(("", ""), 0)
    )
    if count > 1:
        raise InputError(f"{path}: programme {programme!r} of signal {signal!r} stands there twice")
    return PlanBook(
        tuple(programmes),
        tuple(
            Timetable(t.id, t.start, t.switches, tuple(followers[t.id]), t.reference_s, t.period_s)
            for t in timetables.values()
        ),
    )


def book_to_sumo(book: PlanBook) -> Written:
    """An additional file. SUMO loads it beside a net that has no programme of the same signal and name."""
    root = ET.Element("additional")
    for named in book.programmes:
        _add_logic(root, named)
    for timetable in book.timetables:
        attributes = {"id": timetable.id, "refTime": number_text(timetable.reference_s), "startProg": timetable.start}
        if timetable.period_s:
            attributes["period"] = number_text(timetable.period_s)
        element = ET.SubElement(root, "WAUT", attributes)
        for switch in timetable.switches:
            ET.SubElement(element, "wautSwitch", time=number_text(switch.at_s), to=switch.programme)
        for timed in timetable.signals:
            follower = {"wautID": timetable.id, "junctionID": timed.signal_id}
            if timed.procedure:
                follower["procedure"] = timed.procedure
            if timed.synchron:
                follower["synchron"] = "true"
            ET.SubElement(root, "wautJunction", follower)
    return Written(xml_document(root))


def to_sumo(plans: Sequence[SignalPlan], *, epoch_of_zero_s: float, programme: str = "citytwin") -> str:
    """A SUMO additional file of static programmes. Raises InputError for a plan that does not repeat."""
    root = ET.Element("additional")
    for plan in plans:
        if not plan.repeats:
            raise InputError(f"plan of signal {plan.signal_id} runs once; a tlLogic repeats")
        phases = tuple(ProgrammePhase(s.state, s.duration_s, s.duration_s, s.duration_s) for s in plan.steps)
        offset_s = (plan.offset_s - epoch_of_zero_s) % plan.cycle_s
        _add_logic(root, NamedProgramme(plan.signal_id, Programme(programme, "static", offset_s, phases)))
    return xml_document(root)


def from_sumo(path: Path, signal_index: Mapping[str, int], *, epoch_of_zero_s: float) -> tuple[SignalPlan, ...]:
    """Cyclic plans of every tlLogic in a SUMO file, on their stated durations.

    Raises InputError naming the file and the element.
    """
    return tuple(
        _plan(path, named, signal_index, epoch_of_zero_s=epoch_of_zero_s) for named in book_from_sumo(path).programmes
    )


def _plan(
    path: Path, named: NamedProgramme, signal_index: Mapping[str, int], *, epoch_of_zero_s: float
) -> SignalPlan:
    programme = named.programme
    if not programme.phases:
        raise InputError(f"{path}: tlLogic {named.signal_id!r} programme {programme.id!r} has no phases")
    return SignalPlan(
        signal=index_of(named.signal_id, signal_index),
        signal_id=named.signal_id,
        steps=tuple(LampStep(p.state, p.duration_s) for p in programme.phases),
        valid_from_s=epoch_of_zero_s,
        valid_until_s=float("inf"),
        repeats=True,
        offset_s=epoch_of_zero_s + programme.offset_s,
        source="file",
        reason=f"programme {programme.id}",
    )


def _add_logic(root: ET.Element, named: NamedProgramme) -> None:
    programme = named.programme
    logic = ET.SubElement(
        root,
        "tlLogic",
        id=named.signal_id,
        type=programme.kind,
        programID=programme.id,
        offset=number_text(programme.offset_s),
    )
    for phase in programme.phases:
        attributes = {"duration": number_text(phase.duration_s), "state": phase.state}
        if phase.min_s != phase.duration_s or phase.max_s != phase.duration_s:
            attributes |= {"minDur": number_text(phase.min_s), "maxDur": number_text(phase.max_s)}
        ET.SubElement(logic, "phase", attributes)


def _programme(logic: ET.Element, where: str) -> NamedProgramme:
    programme = _get(logic, "programID", where)
    where = f"{where} programme {programme!r}"
    elements = logic.findall("phase")
    phases = [_phase(element, f"{where} phase {n}") for n, element in enumerate(elements)]
    for n, phase in enumerate(phases):
        if len(phase.state) != len(phases[0].state):
            raise InputError(f"{where} phase {n}: state has {len(phase.state)} lamps, phase 0 {len(phases[0].state)}")
    offset_s = _time(logic, "offset", where, "0")
    try:
        order, offset_s = shown_cycle([p.duration_s for p in phases], [e.get("next") for e in elements], offset_s)
    except ValueError as defect:
        raise InputError(f"{where} {defect}") from defect
    shown = tuple(phases[n] for n in order)
    return NamedProgramme(logic.attrib["id"], Programme(programme, logic.get("type", "static"), offset_s, shown))


def _phase(element: ET.Element, where: str) -> ProgrammePhase:
    state = check_state(element.get("state"), f"{where}: state")
    duration_s = _time(element, "duration", where)
    least_s = _time(element, "minDur", where, element.get("duration"))
    most_s = _time(element, "maxDur", where, element.get("duration"))
    if not duration_s > 0.0 or least_s < 0.0 or most_s < least_s:
        raise InputError(f"{where}: duration {duration_s} (minDur {least_s}, maxDur {most_s}) makes no phase")
    return ProgrammePhase(state, duration_s, least_s, most_s)


def _timetable(element: ET.Element, where: str) -> Timetable:
    switches = tuple(
        Switch(_time(s, "time", f"{where} wautSwitch {n}"), _get(s, "to", f"{where} wautSwitch {n}"))
        for n, s in enumerate(element.findall("wautSwitch"))
    )
    return Timetable(
        element.attrib["id"],
        _get(element, "startProg", where),
        switches,
        (),
        _time(element, "refTime", where, "0"),
        _time(element, "period", where, "0"),
    )


def _get(element: ET.Element, name: str, where: str) -> str:
    value = element.get(name)
    if value is None:
        raise InputError(f"{where}: <{element.tag}> lacks the attribute {name!r}")
    return value


def _time(element: ET.Element, name: str, where: str, default: str | None = None) -> float:
    """Seconds, also as [days:]hours:minutes:seconds."""
    text = element.get(name, default)
    if text is None:
        raise InputError(f"{where}: lacks the attribute {name!r}")
    moment_s = read_seconds(text)
    if moment_s is None:
        raise InputError(f"{where}: {name}: {text!r} is no time")
    return seconds_of(repr(moment_s), f"{where}: {name}", least_s=-LONGEST_S * 100, most_s=LONGEST_S * 100)
