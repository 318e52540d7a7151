"""Findings about a `Network`: what an engineer should look at before trusting a simulation or a signal plan on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from networks import graph
from networks.findings import Finding, by_severity
from networks.graph import Bools, Floats, Ints, Network, Signal
from networks.intergreen import shipped_gaps

MOTOR = graph.PASSENGER | graph.BUS | graph.TRUCK
ARTERIAL_MPS = 13.8  # 50 km/h
ARTERIAL_LANES = 2
FASTEST_MPS = 36.2  # 130 km/h
SLOWEST_MPS = 2.7  # 10 km/h
SPEED_STEP = 2.5  # ratio of limits of two edges that follow each other straight on
UNEVEN_STOP_M = 3.0
CROSSING_ANGLE = np.radians(45.0)


def find_defects(network: Network) -> tuple[Finding, ...]:
    """All findings, most severe first."""
    checks: tuple[Callable[[Network], Iterator[Finding]], ...] = (
        _no_georeference,
        _unsignalised_arterials,
        _lane_drops,
        _implausible_speeds,
        _speed_steps,
        _dead_ends,
        _unreachable_edges,
        _missing_crossings,
        _uneven_stop_lines,
        _links_without_lamp,
        _signal_programmes,
    )
    return tuple(by_severity([finding for check in checks for finding in check(network)]))


def _no_georeference(network: Network) -> Iterator[Finding]:
    if network.projection is None:
        yield Finding("no_georeference", "note", "", "the network has no place on earth: maps cannot show it")


def _unsignalised_arterials(network: Network) -> Iterator[Finding]:
    edges = network.edges
    arterial = (edges.lane_count >= ARTERIAL_LANES) & (edges.speed_limit_mps >= ARTERIAL_MPS)
    heading = _headings_at_end(network)
    signalised = np.zeros(len(network.nodes), np.bool_)
    signalised[[node for signal in network.signals for node in signal.nodes]] = True
    gives_way = np.zeros(len(network.nodes), np.bool_)
    gives_way[network.movements.node[network.movements.yields]] = True
    incoming = graph.group_rows(edges.to_node, len(network.nodes))
    for node in np.flatnonzero(~signalised & gives_way):
        arms = [int(e) for e in incoming[int(node)] if arterial[e]]
        apart = np.abs(_wrap(heading[arms][:, None] - heading[arms][None, :])) if len(arms) > 1 else np.zeros((1, 1))
        if ((apart > CROSSING_ANGLE) & (apart < np.pi - CROSSING_ANGLE)).any():
            text = f"{len(arms)} arterial approaches meet here without signals"
            yield _at_node(network, int(node), "unsignalised_arterials", "warning", text)


def _lane_drops(network: Network) -> Iterator[Finding]:
    """Motor lanes that end while their neighbours go on."""
    lanes = network.lanes
    has_exit = np.diff(network.lane_movements.offsets) > 0
    motor = (lanes.allowed & MOTOR) > 0
    edge_goes_on = np.zeros(len(network.edges.ids), np.bool_)
    edge_goes_on[lanes.edge[has_exit & motor]] = True
    for lane in np.flatnonzero(motor & ~has_exit & edge_goes_on[lanes.edge]):
        x_m, y_m = _end(network, int(lane))
        text = f"lane {lanes.ids[lane]} ends: its traffic must merge into the lane beside it"
        yield Finding("lane_drop", "note", lanes.ids[lane], text, x_m, y_m)


def _implausible_speeds(network: Network) -> Iterator[Finding]:
    limit = network.edges.speed_limit_mps
    for edge in np.flatnonzero((network.edges.lane_count > 0) & ((limit > FASTEST_MPS) | (limit < SLOWEST_MPS))):
        text = f"speed limit of {limit[edge] * 3.6:.0f} km/h on a motor road"
        yield _on_edge(network, int(edge), "implausible_speed", "warning", text)


def _speed_steps(network: Network) -> Iterator[Finding]:
    moves, limit = network.movements, network.edges.speed_limit_mps
    straight = moves.turn == graph.STRAIGHT
    pairs = np.stack(
        [network.lanes.edge[moves.from_lane[straight]], network.lanes.edge[moves.to_lane[straight]]], axis=1
    )
    motor = network.edges.lane_count > 0
    for a, b in np.unique(pairs, axis=0):
        low, high = sorted((limit[a], limit[b]))
        if motor[a] and motor[b] and low > 0 and high / low > SPEED_STEP:
            text = f"limit changes from {limit[a] * 3.6:.0f} to {limit[b] * 3.6:.0f} km/h straight on"
            yield _on_edge(network, int(a), "speed_step", "note", text)


def _dead_ends(network: Network) -> Iterator[Finding]:
    """Motor edges without an onward movement: a defect where the junction has other exits, else the net's fringe."""
    edges = network.edges
    motor = edges.lane_count > 0
    exits = np.diff(network.edge_successors.offsets)
    outgoing = graph.group_rows(edges.from_node, len(network.nodes))
    fringe = _fringe(network, motor)
    for edge in np.flatnonzero(motor & (exits == 0)):
        node = int(edges.to_node[edge])
        ways = [int(e) for e in outgoing[node] if motor[e]]
        others = [e for e in ways if edges.to_node[e] != edges.from_node[edge]]
        if others and not fringe[node]:
            text = f"no lane of edge {edges.ids[edge]} is connected to any of the {len(others)} exits of its junction"
            yield _on_edge(network, int(edge), "unconnected_edge", "warning", text)
        elif others or not ways:
            yield _on_edge(network, int(edge), "dead_end", "note", "traffic can only leave the network here")


