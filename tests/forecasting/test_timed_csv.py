"""CSV files that say when: what a spreadsheet or pandas writes is read, and what is wrong is named by its line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forecasting.reading import Unsaid, read_recording, read_series
from forecasting.recording import Recording
from networks.errors import InputError
from tests.forecasting.cities import MONDAY


def read(folder: Path, text: str, **unsaid: object) -> Recording:
    path = folder / "counts.csv"
    path.write_text(text, encoding="utf-8")
    return read_recording(path, Unsaid(**unsaid))  # type: ignore[arg-type]


WIDE = "time,D1,D2\n2026-01-05T00:00:00,120,88\n2026-01-05T00:05:00,0,\n2026-01-05T00:20:00,90,70\n"


def test_a_wide_file_keeps_names_times_zeros_and_gaps(tmp_path: Path) -> None:
    counts = read(tmp_path, WIDE)
    assert (counts.places, counts.step_s, counts.target, counts.time_zone) == (("D1", "D2"), 300, "flow", "")
    assert (counts.start_s - MONDAY).tolist() == [0, 300, 1200], "rows that are missing are a gap"
    np.testing.assert_array_equal(counts.channels["flow"], [[120, 88], [0, np.nan], [90, 70]])
    series = read_series(tmp_path / "counts.csv", channel="speed")
    assert series.quantity == "speed"
    assert series.place_names() == ("D1", "D2")


def test_a_long_file_has_a_channel_a_column(tmp_path: Path) -> None:
    counts = read(
        tmp_path,
        "time,place,flow,speed\n2026-01-05 00:05,b,7,\n2026-01-05 00:00,a,5,50.5\n2026-01-05 00:10,a,0,\n",
    )
    assert counts.places == ("b", "a")
    np.testing.assert_array_equal(counts.channels["flow"], [[np.nan, 5], [7, np.nan], [np.nan, 0]])
    np.testing.assert_array_equal(counts.channels["speed"], [[np.nan, 50.5], [np.nan, np.nan], [np.nan, np.nan]])
    single = read(tmp_path, "time,sensor,value\n2026-01-05,a,5\n2026-01-06,a,6\n", channel="speed")
    assert (single.target, single.step_s) == ("speed", 86400)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_wide_and_long_say_the_same(tmp_path: Path, data: st.DataObject) -> None:
    cell = st.one_of(st.none(), st.integers(0, 5000))
    steps = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=6).filter(lambda s: 1 in s[1:]))
    table = np.array([[data.draw(cell) for _ in range(3)] for _ in steps], float)
    table[:, 0] = np.arange(len(steps))  # of a row that is empty a long file says nothing
    times = pd.to_datetime(MONDAY + 900 * np.cumsum(steps), unit="s")
    frame = pd.DataFrame(table, index=times, columns=["a", "b", "c"])
    frame.to_csv(tmp_path / "wide.csv")
    long = frame.stack().rename_axis(["time", "place"]).rename("value")
    long.sample(frac=1.0, random_state=0).sort_index(level=data.draw(st.integers(0, 1))).to_csv(tmp_path / "long.csv")
    wide, other = (read_recording(tmp_path / f"{name}.csv", Unsaid()) for name in ("wide", "long"))
    np.testing.assert_array_equal(wide.start_s, MONDAY + 900 * np.cumsum(steps))
    np.testing.assert_array_equal(wide.start_s, other.start_s)
    np.testing.assert_array_equal(wide.channels["flow"], table)
    for k, place in enumerate(wide.places):
        if place in other.places:
            np.testing.assert_array_equal(other.channels["flow"][:, other.places.index(place)], table[:, k])
        else:
            assert np.isnan(table[:, k]).all()


def test_instants_are_told_in_local_time(tmp_path: Path) -> None:
    epoch = f"time,D1\n{MONDAY},1\n{MONDAY + 300},2\n"
    assert read(tmp_path, epoch).start_s[0] == MONDAY
    beijing = read(tmp_path, epoch, time_zone="Asia/Shanghai")
    assert (beijing.start_s[0] - MONDAY, beijing.time_zone) == (8 * 3600, "Asia/Shanghai")
    written = "time,D1\n2026-01-05T08:00:00+08:00,1\n2026-01-05T08:05:00+08:00,2\n"
    as_written = read(tmp_path, written)
    assert (as_written.start_s[0] - MONDAY, as_written.time_zone) == (8 * 3600, "+08:00")
    assert read(tmp_path, written, time_zone="UTC").start_s[0] == MONDAY


def test_the_hour_that_autumn_repeats_is_kept_once(tmp_path: Path) -> None:
    hours = ["02:00:00+02:00", "02:30:00+02:00", "02:00:00+01:00", "02:30:00+01:00", "03:00:00+01:00"]
    text = "time,D1\n" + "".join(f"2026-10-25T{hour},{k}\n" for k, hour in enumerate(hours))
    berlin = read(tmp_path, text, time_zone="Europe/Berlin")
    assert berlin.channels["flow"].ravel().tolist() == [0, 1, 4]
    assert np.diff(berlin.start_s).tolist() == [1800, 1800]
    with pytest.raises(InputError, match="line 4: time: another offset"):
        read(tmp_path, text)


def test_a_null_rule_makes_a_number_missing(tmp_path: Path) -> None:
    text = WIDE.replace("88", "-1")
    with pytest.raises(InputError, match="line 2: D2: -1 is no reading"):
        read(tmp_path, text)
    assert np.isnan(read(tmp_path, text, null=-1.0).channels["flow"][0, 1])


def test_gzip_byte_order_marks_and_blank_lines_are_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "counts.csv.gz"
    path.write_bytes(gzip.compress(("\ufeff" + WIDE.replace("\n", "\r\n") + "\r\n").encode()))
    np.testing.assert_array_equal(
        read_recording(path, Unsaid()).channels["flow"], read(tmp_path, WIDE).channels["flow"]
    )
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InputError, match=r"counts\.csv\.gz: not readable"):
        read_recording(path, Unsaid())


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "is empty"),
        ("time,D1\n", "no row beside its header"),
        ("time,D1\n2026-01-05,1\n", "single time"),
        ("time,D1,D1\n2026-01-05,1,2\n", "line 1: two columns are called 'D1'"),
        (WIDE.replace("00:20", "00:05"), "line 4: time: 2026-01-05T00:05:00 is there already, in line 3"),
        (WIDE.replace("00:20", "00:04"), "line 4: time: .* is before the time above it"),
        (WIDE.replace("00:20", "00:12"), "line 4: time: 420 s after the time before, with steps of 300 s"),
        (WIDE.replace("2026-01-05T00:20:00", "soon"), "line 4: time: 'soon' is neither"),
        (WIDE.replace("2026-01-05T00:20:00", ""), "line 4: time: is empty"),
        (WIDE.replace("00:20:00", "00:20:00Z"), "line 4: time: has an offset from UTC or not"),
        (WIDE.replace("00:20:00", "00:20:00.5"), "line 4: time: is no whole second"),
        (WIDE.replace("88", "many"), "line 2: D2: 'many' is no number"),
        (WIDE.replace("88", "inf"), "line 2: D2: inf is no reading"),
        (WIDE.replace("88", "88,1"), "line 2"),
        ("time,D1\n300,1\n600,2\n", "line 2: time: 300 is no epoch second"),
        ("time,D1\n1767571200000,1\n1767571500000,2\n", "line 2: time: 1767571200000 is no epoch second"),
        ("time,place,value\n2026-01-05,a,1\n2026-01-06,b,2\n2026-01-05,a,3\n", "line 4: time of a: .* in line 2"),
        ("time,place,value\n2026-01-05,a,1\n2026-01-06,,2\n", "line 3: place: is empty"),
        ("time,place\n2026-01-05,a\n2026-01-06,b\n", "no column of numbers"),
    ],
)
def test_what_is_wrong_is_named_by_line_and_column(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(InputError, match=rf"counts\.csv:? .*{named}"):
        read(tmp_path, text)


def test_a_file_without_times_is_read_as_before(tmp_path: Path) -> None:
    plain = read(tmp_path, "weekday,D1,D2\nMon,1,2\nMon,3,0\n", step_s=600)
    assert (plain.places, plain.step_s) == (("0", "1"), 600)
    np.testing.assert_array_equal(plain.channels["flow"], [[1, 2], [3, np.nan]])
