"""Network and demand -> the static arrays that the mesoscopic kernels run on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from networks.graph import STRAIGHT, Bools, Floats, Ints, Network, Ragged, group_rows
from signals.meso_build_kernels import fill_choices
from signals.meso_demand import Demand
from signals.meso_kernels import (
    ASIDE_VEH,
    CHOICE,
    DRIVER,
    EDGE,
    LANE,
    LINK,
    MOVE,
    NEVER,
    RING,
    SIGNAL,
    STEP,
    VEHICLE,
    WALKED,
    WHEEL,
    State,
    Streets,
    Traffic,
)

REACTION_S = 0.1  # beyond the desired headway, of a driver without imperfection; fitted, see docs/decisions/meso.md
DAWDLE_S = 0.55  # more of it per unit of imperfection
YELLOW_S_PER_MPS = 0.12  # yellow still used grows with speed above YELLOW_FROM_MPS: who cannot stop drives on
YELLOW_FROM_MPS = 7.0
LEAST_SPACE_M = 2.0
LEAST_ROOM_M, SHORTEST_ROOM_M = 30.0, 15.0
MINOR_S = 1.5  # what drivers expect giving way to cost when they choose their way
LOOK_AHEAD_S = 1.0  # between a vehicle that gives way and the next that has it, as SUMO asks


def build_streets(
    network: Network, demand: Demand, saturation_vph: Floats | None, walkers_vph: Floats | None
) -> Streets:
    """Lanes, boxes and sources as one row space, movements, foes and signal links."""
    moves = network.movements
    boxed = _boxed(network)
    link_first = np.cumsum([0, *(s.link_count for s in network.signals)]).astype(np.int32)
    link = np.where(moves.signal >= 0, link_first[np.maximum(moves.signal, 0)] + moves.link, -1).astype(np.int32)
    by_link = group_rows(np.where(link >= 0, link, link_first[-1]).astype(np.int32), int(link_first[-1]) + 1)
    foes = moves.gives_way_to if len(moves.gives_way_to) else Ragged(np.zeros(len(link) + 1, np.int32), link[:0])
    lane, ring = _lane_rows(network, demand, boxed)
    move = _movement_rows(network, demand, saturation_vph)
    move["link"] = link
    move["box"] = -1
    move["box"][boxed] = len(network.lanes.ids) + np.arange(len(boxed))
    move["foe_first"], move["foe_end"] = foes.offsets[:-1], foes.offsets[1:]
    crossing, walked, walked_first = _walked_by(network, walkers_vph, link_first)
    return Streets(
        lane=lane,
        streets=len(network.lanes.ids),
        boxes=len(boxed),
        ring=ring,
        move=move,
        foe=foes.values.astype(np.int32),
        crossing=crossing,
        walked=walked,
        walked_first=walked_first,
        link_lane_first=by_link.offsets[: int(link_first[-1]) + 1],
        link_lane=moves.from_lane[by_link.values.astype(np.int64)].astype(np.int32),
        link_first=link_first,
    )


def _lane_rows(network: Network, demand: Demand, boxed: Ints) -> tuple[NDArray[np.void], int]:
    """LANE rows of streets, boxes and sources, and the places that their rings need."""
    lanes, moves = network.lanes, network.movements
    count = len(lanes.ids)
    origins = np.unique(demand.route.values[demand.route.offsets[:-1]]) if len(demand) else np.zeros(0, np.int32)
    wave_s_per_m = _mean(_keep_s(demand) / demand.space_m, 1.0 / 6.0)
    inner_m = moves.inner_m[boxed] if len(boxed) else np.zeros(0)
    length_m = np.concatenate([lanes.length_m, inner_m, np.zeros(len(origins))])
    room_m = _room_m(network, length_m)
    least_m = max(float(demand.space_m.min()), LEAST_SPACE_M) if len(demand) else 7.5
    size = 2 ** np.ceil(np.log2(room_m / least_m + 3.0 + ASIDE_VEH)).astype(np.int64)
    size[count + len(boxed) :] = 1
    rows = _in_lines(len(length_m), LANE)
    rows["length_m"] = np.maximum(length_m, 1.0)
    rows["limit_mps"] = np.maximum(
        np.concatenate([lanes.speed_limit_mps, moves.speed_mps[boxed], np.ones(len(origins))]), 1.0
    )
    rows["hole_s"] = length_m * wave_s_per_m
    rows["hole_s"][count : count + len(boxed)] = 0.0
    rows["room_m"] = room_m
    rows["ring"], rows["mask"] = np.cumsum(size) - size, size - 1
    rows["edge"] = np.concatenate([lanes.edge, lanes.edge[moves.from_lane[boxed]], origins])
    rows["first_try_s"], rows["wake_s"] = NEVER, NEVER
    return rows, int(size.sum())


def _in_lines(count: int, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """Zeroed rows that begin on a pair of cache lines, which processors fetch together."""
    memory = np.zeros(count * dtype.itemsize + 128, np.uint8)
    start = -memory.ctypes.data % 128
    return memory[start : start + count * dtype.itemsize].view(dtype)


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


def _movement_rows(network: Network, demand: Demand, saturation_vph: Floats | None) -> NDArray[np.void]:
    """MOVE rows, all but what signals and junctions say."""
    moves = network.movements
    speed = np.maximum(moves.speed_mps, 1.0)
    from_limit = network.lanes.speed_limit_mps[moves.from_lane]
    inner_m = moves.inner_m if len(moves.inner_m) else np.zeros(len(speed))
    rows = _in_lines(len(speed), MOVE)
    rows["last_s"] = -1e9
    rows["length_m"] = np.maximum(moves.length_m, 0.1)
    rows["speed_mps"] = speed
    if saturation_vph is not None:
        rows["headway_s"] = np.where(np.isnan(saturation_vph), 0.0, 3600.0 / np.maximum(saturation_vph, 1.0))
    rows["gap_s"] = _gap_s(moves.length_m, speed, demand)
    rows["yellow_s"] = np.maximum(YELLOW_S_PER_MPS * (np.minimum(speed, from_limit) - YELLOW_FROM_MPS), 0.0)
    rows["clear_s"] = 1.0
    rows["box_gap_s"] = _gap_s(moves.length_m - inner_m, speed, demand)
    rows["open_frac"] = 1.0
    rows["to"], rows["from"] = moves.to_lane, moves.from_lane
    return rows


def _walked_by(network: Network, walkers_vph: Floats | None, link_first: Ints) -> tuple[Ints, NDArray[np.void], Ints]:
    """Crossing link and signal per movement (M, 2), WALKED rows of those with walkers, and (S+1,) into these.

    A turn gives way to the walkers on a crossing that its path meets (the net's foe matrix); of several to the
    busiest. It feels part of them where the road it enters has more lanes than turn into it (HCM: 0.6).
    """
    moves = network.movements
    crossing = np.full((len(moves.turn), 2), -1, np.int32)
    if walkers_vph is None:
        return crossing, np.zeros(0, WALKED), np.zeros(len(network.signals) + 1, np.int32)
    rows, first = [], [0]
    to_edge = network.lanes.edge[moves.to_lane]
    for s, signal in enumerate(network.signals):
        flow_vph = walkers_vph[link_first[s] : link_first[s + 1]]
        for k, movements in enumerate(signal.link_movements):
            met = np.flatnonzero(signal.pedestrian & signal.foes[k] & (flow_vph > 0.0))
            for m in movements:
                if len(met) == 0 or moves.turn[m] == STRAIGHT:
                    continue
                busiest = int(met[np.argmax(flow_vph[met])])
                crossing[m] = link_first[s] + busiest, s
                source = network.lanes.edge[moves.from_lane[m]]
                beside = (to_edge == to_edge[m]) & (network.lanes.edge[moves.from_lane] == source)
                turning = len(np.unique(moves.to_lane[beside]))
                felt = 1.0 if network.edges.lane_count[to_edge[m]] <= turning else 0.6
                rows.append((flow_vph[busiest], felt, m, crossing[m, 0]))
        first.append(len(rows))
    return crossing, np.array(rows, WALKED), np.array(first, np.int32)


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
    steps = np.zeros(len(edges), STEP)
    steps["choice"], steps["choices"] = first[context], first[context + 1] - first[context]
    steps["edge"], steps["last"], steps["dwell_s"] = edges, last, dwell_s
    steps["turn_s"] = _turn_s(network, edges, last)
    choices = np.zeros(first[-1], CHOICE)
    choices["lane"], choices["move"], choices["cost_s"] = lane[: first[-1]], move[: first[-1]], cost[: first[-1]]
    origin = edges[way_step[way_first[:-1]]]
    origins = streets.lane["edge"][streets.streets + streets.boxes :]
    by_source = group_rows(np.searchsorted(origins, origin).astype(np.int32), len(origins))
    driver, driver_of = np.unique(_driver_rows(demand), return_inverse=True)
    vehicle = _in_lines(len(demand), VEHICLE)
    vehicle["entered_s"] = -NEVER
    vehicle["depart_s"], vehicle["weight"] = demand.depart_s - begin_s, demand.weight
    vehicle["driver"] = driver_of
    return Traffic(
        vehicle=vehicle,
        driver=driver,
        way_first=way_first,
        way_step=way_step,
        step=steps,
        choice=choices,
        source_first=by_source.offsets,
        source_vehicle=by_source.values.astype(np.int32),
        source_lane=_rightmost(network, origins.astype(np.int32)),
    )


def _driver_rows(demand: Demand) -> NDArray[np.void]:
    """DRIVER of each vehicle (V,)."""
    rows = np.zeros(len(demand), DRIVER)
    dawdle_mps = 0.5 * demand.sigma * demand.accel_mps2
    rows["space_m"] = demand.space_m.astype(np.float32)  # as the ring keeps it
    rows["tau_s"], rows["accel_mps2"], rows["dawdle_mps"] = _keep_s(demand), demand.accel_mps2, dawdle_mps
    rows["start_s"] = np.sqrt(2.0 * demand.space_m / demand.accel_mps2) * (0.845 + 0.52 * demand.sigma)
    rows["top_mps"] = np.maximum(demand.max_speed_mps, dawdle_mps + 1.0)
    rows["rolls"], rows["any_lane"] = demand.rolling_start, demand.any_lane
    return rows


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


def new_state(network: Network, streets: Streets, traffic: Traffic) -> State:
    """Working memory for one thread."""
    edge = _in_lines(len(network.edges.ids), EDGE)
    edge["free_s"] = network.edges.length_m / np.maximum(network.edges.speed_limit_mps, 1.0)
    lanes = len(streets.lane)
    state = State(
        vehicle=_in_lines(len(traffic.vehicle), VEHICLE),
        lane=_in_lines(lanes, LANE),
        ring=_in_lines(streets.ring, RING),
        wheel_prev=np.zeros(lanes + WHEEL, np.int32),
        wheel_next=np.zeros(lanes + WHEEL, np.int32),
        link=_in_lines(int(streets.link_first[-1]), LINK),
        move=_in_lines(len(streets.move), MOVE),
        signal=np.zeros(len(network.signals), SIGNAL),
        edge=edge,
        result=np.zeros(8),
        ahead=np.zeros((2048, 3), np.int32),
    )
    state.vehicle[:], state.lane[:], state.move[:] = traffic.vehicle, streets.lane, streets.move
    return state
