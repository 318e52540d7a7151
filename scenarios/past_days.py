"""Days that a city may have lived through: what its forecasters are fitted on until it has recorded days of its own.

Each is a mesoscopic run of a demand drawn around the city's own, as a virtual city draws its day, with seeds that no
virtual city takes. They hold no closure, no rain and no sensor noise.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from networks.city import CityFolder
from networks.graph import Floats, Network
from networks.state import DAY_S, History, TimeGrid
from scenarios.announced import Announced
from scenarios.demand import perturb_demand
from scenarios.edge_run import MESOSCOPIC_OPTIONS, EdgeRun, simulate_edges
from scenarios.kept_arrays import fetch, keep, key_of
from scenarios.simulation import run_in_process

DEMAND_SPREAD = 0.15  # log-spread of the origins' volumes from day to day
FORMAT = 1
_FIRST_SEED = 1_000_001
_NAMES = ("flow_vps", "speed_mps", "edge_vehicles")


def build_past(
    city: CityFolder, network: Network, *, days: int, cache: Path | None, step_s: float = 300.0
) -> tuple[History, ...]:
    """The city's hours on its last `days` working days, oldest first, from `cache` (a folder) where it holds them.

    None for a city without demand. Raises CityError when SUMO cannot load the city, ProcessError when its process
    dies.
    """
    if days <= 0 or not city.routes:
        return ()
    count = max(1, int(np.ceil((city.end_s - city.begin_s) / step_s)))
    key = key_of(city, network, FORMAT, step_s, days, DEMAND_SPREAD, MESOSCOPIC_OPTIONS)
    path = cache / f"past_{key}.npz" if cache is not None else None
    shape = (days, count, len(network.edges.ids))
    kept = fetch(path, _NAMES) if path is not None else None
    if kept is None or kept["flow_vps"].shape != shape:
        kept = run_in_process(_live_through, city, network, step_s, count, days)
        if path is not None:
            keep(path, kept)
    when_s = _working_days_before(city.epoch_s, days)
    used = (kept["flow_vps"].sum(axis=(0, 1)) + kept["edge_vehicles"].sum(axis=(0, 1))) > 0
    valid = np.broadcast_to(used, shape[1:])
    return tuple(
        History(
            TimeGrid(begin_s, step_s, count),
            kept["flow_vps"][day].astype(np.float64),
            kept["speed_mps"][day].astype(np.float64),
            valid.copy(),
        )
        for day, begin_s in enumerate(when_s)
    )


def _live_through(city: CityFolder, network: Network, step_s: float, count: int, days: int) -> dict[str, Floats]:
    """Body of the simulating process."""
    runs = [drive_day(city, network, step_s, count, seed) for seed in range(_FIRST_SEED, _FIRST_SEED + days)]
    return {name: np.stack([getattr(run, name).astype(np.float32) for run in runs]) for name in _NAMES}


def drive_day(
    city: CityFolder, network: Network, step_s: float, count: int, seed: int, announced: Announced | None = None
) -> EdgeRun:
    """A mesoscopic day of a demand drawn from the seed, in this process, which must do nothing else."""
    with tempfile.TemporaryDirectory(prefix="citytwin_past_") as folder:
        routes = perturb_demand(city, seed=seed, spread=DEMAND_SPREAD, out_folder=Path(folder))
        return simulate_edges(city, network, step_s, count, routes, seed, announced)


def _working_days_before(epoch_s: float, days: int) -> list[float]:
    """The same moment on earlier days from Monday to Friday (UTC), oldest first."""
    found: list[float] = []
    back = 0
    while len(found) < days:
        back += 1
        moment = datetime.fromtimestamp(epoch_s, UTC) - timedelta(days=back)
        if moment.weekday() < 5:
            found.insert(0, epoch_s - back * DAY_S)
    return found
