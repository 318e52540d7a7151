"""Map matching: ways against another search, chains against every chain there is, and what comes out."""

from __future__ import annotations

import math
import tempfile
from functools import cache
from itertools import pairwise, product
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.map_matching import Told, drive, measure, noisy
from networks.graph import Network
from networks.readers.sumo import read_sumo
from tests.grids import draw_grid
from twin import map_matching_kernels as kernels
from twin.map_matching import HEAP, MapMatcher, Match, MatcherSettings


@cache
def grid() -> Network:
    """Three by three junctions, 150 m apart, two lanes each way."""
    file = Path(tempfile.mkdtemp(prefix="grid-")) / "grid.net.xml"
    lanes = ("--grid.attach-length", "120", "--default.lanenumber", "2")
    return read_sumo(draw_grid(file, 3, 150, *lanes, "--no-turnarounds", "--no-warnings"))


def graph_of(network: Network, change_m: float) -> nx.DiGraph:
    """Starts of lanes, joined by movements and lane changes."""
    graph = nx.DiGraph()
    lanes, moves = network.lanes, network.movements
    graph.add_nodes_from(range(len(lanes.ids)))
    for source, target, length in zip(moves.from_lane, moves.to_lane, moves.length_m, strict=True):
        graph.add_edge(int(source), int(target), weight=float(lanes.length_m[source] + length))
    for lane in range(len(lanes.ids) - 1):
        if lanes.edge[lane] == lanes.edge[lane + 1]:
            graph.add_edge(lane, lane + 1, weight=change_m)
            graph.add_edge(lane + 1, lane, weight=change_m)
    return graph


def plain_way(
    network: Network, graph: nx.DiGraph, first: tuple[int, float], second: tuple[int, float], rules: MatcherSettings
) -> float:
    """Length by road from one point to another, by networkx."""
    lanes = network.lanes
    (lane, along), (to_lane, to_along) = first, second
    best = math.inf
    share = along / lanes.length_m[lane]
    edge = lanes.edge[lane]
    for beside in range(network.edges.first_lane[edge], network.edges.first_lane[edge + 1]):
        for move in network.lane_movements[beside]:
            target = int(network.movements.to_lane[move])
            out = abs(beside - lane) * rules.change_m + (1 - share) * lanes.length_m[beside]
            out += network.movements.length_m[move]
            try:
                best = min(best, out + nx.dijkstra_path_length(graph, target, to_lane) + to_along)
            except nx.NetworkXNoPath:
                continue
    if edge == lanes.edge[to_lane]:
        forward = to_along - share * lanes.length_m[to_lane]
        if forward >= -rules.slack_m:
            best = min(best, max(forward, 0.0) + abs(lane - to_lane) * rules.change_m)
    return best


places = st.tuples(st.integers(0, 10**6), st.floats(0.0, 1.0))


@settings(max_examples=60)
@given(places, places)
def test_ways_are_the_shortest(first: tuple[int, float], second: tuple[int, float]) -> None:
    network, rules = grid(), MatcherSettings()
    count = len(network.lanes.ids)
    points = [(n % count, share * float(network.lanes.length_m[n % count])) for n, share in (first, second)]
    matcher = MapMatcher(network, rules)
    reached, before = np.empty(count), np.full(count, -1, np.int32)
    heap = np.empty(HEAP), np.empty(HEAP, np.int32)
    kernels.search_ways(*points[0], 1e6, rules.change_m, *matcher._graph, reached, before, *heap)
    way = kernels.way_to(*points[0], *points[1], rules.change_m, rules.slack_m, *matcher._graph[4:6], reached)
    plain = plain_way(network, graph_of(network, rules.change_m), *points, rules)
    assert (way >= kernels.FAR) == math.isinf(plain)
    if math.isfinite(plain):
        assert way == pytest.approx(plain, rel=1e-9, abs=1e-6)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 4), st.sampled_from((2, 6)))
def test_the_chain_found_is_the_best_of_all_chains(seed: int, length: int, every_s: int) -> None:
    network, rng = grid(), np.random.default_rng(seed)
    rules = MatcherSettings(candidates=4, lag=99)
    way = [noisy(one, rng, 6.0) for one in drive(network, rng, 60)[::every_s][:length]]
    matcher = MapMatcher(network, rules)
    steps = [matcher._candidates(one.x_m, one.y_m, math.nan) for one in way]
    found = [match for one in way for match in matcher.note(1, one.at_s, one.x_m, one.y_m)] + matcher.finish(1)
    if any(match.begins for match in found[1:]) or len(found) < len(way):
        return
    graph = graph_of(network, rules.change_m)

    def cost(chain: tuple[int, ...]) -> float:
        total = sum(float(steps[i][2][k]) for i, k in enumerate(chain))
        for i, (a, b) in enumerate(pairwise(chain)):
            first, second = ((int(steps[i + s][0][k]), float(steps[i + s][1][k])) for s, k in ((0, a), (1, b)))
            gone_s = way[i + 1].at_s - way[i].at_s
            length_m = plain_way(network, graph, first, second, rules)
            if length_m > rules.fastest_mps * gone_s + 2 * rules.reach_m:
                return math.inf
            straight_m = math.hypot(way[i + 1].x_m - way[i].x_m, way[i + 1].y_m - way[i].y_m)
            total += abs(length_m - straight_m) / (rules.beta_m + rules.beta_mps * gone_s)
        return total

    best = min(cost(chain) for chain in product(*(range(len(step[0])) for step in steps)))
    chosen = tuple(steps[i][0].tolist().index(match.lane) for i, match in enumerate(found))
    assert cost(chosen) == pytest.approx(best, rel=1e-6)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(0, 8))
