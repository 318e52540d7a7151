"""Days of counts: what is usual, what is expected, and files that say where they are wrong."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from networks.errors import InputError
from networks.graph import Network
from scenarios.loop_days import LoopDays, read_loop_days

MONDAY = date(2024, 1, 8)


def steady_days(count: int = 10, loops: int = 6) -> LoopDays:
    """Consecutive days that are all the same, rising by the hour."""
    days = tuple(MONDAY + timedelta(n) for n in range(count))
    hourly = 100.0 + 40.0 * np.arange(24)[:, None] + 10.0 * np.arange(loops)
    return LoopDays(days, np.arange(loops, dtype=np.int32), np.repeat(hourly[None], count, axis=0))


@given(hour=st.integers(1, 23), seed=st.integers(0, 1000))
def test_nothing_of_the_hour_itself_or_later_is_used(hour: int, seed: int) -> None:
    days = steady_days()
    rng = np.random.default_rng(seed)
    days.count[:] *= rng.uniform(0.7, 1.4, days.count.shape)
    before = days.busier(MONDAY, hour)
    days.count[0, hour:] = rng.uniform(0.0, 900.0, days.count[0, hour:].shape)
    assert np.array_equal(days.busier(MONDAY, hour), before)


def test_a_usual_day_is_expected_as_usual() -> None:
    days = steady_days()
    assert days.busier(MONDAY, 8) == pytest.approx(np.ones(6))


def test_a_day_that_began_busier_is_expected_busier_where_days_persist() -> None:
    days = steady_days()
    for n in range(len(days.days)):
        days.count[n] *= 1.0 + 0.05 * n
    today = days.days[4]
    low, high = days.busier(today, 8), days.busier(days.days[9 if days.days[9].weekday() < 5 else 8], 8)
    assert (high > low).all()


def test_silent_loops_are_expected_as_usual_and_other_day_types_do_not_count() -> None:
    days = steady_days()
    days.count[0, :, 2] = np.nan
    days.count[5:7] = 5000.0  # Saturday and Sunday
    assert days.usual(MONDAY)[8] == pytest.approx(days.count[1, 8])
    assert days.busier(MONDAY, 8) == pytest.approx(np.ones(6))


def test_held_out_loops_change_nothing() -> None:
    days = steady_days()
    kept = np.array([0, 1, 3])
    before = days.only(kept).busier(MONDAY, 8)
    days.count[:, :, [2, 4, 5]] = 0.0
    assert np.array_equal(days.only(kept).busier(MONDAY, 8), before)


def test_a_day_alone_of_its_type_is_refused() -> None:
    with pytest.raises(InputError, match="no other Saturday"):
        steady_days(6).usual(MONDAY + timedelta(5))


def write_folder(folder: Path, loops: str, counts: str) -> Path:
    (folder / "loops.csv").write_text(loops)
    (folder / "loop_counts.csv").write_text(counts)
    return folder


def test_a_folder_is_read(tiny_network: Network, tmp_path: Path) -> None:
    folder = write_folder(
        tmp_path,
        "loop_id,edge,confidence\na,A0B0,high\nb,B0C0,low\nc,A0B0,high\nd,B0B1,high\n",
        "date,hour,loop_id,count\n2024-01-08,7,a,120\n2024-01-08,7,b,9\n2024-01-09,8,d,9000\n2024-01-09,8,a,60\n",
    )
    days = read_loop_days(folder, tiny_network)
    assert [tiny_network.edges.ids[e] for e in days.edge] == ["A0B0", "B0B1"]
    assert days.count[0, 7, 0] == 120
    assert days.count[1, 8, 0] == 60
    assert days.refused == 1
    assert np.isnan(days.count[:, :, 1]).all()  # more than two lanes can pass


@pytest.mark.parametrize(
    ("loops", "counts", "named"),
    [
        ("loop_id,lane\n", "", "loops.csv line 1: no column 'edge'"),
        ("loop_id,edge\na,nowhere\n", "", "line 2: edge: the network has no edge 'nowhere'"),
        ("loop_id,edge\na,A0B0\n", "date,hour,loop_id\n", "no column 'count'"),
        ("loop_id,edge\na,A0B0\n", "date,hour,loop_id,count\nMonday,7,a,1\n", "line 2: date: 'Monday'"),
        ("loop_id,edge\na,A0B0\n", "date,hour,loop_id,count\n2024-01-08,24,a,1\n", "line 2: hour: '24'"),
        ("loop_id,edge\na,A0B0\n", "date,hour,loop_id,count\n2024-01-08,7,a,-1\n", "line 2: count: '-1'"),
        ("loop_id,edge\na,A0B0\n", "date,hour,loop_id,count\n2024-01-08,7,a\n", "line 2: 3 fields"),
        ("loop_id,edge\na,A0B0\n", "date,hour,loop_id,count\n2024-01-08,7,z,1\n", "no count is of a loop"),
    ],
)
def test_a_wrong_folder_is_told_with_line_and_field(
    tiny_network: Network, tmp_path: Path, loops: str, counts: str, named: str
) -> None:
    with pytest.raises(InputError, match=named):
        read_loop_days(write_folder(tmp_path, loops, counts), tiny_network)
