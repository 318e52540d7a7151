"""Protected or permissive: the letter of each green where a format only says which links are open."""

from __future__ import annotations

from collections.abc import Collection

from networks.graph import Signal


def with_priorities(signal: Signal, opened: Collection[int]) -> str:
    """The lamps of a stage that opens these links: as a shipped stage shows them, else G, and g for who gives way.

    Of two links that meet, the one gives way that a shipped phase shows as g while the other shows G.
    """
    links = set(opened)
    for stage in signal.stages:
        if {k for k, lamp in enumerate(stage.state) if lamp in "Gg"} == links:
            return stage.state
    yields = {
        i
        for i in links
        for j in links
        if i != j and signal.foes[i, j] and _yields(signal, i, j) and not _yields(signal, j, i)
    }
    return "".join("r" if k not in links else "g" if k in yields else "G" for k in range(signal.link_count))


def _yields(signal: Signal, link: int, other: int) -> bool:
    phases = [phase.state for programme in signal.programmes for phase in programme.phases]
    return any(state[link] == "g" and state[other] == "G" for state in phases)
