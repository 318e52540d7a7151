"""A day of two plans on a tiny city, as SUMO runs it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from networks.city import CityFolder
from networks.errors import InputError
from networks.graph import Network
from networks.readers.sumo import with_plan
from scenarios.retime import Hours, Order, read_scene
from scenarios.retime_check import PROGRAMME
from scenarios.retime_day import breaks_of, retime_day
from scenarios.simulation import RunSpec, run_in_process
from signals.executor import Head
from signals.fixed import own_programmes
from signals.formats.sumo import book_to_sumo
from signals.lamps import GREEN, LampRecord
from signals.retime_day import day_book
from signals.retime_plans import PlanMaker, StageTiming, shipped_timing
from signals.safety import find_change_violations
from tests.scenarios.sumo_lamps import watch_lamps


@pytest.fixture(scope="module")
def order(tiny_city: CityFolder) -> Order:
    return Order(
        tiny_city.network,
        tiny_city.routes,
        tiny_city.begin_s,
        600.0,
        tiny_city.additional,
        seconds=1.0,
        rounds=1,
        workers=1,
    )


def test_sumo_changes_plans_at_the_proven_moment(
    tiny_city: CityFolder, tiny_network: Network, tmp_path: Path
) -> None:
    maker = PlanMaker(tiny_network)
    first, second = dict[int, StageTiming](), dict[int, StageTiming]()
    for n in range(len(tiny_network.signals)):
        timing = shipped_timing(maker, n)
        assert timing is not None
        other = maker.fit(n, timing, maker.cycle_s(n, timing) - 13)
        assert other is not None
        first[n], second[n] = timing, other
    book = day_book(maker, [first, second], [0.0, 150.0], PROGRAMME)
    assert len(book.timetables) == len(tiny_network.signals)
    path = tmp_path / "day.add.xml"
    path.write_text(book_to_sumo(book).text)
    shown = run_in_process(watch_lamps, RunSpec(tiny_city.network, (), (path,), 0.0, 1), 400)
    for timetable in book.timetables:
        name, at_s = timetable.signals[0].signal_id, timetable.switches[0].at_s
        n = tiny_network.signal_index[name]
        lamps = [row[name] for row in shown]
        after = next(p for p in book.programmes if (p.signal_id, p.programme.id) == (name, f"{PROGRAMME}_2"))
        record = LampRecord.start(lamps[0], 0.0)
        for second_s, (before, now) in enumerate(pairwise(lamps), start=1):
            if now != before:
                if second_s > 60:  # whose green began before the first second is not known
                    assert not find_change_violations(tiny_network.signals[n], record, now, float(second_s))
                record = record.then(now, float(second_s))
        into_s = (int(at_s) + 20 - after.programme.offset_s) % after.programme.cycle_s
        for phase in after.programme.phases:
            if into_s < phase.duration_s:
                break
            into_s -= phase.duration_s
        assert lamps[int(at_s) + 20] == phase.state
        assert any(lamp in GREEN for lamp in "".join(lamps))
    for n, signal in enumerate(with_plan(tiny_network, path).signals):  # our own controllers show the same
        head = Head(signal, own_programmes(signal, index=n, epoch_of_zero_s=0.0), 0.0)
        assert [head.step(float(s)) for s in range(400)] == [row[signal.id] for row in shown]


def test_a_day_is_retimed_part_by_part(order: Order) -> None:
    answer = retime_day(order, read_scene(order), (300.0,), Hours(lambda: 0.0, 1.0))
    assert answer.begins_s == (0.0, 300.0)
    assert len(answer.parts) == 2
    assert answer.chosen.mean_s(1.0) <= answer.shipped.mean_s(1.0)
    assert bool(answer.book.programmes) == (answer.chosen.name == "day")


def test_breaks_follow_the_order(order: Order) -> None:
    scene = read_scene(order)
    assert breaks_of(order, scene, "auto") == ()
    assert breaks_of(order, scene, 1) == ()
    assert breaks_of(order, scene, (200.0, 400.0)) == (200.0, 400.0)
    with pytest.raises(InputError, match="--periods"):
        breaks_of(order, scene, (400.0, 200.0))
    with pytest.raises(InputError, match="--periods 3"):
        breaks_of(order, scene, 3)
