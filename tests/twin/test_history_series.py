"""Series from the history of a run: rows hold what was known when they were closed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.recording import Recording
from networks.errors import InputError
from tests.twin import cycles
from tests.twin import small_city as town
from tests.twin.loop_history import CYCLE_S, T0_S, Reading, write_history
from twin.history_series import Cut, Places, holds_history, read_history

EDGES = cycles.NETWORK.edges.ids
LOOPS = tuple(d.id for d in town.DETECTORS)


def read(folder: Path, places: Places, **cut: float) -> Recording:
    ids = EDGES if places is Places.EDGES else LOOPS
    return read_history(folder, places, ids, Cut(step_s=60, **cut))  # type: ignore[arg-type]


def test_edges_have_the_means_of_what_the_twin_knew(tmp_path: Path) -> None:
    write_history(tmp_path / "run", 310, silent=(120, 180))
    edges = read(tmp_path / "run", Places.EDGES)
    assert holds_history(tmp_path / "run")
    assert (edges.places, edges.units) == (EDGES, {"flow": "veh/h", "speed": "km/h"})
    assert (edges.start_s - T0_S).tolist() == [0, 60, 180, 240], "no minute without states, and none that is not over"
    numbers = [[n for n in range(1, 63) if k <= n * CYCLE_S < k + 60] for k in (0, 60, 180, 240)]
    np.testing.assert_allclose(edges.channels["flow"][:, 0], [np.mean(n) / 8 * 3600 for n in numbers], rtol=1e-6)
    np.testing.assert_allclose(edges.channels["speed"], 36.0, rtol=1e-6)


def test_a_reading_counts_in_the_minute_it_is_of_and_only_if_it_came_in_time(tmp_path: Path) -> None:
    punctual = [Reading(at, at + 0.5, count=2) for at in range(5, 121, 5)]
    late = [Reading(125, 240.5, count=9), *(Reading(at, at + 0.5) for at in range(130, 241, 5))]
    write_history(tmp_path / "run", 400, [*punctual, *late])
    loops = read(tmp_path / "run", Places.DETECTORS, lateness_s=30.0)
    assert loops.places == LOOPS
    assert (loops.start_s - T0_S).tolist() == [0, 60, 120, 180]
    np.testing.assert_allclose(loops.channels["flow"][:, 0], [2 * 720, 2 * 720, 720, 720])
    np.testing.assert_allclose(loops.channels["speed"][:, 0], 36.0)
    assert np.isnan(loops.channels["flow"][:, 1:]).all()
    patient = read(tmp_path / "run", Places.DETECTORS, lateness_s=100.0)
    assert patient.channels["flow"][2, 0] == pytest.approx(720 * (11 + 9) / 12)


def test_a_minute_of_which_too_little_came_is_missing(tmp_path: Path) -> None:
    readings = [Reading(at, at, 0, math.nan) for at in range(5, 61, 5)] + [Reading(at, at) for at in range(65, 85, 5)]
    write_history(tmp_path / "run", 200, readings)
    loops = read(tmp_path / "run", Places.DETECTORS)
    assert (loops.start_s - T0_S).tolist() == [0]
    assert loops.channels["flow"][0, 0] == 0
    assert np.isnan(loops.channels["speed"][0, 0]), "nobody came, so nobody had a speed"


@settings(max_examples=6)
@given(data=st.data())
def test_what_comes_later_changes_no_row(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """The series of a history that stopped at some time is the beginning of the series of the whole one."""
    folder = tmp_path_factory.mktemp("runs")
    delay = st.one_of(st.floats(0.0, 5.0), st.floats(0.0, 200.0))
    readings = [Reading(at, at + data.draw(delay), data.draw(st.integers(0, 3))) for at in range(5, 200, 5)]
    stopped = data.draw(st.integers(15, 45)) * CYCLE_S
    lateness_s = data.draw(st.sampled_from([0.0, 10.0, 90.0]))
    write_history(folder / "stopped", stopped, readings, per_segment=99)
    write_history(folder / "whole", 260, readings, per_segment=99)
    for places in Places:
        try:
            before = read(folder / "stopped", places, lateness_s=lateness_s)
        except InputError:
            continue  # nothing was closed yet
        after = read(folder / "whole", places, lateness_s=lateness_s)
        as_of = read(folder / "whole", places, lateness_s=lateness_s, until_s=float(T0_S + stopped))
        for other in (as_of, after):
            rows = len(before.start_s)
            np.testing.assert_array_equal(before.start_s, other.start_s[:rows])
            for channel in ("flow", "speed"):
                np.testing.assert_array_equal(before.channels[channel], other.channels[channel][:rows])
        assert len(as_of.start_s) == len(before.start_s)


def test_a_run_is_told_in_local_time_and_of_its_own_city(tmp_path: Path) -> None:
    write_history(tmp_path / "run", 130)
    local = read_history(tmp_path / "run", Places.EDGES, None, Cut(step_s=60, time_zone="Asia/Shanghai"))
    assert local.start_s[0] == T0_S + 8 * 3600
    assert local.places == ("0", "1", "2", "3")
    with pytest.raises(InputError, match="another city: 4 edges, not 2"):
        read_history(tmp_path / "run", Places.EDGES, ("a", "b"), Cut(step_s=60))
    with pytest.raises(InputError, match="no whole step of 3600 s"):
        read_history(tmp_path / "run", Places.EDGES, None, Cut(step_s=3600))
    with pytest.raises(InputError, match="no whole step"):
        read_history(tmp_path / "run", Places.DETECTORS, None, Cut(step_s=60))
