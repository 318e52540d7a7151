"""The NEMA view of a junction: eight phases in two rings with barriers, and a stage plan as their splits.

Phases are numbered as in the Signal Timing Manual (FHWA, 2nd edition, section 5): throughs 2 and 6 of the main
street, 4 and 8 of the side street, each with the left turn that crosses it as 1, 5, 3, 7, so that the phases of one
ring (1-4, 5-8) conflict, and those of two rings on one side of the barrier (1 2 5 6 | 3 4 7 8) do not. Phase 2 is the
main street's leg in the west (south, where it runs north-south), phase 4 the next leg clockwise. Right turns and
u-turns belong to the phase that they move with; walkers have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from networks.graph import Network, Programme, Signal
from signals.formats.legs import Leg, LinkUse, is_motor, legs_of, uses_of
from signals.lamps import GREEN, YELLOW

RINGS = ((1, 2, 3, 4), (5, 6, 7, 8))
MAIN, SIDE = frozenset((1, 2, 5, 6)), frozenset((3, 4, 7, 8))
LEFT_OF_THROUGH = {2: 5, 6: 1, 4: 7, 8: 3}  # the left turn from the same leg
_OPPOSED_DEG = 45.0  # two legs are one street when they are straight opposite within this
_OFF_DEG = 35.0  # a side street's leg lies at least so far off the main street's line


@dataclass(frozen=True, slots=True)
class PhaseMap:
    """Which leg and turn each phase serves, and by which links. `why_not`: the junction has no such phases."""

    legs: tuple[Leg, ...]
    uses: tuple[LinkUse, ...]
    names: dict[int, str]  # phase -> "W through"
    links: dict[int, tuple[int, ...]]  # phase -> links that decide when it is served
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Split:
    """One phase in its ring, seconds; `start_s` is the begin of green in the cycle."""

    phase: int
    start_s: float
    green_s: float
    yellow_s: float
    red_s: float

    @property
    def split_s(self) -> float:
        return self.green_s + self.yellow_s + self.red_s


@dataclass(frozen=True, slots=True)
class RingBarrier:
    """A plan as splits: per ring its phases in order. `why_not` says what does not fit instead."""

    cycle_s: float
    rings: tuple[tuple[Split, ...], ...] = ()
    barriers_s: tuple[float, ...] = ()  # begin of the main street's and of the side street's part
    why_not: str = ""


def phase_map(signal: Signal, network: Network) -> PhaseMap:
    """Number the phases of a junction of four legs, or of three of which two are one street."""
    legs = legs_of(signal, network)
    uses = uses_of(signal, network, legs)
    throughs, why_not = _throughs(network, legs)
    names: dict[int, str] = {}
    links: dict[int, tuple[int, ...]] = {}
    for phase, leg in throughs.items():
        own = [
            u for u in uses if u.leg == leg and u.turns and u.turns != ("walk",) and is_motor(signal, network, u.link)
        ]
        straight = tuple(u.link for u in own if "through" in u.turns)
        left = tuple(u.link for u in own if "left" in u.turns and "through" not in u.turns)
        right = tuple(u.link for u in own if u.turns == ("right",))
        if straight:
            names[phase], links[phase] = f"{legs[leg].name} through", straight
            if left:
                turn = LEFT_OF_THROUGH[phase]
                names[turn], links[turn] = f"{legs[leg].name} left", left
        elif left or right:  # the stem of a T: its turns are one phase
            names[phase], links[phase] = f"{legs[leg].name} turns", left or right
    return PhaseMap(legs, uses, dict(sorted(names.items())), links, why_not)


def ring_barrier(programme: Programme, phases: PhaseMap) -> RingBarrier:
    """The splits of a programme, on its stated durations, or why it has none."""
    cycle_s = programme.cycle_s
    if phases.why_not or not programme.phases:
        return RingBarrier(cycle_s, why_not=phases.why_not or "the programme shows nothing")
    served: dict[int, tuple[float, float]] = {}
    for phase, links in phases.links.items():
        greens = _green_times(programme, phases, phase, links)
        if len(greens) > 1:
            return RingBarrier(
                cycle_s, why_not=f"phase {phase} ({phases.names[phase]}) is served {len(greens)} times a cycle"
            )
        if greens:
            served[phase] = greens[0]
    clash = _clash(served, cycle_s, phases)
    if clash:
        return RingBarrier(cycle_s, why_not=clash)
    main, side = sorted(p for p in served if p in MAIN), sorted(p for p in served if p in SIDE)
    if not main or not side:
        return RingBarrier(cycle_s, why_not="only one street has phases of its own, so there is no barrier")
    starts_s = _barriers(served)
    if starts_s is None:
        return RingBarrier(cycle_s, why_not="the streets alternate more than once a cycle")
    rings = []
    for ring in RINGS:
        splits: list[Split] = []
        for group, begin_s, end_s in ((main, *starts_s), (side, starts_s[1], starts_s[0])):
            order = sorted((p for p in ring if p in group), key=lambda p: (served[p][0] - begin_s) % cycle_s)
            for n, phase in enumerate(order):
                until_s = served[order[n + 1]][0] if n + 1 < len(order) else end_s
                splits.append(_split(programme, phase, phases.links[phase], served[phase], until_s))
        rings.append(tuple(splits))
    return RingBarrier(cycle_s, tuple(rings), starts_s)


def ring_text(view: RingBarrier, phases: PhaseMap, *, width: int = 72) -> str:
    """The two rings as two lines on one time axis, barriers as double bars; or the sentence why there are none."""
    if view.why_not:
        return f"no ring-barrier view: {view.why_not}"
    begin_s = view.barriers_s[0]
    lines = []
    for number, ring in enumerate(view.rings, 1):
        cells = [" "] * width
        for split in ring:
            at = round((split.start_s - begin_s) % view.cycle_s / view.cycle_s * width)
            length = max(1, round(split.split_s / view.cycle_s * width))
            label = f"|{split.phase} {phases.names[split.phase]} {split.split_s:g}"[:length]
            cells[at : at + length] = label.ljust(length)
        for barrier_s in view.barriers_s:
            at = min(round((barrier_s - begin_s) % view.cycle_s / view.cycle_s * width), width - 1)
            cells[at] = "‖"
        lines.append(f"ring {number} {''.join(cells[:width])}‖")
    return "\n".join(lines)


def _throughs(network: Network, legs: Sequence[Leg]) -> tuple[dict[int, int], str]:
    """Phase of each leg's through, or why the junction has none."""
    if len(legs) not in (3, 4):
        return {}, f"{len(legs)} legs; phases are numbered for three or four"
    pairs = [
        (a, b)
        for a, b in permutations(range(len(legs)), 2)
        if a < b and abs((legs[a].bearing_deg - legs[b].bearing_deg) % 360.0 - 180.0) <= _OPPOSED_DEG
    ]
    if not pairs:
        return {}, "no two legs lie opposite each other"
    main = max(pairs, key=lambda pair: (_weight(network, legs, pair), -pair[0]))
    others = [n for n in range(len(legs)) if n not in main]
    if len(others) == 2 and tuple(others) not in pairs:
        return {}, f"legs {legs[others[0]].name} and {legs[others[1]].name} do not lie opposite each other"
    first, second = sorted(main, key=lambda n: _from_first(legs[n].bearing_deg))
    throughs = {2: first, 6: second}
    for leg in others:
        clockwise_deg = (legs[leg].bearing_deg - legs[first].bearing_deg) % 360.0
        if min(clockwise_deg % 180.0, 180.0 - clockwise_deg % 180.0) < _OFF_DEG:
            return {}, f"leg {legs[leg].name} lies along the main street"
        throughs[4 if clockwise_deg < 180.0 else 8] = leg
    if len(throughs) < 2 + len(others):
        return {}, "both side legs lie on one side of the main street"
    return throughs, ""


