"""Plans by time of day: the programmes of all periods and the timetable that changes them at safe moments.

Each signal changes by itself, at the first second after the begin of a period at which `signals.safety` proves the
change from the lamps of the old plan into the running new one. Plans whose cycles never meet so are shifted by the
least number of seconds that lets them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from networks.graph import Programme, ProgrammePhase
from signals.formats.book import NamedProgramme, PlanBook, Switch, TimedSignal, Timetable
from signals.formats.proofs import lamps_of
from signals.lamps import GREEN
from signals.plan import SignalPlan
from signals.retime_plans import PlanMaker, StageTiming
from signals.safety import find_violations

LATEST_CHANGE_S = 600  # after the begin of a period


@dataclass(frozen=True, slots=True)
class Change:
    """From second `at_s` of the simulation's clock on, `timing` runs."""

    at_s: int
    timing: StageTiming


def day_of(maker: PlanMaker, signal: int, timings: Sequence[StageTiming], begins_s: Sequence[float]) -> list[Change]:
    """What one signal runs through the day, for the timing and the begin of each period.

    Equal neighbours need no change; a change that nothing makes safe is left out: the plan before goes on.
    """
    day = [Change(int(begins_s[0]), timings[0])]
    for begin_s, timing in zip(begins_s[1:], timings[1:], strict=True):
        if timing != day[-1].timing:
            change = safe_change(maker, signal, day[-1].timing, timing, int(begin_s))
            day += [change] if change is not None else []
    return day


def safe_change(maker: PlanMaker, signal: int, old: StageTiming, new: StageTiming, from_s: int) -> Change | None:
    """The first safe moment at or after `from_s` to go from one running plan to the other, shifted if need be.

    None when no shift of the new plan allows one within `LATEST_CHANGE_S`.
    """
    cycle_s = maker.cycle_s(signal, new)
    for shift_s in sorted(range(cycle_s), key=lambda s: (min(s, cycle_s - s), s)):
        moved = replace(new, offset_s=(new.offset_s + shift_s) % cycle_s)
        at_s = _first_moment(maker, signal, maker.plan(signal, old), maker.plan(signal, moved), from_s)
        if at_s is not None:
            return Change(at_s, moved)
    return None


def _first_moment(maker: PlanMaker, signal: int, old: SignalPlan, new: SignalPlan, from_s: int) -> int | None:
    own = maker.network.signals[signal]
    for at_s in range(from_s, from_s + LATEST_CHANGE_S):
        if _keeps_greens(old.state_at(at_s - 1.0), new.state_at(float(at_s))):
            after = replace(new, valid_from_s=float(at_s))
            if not find_violations(after, own, lamps_of(old, float(at_s))):
                return at_s
    return None


def _keeps_greens(before: str, after: str) -> bool:
    """No green is cut off without its yellow, so that a proof is worth trying."""
    return all(b not in GREEN or a in GREEN or a in "yY" for b, a in zip(before, after, strict=True))


def day_book(
    maker: PlanMaker, periods: Sequence[Mapping[int, StageTiming]], begins_s: Sequence[float], programme: str
) -> PlanBook:
    """Programmes and timetables of all signals that have a timing in every period.

    A signal with one plan for the whole day gets the programme `programme`, others `programme`_1, `programme`_2 ...
    and a timetable each. Every plan and every change is proven; raises UnsafePlanError for a plan that is not.
    """
    programmes: list[NamedProgramme] = []
    timetables: list[Timetable] = []
    for signal in sorted(set.intersection(*(set(p) for p in periods))):
        name = maker.network.signals[signal].id
        day = day_of(maker, signal, [p[signal] for p in periods], begins_s)
        names = [programme] if len(day) == 1 else [f"{programme}_{n + 1}" for n in range(len(day))]
        # SUMO starts with the programme loaded last, so the first of the day comes last
        programmes += reversed(
            [NamedProgramme(name, _programme(maker, signal, c.timing, n)) for c, n in zip(day, names, strict=True)]
        )
        if len(day) > 1:
            switches = tuple(Switch(float(c.at_s), n) for c, n in zip(day[1:], names[1:], strict=True))
            timetables.append(Timetable(f"{programme} {name}", names[0], switches, (TimedSignal(name),)))
    return PlanBook(tuple(programmes), tuple(timetables))


def _programme(maker: PlanMaker, signal: int, timing: StageTiming, name: str) -> Programme:
    plan = maker.prove(signal, timing)
    phases = tuple(ProgrammePhase(s.state, s.duration_s, s.duration_s, s.duration_s) for s in plan.steps)
    return Programme(name, "static", plan.offset_s, phases)
