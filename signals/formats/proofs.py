"""The proof of safety of everything in a book of plans: each programme, and each change between two of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from networks.errors import InputError
from networks.graph import Network, Programme
from signals.formats.book import NamedProgramme, PlanBook, Timetable, plan_of, programmes_at, signal_of
from signals.lamps import LampRecord
from signals.plan import SignalPlan
from signals.safety import Violation, find_violations

AS_STATED, SHORTEST, LONGEST = "as stated", "shortest", "longest"
_CYCLES_BEFORE = 3  # enough to know how long each lamp has shown what it shows


@dataclass(frozen=True, slots=True)
class Proof:
    """What was judged and what is wrong with it; `note` says why something could not be judged."""

    signal_id: str
    what: str  # "programme 0 as stated", "switch 0 to 1 at 25200 s of timetable w"
    violations: tuple[Violation, ...] = ()
    note: str = ""


def prove_book(book: PlanBook, network: Network) -> list[Proof]:
    """Judge every programme on its stated durations (actuated ones also shortest and longest), and the switches.

    Raises InputError for a signal that the network does not have, or programmes that do not fit it.
    """
    proofs = [proof for named in book.programmes for proof in _programme(named, network)]
    unsafe = {(p.signal_id, p.what) for p in proofs if p.violations or p.note}
    for timetable in book.timetables:
        proofs += _switches(timetable, book, network, unsafe)
    return proofs


def _programme(named: NamedProgramme, network: Network) -> Iterable[Proof]:
    programme, signal = named.programme, signal_of(named, network)
    if not programme.phases:
        yield Proof(signal.id, f"programme {programme.id}", note="it shows nothing: the signal is off")
        return
    fixed = programme.kind == "static" or all(p.min_s == p.duration_s == p.max_s for p in programme.phases)
    for variant in (AS_STATED,) if fixed else (AS_STATED, SHORTEST, LONGEST):
        plan = plan_of(replace(named, programme=_at_length(programme, variant)), network, epoch_of_zero_s=0.0)
        yield Proof(signal.id, _name(programme.id, variant), tuple(find_violations(plan, signal, None)))


def _at_length(programme: Programme, variant: str) -> Programme:
    if variant == AS_STATED:
        return programme
    phases = [replace(p, duration_s=p.min_s if variant == SHORTEST else p.max_s) for p in programme.phases]
    return replace(programme, phases=tuple(p for p in phases if p.duration_s > 0.0))


def _name(programme: str, variant: str) -> str:
    return f"programme {programme} {variant}"


def _switches(
    timetable: Timetable, book: PlanBook, network: Network, unsafe: set[tuple[str, str]]
) -> Iterable[Proof]:
    """Switches as SUMO makes them without a procedure: at once, each programme in step with its own offset."""
    programmes = {(n.signal_id, n.programme.id): n for n in book.programmes}
    for timed in timetable.signals:
        for at_s, old, new in _moments(timetable):
            what = f"switch {old} to {new} at {at_s:g} s of timetable {timetable.id}"
            for name in (old, new):
                if (timed.signal_id, name) not in programmes:
                    raise InputError(
                        f"timetable {timetable.id!r}: signal {timed.signal_id!r} has no programme {name!r}"
                    )
            if timed.procedure:
                yield Proof(
                    timed.signal_id, what, note=f"not judged: the procedure {timed.procedure} picks the moment"
                )
            elif any(
                (timed.signal_id, _name(name, AS_STATED)) in unsafe or _off(programmes[timed.signal_id, name])
                for name in (old, new)
            ):
                yield Proof(timed.signal_id, what, note="not judged: one of the two is unsafe by itself, or off")
            elif at_s != int(at_s):
                yield Proof(timed.signal_id, what, note="not judged: no whole second")
            else:
                plans = [
                    plan_of(programmes[timed.signal_id, name], network, epoch_of_zero_s=0.0) for name in (old, new)
                ]
                after = replace(plans[1], valid_from_s=at_s)
                signal = network.signals[plans[0].signal]
                yield Proof(timed.signal_id, what, tuple(find_violations(after, signal, lamps_of(plans[0], at_s))))


def _off(named: NamedProgramme) -> bool:
    return not named.programme.phases


def _moments(timetable: Timetable) -> list[tuple[float, str, str]]:
    """Switches that change something; with a period also the one from its last programme to its first."""
    moments = [(timetable.reference_s + at_s, old, new) for at_s, old, new in programmes_at(timetable)]
    if timetable.period_s and moments:
        first_s, _, new = moments[0]
        moments.append((first_s + timetable.period_s, moments[-1][2], new))
    return [(at_s, old, new) for at_s, old, new in moments if old != new]


def lamps_of(plan: SignalPlan, until_s: float) -> LampRecord:
    """What a cyclic plan leaves behind when it ends at a moment."""
    at_s = until_s - (until_s - plan.offset_s) % plan.cycle_s - _CYCLES_BEFORE * plan.cycle_s
    record = LampRecord.start(plan.steps[0].state, at_s)
    while at_s < until_s:
        for step in plan.steps:
            if at_s < until_s:
                record = record.then(step.state, at_s)
            at_s += step.duration_s
    return record
