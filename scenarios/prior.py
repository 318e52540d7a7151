"""What a city's own demand file says before any sensor speaks: edge profiles and turning shares.

One mesoscopic run of the demand under the shipped programmes (`edge_run`), in a process of its own, cached on disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from networks.city import CityFolder
from networks.graph import Floats, Network
from networks.state import History, TimeGrid
from scenarios.edge_run import MESOSCOPIC_OPTIONS, EdgeRun, simulate_edges
from scenarios.kept_arrays import fetch, keep, key_of
from scenarios.shares import spread_over_lanes
from scenarios.simulation import run_in_process

FORMAT = 2  # of the cached arrays and of the run that makes them; counts up when either changes


@dataclass(frozen=True, slots=True)
class Prior:
    """Expected traffic over the demand's hours. `valid` is False on edges that the demand never uses."""

    profile: History  # (T, E) flow leaving the edge (arrivals there included) and space-mean speed
    edge_vehicles: Floats  # (T, E) mean number of vehicles on the edge
    departed_vps: Floats  # (T, E) vehicles that begin their trip on the edge
    arrived_vps: Floats  # (T, E) vehicles that end it there
    movement_share: Floats  # (M,) share of the from-lane's vehicles; sums to 1 over each lane that has movements
    movement_vehicles: Floats  # (M,) vehicles of the whole demand that the share rests on; 0: an even split


def build_prior(city: CityFolder, network: Network, *, cache: Path | None, step_s: float = 300.0) -> Prior:
    """The city's prior over [begin_s, end_s], from `cache` (a folder) when it holds one for exactly these files.

    A city without demand gets a prior with nothing valid and even turning shares. Raises CityError when SUMO cannot
    load the city, ProcessError when its process dies.
    """
    count = max(1, int(np.ceil((city.end_s - city.begin_s) / step_s)))
    key = key_of(city, network, FORMAT, step_s, MESOSCOPIC_OPTIONS)
    path = cache / f"prior_{key}.npz" if cache is not None else None
    if path is not None:
        kept = fetch(path, EdgeRun.__slots__)
        if kept is not None and kept["flow_vps"].shape == (count, len(network.edges.ids)):
            return _assemble(city, network, EdgeRun(**kept), step_s)
    if city.routes:
        run = run_in_process(simulate_edges, city, network, step_s, count)
    else:
        nothing = np.zeros((count, len(network.edges.ids)))
        run = EdgeRun(nothing, nothing, nothing, nothing, nothing, np.zeros((0, 2)), np.zeros(0))
    if path is not None:
        keep(path, {name: getattr(run, name) for name in EdgeRun.__slots__})
    return _assemble(city, network, run, step_s)


def _assemble(city: CityFolder, network: Network, run: EdgeRun, step_s: float) -> Prior:
    used = (run.flow_vps.sum(axis=0) + run.edge_vehicles.sum(axis=0)) > 0
    share, vehicles = spread_over_lanes(network, run.pairs.astype(np.int32), run.pair_count)
    grid = TimeGrid(city.epoch_s, step_s, len(run.flow_vps))
    valid = np.broadcast_to(used, run.flow_vps.shape).copy()
    return Prior(
        profile=History(grid, run.flow_vps, run.speed_mps, valid),
        edge_vehicles=run.edge_vehicles,
        departed_vps=run.departed_vps,
        arrived_vps=run.arrived_vps,
        movement_share=share,
        movement_vehicles=vehicles,
    )