def _unreachable_edges(network: Network) -> Iterator[Finding]:
    """Motor edges that no entry of the network and no part of its core leads to, or that lead to no exit."""
    edges = network.edges
    motor = edges.lane_count > 0
    if not motor.any():
        return
    count = len(edges.ids)
    targets = network.edge_successors
    onward = csr_array((np.ones(len(targets.values), np.int8), targets.values, targets.offsets), shape=(count, count))
    backward = onward.T.tocsr()
    _, component = connected_components(onward, directed=True, connection="strong")
    core = component == np.bincount(component[motor]).argmax()
    fringe = _fringe(network, motor)
    entries, exits = motor & fringe[edges.from_node], motor & fringe[edges.to_node]
    for kind, ways, seeds, text in (
        ("unreachable_edge", onward, entries, "no entry of the network leads to this edge"),
        ("trapped_edge", backward, exits, "traffic on this edge can never leave it for the rest of the network"),
    ):
        for edge in np.flatnonzero(motor & ~_reached(ways, core | seeds)):
            yield _on_edge(network, int(edge), kind, "warning", text)


def _fringe(network: Network, motor: Bools) -> Bools:
    """Nodes (N,) where traffic enters and leaves: one neighbour at most, or one way in, one out, and none through."""
    edges, count = network.edges, len(network.nodes)
    pairs = np.unique(np.stack([edges.from_node[motor], edges.to_node[motor]], axis=1), axis=0)
    neighbours = np.bincount(np.unique(np.sort(pairs, axis=1), axis=0).ravel(), minlength=count)
    ways_in, ways_out = np.bincount(pairs[:, 1], minlength=count), np.bincount(pairs[:, 0], minlength=count)
    crossed = np.bincount(network.movements.node, minlength=count) > 0
    return np.asarray((neighbours <= 1) | (~crossed & (ways_in <= 1) & (ways_out <= 1)))


def _reached(ways: csr_array, seeds: Bools) -> Bools:
    """Edges that some seed leads to, seeds included: one search from an extra vertex that leads to all of them."""
    count = len(seeds)
    first = np.flatnonzero(seeds)
    indices = np.concatenate([ways.indices, first])
    indptr = np.concatenate([ways.indptr, [len(indices)]])
    extended = csr_array((np.ones(len(indices), np.int8), indices, indptr), shape=(count + 1, count + 1))
    order = breadth_first_order(extended, count, directed=True, return_predecessors=False)
    reached = np.zeros(count + 1, np.bool_)
    reached[order] = True
    return np.asarray(reached[:count])


def _missing_crossings(network: Network) -> Iterator[Finding]:
    lanes, edges = network.lanes, network.edges
    if not network.signals:
        return
    walkable = np.zeros(len(edges.ids), np.bool_)
    walkable[lanes.edge[(lanes.allowed & (MOTOR | graph.PEDESTRIAN)) == graph.PEDESTRIAN]] = True
    if not walkable.any():
        yield Finding("no_walking", "note", "", "no sidewalk in the network: signals are planned without walkers")
        return
    for signal in network.signals:
        beside = np.isin(edges.to_node, signal.nodes) & walkable
        if not signal.crossings and beside.any():
            text = "sidewalks lead to this signal but no pedestrian crossing belongs to it"
            yield _at_node(network, signal.nodes[0], "missing_crossing", "warning", text, signal.id)


def _uneven_stop_lines(network: Network) -> Iterator[Finding]:
    lanes, edges = network.lanes, network.edges
    controlled = np.unique(lanes.edge[network.movements.from_lane[network.movements.signal >= 0]])
    heading = _headings_at_end(network)
    for edge in controlled:
        along = np.array([np.cos(heading[edge]), np.sin(heading[edge])])
        members = range(edges.first_lane[edge], edges.first_lane[edge + 1])
        ends = np.array([_end(network, lane) for lane in members if lanes.allowed[lane] & MOTOR])
        if len(ends) > 1 and np.ptp(ends @ along) > UNEVEN_STOP_M:
            text = f"stop lines of one approach lie {np.ptp(ends @ along):.1f} m apart"
            yield _on_edge(network, int(edge), "uneven_stop_lines", "note", text)


