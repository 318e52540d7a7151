from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from networks import graph
from networks.graph import Bools, Floats, Ints, Network
from networks.messages import GuidanceOrder
from signals.guidance import Guidance, GuidanceRules, RouteGuide, to_order
from signals.guidance_kernels import make_fifo, search_from, search_to, travel_at, walk
from signals.route_graph import RouteGraph, build_route_graph
from tests.signals import small_graphs as small
from tests.signals.small_graphs import Road

NOW = 1000.0
# s-a, then the short way over b (1200 m) or the long way over c (1600 m), then t-z
DIAMOND = small.small_network(
    [Road("s", "a", 100), Road("a", "b", 600), Road("b", "t", 600), Road("a", "c", 800), Road("c", "t", 800),
     Road("t", "z", 100)]
)  # fmt: skip
SHORT, LONG = ("sa", "ab", "bt", "tz"), ("sa", "ac", "ct", "tz")


def jam(on: str, speed_mps: float, *, horizons: int = 6, network: Network = DIAMOND) -> Floats:
    speeds = np.full((horizons, len(network.edges.ids)), small.LIMIT_MPS)
    speeds[:, network.edge_index[on]] = speed_mps
    return speeds


def named(guidance: Guidance, network: Network = DIAMOND) -> list[tuple[str, ...]]:
    return [tuple(network.edges.ids[e] for e in route) for route in guidance.routes]


def search(
    found: RouteGraph, origin: int, leave_s: float, times_s: Floats, travel_s: Floats, closed: Bools | None = None
) -> tuple[Floats, Ints]:
    edges, room = travel_s.shape[1], len(found.targets) + 1
    leave, previous = np.empty(edges), np.empty(edges, np.int32)
    search_from(
        origin, leave_s, np.ones(edges, np.bool_), times_s, travel_s, np.zeros(edges),
        np.zeros(edges, np.bool_) if closed is None else closed, found.offsets, found.targets, found.turn_s,
        np.empty(room), np.empty(room, np.int32), leave, previous,
    )  # fmt: skip
    return leave, previous


def test_a_jam_on_the_usual_way_sends_the_car_around_it() -> None:
    guide = RouteGuide(DIAMOND)
    guidance = guide.advise(small.asking(DIAMOND, [(7, "sa", "tz")]), small.speeds_ahead(jam("ab", 2.0)), NOW)
    assert named(guidance) == [LONG]
    assert guidance.expected_s[0] == pytest.approx((100 + 1600 + 100) / 10)
    assert guidance.gain_s[0] == pytest.approx(600 / 2 + 600 / 10 - 160)  # 300 + 60 against 160
    assert guidance.share[0] == 1.0


@pytest.mark.parametrize("speed_mps", [10.0, 6.5])  # 40 s and 8 s slower than the detour: not worth a word
def test_small_gains_are_not_worth_advice(speed_mps: float) -> None:
    guidance = RouteGuide(DIAMOND).advise(
        small.asking(DIAMOND, [(7, "sa", "tz")]), small.speeds_ahead(jam("ab", speed_mps)), NOW
    )
    assert not guidance.routes
    assert guidance.requests == 1


def test_a_jam_that_will_be_gone_on_arrival_is_no_reason() -> None:
    speeds = jam("bt", 1.0)
    speeds[1:, DIAMOND.edge_index["bt"]] = small.LIMIT_MPS
    early = small.asking(DIAMOND, [(7, "sa", "tz")])
    forecast = small.speeds_ahead(speeds, now_s=NOW - 800.0)  # the jam's step ended 500 s ago
    assert not RouteGuide(DIAMOND).advise(early, forecast, NOW).routes
    assert RouteGuide(DIAMOND).advise(early, small.speeds_ahead(jam("bt", 1.0)), NOW).routes


def test_without_a_forecast_the_present_speeds_decide_and_unknown_edges_are_free() -> None:
    state = small.asking(DIAMOND, [(7, "sa", "tz")])
    assert not RouteGuide(DIAMOND).advise(state, None, NOW).routes


def test_only_equipped_cars_that_asked_and_can_still_turn_are_advised() -> None:
    forecast = small.speeds_ahead(jam("ab", 2.0))
    for field, value in (("equipped", False), ("destination_edge", -1), ("kind", 1), ("position_m", 95.0)):
        state = small.asking(DIAMOND, [(7, "sa", "tz")])
        getattr(state.vehicles, field)[:] = value
        assert RouteGuide(DIAMOND).advise(state, forecast, NOW).requests == 0


