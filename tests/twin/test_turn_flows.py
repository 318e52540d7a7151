"""Flows of movements: what loops count stays, what nobody counts follows, and errors are as large as stated."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from networks.graph import Bools, Floats, Network
from networks.readers.sumo import read_sumo
from tests.grids import draw_grid
from twin.turn_flows import Told, TurnFlows

WINDOW_S = 300.0


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder: Path = tmp_path_factory.mktemp("grid")
    options = ("--grid.attach-length", "150", "--no-turnarounds", "true")
    return read_sumo(draw_grid(folder / "grid.net.xml", 3, 150, *options))


def shares_of(network: Network, rng: np.random.Generator) -> Floats:
    origin = network.movements.from_lane
    weight = rng.uniform(0.2, 1.0, len(origin))
    share: Floats = weight / np.bincount(origin, weight, len(network.lanes.ids))[origin]
    return share


def drive(network: Network, share: Floats, entering_vps: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Random walks of five minutes: rates past each lane's end (L,) and off each edge (E,)."""
    lanes, moves = network.lanes, network.movements
    fed = np.zeros(len(lanes.ids), np.bool_)
    fed[moves.to_lane] = True
    left = np.zeros(len(lanes.ids))
    for gate in np.flatnonzero(~fed):
        for _ in range(rng.poisson(entering_vps * WINDOW_S)):
            lane = int(gate)
            for _ in range(12):
                left[lane] += 1
                ways = network.lane_movements[lane]
                if not len(ways):
                    break
                lane = int(moves.to_lane[rng.choice(ways, p=share[ways])])
    return left / WINDOW_S, np.bincount(lanes.edge, left, len(network.edges.ids)) / WINDOW_S


def told(network: Network, share: Floats, stop_vps: Floats, guess_vps: Floats, guess_frac: float = 0.3) -> Told:
    edges = len(network.edges.ids)
    return Told(
        window_s=WINDOW_S,
        heard_s=WINDOW_S,
        stop_vps=stop_vps,
        entered_vps=np.full(edges, np.nan),
        passed_vps=np.full(edges, np.nan),
        guess_vps=guess_vps,
        guess_frac=np.full(edges, guess_frac),
        lane_frac=1.0 / network.edges.lane_count[network.lanes.edge],
        share=share,
        share_variance=np.zeros(len(share)),
        ends_frac=np.zeros(edges),
        starts_vps=np.zeros(edges),
        turned_vps=np.full(len(share), np.nan),
        kept_vps=np.full(edges, np.nan),
    )


def goes_on(network: Network) -> Bools:
    """(E,) edges that lead somewhere."""
    return np.bincount(network.lanes.edge[network.movements.from_lane], minlength=len(network.edges.ids)) > 0


def test_where_every_stop_line_is_counted_the_ways_out_carry_what_drove_in(grid: Network) -> None:
    rng = np.random.default_rng(5)
    share = shares_of(grid, rng)
    past, flow = drive(grid, share, 0.08, rng)
    guess = np.full(len(flow), 0.1)
    fitted, _ = TurnFlows(grid, ()).solve(told(grid, share, past, guess))
    on = goes_on(grid)
    assert fitted[on] == pytest.approx(flow[on], abs=2.0 / WINDOW_S)
    assert fitted[~on].sum() == pytest.approx(flow[~on].sum(), rel=0.1)


def test_half_the_loops_bring_the_other_half_nearer_and_the_stated_errors_hold(grid: Network) -> None:
    inside: list[Bools] = []
    guessed, found = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        share = shares_of(grid, rng)
        past, flow = drive(grid, share, 0.08, rng)
        counted = rng.random(len(past)) < 0.5
        expected = np.mean([drive(grid, share, 0.08, rng)[1] for _ in range(8)], axis=0)
        guess = expected * np.exp(rng.normal(0.0, 0.3, len(flow)))
        fitted, variance = TurnFlows(grid, ()).solve(told(grid, share, np.where(counted, past, np.nan), guess))
        unseen = ~counted[grid.edges.first_lane[:-1]]
        inside.append((np.abs(fitted - flow) <= 1.645 * np.sqrt(variance))[unseen])
        guessed.append((guess - flow)[unseen])
        found.append((fitted - flow)[unseen])
    covered = float(np.concatenate(inside).mean())
    assert 0.85 <= covered <= 0.97
    assert np.square(np.concatenate(found)).mean() < 0.6 * np.square(np.concatenate(guessed)).mean()


