"""Greens are shifted where what was counted would not pass, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.graph import Network, Programme, ProgrammePhase, Ragged
from scenarios.fitted_greens import BUSY, LEAST_GREEN_S, SATURATION_VPH, SHORT_FRAC, fit_greens, write_fitted_greens
from tests.twin.small_city import small_network


def town(first_s: float, second_s: float) -> Network:
    """Two conflicting approaches of one lane each, a green for either, with yellow and all red between."""
    network = small_network()
    states = (("Gr", first_s), ("yr", 3.0), ("rr", 2.0), ("rG", second_s), ("ry", 3.0), ("rr", 2.0))
    phases = tuple(ProgrammePhase(state, length_s, length_s, length_s) for state, length_s in states)
    signal = replace(network.signals[0], programmes=(Programme("0", "static", 0.0, phases),))
    return replace(network, signals=(signal,))


def flows(network: Network, first_vph: float, second_vph: float) -> np.ndarray:
    by_link = {0: first_vph, 1: second_vph}
    return np.array([by_link.get(int(link), 0.0) for link in network.movements.link])


def test_green_follows_the_flow_that_would_not_pass() -> None:
    network = town(20.0, 50.0)
    fitted = fit_greens(network, 0, flows(network, 900.0, 400.0))
    assert fitted is not None
    assert fitted[0] + fitted[3] == pytest.approx(70.0)
    assert fitted[[1, 2, 4, 5]] == pytest.approx([3.0, 2.0, 3.0, 2.0])
    served = SATURATION_VPH / 80.0 * fitted[[0, 3]]
    assert (served + SATURATION_VPH / 80.0 >= np.array([900.0, 400.0]) / BUSY).all()


def test_a_lane_that_no_green_could_serve_does_not_take_it_all() -> None:
    fitted = fit_greens(town(20.0, 50.0), 0, flows(small_network(), 2500.0, 600.0))
    assert fitted is not None
    assert SATURATION_VPH / 80.0 * fitted[3] >= (1.0 - SHORT_FRAC) * 600.0 - SATURATION_VPH / 80.0


def test_who_gives_way_needs_the_less_green_the_fewer_go_first() -> None:
    """Link 1 is open with link 0 and gives way to it; link 0 is green alone before."""
    network = town(20.0, 50.0)
    states = (("Gr", 20.0), ("Gg", 20.0), ("yy", 3.0), ("rr", 37.0))
    phases = tuple(ProgrammePhase(state, length_s, length_s, length_s) for state, length_s in states)
    signal = replace(network.signals[0], programmes=(Programme("0", "static", 0.0, phases),))
    first = Ragged(np.array([0, 0, 1], np.int32), np.array([0], np.int32))
    moves = replace(network.movements, gives_way_to=first)
    network = replace(network, signals=(signal,), movements=moves)
    assert fit_greens(network, 0, flows(network, 0.0, 250.0)) is None
    fitted = fit_greens(network, 0, flows(network, 400.0, 250.0))
    assert fitted is not None
    assert fitted[1] > 25.0


def test_a_programme_that_lets_everybody_through_stays() -> None:
    network = town(30.0, 40.0)
    assert fit_greens(network, 0, flows(network, 500.0, 600.0)) is None
    assert fit_greens(network, 0, flows(network, 0.0, 0.0)) is None


@settings(max_examples=40, deadline=None)
@given(st.floats(10.0, 60.0), st.floats(10.0, 60.0), st.floats(0.0, 2500.0), st.floats(0.0, 2500.0))
def test_the_cycle_and_the_least_green_are_kept_whatever_is_asked(a: float, b: float, x: float, y: float) -> None:
    network = town(round(a), round(b))
    fitted = fit_greens(network, 0, flows(network, x, y))
    if fitted is not None:
        assert fitted.sum() == pytest.approx(network.signals[0].programmes[0].cycle_s)
        assert fitted.min() >= 2.0
        assert fitted[[0, 3]].min() >= LEAST_GREEN_S
        assert (fitted == np.round(fitted)).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.floats(0.0, 2500.0), st.floats(0.0, 2500.0))
def test_a_green_of_several_phases_lasts_long_enough_as_a_whole(a: int, b: int, x: float, y: float) -> None:
    network = town(20.0, 50.0)
    states = (("Gr", a), ("GG", 3), ("Gr", b), ("yr", 3), ("rr", 2), ("rG", 25), ("ry", 3), ("rr", 2))
    phases = tuple(ProgrammePhase(state, float(s), float(s), float(s)) for state, s in states)
    signal = replace(network.signals[0], programmes=(Programme("0", "static", 0.0, phases),))
    network = replace(network, signals=(signal,))
    fitted = fit_greens(network, 0, flows(network, x, y))
    if fitted is not None:
        assert fitted[:3].sum() >= LEAST_GREEN_S - 1.0
        assert fitted[:3].min() >= 1.0
        assert fitted[3:5] == pytest.approx([3.0, 2.0])
        assert fitted.sum() == pytest.approx(a + b + 38.0)


def test_sumo_files_hold_only_what_was_changed(tmp_path: Path) -> None:
    network = town(20.0, 50.0)
    moves, edge = network.movements, network.lanes.edge
    turns = zip(moves.link, moves.from_lane, moves.to_lane, strict=True)
    route = {int(k): (int(edge[a]), int(edge[b])) for k, a, b in turns}
    path = tmp_path / "fitted.add.xml"
    assert write_fitted_greens(network, [route[0], route[1]], np.array([900.0, 400.0]), path) == (
        network.signals[0].id,
    )
    assert path.read_text().count("<tlLogic") == 1
    assert write_fitted_greens(network, [route[0], route[1]], np.array([100.0, 100.0]), path) == ()
    assert "<tlLogic" not in path.read_text()
