"""The zone's own fixed-time plan: stages, Webster splits on one common cycle, coordinated offsets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from networks.graph import Floats, Network, Programme, ProgrammePhase
from scenarios.zone.layout import SIDES, Layout, opposite, turn_of
from scenarios.zone.offsets import PLATOON_SPEED_SHARE, PLATOON_START_S, Coupling, best_offsets
from scenarios.zone.parameters import ZoneParameters
from scenarios.zone.splits import (
    START_LOSS_S,
    Flows,
    Junction,
    common_cycle_s,
    greens_s,
    least_cycle_s,
    walk_tail_s,
)
from scenarios.zone.stages import junction_stages, lamps, signal_links

SLOW_MPS = 50 / 3.6  # up to here the short yellow will do
EXTENSION_S = 25  # how far SUMO's actuated control may stretch a green beyond the plan's


def time_signals(
    network: Network, layout: Layout, flows: Mapping[str, Flows], p: ZoneParameters
) -> dict[str, Programme]:
    """A sound fixed programme for every signal from the hourly flows of its movements."""
    junctions = [describe_junction(network, layout, name, flows.get(name, {}), p) for name in layout.legs]
    cycle = common_cycle_s(junctions, p)
    programmes, greens = [], []
    for junction in junctions:
        whole = any(leg.street.arterial for leg in junction.legs.values()) or 2 * least_cycle_s(junction, p) > cycle
        greens.append(greens_s(junction, cycle if whole else cycle // 2, p))
        programmes.append(_programme(junction, greens[-1], p))
    couplings = _couplings(network, layout, junctions, greens, cycle, p)
    offsets = best_offsets(couplings, len(junctions), cycle, np.random.default_rng([p.seed, 2]))
    return {
        junction.signal.id: replace(programme, offset_s=float(offset % programme.cycle_s))
        for junction, programme, offset in zip(junctions, programmes, offsets, strict=True)
    }


def describe_junction(network: Network, layout: Layout, name: str, flows: Flows, p: ZoneParameters) -> Junction:
    signal = network.signals[network.signal_index[name]]
    legs = layout.legs[name]
    fast = max(leg.street.speed_mps for leg in legs.values()) > SLOW_MPS + 0.1
    return Junction(
        signal=signal,
        legs=legs,
        lanes={side: layout.edges[leg.approach].lanes for side, leg in legs.items()},
        links=signal_links(network, signal, layout),
        stages=junction_stages(legs),
        flows=flows,
        yellow_s=p.yellow_fast_s if fast else p.yellow_slow_s,
        all_red_s=p.all_red_s,
    )


def _programme(junction: Junction, greens: tuple[int, ...], p: ZoneParameters) -> Programme:
    """Phases of one cycle: green (walk, walkers' yellow, vehicles alone), yellow, all red."""
    phases: list[ProgrammePhase] = []
    yellow, stages = junction.yellow_s, junction.stages
    for i, (stage, green) in enumerate(zip(stages, greens, strict=True)):
        alone = lamps(junction.links, stage, walk=False)
        if stage.crossings:
            tail = walk_tail_s(junction, stage)
            walk = green - yellow - tail
            walking = lamps(junction.links, stage, walk=True)
            ending = "".join("y" if a != b else b for a, b in zip(walking, alone, strict=True))
            phases.append(ProgrammePhase(walking, walk, p.walk_green_s, walk + EXTENSION_S))
            phases.append(ProgrammePhase(ending, yellow, yellow, yellow))
            phases.append(ProgrammePhase(alone, tail, tail, tail + EXTENSION_S))
        else:
            phases.append(ProgrammePhase(alone, green, p.min_green_s, green + EXTENSION_S))
        following = lamps(junction.links, stages[(i + 1) % len(stages)], walk=True)
        phases += _interstage(alone, following, junction)
    return Programme("fixed", "static", 0.0, tuple(phases))


def _interstage(before: str, after: str, junction: Junction) -> list[ProgrammePhase]:
    """Yellow for what closes, then all red; what is open on both sides stays open."""
    yellow, red = [], []
    for a, b in zip(before, after, strict=True):
        closes = a in "Gg" and b not in "Gg"
        opens = a not in "Gg" and b in "Gg"
        yellow.append("y" if closes else a)
        red.append(b if closes else a if opens else b)
    return [
        ProgrammePhase("".join(yellow), junction.yellow_s, junction.yellow_s, junction.yellow_s),
        ProgrammePhase("".join(red), junction.all_red_s, junction.all_red_s, junction.all_red_s),
    ]


def _couplings(
    network: Network,
    layout: Layout,
    junctions: list[Junction],
    greens: list[tuple[int, ...]],
    cycle_s: int,
    p: ZoneParameters,
) -> list[Coupling]:
    """The through and the left lane group of every approach that another signal feeds."""
    place = {j.signal.id: i for i, j in enumerate(junctions)}
    couplings = []
    for i, follower in enumerate(junctions):
        for side, leg in follower.legs.items():
            origin, length_m = _upstream(network, layout, leg.approach)
            if origin not in place:
                continue
            feeder = junctions[place[origin]]
            sent = _departures(feeder, greens[place[origin]], opposite(side), cycle_s, p)
            total = sum(follower.flows.get((side, t), 0.0) for t in "slr")
            if total <= 0 or sent.sum() <= 0:
                continue
            travel_s = length_m / (leg.street.speed_mps * PLATOON_SPEED_SHARE) + PLATOON_START_S
            for turns, lanes, saturation_vph in (
                ("sr", max(1, follower.lanes[side] - 1), p.saturation_through_vph),
                ("l", 1, p.saturation_turn_vph),
            ):
                share = sum(follower.flows.get((side, t), 0.0) for t in turns) / total
                green = _open_seconds(follower, greens[i], side, turns, cycle_s)
                if share > 0 and green.any():
                    rate = lanes * saturation_vph / 3600
                    couplings.append(Coupling(place[origin], i, sent * share, green, rate, travel_s))
    return couplings


def _upstream(network: Network, layout: Layout, approach: str) -> tuple[str, float]:
    """The node where the chain of edges that ends in `approach` starts at a signal or the border, and its length."""
    edge = layout.edges[approach]
    length = float(network.edges.length_m[network.edge_index[edge.id]])
    start = layout.nodes[edge.start]
    while start.kind == "priority":
        heading_from = layout.nodes[edge.end]
        previous = next(
            e
            for e in layout.edges.values()
            if e.end == start.id and e.street == edge.street and _ahead(layout, e.start, start.id, heading_from.id)
        )
        length += float(network.edges.length_m[network.edge_index[previous.id]])
        edge, start = previous, layout.nodes[previous.start]
    return start.id, length


def _ahead(layout: Layout, a: str, b: str, c: str) -> bool:
    """b lies between a and c on a straight street."""
    p, q, r = layout.nodes[a], layout.nodes[b], layout.nodes[c]
    return (q.x_m - p.x_m) * (r.x_m - q.x_m) + (q.y_m - p.y_m) * (r.y_m - q.y_m) > 0


def _open_seconds(junction: Junction, greens: tuple[int, ...], side: str, turns: str, cycle_s: int) -> Floats:
    """1.0 in the seconds of the cycle when the movement is open and moving, tiled to the common cycle."""
    seconds: list[float] = []
    for stage, green in zip(junction.stages, greens, strict=True):
        is_open = any((side, t) in stage.movements for t in turns if t != "r") or (
            (side, "r") in stage.movements and turns != "l"
        )
        moving = green + junction.yellow_s - int(START_LOSS_S) - 1
        lost = [0.0] * int(START_LOSS_S)
        used = lost + [1.0] * moving if is_open else [0.0] * (moving + len(lost))
        seconds += used + [0.0] * (green + junction.intergreen_s - len(used))
    return np.resize(np.array(seconds), cycle_s)


def _departures(junction: Junction, greens: tuple[int, ...], side: str, cycle_s: int, p: ZoneParameters) -> Floats:
    """Vehicles a second that leave `junction` by the arm `side`: a queue at saturation, then arrivals evenly."""
    total = np.zeros(cycle_s)
    for origin in SIDES:
        if origin == side or origin not in junction.legs:
            continue
        turn = turn_of(origin, side)
        flow_vps = junction.flows.get((origin, turn), 0.0) / 3600
        if turn == "r":
            total += flow_vps  # they turn on red too
            continue
        green = _open_seconds(junction, greens, origin, turn, cycle_s)
        lanes = max(1, junction.lanes[origin] - 1) if turn == "s" else 1
        rate = lanes * p.saturation_through_vph / 3600
        queue, sent = 0.0, np.zeros(cycle_s)
        for second in range(2 * cycle_s):
            queue += flow_vps
            sent[second % cycle_s] = min(queue, rate * green[second % cycle_s])
            queue -= sent[second % cycle_s]
        total += sent
    return total