def _weight(network: Network, legs: Sequence[Leg], pair: tuple[int, int]) -> tuple[int, int]:
    """The main street has the higher priority, then more lanes."""
    edges = [e for n in pair for e in legs[n].edges]
    return max(int(network.edges.priority[e]) for e in edges), sum(int(network.edges.lane_count[e]) for e in edges)


def _from_first(bearing_deg: float) -> float:
    """West before east, south before north: how far clockwise a leg lies from the south-south-east."""
    return (bearing_deg - 157.5) % 360.0


def _green_times(
    programme: Programme, phases: PhaseMap, phase: int, links: Sequence[int]
) -> list[tuple[float, float]]:
    """(begin, length) of each stretch of the cycle in which a phase is served.

    A left turn that has a green of its own is served only by it; one that has none is served while it may give way,
    which is no phase of its own as long as its leg's through is open too.
    """
    states = [p.state for p in programme.phases]
    protected = any(state[k] == "G" for state in states for k in links)
    letters = "G" if protected else GREEN
    on = [any(state[k] in letters for k in links) for state in states]
    through = next((t for t, left in LEFT_OF_THROUGH.items() if left == phase), None)
    if not protected and through in phases.links:
        with_through = [any(state[k] in GREEN for k in phases.links[through]) for state in states]
        on = [here and not there for here, there in zip(on, with_through, strict=True)]
    durations_s = [p.duration_s for p in programme.phases]
    begins = [n for n in range(len(on)) if on[n] and not on[n - 1]] or ([0] if all(on) else [])
    stretches = []
    for begin in begins:
        length_s, n = 0.0, begin
        while on[n % len(on)] and n < begin + len(on):
            length_s += durations_s[n % len(on)]
            n += 1
        stretches.append((sum(durations_s[:begin]), length_s))
    return stretches


