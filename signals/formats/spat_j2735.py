"""SPAT of SAE J2735, as the value that an ASN.1 codec such as asn1tools takes.

After the published descriptions of J2735 (2016 and later; the standard itself was not at hand): SPAT,
IntersectionState, MovementState, MovementEvent, TimeChangeDetails; `eventState` names MovementPhaseState. Times are
tenths of a second of the present UTC hour; 36001: unknown, 36000: more than an hour ahead. The present event comes
first, then those known.
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
from signals.lamps import GREEN, YELLOW
from signals.plan import SignalPlan

STATES: Mapping[str, str] = {
    "G": "protected-Movement-Allowed",
    "g": "permissive-Movement-Allowed",
    "r": "stop-And-Remain",
    "R": "stop-And-Remain",
    "u": "pre-Movement",
    "U": "pre-Movement",
    "o": "caution-Conflicting-Traffic",
    "O": "dark",
    "s": "stop-Then-Proceed",
}
_LAMPS = {state: lamp for lamp, state in STATES.items() if lamp not in "RU"} | {
    "protected-clearance": "y",
    "permissive-clearance": "y",
}
UNKNOWN, BEYOND = 36001, 36000
MOST_EVENTS = 4  # the present one and what comes next


def to_spat(
    intersections: Sequence[Intersection], *, now_s: float, revision: int, sure_until_s: float = math.inf
) -> dict[str, Any]:
    """The value of `SPAT`. Raises InputError for counts or group numbers that the message cannot hold."""
    check_count(intersections)
    minute, milliseconds = minute_of_year(now_s)
    return {
        "timeStamp": minute,
        "intersections": [
            {
                "id": reference_of(i),
                "revision": revision % 128,
                "status": status_of(i.plan, sure_until_s),
                "moy": minute,
                "timeStamp": milliseconds,
                "states": [
                    {
                        "signalGroup": _group(group),
                        "state-time-speed": _events(i.plan, lamps_ahead(i.plan, links, now_s), now_s, sure_until_s),
                    }
                    for group, links in members_of(i).items()
                ],
            }
            for i in intersections
        ],
    }


def lamps_of_spat(message: Mapping[str, Any]) -> dict[tuple[int | None, int], dict[int, str]]:
    """The lamp letter that each signal group shows now, by (region, node); "" where the message does not know.

    Raises InputError naming the field.
    """
    lamps: dict[tuple[int | None, int], dict[int, str]] = {}
    for n, intersection in enumerate(rows_of(message, "intersections", "SPAT")):
        where = f"intersections.{n}"
        groups = lamps[place_of(intersection, "id", where)] = {}
        for movement in rows_of(intersection, "states", where):
            events = rows_of(movement, "state-time-speed", f"{where}.states")
            state = member_of(events[0], "eventState", f"{where}.states.state-time-speed")
            groups[number_of(movement, "signalGroup", f"{where}.states")] = _LAMPS.get(str(state), "")
    return lamps


def _events(plan: SignalPlan, ahead: Sequence[Shown], now_s: float, sure_until_s: float) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for n, shown in enumerate(ahead[:MOST_EVENTS]):
        sure_s = sure_end_s(shown, plan, sure_until_s)
        timing: dict[str, int] = {} if n == 0 else {"startTime": _mark(shown.start_s, now_s)}
        timing["minEndTime"] = _mark(sure_s, now_s)
        if math.isfinite(shown.end_s):
            if shown.end_s <= sure_until_s:
                timing["maxEndTime"] = _mark(shown.end_s, now_s)
            timing["likelyTime"] = _mark(shown.end_s, now_s)
        green = next((later for later in ahead[n + 1 :] if later.lamp in GREEN), None)
        if green is not None and shown.lamp not in GREEN:
            timing["nextTime"] = _mark(green.start_s, now_s)
        events.append({"eventState": _state(ahead, n), "timing": timing})
    return events


def _state(ahead: Sequence[Shown], n: int) -> str:
    """A yellow clears what was green before it; the first one as its next green."""
    lamp = ahead[n].lamp
    if lamp not in YELLOW:
        return STATES[lamp]
    near = [shown.lamp for shown in (*reversed(ahead[:n]), *ahead[n + 1 :]) if shown.lamp in GREEN]
    return "permissive-clearance" if near and near[0] == "g" else "protected-clearance"


def _group(number: int) -> int:
    if number > 254:
        raise InputError(f"signal group {number} is reserved in J2735")
    return number


def _mark(moment_s: float, now_s: float) -> int:
    if not math.isfinite(moment_s):
        return UNKNOWN
    return BEYOND if moment_s - now_s >= AHEAD_S else round(10.0 * max(moment_s, now_s)) % 36000
