"""Network and demand -> the static arrays that the mesoscopic kernels run on."""

from __future__ import annotations

import numpy as np

from networks.graph import Bools, Floats, Ints, Network, Ragged, group_rows
from signals.meso_build_kernels import fill_choices
from signals.meso_demand import Demand
from signals.meso_kernels import WHEEL, State, Streets, Traffic

REACTION_S = 0.1  # beyond the desired headway, of a driver without imperfection; fitted, see docs/decisions/meso.md
DAWDLE_S = 0.55  # more of it per unit of imperfection
YELLOW_S_PER_MPS = 0.12  # yellow still used grows with speed above YELLOW_FROM_MPS: who cannot stop drives on
YELLOW_FROM_MPS = 7.0
LEAST_SPACE_M = 2.0
WALKING_MPS = 1.4


def build_streets(network: Network, demand: Demand, saturation_vph: Floats | None) -> Streets:
    """Lanes, boxes and sources as one row space, movements, foes and signal links."""
    lanes, moves, _edges = network.lanes, network.movements, network.edges
    count = len(lanes.ids)
    boxed = _boxed(network)
    origins = np.unique(demand.route.values[demand.route.offsets[:-1]]) if len(demand) else np.zeros(0, np.int32)
    wave_s_per_m = _mean(_keep_s(demand) / demand.space_m, 1.0 / 6.0)
    inner = moves.inner_m[boxed] if len(boxed) else np.zeros(0)
    length = np.concatenate([lanes.length_m, inner, np.zeros(len(origins))])
    limit = np.concatenate([lanes.speed_limit_mps, moves.speed_mps[boxed], np.ones(len(origins))])
    lane = np.stack([np.maximum(length, 1.0), np.maximum(limit, 1.0), length * wave_s_per_m], axis=1)
    lane[count : count + len(boxed), 2] = 0.0
    lane_edge = np.concatenate([lanes.edge, lanes.edge[moves.from_lane[boxed]], origins]).astype(np.int32)
    least_m = max(float(demand.space_m.min()), LEAST_SPACE_M) if len(demand) else 7.5
    size = 2 ** np.ceil(np.log2(length / least_m + 3.0)).astype(np.int64)
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


def _boxed(network: Network) -> Ints:
    """Signalised movements that may wait for a gap inside the junction."""
    moves = network.movements
    if not len(moves.inner_m):
        return np.zeros(0, np.int32)
    return np.flatnonzero((moves.signal >= 0) & (moves.inner_m > 0.0)).astype(np.int32)


def _movement_rows(network: Network, demand: Demand, saturation_vph: Floats | None) -> Floats:
    moves = network.movements
    speed = np.maximum(moves.speed_mps, 1.0)
    accel = _mean(demand.accel_mps2 * (1.0 - 0.5 * demand.sigma), 2.0)
    from_limit = network.lanes.speed_limit_mps[moves.from_lane]
    to_cross_s = np.maximum(np.sqrt(2.0 * moves.length_m / accel), moves.length_m / speed)
    rows = np.zeros((len(speed), 6))
    rows[:, 0] = np.maximum(moves.length_m, 0.1)
    rows[:, 1] = speed
    if saturation_vph is not None:
        rows[:, 2] = np.where(np.isnan(saturation_vph), 0.0, 3600.0 / np.maximum(saturation_vph, 1.0))
    rows[:, 3] = to_cross_s + 1.0
    rows[:, 4] = np.maximum(YELLOW_S_PER_MPS * (np.minimum(speed, from_limit) - YELLOW_FROM_MPS), 0.0)
    rows[:, 5] = 1.0
    return rows