def _clash(served: dict[int, tuple[float, float]], cycle_s: float, phases: PhaseMap) -> str:
    """Two phases green together that the rings keep apart, as a sentence; "" if there are none."""
    for a, (begin_a, green_a) in served.items():
        for b, (begin_b, green_b) in served.items():
            if a >= b or not _overlap(begin_a, green_a, begin_b, green_b, cycle_s):
                continue
            names = f"phases {a} ({phases.names[a]}) and {b} ({phases.names[b]})"
            if any(a in ring and b in ring for ring in RINGS):
                return f"{names} of one ring are green together"
            if (a in MAIN) != (b in MAIN):
                return f"{names} are green together across the barrier"
    return ""


def _overlap(begin_a: float, green_a: float, begin_b: float, green_b: float, cycle_s: float) -> bool:
    return (begin_b - begin_a) % cycle_s < green_a or (begin_a - begin_b) % cycle_s < green_b


def _barriers(served: dict[int, tuple[float, float]]) -> tuple[float, float] | None:
    """Begin of the main street's part and of the side street's, None where they alternate more often."""
    order = sorted(served, key=lambda p: served[p][0])
    changes = [n for n in range(len(order)) if (order[n] in MAIN) != (order[n - 1] in MAIN)]
    if len(changes) != 2:
        return None
    begins = {order[n] in MAIN: served[order[n]][0] for n in changes}
    return begins[True], begins[False]


def _split(
    programme: Programme, phase: int, links: Sequence[int], served: tuple[float, float], until_s: float
) -> Split:
    """Green, the yellow that follows it, and red up to the next phase of the ring or the barrier."""
    begin_s, green_s = served
    cycle_s = programme.cycle_s
    whole_s = (until_s - begin_s) % cycle_s or cycle_s
    at_s, yellow_s = 0.0, 0.0
    for step in programme.phases:
        after_green_s = (at_s - begin_s - green_s) % cycle_s
        if any(step.state[k] in YELLOW for k in links) and after_green_s < whole_s - green_s:
            yellow_s += step.duration_s
        at_s += step.duration_s
    yellow_s = min(yellow_s, max(0.0, whole_s - green_s))
    return Split(phase, begin_s, green_s, yellow_s, max(0.0, whole_s - green_s - yellow_s))