def test_a_closure_moves_everyone_at_once_even_if_just_advised() -> None:
    guide = RouteGuide(DIAMOND)
    trips = [(k, "sa", "tz") for k in range(50)]
    first = guide.advise(small.asking(DIAMOND, trips), small.speeds_ahead(jam("ab", 2.0)), NOW)
    assert named(first) == [LONG]
    closed = np.zeros(6, np.bool_)
    closed[DIAMOND.edge_index["ct"]] = True
    second = guide.advise(small.asking(DIAMOND, trips), small.speeds_ahead(jam("ab", 2.0)), NOW + 5, closed=closed)
    assert named(second) == [SHORT]
    assert second.vehicles[0] == first.vehicles[0] == 50
    assert np.isinf(second.gain_s[0])
    assert not guide.advise(small.asking(DIAMOND, trips), None, NOW + 10, closed=closed).routes


def test_the_advised_never_exceed_the_spare_capacity_of_the_detour() -> None:
    rules = GuidanceRules(share_window_s=300.0)
    guide = RouteGuide(DIAMOND, rules=rules)
    trips = [(k, "sa", "tz") for k in range(300)]
    flow_vps = 0.35  # of 0.5 veh/s; 90 % usable leaves 0.10 veh/s, 30 cars in 300 s
    speeds = jam("ab", 2.0)
    sent = 0
    for cycle in range(40):
        now_s = NOW + 5.0 * cycle
        guidance = guide.advise(
            small.asking(DIAMOND, trips), small.speeds_ahead(speeds, now_s=now_s, flow_vps=flow_vps), now_s
        )
        sent += int(guidance.vehicles.sum())
        assert (guidance.share <= 1.0).all()
    assert sent == 30
    assert guidance.refused_full == 270


def test_the_second_best_way_takes_what_the_best_cannot() -> None:
    roads = [Road("s", "a", 100), Road("a", "b", 600), Road("b", "t", 600), Road("a", "c", 800), Road("c", "t", 800),
             Road("a", "d", 900), Road("d", "t", 900), Road("t", "z", 100)]  # fmt: skip
    network = small.small_network(roads)
    forecast = small.speeds_ahead(jam("ab", 1.0, network=network), flow_vps=0.35)
    trips = [(k, "sa", "tz") for k in range(100)]
    guidance = RouteGuide(network).advise(small.asking(network, trips), forecast, NOW)
    taken = dict(zip(named(guidance, network), guidance.vehicles.tolist(), strict=True))
    assert taken == {("sa", "ac", "ct", "tz"): 30, ("sa", "ad", "dt", "tz"): 30}
    assert guidance.share.tolist() == pytest.approx([0.3, 0.3])


@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(1.0, 10.0), st.floats(1.0, 10.0)), min_size=30, max_size=60))
def test_noise_does_not_make_a_car_flap(noise: list[tuple[float, float]]) -> None:
    """Wild speeds every 5 s: advice changes at most once in the silence time, always for the gain asked."""
    rules = GuidanceRules()
    guide = RouteGuide(DIAMOND, rules=rules)
    times = []
    for cycle, (short_mps, long_mps) in enumerate(noise):
        now_s = NOW + 5.0 * cycle
        speeds = np.minimum(jam("ab", short_mps), jam("ac", long_mps))
        guidance = guide.advise(
            small.asking(DIAMOND, [(7, "sa", "tz")]), small.speeds_ahead(speeds, now_s=now_s), now_s
        )
        if guidance.routes:
            times.append(now_s)
            before_s = guidance.expected_s[0] + guidance.gain_s[0]
            assert guidance.gain_s[0] >= max(rules.least_gain_s, rules.least_gain_frac * before_s)
    assert all(b - a >= rules.silence_s for a, b in itertools.pairwise(times))


def test_small_noise_never_takes_advice_back() -> None:
    guide, rng = RouteGuide(DIAMOND), np.random.default_rng(1)
    advised = 0
    for cycle in range(200):
        now_s = NOW + 5.0 * cycle
        speeds = np.clip(jam("ab", 3.0) * rng.normal(1.0, 0.05, 6), 0.5, 10.0)
        state = small.asking(DIAMOND, [(7, "sa", "tz")])
        advised += len(guide.advise(state, small.speeds_ahead(speeds, now_s=now_s), now_s).routes)
    assert advised <= 2  # once, and once more when it has been forgotten after a quarter of an hour