def build_traffic(network: Network, demand: Demand, streets: Streets, begin_s: float) -> Traffic:
    """The demand over the streets; equal routes are shared, lane choices are made ahead."""
    lanes = network.lanes
    first_step, edges, dwell_s, allowed, last = _shared_steps(demand)
    context, stretch, bits = _contexts(edges, allowed, last)
    bound = int((network.edges.first_lane[stretch[:, 0] + 1] - network.edges.first_lane[stretch[:, 0]]).sum())
    first = np.zeros(len(bits) + 1, np.int32)
    lane, move, cost = np.zeros(bound, np.int32), np.zeros(bound, np.int32), np.zeros(bound)
    fill_choices(
        stretch, bits, network.edges.first_lane, lanes.allowed, lanes.length_m, network.lane_movements.offsets,
        network.lane_movements.values, network.movements.to_lane, lanes.edge, first, lane, move, cost,
    )  # fmt: skip
    origin = edges[first_step] if len(demand) else np.zeros(0, np.int32)
    origins = streets.lane_edge[streets.streets + streets.boxes :]
    by_source = group_rows(np.searchsorted(origins, origin).astype(np.int32), len(origins))
    dawdle = 0.5 * demand.sigma * demand.accel_mps2
    start = np.sqrt(2.0 * demand.space_m / demand.accel_mps2) * (0.845 + 0.52 * demand.sigma)
    top = np.maximum(demand.max_speed_mps, dawdle + 1.0)
    vehicle = np.stack(
        [
            demand.space_m, _keep_s(demand), start, 0.5 / demand.accel_mps2, top, dawdle, demand.weight,
            demand.depart_s - begin_s,
        ],
        axis=1,
    )  # fmt: skip
    return Traffic(
        vehicle=vehicle,
        first_step=first_step,
        dwell_s=dwell_s,
        context=context,
        last=last,
        choice_first=first,
        choice_lane=lane[: first[-1]],
        choice_move=move[: first[-1]],
        choice_cost=cost[: first[-1]],
        source_first=by_source.offsets,
        source_vehicle=by_source.values.astype(np.int32),
        source_lane=_rightmost(network, origins),
        start_kind=(demand.rolling_start.astype(np.uint8) + 2 * demand.any_lane.astype(np.uint8)),
    )


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


def _shared_steps(demand: Demand) -> tuple[Ints, Ints, Floats, Ints, Bools]:
    """First step (V,) of each vehicle and the steps (R) of the distinct routes: edge, dwell, class bit, is last."""
    known: dict[bytes, int] = {}
    first_step = np.zeros(len(demand), np.int32)
    edges, dwells, bits, lasts = [], [], [], []
    total = 0
    offsets, values = demand.route.offsets, demand.route.values.astype(np.int32)
    for v in range(len(demand)):
        row = slice(offsets[v], offsets[v + 1])
        key = values[row].tobytes() + demand.dwell_s[row].tobytes() + bytes([int(demand.allowed[v])])
        at = known.get(key)
        if at is None:
            at = known[key] = total
            size = int(offsets[v + 1] - offsets[v])
            edges.append(values[row])
            dwells.append(demand.dwell_s[row])
            bits.append(np.full(size, demand.allowed[v], np.int32))
            lasts.append(np.arange(size) == size - 1)
            total += size
        first_step[v] = at
    if not total:
        return first_step, np.zeros(0, np.int32), np.zeros(0), np.zeros(0, np.int32), np.zeros(0, np.bool_)
    return first_step, np.concatenate(edges), np.concatenate(dwells), np.concatenate(bits), np.concatenate(lasts)


def _contexts(edges: Ints, allowed: Ints, last: Bools) -> tuple[Ints, Ints, Ints]:
    """Context (R,) of each step, and per context its stretch (C, 4) and class bit (C,)."""
    steps = len(edges)
    stretch = np.full((steps, 4), -1, np.int64)
    stretch[:, 0] = edges
    over = last.copy()
    for ahead in range(1, 4):
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
        vehicle=np.zeros((vehicles, 4)),
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
        edge_left=np.zeros(edges),
        edge_now=np.zeros(edges, np.int32),
        edge_max=np.zeros(edges),
        result=np.zeros(10),
    )
