"""What SPAT messages of either standard are made of.

When the lamps of a signal group change, as far as a plan says; and how a message counts and names intersections.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from networks.errors import InputError
from networks.graph import Signal
from signals.formats.fields import member_of, number_of
from signals.plan import SignalPlan

AHEAD_S = 3600.0  # SPAT counts tenths of a second up to an hour
_CLOSED_FIRST = "rRuUyYsoOgG"  # of several lamps in a group the one that stands first here is told
MOST_INTERSECTIONS = 32  # of one message, in either standard
_FIXED, _ADAPTIVE = b"\x04\x00", b"\x02\x00"  # IntersectionStatusObject of either, bits 5 and 6


@dataclass(frozen=True, slots=True)
class Intersection:
    """A signal as a SPAT message names it.

    `groups`: the phase (T/CSAE-53) or signal group (J2735) of each link, as the MAP message gives them; 0: not told.
    """

    plan: SignalPlan
    groups: Sequence[int]
    node: int
    region: int | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """One lamp letter from `start_s` until `end_s` (inf: the plan does not say), epoch seconds."""

    lamp: str
    start_s: float
    end_s: float


def shipped_groups(signal: Signal) -> tuple[int, ...]:
    """Signal groups from 1: links that show the same in every shipped phase are one."""
    phases = [phase.state for programme in signal.programmes for phase in programme.phases]
    numbers: dict[tuple[str, ...], int] = {}
    columns = [tuple(state[k] for state in phases) for k in range(signal.link_count)]
    return tuple(numbers.setdefault(column, len(numbers) + 1) for column in columns)


def check_count(intersections: Sequence[Intersection]) -> None:
    """Raises InputError where one message cannot hold them."""
    if not 0 < len(intersections) <= MOST_INTERSECTIONS:
        raise InputError(f"a SPAT message holds 1 to {MOST_INTERSECTIONS} intersections, not {len(intersections)}")


def reference_of(intersection: Intersection) -> dict[str, int]:
    """The name of an intersection as both standards spell it; the region only where it has one."""
    region = {} if intersection.region is None else {"region": intersection.region}
    return {**region, "id": intersection.node}


def place_of(intersection: Mapping[str, Any], name: str, where: str) -> tuple[int | None, int]:
    """(region, node) of an intersection in a decoded message, from its member `name`. Raises InputError."""
    reference = member_of(intersection, name, where)
    where = f"{where}.{name}"
    node = number_of(reference, "id", where)
    return number_of(reference, "region", where) if "region" in reference else None, node


def status_of(plan: SignalPlan, sure_until_s: float) -> tuple[bytes, int]:
    """Bits that say whether the plan runs as it is, or may be replaced."""
    return (_FIXED if plan.repeats and math.isinf(sure_until_s) else _ADAPTIVE), 16


def members_of(intersection: Intersection) -> dict[int, list[int]]:
    """Links of each group. Raises InputError where the groups do not fit the plan."""
    width = len(intersection.plan.steps[0].state)
    if len(intersection.groups) != width:
        raise InputError(f"{len(intersection.groups)} signal groups given for {width} links")
    members: dict[int, list[int]] = {}
    for link, group in enumerate(intersection.groups):
        if not 0 <= group <= 255:
            raise InputError(f"signal group {group} of link {link} is not from 0 to 255")
        if group:
            members.setdefault(group, []).append(link)
    return dict(sorted(members.items()))


def lamps_ahead(plan: SignalPlan, links: Collection[int], now_s: float) -> tuple[Shown, ...]:
    """What a group shows from now on, the present lamp first; its start is not known before `valid_from_s`.

    A cyclic plan is followed for two cycles, at most an hour. Raises InputError before the plan is valid.
    """
    if now_s < plan.valid_from_s:
        raise InputError(f"the plan of {plan.signal_id!r} begins {plan.valid_from_s - now_s:g} s from now")
    joined: list[Shown] = []
    for lamp, start_s, end_s in _steps(plan, links, now_s):
        if joined and joined[-1].lamp == lamp:
            joined[-1] = Shown(lamp, joined[-1].start_s, end_s)
        else:
            joined.append(Shown(lamp, start_s, end_s))
    ahead = [shown for shown in joined if shown.end_s > now_s]
    if plan.repeats:
        ahead[-1] = Shown(ahead[-1].lamp, ahead[-1].start_s, math.inf)  # cut off by the horizon, not by the plan
    return tuple(ahead)


def _steps(plan: SignalPlan, links: Collection[int], now_s: float) -> Iterator[tuple[str, float, float]]:
    if plan.repeats:
        at_s = now_s - (now_s - plan.offset_s) % plan.cycle_s - plan.cycle_s
        until_s = now_s + min(2.0 * plan.cycle_s, AHEAD_S)
    else:
        at_s, until_s = plan.valid_from_s, math.inf
    while at_s < until_s:
        for n, step in enumerate(plan.steps):
            end_s = at_s + step.duration_s
            if not plan.repeats and n == len(plan.steps) - 1:
                end_s = math.inf
            yield min((step.state[k] for k in links), key=_CLOSED_FIRST.index), at_s, end_s
            at_s = end_s


def sure_end_s(shown: Shown, plan: SignalPlan, sure_until_s: float) -> float:
    """Earliest moment at which a lamp may end, when the plan may be replaced from `sure_until_s` on."""
    end_s = shown.end_s if math.isfinite(shown.end_s) or plan.repeats else plan.valid_until_s
    return max(shown.start_s, min(end_s, sure_until_s))


def minute_of_year(epoch_s: float) -> tuple[int, int]:
    """UTC minute of the year, and milliseconds into it."""
    now = datetime.fromtimestamp(epoch_s, UTC)
    start = datetime(now.year, 1, 1, tzinfo=UTC)
    minute, within_s = divmod((now - start).total_seconds(), 60.0)
    return int(minute), int(within_s * 1000.0)
