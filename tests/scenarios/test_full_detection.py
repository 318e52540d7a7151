"""With full detection the state tells of every vehicle on the road, inside junctions too."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from networks.city import CityFolder
from networks.graph import Network
from scenarios.full_detection import FullDetection
from scenarios.simulation import RunSpec, Simulation, run_in_process
from signals.controllers.approaches import build_stop_lines


def told_and_there(network: Network, routes: Path, additional: Path, folder: Path, seconds: int) -> np.ndarray:
    """(seconds, 4): vehicles told, and there, those inside junctions, greatest error of the way to the line in m."""
    spec = RunSpec(folder / "net.net.xml", (routes,), (additional,), seed=3, scratch=folder)
    table = np.zeros((seconds, 4))
    lines = build_stop_lines(network)
    with Simulation(spec) as run:
        sumo = run.sumo
        street = FullDetection(sumo, network, lines, [False] * len(network.signals))
        for second in range(seconds):
            run.step()
            street.look(float(second))
            told = street.state(float(second)).vehicles
            there = [v for v in sumo.vehicle.getIDList() if not sumo.vehicle.isStopped(v)]
            lane, ahead_m = lines.lead(told, network)
            known = (lane >= 0) & (lines.known_movements(told) >= 0)
            way_m = np.sort((network.lanes.length_m[told.lane] - told.position_m + ahead_m)[known])
            ahead = [a[0] for v in there if (a := sumo.vehicle.getNextTLS(v))]
            apart_m = [np.abs(np.array([a[2] for a in ahead]) - way).min() for way in way_m.tolist()]
            table[second] = len(told.lane), len(there), (told.position_m < 0.0).sum(), max(apart_m, default=0.0)
    return table


def test_everybody_is_told_of_and_at_his_distance(tiny_city: CityFolder, tiny_network: Network, tmp_path: Path):
    shutil.copy(tiny_city.network, tmp_path / "net.net.xml")
    table = run_in_process(told_and_there, tiny_network, tiny_city.routes[0], tiny_city.additional[0], tmp_path, 200)
    assert (table[:, 0] == table[:, 1]).all()
    assert table[:, 1].max() > 20
    assert table[:, 2].max() > 0
    assert table[:, 3].max() < 1.0
