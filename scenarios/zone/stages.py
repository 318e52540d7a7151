"""Which movements of a zone junction are open together: its stages, as SUMO lamp strings."""

from __future__ import annotations

from dataclasses import dataclass

from networks.errors import NetworkError
from networks.graph import Network, Signal
from scenarios.zone.layout import SIDES, Layout, Leg, opposite, turn_of

Movement = tuple[str, str]  # side of approach, turn ('s', 'l', 'r')


@dataclass(frozen=True, slots=True)
class ZoneStage:
    """Open vehicle movements and the sides whose crossing is open."""

    movements: frozenset[Movement]
    crossings: frozenset[str]


@dataclass(frozen=True, slots=True)
class SignalLink:
    """What one signal link of a zone junction serves: a movement, or a crossing (`turn` is "")."""

    side: str
    turn: str


def junction_stages(legs: dict[str, Leg]) -> tuple[ZoneStage, ...]:
    """Stages of a junction in their order.

    Arterials get a protected left stage after their through stage; where only one of two opposite approaches may turn
    left, its through traffic goes on in it. Collectors have one stage, with permissive left turns; an arm alone on
    its axis has one stage.
    """
    stages: list[ZoneStage] = []
    for axis in ("NS", "EW"):
        sides = [s for s in axis if s in legs]
        if not sides:
            continue
        across = frozenset(s for s in SIDES if s in legs and s not in axis)
        every = {(s, turn_of(s, other)) for s in sides for other in legs if other != s}
        lefts = {m for m in every if m[1] == "l"}
        if legs[sides[0]].street.arterial and lefts and len(sides) == 2:
            stages.append(ZoneStage(frozenset(every - lefts), across))
            keep = {(s, t) for s, t in every if len(lefts) == 1 and (s, "l") in lefts}
            stages.append(ZoneStage(frozenset(lefts | keep), frozenset()))
        else:
            stages.append(ZoneStage(frozenset(every), across))
    return tuple(stages)


def signal_links(network: Network, signal: Signal, layout: Layout) -> tuple[SignalLink, ...]:
    """Name every link of `signal`; raises NetworkError when a link is neither movement nor crossing."""
    legs = layout.legs[signal.id]
    by_approach = {leg.approach: side for side, leg in legs.items()}
    by_exit = {leg.exit: side for side, leg in legs.items()}
    links: list[SignalLink | None] = [None] * signal.link_count
    for k, movements in enumerate(signal.link_movements):
        for m in movements:
            start = network.edges.ids[network.lanes.edge[network.movements.from_lane[m]]]
            end = network.edges.ids[network.lanes.edge[network.movements.to_lane[m]]]
            links[k] = SignalLink(by_approach[start], turn_of(by_approach[start], by_exit[end]))
    for crossing in signal.crossings:
        side = next(by_approach[network.edges.ids[e]] for e in crossing.edges if network.edges.ids[e] in by_approach)
        for k in crossing.links:
            links[k] = SignalLink(side, "")
    named = tuple(link for link in links if link is not None)
    if len(named) != len(links):
        raise NetworkError(f"signal {signal.id} of the drawn zone has a link that serves nothing")
    return named


def lamps(links: tuple[SignalLink, ...], stage: ZoneStage, *, walk: bool) -> str:
    """Lamp string of a stage. Right turns give way to walkers and e-bikes when open, else may turn on red ('s')."""
    letters = []
    for link in links:
        if not link.turn:
            letters.append("G" if walk and link.side in stage.crossings else "r")
        elif (link.side, link.turn) not in stage.movements:
            letters.append("s" if link.turn == "r" else "r")
        elif link.turn == "r" or (link.turn == "l" and _gives_way(link.side, stage)):
            letters.append("g")
        else:
            letters.append("G")
    return "".join(letters)


def _gives_way(side: str, stage: ZoneStage) -> bool:
    """A left turn from `side` meets open oncoming traffic or an open crossing of the arm it turns into."""
    oncoming = {(opposite(side), "s"), (opposite(side), "r")} & stage.movements
    target = SIDES[(SIDES.index(side) + 1) % 4]
    return bool(oncoming) or target in stage.crossings
