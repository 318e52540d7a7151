"""Every lane knows the stop line ahead of it, and vehicles spread over its links as the shares say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.graph import Network
from networks.readers.sumo import read_sumo
from networks.state import VehicleTable
from signals.controllers.approaches import REACH_M, StopLineMap, build_stop_lines


@pytest.fixture(scope="module")
def network(shared_data: Path) -> Network:
    folder = shared_data / "networks" / "bologna_joined"
    return read_sumo(folder / "net.net.xml.gz", (folder / "tls.add.xml",))


@pytest.fixture(scope="module")
def lines(network: Network) -> StopLineMap:
    return build_stop_lines(network)


def signalised(network: Network) -> np.ndarray:
    """(L,) whether some movement from the lane has a signal."""
    answer = np.zeros(len(network.lanes.ids), bool)
    answer[network.movements.from_lane[network.movements.signal >= 0]] = True
    return answer


def test_a_lane_with_a_signal_at_its_end_is_its_own_approach(network, lines):
    own = signalised(network)
    assert own.any()
    assert (lines.lane[own] == np.flatnonzero(own)).all()
    assert (lines.ahead_m[own] == 0.0).all()
    assert (lines.lane[~own] != np.flatnonzero(~own)).all()


def test_a_lane_further_up_counts_the_way_to_the_nearest_line_it_leads_to(network, lines):
    movements, length_m = network.movements, network.lanes.length_m
    upstream = np.flatnonzero((lines.signal >= 0) & ~signalised(network))
    assert len(upstream)
    for lane in upstream:
        ways = [
            lines.ahead_m[movements.to_lane[m]] + length_m[movements.to_lane[m]] + movements.length_m[m]
            for m in network.lane_movements[int(lane)]
            if lines.signal[movements.to_lane[m]] >= 0
        ]
        assert lines.ahead_m[lane] == pytest.approx(min(ways))
        assert 0.0 < lines.ahead_m[lane] < REACH_M


def test_links_lead_from_approach_lanes_to_receiving_lanes(network, lines):
    for index, signal in enumerate(network.signals):
        first = lines.link_offset[index]
        for link, rows in enumerate(signal.link_movements):
            x = first + link
            if not rows:
                assert (lines.link_lane[x], lines.link_out[x]) == (-1, -1)
                continue
            row = int(rows[0])
            assert lines.link_lane[x] == network.movements.from_lane[row]
            assert lines.link_out[x] == network.movements.to_lane[row]
            assert lines.signal[lines.link_lane[x]] == index
            assert set(lines.link_moves[x].tolist()) <= set(rows)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_picks_follow_the_shares_and_a_vehicle_keeps_its_pick(network, seed):
    rng = np.random.default_rng(seed)
    shares = rng.random(len(network.movements.from_lane))
    lines = build_stop_lines(network, shares)
    several = [a for a in np.flatnonzero(signalised(network)) if (lines.lane_links[a] >= 0).sum() > 1]
    lane = int(rng.choice(several))
    number = rng.integers(-(2**62), 2**62) // 2**40 + np.arange(2000)
    picked = lines.pick_by_share(np.full(2000, lane, np.int32), number)
    assert (picked == lines.pick_by_share(np.full(2000, lane, np.int32), number)).all()
    rows = [int(m) for m in network.lane_movements[lane] if network.movements.signal[m] >= 0]
    expected = np.maximum(shares[rows], 1e-3)
    expected /= expected.sum()
    for row, share in zip(rows, expected, strict=True):
        assert (picked == row).mean() == pytest.approx(share, abs=0.02)


def vehicles(lane: np.ndarray, movement: np.ndarray) -> VehicleTable:
    """One vehicle at the begin of each of these lanes."""
    count = len(lane)
    return VehicleTable(
        id=np.arange(count, dtype=np.int64),
        lane=lane.astype(np.int32),
        position_m=np.zeros(count),
        speed_mps=np.zeros(count),
        kind=np.zeros(count, np.int32),
        movement=movement.astype(np.int32),
        equipped=np.zeros(count, bool),
        destination_edge=np.full(count, -1, np.int32),
        certainty=np.ones(count),
        age_s=np.zeros(count),
    )


def test_a_known_movement_beats_the_shares(network, lines):
    rows = np.flatnonzero(network.movements.signal >= 0)
    table = vehicles(network.movements.from_lane[rows], rows)
    assert (lines.pick_movements(table) == rows).all()


def test_where_a_lane_parts_each_vehicle_comes_to_the_line_that_its_way_leads_to(network, lines):
    moves = network.movements
    upstream = (lines.signal >= 0) & ~signalised(network)
    rows = np.flatnonzero(upstream[moves.from_lane])
    lane, ahead_m = lines.lead(vehicles(moves.from_lane[rows], rows), network)
    after = moves.to_lane[rows]
    at_line = lines.lane[after] == after
    assert at_line.any()
    assert (lane[at_line] == after[at_line]).all()
    assert ahead_m[at_line] == pytest.approx((moves.length_m[rows] + network.lanes.length_m[after])[at_line])
    assert (lane[lines.lane[after] < 0] == -1).all()  # whoever turns off comes to none
    on_line = np.flatnonzero(signalised(network))
    lane, ahead_m = lines.lead(vehicles(on_line, np.full(len(on_line), -1)), network)
    assert (lane == on_line).all()
    assert (ahead_m == 0.0).all()


def test_where_nobody_knows_vehicles_part_by_the_shares(network):
    moves = network.movements
    shares = np.random.default_rng(1).random(len(moves.turn))
    lines = build_stop_lines(network, shares)
    upstream = np.flatnonzero((lines.signal >= 0) & ~signalised(network))
    seen = 0
    for lane in upstream.tolist():
        rows = network.lane_movements[lane].astype(int)
        after = moves.to_lane[rows]
        if (
            len(rows) < 2
            or len(set(after.tolist())) < len(rows)
            or not np.isin(lines.lane[after], [-1, *after]).all()
        ):
            continue
        seen += 1
        found, _ = lines.lead(vehicles(np.full(2000, lane), np.full(2000, -1)), network)
        for row, to in zip(rows.tolist(), after.tolist(), strict=True):
            if lines.lane[to] == to:
                assert (found == to).mean() == pytest.approx(shares[row] / shares[rows].sum(), abs=0.03)
    assert seen
