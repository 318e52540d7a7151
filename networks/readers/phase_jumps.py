"""Which phases of a SUMO programme are shown over and over, where some say what comes after them (`next`).

After its duration a phase gives way to the first that its `next` names, else to the one behind it, after the last to
the first. Where a run starts SUMO reckons as if there were no jumps: `begin - offset` into the phases as they stand.
Verified against SUMO 1.28; format: SUMO documentation, "Simulation/Traffic Lights".
"""

from __future__ import annotations

from collections.abc import Sequence


def shown_cycle(
    durations_s: Sequence[float], jumps: Sequence[str | None], offset_s: float
) -> tuple[list[int], float]:
    """Indices of the phases shown in turn, the lowest first, and the offset of their cycle.

    The offset is that of a run from second 0; what such a run shows before it enters the cycle, and phases that no
    run enters, are left out. Without jumps: all phases and the offset as it is. Of several followers the first
    counts, as in a static programme. Raises ValueError naming the phase whose `next` is no phase of the programme.
    """
    count = len(durations_s)
    if all(jump is None for jump in jumps):
        return list(range(count)), offset_s
    follower = [_follower(n, jump, count) for n, jump in enumerate(jumps)]
    phase, begin_s = _first_phase(durations_s, offset_s)
    begins_s: dict[int, float] = {}
    while phase not in begins_s:
        begins_s[phase] = begin_s
        begin_s += durations_s[phase]
        phase = follower[phase]
    walk = list(begins_s)
    loop = walk[walk.index(phase) :]
    lead = loop.index(min(loop))
    cycle_s = sum(durations_s[n] for n in loop)
    return loop[lead:] + loop[:lead], begins_s[loop[lead]] % cycle_s if cycle_s > 0.0 else 0.0


def _follower(phase: int, jump: str | None, count: int) -> int:
    if jump is None:
        return (phase + 1) % count
    named = jump.split()
    if not named or not all(n.isdecimal() and n.isascii() and int(n) < count for n in named):
        raise ValueError(f"phase {phase}: next: {jump!r} names no phase of the programme (0 to {count - 1})")
    return int(named[0])


def _first_phase(durations_s: Sequence[float], offset_s: float) -> tuple[int, float]:
    """The phase of second 0, and when it began."""
    total_s = sum(durations_s)
    into_s = -offset_s % total_s if total_s > 0.0 else 0.0
    for phase, duration_s in enumerate(durations_s):
        if into_s < duration_s:
            return phase, -into_s
        into_s -= duration_s
    return 0, 0.0