def test_every_position_is_decided_once_in_order_whatever_the_lag(seed: int, lag: int) -> None:
    network, rng = grid(), np.random.default_rng(seed)
    way = [noisy(one, rng, 4.0) for one in drive(network, rng, 40)]
    matcher = MapMatcher(network, MatcherSettings(lag=lag))
    matches: list[Match] = []
    for n, one in enumerate(way):
        matches += matcher.note(7, *one[:5])
        assert len(matches) >= n + 1 - lag
        latest = matcher.latest(7)
        if lag:
            assert latest is not None
            assert latest.at_s == one.at_s
    matches += matcher.finish(7)
    assert [match.at_s for match in matches] == [one.at_s for one in way]
    assert matcher.latest(7) is None


def test_exact_positions_come_back_exactly() -> None:
    network = grid()
    for seed in range(5):
        way = drive(network, np.random.default_rng(seed), 120)
        matcher = MapMatcher(network, MatcherSettings(position_m=0.5))
        matches = [match for one in way for match in matcher.note(1, *one[:5])] + matcher.finish(1)
        assert [match.lane for match in matches] == [one.lane for one in way]
        assert not any(match.begins for match in matches[1:])
        for first, second in pairwise(matches):
            lanes = matcher.lanes_between(first, second)
            assert lanes[0] == first.lane
            assert lanes[-1] == second.lane
            assert len(lanes) <= 4


@pytest.mark.parametrize(("every_s", "least"), [(1, 0.97), (10, 0.95), (30, 0.85)])
def test_noisy_positions_find_their_street(every_s: int, least: float) -> None:
    scores = [measure(grid(), seed, every_s, 5.0, 8, 300) for seed in range(3)]
    assert min(score["matched"] for score in scores) > 0.99
    assert np.mean([score["edge"] for score in scores]) > least
    if every_s == 1:
        assert np.mean([score["edge"] for score in scores]) > np.mean([score["nearest_edge"] for score in scores])


def test_positions_off_the_road_late_or_twice_change_nothing() -> None:
    network = grid()
    way = drive(network, np.random.default_rng(1), 30)
    plain, disturbed = MapMatcher(network), MapMatcher(network)
    left = [match for one in way for match in plain.note(1, *one[:5])] + plain.finish(1)
    right: list[Match] = []
    for one in way:
        right += disturbed.note(1, *one[:5])
        right += disturbed.note(1, one.at_s, one.x_m + 9.0, one.y_m)
        right += disturbed.note(1, one.at_s - 5.0, one.x_m, one.y_m)
        right += disturbed.note(1, one.at_s + 0.1, -9e4, 9e4)
    assert left == right + disturbed.finish(1)


def test_a_jump_or_a_long_silence_begins_a_new_trip() -> None:
    network = grid()
    lane = network.lane_index[network.lanes.ids[0]]
    x, y = np.reshape(network.lanes.shape_xy[lane], (-1, 2)).mean(axis=0)
    far = max(
        (np.reshape(network.lanes.shape_xy[k], (-1, 2)).mean(axis=0) for k in range(len(network.lanes.ids))),
        key=lambda place: math.hypot(place[0] - x, place[1] - y),
    )
    matcher = MapMatcher(network, MatcherSettings(lag=10))
    matcher.note(1, 100.0, x, y)
    (before,) = matcher.note(1, 101.0, *far)
    assert before.at_s == 100.0
    (after,) = matcher.note(1, 1000.0, *far)
    assert after.begins
    assert matcher.forget_before(2000.0)[1][0].begins
    assert matcher.forget_before(3000.0) == {}


def test_vehicles_do_not_mix() -> None:
    network = grid()
    ways = [drive(network, np.random.default_rng(seed), 30) for seed in (1, 2)]
    together = MapMatcher(network)
    mixed: dict[int, list[Match]] = {0: [], 1: []}
    for pair in zip(*ways, strict=False):
        for vehicle, one in enumerate(pair):
            mixed[vehicle] += together.note(vehicle, *one[:5])
    for vehicle in (0, 1):
        alone = MapMatcher(network)
        count = min(len(way) for way in ways)
        own: list[Told] = ways[vehicle][:count]
        assert mixed[vehicle] == [match for one in own for match in alone.note(5, *one[:5])]