def test_what_a_street_keeps_has_not_left_it(grid: Network) -> None:
    rng = np.random.default_rng(7)
    share = shares_of(grid, rng)
    past, flow = drive(grid, share, 0.08, rng)
    inner = np.flatnonzero(goes_on(grid) & (flow > 0.05))
    edge = int(inner[0])
    own = grid.lanes.edge == edge
    seen = told(grid, share, np.where(own, np.nan, past), np.full(len(flow), 0.1))
    solver, kept = TurnFlows(grid, ()), np.full(len(flow), np.nan)
    kept[edge] = 0.03
    before, after = solver.solve(seen)[0][edge], solver.solve(seen._replace(kept_vps=kept))[0][edge]
    assert before - 0.03 <= after < before - 0.01


def test_turns_that_a_mirror_saw_outweigh_the_usual_ones(grid: Network) -> None:
    solver, on = TurnFlows(grid, ()), goes_on(grid)
    off: list[tuple[float, float]] = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        usual, real = shares_of(grid, rng), shares_of(grid, rng)
        past, flow = drive(grid, real, 0.15, rng)
        guess = np.where(on, flow, flow[~on].mean())
        seen = told(grid, usual, np.full(len(past), np.nan), guess, 0.1)
        mirrored = seen._replace(turned_vps=past[grid.movements.from_lane] * real)
        off.append(
            (
                np.square(solver.solve(seen)[0] - flow)[~on].mean(),
                np.square(solver.solve(mirrored)[0] - flow)[~on].mean(),
            )
        )
    without, with_turns = np.mean(off, axis=0)
    assert with_turns < 0.75 * without


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
@example(0, 0.5, 0.0)
def test_nothing_told_makes_a_flow_negative_or_endless(
    grid: Network, seed: int, counted_frac: float, ends_frac: float
) -> None:
    rng = np.random.default_rng(seed)
    edges = len(grid.edges.ids)
    past = np.where(rng.random(len(grid.lanes.ids)) < counted_frac, rng.exponential(0.2, len(grid.lanes.ids)), np.nan)
    some = replace_odd(told(grid, shares_of(grid, rng), past, rng.exponential(0.1, edges)), ends_frac, rng)
    flow, variance = TurnFlows(grid, ()).solve(some)
    assert np.isfinite(flow).all()
    assert np.isfinite(variance).all()
    assert (flow >= 0).all()
    assert (variance > 0).all()


def replace_odd(some: Told, ends_frac: float, rng: np.random.Generator) -> Told:
    """With trips that end and begin between, and an edge whose guess is nothing."""
    guess = some.guess_vps.copy()
    guess[0] = 0.0
    edges = len(guess)
    return some._replace(
        guess_vps=guess, ends_frac=np.full(edges, ends_frac), starts_vps=rng.exponential(0.05, edges)
    )


def test_trips_that_end_on_the_way_do_not_drive_on(grid: Network) -> None:
    rng = np.random.default_rng(3)
    share = shares_of(grid, rng)
    guess = np.full(len(grid.edges.ids), 0.1)
    some = told(grid, share, np.full(len(grid.lanes.ids), np.nan), guess)
    through, _ = TurnFlows(grid, ()).solve(some)
    ends = np.where(goes_on(grid), 0.9, 0.0)
    fewer, _ = TurnFlows(grid, ()).solve(some._replace(ends_frac=ends))
    out = ~goes_on(grid)
    assert fewer[out].sum() < 0.7 * through[out].sum()


def test_a_network_of_edges_that_lead_nowhere_keeps_its_guess(grid: Network) -> None:
    table = grid.movements
    none = replace(table, **{f.name: getattr(table, f.name)[:0] for f in fields(table) if f.name != "gives_way_to"})
    guess = np.full(len(grid.edges.ids), 0.1)
    unknown = np.full(len(grid.lanes.ids), np.nan)
    flow, variance = TurnFlows(replace(grid, movements=none), ()).solve(told(grid, np.zeros(0), unknown, guess))
    assert flow == pytest.approx(guess)
    assert (variance > 0).all()
