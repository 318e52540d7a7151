"""What a city's own demand file says before any sensor speaks: edge profiles and turning shares.

One mesoscopic SUMO run of the demand under the shipped programmes, in a process of its own, cached on disk. The
model: link transmission with junction control and a small penalty at minor links. Against two microscopic runs of
the hour of Bologna it had 90 % of edge flows within GEH 5 (plain mesoscopic: 75 %; the other microscopic run: 96 %).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from networks.city import CityFolder
from networks.graph import Floats, Network
from networks.state import History, TimeGrid
from scenarios.passages import UNCOUNTED, Passages
from scenarios.shares import spread_over_lanes
from scenarios.simulation import RunSpec, Simulation, run_in_process

# Cyclists' routes may use connections that the mesoscopic model lacks: they are taken out, and must not stop the run.
MESOSCOPIC_OPTIONS = ("--meso-junction-control", "--meso-ltm", "--meso-minor-penalty", "2", "--ignore-route-errors")
LOOK_EVERY_S = 5.0
SEED = 8  # any fixed number: the prior of a city is one and the same thing for everybody
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


@dataclass(frozen=True, slots=True)
class _Run:
    """What the simulating process hands back."""

    flow_vps: Floats  # (T, E)
    speed_mps: Floats  # (T, E)
    edge_vehicles: Floats  # (T, E)
    departed_vps: Floats  # (T, E)
    arrived_vps: Floats  # (T, E)
    pairs: Floats  # (P, 2) consecutive edges of routes
    pair_count: Floats  # (P,)


def build_prior(city: CityFolder, network: Network, *, cache: Path | None, step_s: float = 300.0) -> Prior:
    """The city's prior over [begin_s, end_s], from `cache` (a folder) when it holds one for exactly these files.

    A city without demand gets a prior with nothing valid and even turning shares. Raises CityError when SUMO cannot
    load the city, ProcessError when its process dies.
    """
    count = max(1, int(np.ceil((city.end_s - city.begin_s) / step_s)))
    path = cache / f"prior_{_key(city, network, step_s)}.npz" if cache is not None else None
    if path is not None:
        kept = _load(path, (count, len(network.edges.ids)))
        if kept is not None:
            return _assemble(city, network, kept, step_s)
    if city.routes:
        run = run_in_process(_simulate, city, network, step_s, count)
    else:
        nothing = np.zeros((count, len(network.edges.ids)))
        run = _Run(nothing, nothing, nothing, nothing, nothing, np.zeros((0, 2)), np.zeros(0))
    if path is not None:
        _store(path, run)
    return _assemble(city, network, run, step_s)


def _simulate(city: CityFolder, network: Network, step_s: float, count: int) -> _Run:
    """Body of the simulating process."""
    spec = RunSpec(
        network=city.network,
        routes=city.routes,
        additional=city.additional + city.programmes,
        begin_s=city.begin_s,
        seed=SEED,
        mesoscopic=True,
        extra=MESOSCOPIC_OPTIONS,
    )
    edges = len(network.edges.ids)
    flow_vps, departed_vps, arrived_vps = (np.zeros((count, edges)) for _ in range(3))
    vehicles = np.zeros((count, edges))
    pair_count: dict[tuple[int, int], int] = {}
    with Simulation(spec) as simulation:
        passages = Passages(simulation.sumo, network)
        next_look_s = city.begin_s + LOOK_EVERY_S
        _remove_uncounted(simulation.sumo)
        while simulation.now_s < city.end_s:
            simulation.step()
            _remove_uncounted(simulation.sumo)
            for vehicle in passages.note_step():
                route = passages.rides[vehicle].route
                for pair in pairwise(route):
                    pair_count[pair] = pair_count.get(pair, 0) + 1
            if simulation.now_s < min(next_look_s, city.end_s):
                continue
            next_look_s += LOOK_EVERY_S
            passages.look()
            row = min(count - 1, int((simulation.now_s - 0.5 - city.begin_s) / step_s))
            for target, counted in zip((flow_vps, departed_vps, arrived_vps), passages.take(), strict=True):
                target[row] += counted
            for ride in passages.rides.values():
                vehicles[row, ride.route[ride.at]] += 1
    seconds = np.full(count, step_s)
    seconds[-1] = city.end_s - city.begin_s - (count - 1) * step_s
    driven_m = flow_vps * _length_with_junction(network)  # still vehicles: `flow_vps` becomes a rate below
    limit_mps = network.edges.speed_limit_mps
    speed_mps = np.where(vehicles > 0, driven_m / (np.maximum(vehicles, 1) * LOOK_EVERY_S), limit_mps)
    return _Run(
        flow_vps / seconds[:, None],
        np.minimum(speed_mps, limit_mps),
        vehicles * LOOK_EVERY_S / seconds[:, None],
        departed_vps / seconds[:, None],
        arrived_vps / seconds[:, None],
        np.array(sorted(pair_count), np.float64).reshape(-1, 2),
        np.array([pair_count[p] for p in sorted(pair_count)], np.float64),
    )


def _remove_uncounted(sumo: Any) -> None:
    for vehicle in sumo.simulation.getLoadedIDList():
        with suppress(sumo.TraCIException):  # SUMO itself has dropped one without a route
            if sumo.vehicle.getVehicleClass(vehicle) in UNCOUNTED:
                sumo.vehicle.remove(vehicle)


def _length_with_junction(network: Network) -> Floats:
    """(E,) with the mean way through the junction: a vehicle counts on its edge until it enters the next."""
    movements, lanes = network.movements, network.lanes
    edge = lanes.edge[movements.from_lane]
    ways = np.bincount(edge, minlength=len(network.edges.ids))
    inside_m = np.bincount(edge, movements.length_m, minlength=len(network.edges.ids))
    return network.edges.length_m + inside_m / np.maximum(ways, 1)


def _assemble(city: CityFolder, network: Network, run: _Run, step_s: float) -> Prior:
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


def _key(city: CityFolder, network: Network, step_s: float) -> str:
    digest = hashlib.sha256()
    facts = (FORMAT, version("libsumo"), network.fingerprint, city.begin_s, city.end_s, step_s, MESOSCOPIC_OPTIONS)
    digest.update(repr(facts).encode())
    for path in (city.network, *city.routes, *city.additional, *city.programmes):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:24]


def _store(path: Path, run: _Run) -> None:
    """Write beside, then rename: a reader never meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez_compressed(file, **{name: getattr(run, name) for name in _Run.__slots__})
        Path(beside).replace(path)
    finally:
        Path(beside).unlink(missing_ok=True)


def _load(path: Path, shape: tuple[int, int]) -> _Run | None:
    """The cached run, or None when there is none or it is damaged (then it is made again)."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            run = _Run(**{name: file[name] for name in _Run.__slots__})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return run if run.flow_vps.shape == shape else None
