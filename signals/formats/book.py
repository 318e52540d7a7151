"""What files of signal plans hold, whatever their format: named programmes and the times of day that they run at.

Every format is read into a `PlanBook` and written from one, so that any two of them convert. A programme counts its
offset from second 0 of its clock (SUMO's, or midnight); the epoch of that second makes `SignalPlan`s of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from networks.errors import InputError
from networks.graph import Network, Programme, Signal
from signals.formats.fields import index_of
from signals.plan import LampStep, SignalPlan


@dataclass(frozen=True, slots=True)
class NamedProgramme:
    """One programme of one signal; without phases it means that the signal is off."""

    signal_id: str
    programme: Programme


@dataclass(frozen=True, slots=True)
class Switch:
    """From `at_s` after the reference time on, `programme` runs."""

    at_s: float
    programme: str


@dataclass(frozen=True, slots=True)
class TimedSignal:
    """A signal that follows a timetable. `procedure`: how SUMO gets from one programme to the next ("" at once)."""

    signal_id: str
    procedure: str = ""
    synchron: bool = False


@dataclass(frozen=True, slots=True)
class Timetable:
    """Which programme runs when, for several signals (SUMO: WAUT). `period_s` 0: it runs once."""

    id: str
    start: str  # programme before the first switch
    switches: tuple[Switch, ...]
    signals: tuple[TimedSignal, ...]
    reference_s: float = 0.0
    period_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PlanBook:
    """Everything one file says; of several programmes of a signal the last one is in force, as in SUMO."""

    programmes: tuple[NamedProgramme, ...]
    timetables: tuple[Timetable, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """A book in some format, and what that format could not hold (sentences for people)."""

    text: str
    left_out: tuple[str, ...] = ()


def book_of_network(network: Network) -> PlanBook:
    """The shipped programmes, of each signal the active one last."""
    return PlanBook(
        tuple(NamedProgramme(signal.id, p) for signal in network.signals for p in reversed(signal.programmes))
    )


def signal_of(named: NamedProgramme, network: Network) -> Signal:
    """The signal a programme is for. Raises InputError where the network has none, or too few lamps are given."""
    signal = network.signals[index_of(named.signal_id, network.signal_index)]
    widths = {len(phase.state) for phase in named.programme.phases}
    if widths and min(widths) < signal.link_count:
        raise InputError(
            f"programme {named.programme.id!r} of signal {signal.id!r} has {min(widths)} lamps, "
            f"the signal has {signal.link_count} links"
        )
    return signal


def plan_of(named: NamedProgramme, network: Network, *, epoch_of_zero_s: float) -> SignalPlan:
    """A programme on its stated durations as an endless cyclic plan, equal neighbouring states joined.

    Raises InputError for a programme without phases, or one that does not fit its signal.
    """
    signal = signal_of(named, network)
    steps: list[LampStep] = []
    for phase in named.programme.phases:
        state = phase.state[: signal.link_count]
        if steps and steps[-1].state == state:
            steps[-1] = LampStep(state, steps[-1].duration_s + phase.duration_s)
        else:
            steps.append(LampStep(state, phase.duration_s))
    if not steps:
        raise InputError(f"programme {named.programme.id!r} of signal {signal.id!r} has no phases")
    return SignalPlan(
        signal=network.signal_index[signal.id],
        signal_id=signal.id,
        steps=tuple(steps),
        valid_from_s=epoch_of_zero_s,
        valid_until_s=math.inf,
        repeats=True,
        offset_s=epoch_of_zero_s + named.programme.offset_s,
        source="file",
        reason=f"programme {named.programme.id}",
    )


def programmes_at(timetable: Timetable) -> Iterator[tuple[float, str, str]]:
    """Each switch as (seconds after the reference, programme before, programme after)."""
    before = timetable.start
    for switch in timetable.switches:
        yield switch.at_s, before, switch.programme
        before = switch.programme
