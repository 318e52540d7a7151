"""Network and demand -> the static arrays that the mesoscopic kernels run on."""

from __future__ import annotations

import numpy as np

from networks.graph import Bools, Floats, Ints, Network, Ragged, group_rows
from signals.meso_build_kernels import fill_choices
from signals.meso_demand import Demand
from signals.meso_kernels import ASIDE_VEH, WHEEL, State, Streets, Traffic

REACTION_S = 0.1  # beyond the desired headway, of a driver without imperfection; fitted, see docs/decisions/meso.md
DAWDLE_S = 0.55  # more of it per unit of imperfection
YELLOW_S_PER_MPS = 0.12  # yellow still used grows with speed above YELLOW_FROM_MPS: who cannot stop drives on
YELLOW_FROM_MPS = 7.0
LEAST_SPACE_M = 2.0
LEAST_ROOM_M, SHORTEST_ROOM_M = 30.0, 15.0
MINOR_S = 1.5  # what drivers expect giving way to cost when they choose their way
LOOK_AHEAD_S = 1.0  # between a vehicle that gives way and the next that has it, as SUMO asks


def build_streets(network: Network, demand: Demand, saturation_vph: Floats | None) -> Streets:
    """Lanes, boxes and sources as one row space, movements, foes and signal links."""
    lanes, moves = network.lanes, network.movements
    count = len(lanes.ids)
    boxed = _boxed(network)
    origins = np.unique(demand.route.values[demand.route.offsets[:-1]]) if len(demand) else np.zeros(0, np.int32)
    wave_s_per_m = _mean(_keep_s(demand) / demand.space_m, 1.0 / 6.0)
    inner = moves.inner_m[boxed] if len(boxed) else np.zeros(0)
    length = np.concatenate([lanes.length_m, inner, np.zeros(len(origins))])
    limit = np.concatenate([lanes.speed_limit_mps, moves.speed_mps[boxed], np.ones(len(origins))])
    room_m = _room_m(network, length)
    lane = np.stack([np.maximum(length, 1.0), np.maximum(limit, 1.0), length * wave_s_per_m, room_m], axis=1)
    lane[count : count + len(boxed), 2] = 0.0
    lane_edge = np.concatenate([lanes.edge, lanes.edge[moves.from_lane[boxed]], origins]).astype(np.int32)
    least_m = max(float(demand.space_m.min()), LEAST_SPACE_M) if len(demand) else 7.5
    size = 2 ** np.ceil(np.log2(room_m / least_m + 3.0 + ASIDE_VEH)).astype(np.int64)
    size[count + len(boxed) :] = 1
    box = np.full(len(moves.turn), -1, np.int32)
    box[boxed] = count + np.arange(len(boxed), dtype=np.int32)
    link_first = np.cumsum([0, *(s.link_count for s in network.signals)]).astype(np.int32)
    link = np.where(moves.signal >= 0, link_first[np.maximum(moves.signal, 0)] + moves.link, -1).astype(np.int32)
    by_link = group_rows(np.where(link >= 0, link, link_first[-1]).astype(np.int32), int(link_first[-1]) + 1)
    foes = moves.gives_way_to if len(moves.gives_way_to) else Ragged(np.zeros(len(link) + 1, np.int32), link[:0])
    return Streets(
        lane=lane,
        lane_edge=lane_edge,
        ring_first=np.concatenate([[0], np.cumsum(size)]).astype(np.int64),
        streets=count,
        boxes=len(boxed),
        movement=_movement_rows(network, demand, saturation_vph),
        movement_to=np.stack([moves.to_lane, link, box, moves.from_lane], axis=1).astype(np.int32),
        foe_first=foes.offsets,
        foe=foes.values.astype(np.int32),
        link_lane_first=by_link.offsets[: int(link_first[-1]) + 1],
        link_lane=moves.from_lane[by_link.values.astype(np.int64)].astype(np.int32),
        link_first=link_first,
    )


