"""`retime_day`: a plan for each period of the day, and the timetable that changes them.

Each period is retimed by itself, from some minutes ahead so that its traffic stands on the streets, with an equal
part of the time. The whole day then meets the shipped programmes in SUMO, changes of plan included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from networks.errors import InputError
from scenarios.retime import (
    CHECK_DEMANDS,
    Hours,
    Measured,
    Order,
    Retimed,
    Scene,
    Told,
    measured_of,
    retime_scene,
    street_of,
)
from scenarios.retime_check import PROGRAMME, Bench
from signals.day_periods import MOST_PERIODS, SHORTEST_PERIOD_S, SLOT_S, find_breaks, flow_profiles
from signals.formats.book import PlanBook
from signals.formats.sumo import book_to_sumo
from signals.retime_day import day_book
from signals.retime_plans import StageTiming
from signals.retime_score import Outcome, Sample

WARM_UP_S = 600.0
DAY_CHECK_FRAC = 0.2  # of the time, kept for the whole day in SUMO
ONE_PLAN_S = 3600.0  # demand as short as this gets one plan unless somebody asks for more

Periods = Literal["auto"] | int | tuple[float, ...]  # found from the demand, so many of them, or seconds of breaks


@dataclass(frozen=True)
class RetimedDay:
    """The answer: what each period came to, and the book of plans, without programmes where nothing was gained."""

    parts: tuple[Retimed, ...]
    begins_s: tuple[float, ...]
    book: PlanBook
    shipped: Measured
    chosen: Measured
    check_seeds: tuple[int, ...]
    wall_s: float


def breaks_of(order: Order, scene: Scene, periods: Periods) -> tuple[float, ...]:
    """Seconds at which a new period begins; empty: one plan.

    Raises InputError for breaks outside of the demand, or more periods than it has room for.
    """
    begin_s, end_s = order.begin_s, order.end_s
    if isinstance(periods, tuple):
        if any(not begin_s < b < end_s for b in periods) or any(not a < b for a, b in pairwise(periods)):
            raise InputError(f"--periods: breaks must rise and lie between {begin_s:g} and {end_s:g} s")
        return periods
    if periods == 1 or (periods == "auto" and end_s - begin_s <= ONE_PLAN_S):
        return ()
    depart_s, routes = scene.due(begin_s, end_s)
    try:
        rows = find_breaks(
            flow_profiles(scene.network, routes, depart_s, begin_s, end_s),
            least=round(SHORTEST_PERIOD_S / SLOT_S),
            most=MOST_PERIODS,
            exactly=None if periods == "auto" else periods,
        )
    except InputError as defect:
        raise InputError(f"--periods {periods}: {defect}") from defect
    return tuple(begin_s + row * SLOT_S for row in rows)


def retime_day(
    order: Order, scene: Scene, breaks_s: Sequence[float], hours: Hours, told: Told = lambda progress: None
) -> RetimedDay:
    """Retime every period, put the plans together and hold the day against the shipped programmes.

    Raises InputError and ProcessError as `retime_scenario`.
    """
    begins_s = (order.begin_s, *breaks_s)
    parts: list[Retimed] = []
    for n, (begin_s, end_s) in enumerate(pairwise((*begins_s, order.end_s))):
        left_s = hours.left_until(1.0 - DAY_CHECK_FRAC) / (len(begins_s) - n)
        part = replace(order, begin_s=max(order.begin_s, begin_s - WARM_UP_S), end_s=end_s, seconds=max(1.0, left_s))
        parts.append(retime_scene(part, scene, Hours(hours.clock, part.seconds), told))
        if parts[-1].interrupted:
            break
    timings = _everywhere([p.timings for p in parts] + [{}] * (len(begins_s) - len(parts)))
    maker = parts[0].task.maker
    book = day_book(maker, timings, begins_s, PROGRAMME) if timings else PlanBook(())
    shipped, chosen, seeds = _check(order, scene, parts[0], book, hours)
    won = chosen.mean_s(1.0) < shipped.mean_s(1.0)
    return RetimedDay(
        tuple(parts),
        begins_s,
        book if won else PlanBook(()),
        shipped,
        chosen if won else shipped,
        seeds,
        hours.used_s(),
    )


def _everywhere(periods: Sequence[dict[int, StageTiming]]) -> list[dict[int, StageTiming]]:
    """A period in which nothing beats the shipped programmes takes the plan of the nearest that has one."""
    found = [n for n, timings in enumerate(periods) if timings]

    def nearest(period: int) -> int:
        return min(found, key=lambda other: (abs(other - period), other))

    return [periods[nearest(n)] for n in range(len(periods))] if found else []


def _check(
    order: Order, scene: Scene, part: Retimed, book: PlanBook, hours: Hours
) -> tuple[Measured, Measured, tuple[int, ...]]:
    """The shipped day and ours on fresh seeds: as given, then with more and less demand as far as the time goes."""
    first = 10_000 * (order.seed + 1) + 7_000
    ours = book_to_sumo(book).text if book.programmes else None
    outcomes: dict[str, dict[float, list[Outcome]]] = {
        name: {d: [] for d in CHECK_DEMANDS} for name in ("shipped", "day")
    }
    with Bench(
        street_of(order, scene.network.edges.ids), part.task.maker, objective=order.objective, workers=order.workers
    ) as bench:
        bench.wait_ready()
        took_s = 0.0
        for demand in CHECK_DEMANDS:
            if took_s > hours.left_until(1.0):
                break
            before_s = hours.used_s()
            sample = Sample(first, demand)
            for name, outcome in zip(outcomes, bench.measure_texts([(None, sample), (ours, sample)]), strict=True):
                outcomes[name][demand].append(outcome)
            took_s = hours.used_s() - before_s
    return measured_of("shipped", outcomes["shipped"]), measured_of("day", outcomes["day"]), (first,)