def _links_without_lamp(network: Network) -> Iterator[Finding]:
    """Uncontrolled motor movements beside controlled ones of the same lane group."""
    moves, lanes = network.movements, network.lanes
    motor = (lanes.allowed[moves.from_lane] & MOTOR) > 0
    controlled = np.zeros(len(lanes.ids), np.bool_)
    controlled[moves.from_lane[moves.signal >= 0]] = True
    for move in np.flatnonzero((moves.signal < 0) & motor & controlled[moves.from_lane]):
        origin, target = lanes.ids[moves.from_lane[move]], lanes.ids[moves.to_lane[move]]
        text = f"the movement from lane {origin} to {target} has no lamp though others of that lane have"
        x_m, y_m = _end(network, int(moves.from_lane[move]))
        yield Finding("link_without_lamp", "warning", origin, text, x_m, y_m)


def _signal_programmes(network: Network) -> Iterator[Finding]:
    for signal in network.signals:
        for kind, severity, text in _programme_defects(signal):
            yield _at_node(network, signal.nodes[0] if signal.nodes else -1, kind, severity, text, signal.id)


def _programme_defects(signal: Signal) -> Iterator[tuple[str, str, str]]:
    states = [phase.state[: signal.link_count] for phase in signal.programme.phases]
    used = [bool(m) or bool(signal.pedestrian[k]) for k, m in enumerate(signal.link_movements)]
    spare = [k for k, known in enumerate(used) if not known]
    if spare:
        yield "lamp_without_link", "note", f"lamps {_listed(spare)} control no movement and no crossing"
    shared = sorted({k for c in signal.crossings for k in c.links if signal.link_movements[k]})
    if shared:
        yield "shared_lamp", "warning", f"lamps {_listed(shared)} show the same to walkers and to vehicles"
    dark = [k for k in range(signal.link_count) if used[k] and not any(s[k] in "GgoO" for s in states)]
    if dark:
        yield "never_green", "warning", f"links {_listed(dark)} never get green in programme {signal.programme.id}"
    cut = {k for a, b in zip(states, states[1:] + states[:1], strict=True) for k in _cut_off(a, b) if used[k]}
    cut = {k for k in cut if not signal.pedestrian[k]}
    if cut:
        yield "missing_yellow", "warning", f"links {_listed(sorted(cut))} turn from green to red without yellow"
    unsafe = {
        (int(i), int(j)) for s in states for i, j in np.argwhere(signal.foes) if i < j and s[i] == "G" and s[j] == "G"
    }
    if unsafe:
        text = f"links {_listed(sorted(unsafe))} cross or merge but have priority green together"
        yield "unsafe_green", "warning", text
    shortest_s, _ = shipped_gaps(signal.conflicts, signal.programme)
    short = np.argwhere(signal.conflicts & (shortest_s < signal.intergreen_s))
    if len(short):
        i, j = short[0]
        text = (
            f"{len(short)} pairs of links follow each other faster than safe, e.g. {j} opens {shortest_s[i, j]:g} s "
            f"after {i} closed; {signal.intergreen_s[i, j]:g} s are needed"
        )
        yield "short_intergreen", "warning", text


def _cut_off(before: str, after: str) -> list[int]:
    return [k for k, (a, b) in enumerate(zip(before, after, strict=True)) if a in "Gg" and b in "rs"]


def _listed(things: list[int] | list[tuple[int, int]]) -> str:
    shown = ", ".join(str(thing) for thing in things[:5])
    return shown if len(things) <= 5 else f"{shown} and {len(things) - 5} more"


def _headings_at_end(network: Network) -> Floats:
    """Direction (E,) of each edge where it reaches its junction, radians counter-clockwise from east."""
    ends: Ints = network.edges.shape_xy.offsets[1:]
    flat = network.edges.shape_xy.values
    return np.asarray(np.arctan2(flat[ends - 1] - flat[ends - 3], flat[ends - 2] - flat[ends - 4]), np.float64)


def _wrap(angle: Floats) -> Floats:
    return np.asarray((angle + np.pi) % (2 * np.pi) - np.pi)


def _end(network: Network, lane: int) -> tuple[float, float]:
    xy = network.lanes.shape_xy[lane]
    return float(xy[-2]), float(xy[-1])


def _on_edge(network: Network, edge: int, kind: str, severity: str, text: str) -> Finding:
    xy = network.edges.shape_xy[edge].reshape(-1, 2)
    x_m, y_m = xy[len(xy) // 2] if len(xy) > 2 else xy.mean(axis=0)
    return Finding(kind, severity, network.edges.ids[edge], text, float(x_m), float(y_m))


def _at_node(network: Network, node: int, kind: str, severity: str, text: str, subject: str = "") -> Finding:
    x_m, y_m = network.node_xy[node] if node >= 0 else (np.nan, np.nan)
    return Finding(kind, severity, subject or network.nodes[node], text, float(x_m), float(y_m))