def _room_m(network: Network, length_m: Floats) -> Floats:
    """Where vehicles that passed the stop line before may stand: the lane and, where nobody crosses, the junction.

    A vehicle holds its place from that stop line on. Short lanes thus need room for a second vehicle to flow at all.
    """
    moves = network.movements
    inside_m, crossed = np.zeros(len(length_m)), np.zeros(len(length_m), np.bool_)
    np.maximum.at(inside_m, moves.to_lane, moves.length_m)
    crossed[moves.to_lane[(moves.signal >= 0) | moves.yields]] = True
    reserved_m = length_m + inside_m
    room_m: Floats = np.where(crossed, np.maximum(length_m, np.minimum(reserved_m, LEAST_ROOM_M)), reserved_m)
    room_m[: len(network.lanes.ids)] = np.maximum(room_m[: len(network.lanes.ids)], SHORTEST_ROOM_M)
    return room_m


def _boxed(network: Network) -> Ints:
    """Signalised movements that may wait for a gap inside the junction."""
    moves = network.movements
    if not len(moves.inner_m):
        return np.zeros(0, np.int32)
    return np.flatnonzero((moves.signal >= 0) & (moves.inner_m > 0.0)).astype(np.int32)


def _movement_rows(network: Network, demand: Demand, saturation_vph: Floats | None) -> Floats:
    moves = network.movements
    speed = np.maximum(moves.speed_mps, 1.0)
    from_limit = network.lanes.speed_limit_mps[moves.from_lane]
    inner_m = moves.inner_m if len(moves.inner_m) else np.zeros(len(speed))
    rows = np.zeros((len(speed), 7))
    rows[:, 0] = np.maximum(moves.length_m, 0.1)
    rows[:, 1] = speed
    if saturation_vph is not None:
        rows[:, 2] = np.where(np.isnan(saturation_vph), 0.0, 3600.0 / np.maximum(saturation_vph, 1.0))
    rows[:, 3] = _gap_s(moves.length_m, speed, demand)
    rows[:, 4] = np.maximum(YELLOW_S_PER_MPS * (np.minimum(speed, from_limit) - YELLOW_FROM_MPS), 0.0)
    rows[:, 5] = 1.0
    rows[:, 6] = _gap_s(moves.length_m - inner_m, speed, demand)
    return rows


def _gap_s(way_m: Floats, speed_mps: Floats, demand: Demand) -> Floats:
    """Gap that a standing driver asks for: until the vehicle has left the junction, and one second."""
    way_m = way_m + _mean(demand.space_m, 7.5) - 2.5
    accel_mps2 = _mean(demand.accel_mps2, 2.6)
    reach_m = speed_mps**2 / (2.0 * accel_mps2)
    at_speed_s = speed_mps / accel_mps2 + (way_m - reach_m) / speed_mps
    gap: Floats = np.where(way_m < reach_m, np.sqrt(2.0 * way_m / accel_mps2), at_speed_s) + LOOK_AHEAD_S
    return gap


