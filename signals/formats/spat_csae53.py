"""SPAT of the Chinese message set (T/CSAE-53, YD/T 3709), as the value that an ASN.1 codec such as asn1tools takes.

Field names, order, ranges and units after the message modules of release 2019-07 (SignalPhaseAndTiming,
SPATIntersectionState, DefTime): a CHOICE is the pair (name, value), a BIT STRING the pair (bytes, bits), an
ENUMERATED its name; times are tenths of a second from now. Of each light of a phase the present or next appearance
is told (`startTime` 0: now; `likelyEndTime`), and the one after (`nextStartTime`, `nextDuration`), as roadside units
send it. `minEndTime` and `maxEndTime` say what is certain: equal for a fixed plan; where the plan may be replaced,
only the former. 36001 stands for unknown, 36000 for an hour or more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from networks.errors import InputError
from signals.formats.fields import member_of, number_of, rows_of
from signals.formats.spat_times import (
    AHEAD_S,
    Intersection,
    Shown,
    check_count,
    lamps_ahead,
    members_of,
    minute_of_year,
    place_of,
    reference_of,
    status_of,
    sure_end_s,
)
from signals.plan import SignalPlan

LIGHTS: Mapping[str, str] = {
    "G": "protected-green",
    "g": "permissive-green",
    "y": "yellow",
    "Y": "yellow",
    "r": "red",
    "R": "red",
    "u": "red",
    "U": "red",
    "o": "flashing-yellow",
    "O": "dark",
    "s": "flashing-red",
}
_LAMPS: Mapping[str, str] = {
    "protected-green": "G",
    "permissive-green": "g",
    "flashing-green": "G",
    "yellow": "y",
    "red": "r",
    "flashing-yellow": "o",
    "flashing-red": "s",
    "dark": "O",
}
UNKNOWN, AN_HOUR = 36001, 36000
CERTAIN = 200  # Confidence counts half per cents
MOST_PHASES = 16


def to_spat(
    intersections: Sequence[Intersection], *, now_s: float, count: int, sure_until_s: float = math.inf
) -> dict[str, Any]:
    """The value of `SPAT`. Raises InputError for more phases than the message holds, or bad group numbers."""
    check_count(intersections)
    minute, milliseconds = minute_of_year(now_s)
    return {
        "msgCnt": count % 128,
        "moy": minute,
        "timeStamp": milliseconds,
        "intersections": [_intersection(i, now_s, sure_until_s, minute, milliseconds) for i in intersections],
    }


def lamps_of_spat(message: Mapping[str, Any]) -> dict[tuple[int | None, int], dict[int, str]]:
    """The lamp letter that each phase shows now, by (region, node); "" where the message does not know.

    Takes the codec's value or its JSON form (`as_json`). Raises InputError naming the field.
    """
    lamps: dict[tuple[int | None, int], dict[int, str]] = {}
    for n, intersection in enumerate(rows_of(message, "intersections", "SPAT")):
        where = f"intersections.{n}"
        place = place_of(intersection, "intersectionId", where)
        lamps[place] = {
            number_of(phase, "id", f"{where}.phases"): _present(phase, f"{where}.phases")
            for phase in rows_of(intersection, "phases", where)
        }
    return lamps


def state_of_phases(phases: Mapping[int, str], groups: Sequence[int]) -> str:
    """The lamps of a signal from those of its phases. Raises InputError for a phase that is missing or unknown."""
    missing = sorted({g for g in groups if not phases.get(g)})
    if missing:
        raise InputError(f"the message does not say what phase {missing[0]} shows")
    return "".join(phases[g] for g in groups)


def as_json(value: Any) -> Any:
    """A codec's value with pairs as objects: {"counting": {...}}, {"bits": "0400", "n": 16}."""
    if isinstance(value, tuple):
        name, inner = value
        return {"bits": name.hex(), "n": inner} if isinstance(name, bytes) else {name: as_json(inner)}
    if isinstance(value, dict):
        return {key: as_json(inner) for key, inner in value.items()}
    return [as_json(inner) for inner in value] if isinstance(value, list) else value


def _intersection(
    intersection: Intersection, now_s: float, sure_until_s: float, minute: int, milliseconds: int
) -> dict[str, Any]:
    plan, members = intersection.plan, members_of(intersection)
    if not 0 < len(members) <= MOST_PHASES:
        raise InputError(f"{len(members)} phases at {plan.signal_id!r}; one intersection holds 1 to {MOST_PHASES}")
    return {
        "intersectionId": reference_of(intersection),
        "status": status_of(plan, sure_until_s),
        "moy": minute,
        "timeStamp": milliseconds,
        "phases": [
            {"id": group, "phaseStates": _states(plan, lamps_ahead(plan, links, now_s), now_s, sure_until_s)}
            for group, links in members.items()
        ],
    }


def _states(plan: SignalPlan, ahead: Sequence[Shown], now_s: float, sure_until_s: float) -> list[dict[str, Any]]:
    appearances: dict[str, list[Shown]] = {}
    for shown in ahead:
        appearances.setdefault(LIGHTS[shown.lamp], []).append(shown)
    states = []
    for light, times in appearances.items():
        first = times[0]
        sure_s = sure_end_s(first, plan, sure_until_s)
        timing = {"startTime": _mark(max(first.start_s, now_s), now_s)}
        if math.isfinite(sure_s):
            timing["minEndTime"] = _mark(sure_s, now_s)
        if math.isfinite(first.end_s) and first.end_s <= sure_until_s:
            timing["maxEndTime"] = _mark(first.end_s, now_s)
        timing["likelyEndTime"] = _mark(first.end_s, now_s)
        if "maxEndTime" in timing:
            timing["timeConfidence"] = CERTAIN
        if len(times) > 1:
            timing["nextStartTime"] = _mark(times[1].start_s, now_s)
            if math.isfinite(times[1].end_s):
                timing["nextDuration"] = _mark(times[1].end_s, times[1].start_s)
        states.append({"light": light, "timing": ("counting", timing)})
    return states


def _mark(moment_s: float, now_s: float) -> int:
    if not math.isfinite(moment_s):
        return UNKNOWN
    return AN_HOUR if moment_s - now_s >= AHEAD_S else max(0, round(10.0 * (moment_s - now_s)))


def _present(phase: Mapping[str, Any], where: str) -> str:
    """Light that began already; without times the only one."""
    states = rows_of(phase, "phaseStates", where)
    where = f"{where}.phaseStates"
    for state in states:
        light, timing = member_of(state, "light", where), state.get("timing")
        if isinstance(timing, tuple):
            timing = dict([timing])
        timed = isinstance(timing, Mapping) and "counting" in timing
        counting = timing["counting"] if timed else None
        if (timed and number_of(counting, "startTime", f"{where}.counting") == 0) or (not timed and len(states) == 1):
            return _LAMPS.get(str(light), "")
    return ""