def test_the_order_names_connected_edges_from_here_to_there() -> None:
    guidance = RouteGuide(DIAMOND).advise(
        small.asking(DIAMOND, [(7, "sa", "tz")]), small.speeds_ahead(jam("ab", 2.0)), NOW
    )
    order = GuidanceOrder.model_validate_json(to_order(guidance, DIAMOND).model_dump_json())
    assert order.routes[0].route == LONG
    assert (order.routes[0].from_edge, order.routes[0].destination) == ("sa", "tz")
    assert order.valid_until > NOW


def test_edges_closed_to_cars_are_not_in_the_graph() -> None:
    roads = [Road("s", "a", 100), Road("a", "b", 100, graph.BUS), Road("b", "t", 100), Road("a", "c", 900),
             Road("c", "t", 900)]  # fmt: skip
    network = small.small_network(roads)
    found = build_route_graph(network)
    leave, _ = search(found, 0, 0.0, np.zeros(1), found.free_time_s[None])
    assert np.isinf(leave[network.edge_index["ab"]])
    assert leave[network.edge_index["ct"]] == pytest.approx(180.0)


@st.composite
def random_roads(draw: st.DrawFn) -> tuple[Network, Floats]:
    """A network on up to seven nodes and FIFO travel times at three moments."""
    nodes = "abcdefg"[: draw(st.integers(3, 7))]
    pairs = draw(
        st.lists(st.sampled_from(list(itertools.permutations(nodes, 2))), min_size=3, max_size=24, unique=True)
    )
    network = small.small_network([Road(a, b, 100.0) for a, b in pairs])
    travel = draw(
        st.lists(st.lists(st.floats(1.0, 400.0), min_size=len(pairs), max_size=len(pairs)), min_size=3, max_size=3)
    )
    return network, np.array(travel)


@settings(max_examples=60)
@given(random_roads())
def test_static_search_equals_scipy(drawn: tuple[Network, Floats]) -> None:
    network, travel = drawn
    found, cost = build_route_graph(network), travel[0]
    edges = len(cost)
    sources = np.repeat(np.arange(edges), np.diff(found.offsets))
    matrix = csr_array((cost[found.targets] + found.turn_s, (sources, found.targets)), shape=(edges, edges))
    expected = dijkstra(matrix)
    room = len(found.targets) + 1
    for origin in range(edges):
        leave, _ = search(found, origin, 0.0, np.zeros(1), cost[None])
        np.testing.assert_allclose(leave, expected[origin])
        rest, following = np.empty(edges), np.empty(edges, np.int32)
        search_to(
            origin, cost, found.back_offsets, found.back_sources, found.back_turn_s, np.empty(room),
            np.empty(room, np.int32), rest, following,
        )  # fmt: skip
        np.testing.assert_allclose(rest, expected[:, origin])


@settings(max_examples=60)
@given(random_roads(), st.floats(0.0, 900.0), st.floats(0.0, 300.0))
def test_later_departure_never_arrives_earlier_and_routes_are_drivable(
    drawn: tuple[Network, Floats], leave_s: float, wait_s: float
) -> None:
    network, travel = drawn
    found, times_s = build_route_graph(network), np.array([0.0, 300.0, 600.0])
    make_fifo(times_s, travel)
    closed = np.zeros(travel.shape[1], np.bool_)
    closed[-1] = True
    now, previous = search(found, 0, leave_s, times_s, travel, closed)
    later, _ = search(found, 0, leave_s + wait_s, times_s, travel, closed)
    assert (later >= now - 1e-6).all()
    for destination in np.flatnonzero(np.isfinite(now)):
        route = [int(destination)]
        while route[-1] != 0:
            route.append(int(previous[route[-1]]))
        route.reverse()
        for here, ahead in itertools.pairwise(route):
            assert ahead in network.edge_successors[here]
            assert not closed[ahead]
        reached = walk(
            np.array(route, np.int32), leave_s, times_s, travel, closed, found.offsets, found.targets, found.turn_s
        )
        assert reached == pytest.approx(now[destination])


@given(st.floats(0, 1000), st.floats(0, 200), st.lists(st.floats(1, 900), min_size=3, max_size=3))
def test_a_fifo_edge_is_left_in_the_order_it_was_entered(enter_s: float, wait_s: float, seconds: list[float]) -> None:
    times_s, travel = np.array([0.0, 300.0, 600.0]), np.array(seconds)[:, None]
    make_fifo(times_s, travel)
    first = enter_s + travel_at(0, enter_s, times_s, travel)
    second = enter_s + wait_s + travel_at(0, enter_s + wait_s, times_s, travel)
    assert second >= first - 1e-6