def build_traffic(network: Network, demand: Demand, streets: Streets, begin_s: float) -> Traffic:
    """The demand over the streets; equal routes are shared, lane choices are made ahead."""
    lanes = network.lanes
    way_first, way_step, edges, dwell_s, allowed, last = _shared_steps(demand)
    context, stretch, bits = _contexts(edges, allowed, last)
    bound = int((network.edges.first_lane[stretch[:, 0] + 1] - network.edges.first_lane[stretch[:, 0]]).sum())
    first = np.zeros(len(bits) + 1, np.int32)
    lane, move, cost = np.zeros(bound, np.int32), np.zeros(bound, np.int32), np.zeros(bound)
    fill_choices(
        stretch, bits, network.edges.first_lane, lanes.allowed, lanes.length_m, network.lane_movements.offsets,
        network.lane_movements.values.astype(np.int32), network.movements.to_lane, lanes.edge,
        first, lane, move, cost,
    )  # fmt: skip
    origin = edges[way_step[way_first[:-1]]]
    origins = streets.lane_edge[streets.streets + streets.boxes :]
    by_source = group_rows(np.searchsorted(origins, origin).astype(np.int32), len(origins))
    dawdle = 0.5 * demand.sigma * demand.accel_mps2
    start = np.sqrt(2.0 * demand.space_m / demand.accel_mps2) * (0.845 + 0.52 * demand.sigma)
    top = np.maximum(demand.max_speed_mps, dawdle + 1.0)
    vehicle = np.stack(
        [
            demand.space_m, _keep_s(demand), start, demand.accel_mps2, top, dawdle, demand.weight,
            demand.depart_s - begin_s,
        ],
        axis=1,
    )  # fmt: skip
    return Traffic(
        vehicle=vehicle,
        way_first=way_first,
        way_step=way_step,
        step_edge=edges,
        dwell_s=dwell_s,
        context=context,
        last=last,
        turn_s=_turn_s(network, edges, last),
        edge_free_s=network.edges.length_m / np.maximum(network.edges.speed_limit_mps, 1.0),
        choice_first=first,
        choice_lane=lane[: first[-1]],
        choice_move=move[: first[-1]],
        choice_cost=cost[: first[-1]],
        source_first=by_source.offsets,
        source_vehicle=by_source.values.astype(np.int32),
        source_lane=_rightmost(network, origins),
        start_kind=(demand.rolling_start.astype(np.uint8) + 2 * demand.any_lane.astype(np.uint8)),
    )


def _turn_s(network: Network, edges: Ints, last: Bools) -> Floats:
    """Time inside the junction between each step and the next, giving way included; 0 at the end of a way."""
    moves, lanes = network.movements, network.lanes
    width = len(network.edges.ids)
    pair = lanes.edge[moves.from_lane].astype(np.int64) * width + lanes.edge[moves.to_lane]
    cost_s = moves.length_m / np.maximum(moves.speed_mps, 1.0) + MINOR_S * (moves.yields & (moves.signal < 0))
    order = np.lexsort((cost_s, pair))
    pairs, first = np.unique(pair[order], return_index=True)
    turn_s = np.zeros(len(edges))
    if len(pairs) and len(edges):
        wanted = edges[:-1].astype(np.int64) * width + edges[1:]
        at = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
        turn_s[:-1] = np.where((pairs[at] == wanted) & ~last[:-1], cost_s[order][first][at], 0.0)
    return turn_s


def _keep_s(demand: Demand) -> Floats:
    return demand.tau_s + REACTION_S + DAWDLE_S * demand.sigma


def _mean(values: Floats, otherwise: float) -> float:
    return float(values.mean()) if len(values) else otherwise


def _rightmost(network: Network, edges: Ints) -> Ints:
    """Rightmost lane open to motor vehicles, else the rightmost at all."""
    first = network.edges.first_lane
    chosen = []
    for e in edges.tolist():
        open_lanes = [x for x in range(first[e], first[e + 1]) if network.lanes.allowed[x] & 1]
        chosen.append(open_lanes[0] if open_lanes else first[e])
    return np.array(chosen, np.int32)


