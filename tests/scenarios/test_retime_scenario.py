"""Retiming a tiny city from files to a plan that SUMO runs."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from networks.city import CityFolder
from networks.errors import InputError, NetworkError
from networks.graph import Network
from scenarios.retime import Order, Progress, Retimed, by_price, inactive_signals, retime_scenario, sort_files
from scenarios.retime_check import PROGRAMME, plan_text
from signals.formats import from_sumo
from signals.retime_corridor import corridor_both_ways
from signals.retime_picture import band_frac, busiest_corridor, corridor_of, picture
from signals.retime_plans import StageTiming
from signals.safety import find_violations


@pytest.fixture(scope="module")
def order(tiny_city: CityFolder) -> Order:
    return Order(
        tiny_city.network,
        tiny_city.routes,
        tiny_city.begin_s,
        300.0,
        tiny_city.additional,
        seconds=1.0,
        rounds=2,
        workers=1,
    )


@pytest.fixture(scope="module")
def answer(order: Order) -> Retimed:
    return retime_scenario(order, clock=lambda: 0.0)


def test_the_written_plan_is_proven_and_active(
    order: Order, answer: Retimed, tiny_network: Network, tmp_path: Path
) -> None:
    assert answer.timings
    out = tmp_path / "plan.add.xml"
    out.write_text(plan_text(answer.task.maker, answer.timings) or "")
    assert inactive_signals(order, out) == ()
    assert PROGRAMME in out.read_text()
    for plan in from_sumo(out, tiny_network.signal_index, epoch_of_zero_s=0.0):
        assert not find_violations(replace(plan, valid_from_s=0.0), tiny_network.signals[plan.signal], None)


def test_what_is_chosen_was_measured_no_worse_than_shipped(answer: Retimed) -> None:
    assert answer.chosen.mean_s(1.0) <= answer.shipped.mean_s(1.0)
    assert answer.check_seeds
    assert all(len(values) == len(answer.check_seeds) for values in answer.chosen.delay_s.values())


def test_a_plan_that_tempts_a_lock_must_be_better_by_more_than_luck() -> None:
    """A tenth faster in the runs that there were, but close signals block each other half of the time."""
    assert by_price({0: 1.0, 1: 0.9}, {0: 0.0, 1: 0.5}) == [0, 1]
    assert by_price({0: 1.0, 1: 0.8}, {0: 0.0, 1: 0.5}) == [1, 0]
    assert by_price({3: 1.0, 1: 1.0, 2: 1.0}, {1: 0.0, 2: 0.0, 3: 0.0}) == [1, 2, 3]


def test_equal_seeds_and_rounds_give_equal_plans(order: Order, answer: Retimed) -> None:
    again = retime_scenario(order, clock=lambda: 0.0)
    assert again.timings == answer.timings
    assert again.chosen == answer.chosen


def test_an_interruption_still_chooses(order: Order) -> None:
    def stop(progress: Progress) -> None:
        if progress.part == "searching in SUMO":
            raise KeyboardInterrupt

    answer = retime_scenario(order, stop, clock=lambda: 0.0)
    assert answer.interrupted
    assert answer.check_seeds


def test_time_that_is_used_up_ends_every_part(order: Order) -> None:
    ticks = count(0.0, 0.01)  # each look at the clock costs a hundredth of a second
    answer = retime_scenario(replace(order, rounds=None, seconds=1.0), clock=lambda: next(ticks))
    assert 0 < answer.rounds_model + answer.rounds_street < 100
    assert answer.wall_s < 1.5


def test_a_corridor_is_drawn_before_and_after(order: Order, answer: Retimed) -> None:
    network, maker = answer.network, answer.task.maker
    stops = corridor_of(network, busiest_corridor(network, answer.task.signals, answer.routes))
    assert len(stops) > 1
    assert 0.0 <= band_frac(maker, stops, answer.timings, order.begin_s) <= 1.0
    drawn = picture(maker, stops, answer.timings, order.begin_s, "a < b")
    assert drawn.startswith("<svg")
    assert "a &lt; b" in drawn


def test_a_corridor_gets_its_green_wave(order: Order) -> None:
    edges = ("left0A0", "A0B0", "B0C0", "C0right0")
    wave = replace(order, objective="bandwidth", corridor=edges)
    answer = retime_scenario(wave, clock=lambda: 0.0)
    maker, index = answer.task.maker, answer.network.edge_index
    corridor = corridor_both_ways(answer.network, [index[e] for e in edges], answer.routes)
    assert len(corridor.out) == len(corridor.back) == 3
    assert len({maker.cycle_s(n, answer.timings[n]) for n in corridor.signals}) == 1

    def both(timings: dict[int, StageTiming]) -> float:
        sides = (corridor.out, corridor.back)
        return sum(band_frac(maker, stops, timings, order.begin_s) for stops in sides)

    assert both(answer.timings) > both({})


def test_a_green_wave_needs_two_signals(order: Order) -> None:
    with pytest.raises(InputError, match="fewer than two signals"):
        retime_scenario(replace(order, objective="bandwidth", corridor=("left0A0", "A0A1")))


def test_additional_files_are_told_from_demand(tiny_city: CityFolder) -> None:
    mixed = (*tiny_city.additional, *tiny_city.routes)
    assert sort_files(mixed, ()) == (tiny_city.routes, tiny_city.additional)


def test_files_that_cannot_be_used_are_named(order: Order, tmp_path: Path) -> None:
    torn = tmp_path / "torn.net.xml"
    torn.write_bytes(order.network.read_bytes()[:5000])
    with pytest.raises(NetworkError, match=r"torn\.net\.xml"):
        retime_scenario(replace(order, network=torn))
    with pytest.raises(InputError, match=r"demand\.rou\.xml.*departs"):
        retime_scenario(replace(order, begin_s=5000.0, end_s=6000.0))
