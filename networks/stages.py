"""Stages of a signal: the sets of greens that may stand for as long as one likes."""

from __future__ import annotations

from collections.abc import Sequence

from networks.graph import Programme, Stage


def recognise_stages(programmes: Sequence[Programme]) -> tuple[Stage, ...]:
    """Distinct green states of the shipped programmes, those of the active programme first, in its order.

    A phase is a stage when it shows some green and no yellow. The seconds of equal states add up; a state that only
    a standby programme shows has `shipped_green_s` 0.
    """
    green_s: dict[str, float] = {}
    for rank, programme in enumerate(programmes):
        for phase in programme.phases:
            if set(phase.state) & set("Gg") and not set(phase.state) & set("yYuU"):
                active_s = phase.duration_s if rank == 0 else 0.0
                green_s[phase.state] = green_s.get(phase.state, 0.0) + active_s
    return tuple(Stage(state, seconds) for state, seconds in green_s.items())