def _shared_steps(demand: Demand) -> tuple[Ints, Ints, Ints, Floats, Ints, Bools]:
    """Ways of each vehicle, its own route first, as (V+1,) into (W,) first steps; equal ways share their steps.

    Steps (R): edge, dwell, class bit, is the last of its way.
    """
    known: dict[bytes, int] = {}
    edges: list[Ints] = [np.zeros(0, np.int32)]
    dwells: list[Floats] = [np.zeros(0)]
    bits: list[Ints] = [np.zeros(0, np.int32)]
    lasts: list[Bools] = [np.zeros(0, np.bool_)]
    total = 0

    def step_of(way: Ints, dwell_s: Floats, bit: int) -> int:
        nonlocal total
        key = way.tobytes() + dwell_s.tobytes() + bytes([bit])
        if key not in known:
            known[key] = total
            total += len(way)
            edges.append(way)
            dwells.append(dwell_s)
            bits.append(np.full(len(way), bit, np.int32))
            lasts.append(np.arange(len(way)) == len(way) - 1)
        return known[key]

    route, other = demand.route, demand.other_route
    other_first = np.searchsorted(demand.other_of, np.arange(len(demand) + 1))
    way_first, way_step = np.zeros(len(demand) + 1, np.int32), []
    for v in range(len(demand)):
        row, bit = slice(route.offsets[v], route.offsets[v + 1]), int(demand.allowed[v])
        way_step.append(step_of(route.values[row].astype(np.int32), demand.dwell_s[row], bit))
        for a in range(other_first[v], other_first[v + 1]):
            way = other.values[other.offsets[a] : other.offsets[a + 1]].astype(np.int32)
            way_step.append(step_of(way, np.zeros(len(way)), bit))
        way_first[v + 1] = len(way_step)
    return (
        way_first, np.array(way_step, np.int32), np.concatenate(edges), np.concatenate(dwells),
        np.concatenate(bits), np.concatenate(lasts),
    )  # fmt: skip


def _contexts(edges: Ints, allowed: Ints, last: Bools) -> tuple[Ints, Ints, Ints]:
    """Context (R,) of each step, and per context its stretch (C, 4) and class bit (C,)."""
    steps = len(edges)
    stretch = np.full((steps, 4), -1, np.int64)
    stretch[:, 0] = edges
    over = last.copy()
    for ahead in range(1, min(4, steps)):
        within = ~over[: steps - ahead]
        stretch[: steps - ahead, ahead][within] = edges[ahead:][within]
        over[: steps - ahead] |= last[ahead:]
    width = int(edges.max(initial=0)) + 2
    pair = (stretch[:, 0] + 1) * width + stretch[:, 1] + 1
    rest = ((stretch[:, 2] + 1) * width + stretch[:, 3] + 1) * 256 + allowed
    _, pair_id = np.unique(pair, return_inverse=True)
    rests, rest_id = np.unique(rest, return_inverse=True)
    _, where, context = np.unique(
        pair_id.astype(np.int64) * len(rests) + rest_id, return_index=True, return_inverse=True
    )
    return context.astype(np.int32), stretch[where].astype(np.int32), allowed[where].astype(np.int32)


def new_state(network: Network, streets: Streets, vehicles: int) -> State:
    """Working memory for one thread."""
    lanes, links = len(streets.lane_edge), int(streets.link_first[-1])
    signals, edges = len(network.signals), len(network.edges.ids)
    return State(
        vehicle=np.zeros((vehicles, 5)),
        vehicle_at=np.zeros((vehicles, 2), np.int32),
        lane=np.zeros((lanes, 4)),
        queue=np.zeros((lanes, 8), np.int32),
        ring=np.zeros(int(streets.ring_first[-1]), np.int32),
        ring_out_s=np.zeros(int(streets.ring_first[-1])),
        wheel_prev=np.zeros(lanes + WHEEL, np.int32),
        wheel_next=np.zeros(lanes + WHEEL, np.int32),
        wake_s=np.zeros(lanes),
        lamp=np.zeros(links, np.uint8),
        lamp_since_s=np.zeros(links),
        last_cross_s=np.zeros(len(streets.movement)),
        signal_next_s=np.zeros(signals),
        signal_phase=np.zeros(signals, np.int32),
        signal_plan=np.zeros(signals, np.int32),
        edge_delay_s=np.zeros(edges),
        edge_insertion_s=np.zeros(edges),
        edge_left=np.zeros(edges),
        edge_now=np.zeros(edges, np.int32),
        edge_count=np.zeros(edges, np.int32),
        edge_moving=np.ones(edges),
        edge_s=np.zeros(edges),
        edge_max=np.zeros(edges),
        result=np.zeros(8),
    )
