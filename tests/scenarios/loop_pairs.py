"""SUMO's own induction loops beside those worked out from positions, read in a process of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from networks.city import Coverage
from networks.graph import Network
from networks.sensors import find_detectors
from scenarios.simulation import RunSpec, Simulation
from scenarios.street_loops import PositionLoops
from scenarios.street_sensors import write_loops


def count_both(network: Network, routes: Path, additional: Path, folder: Path, seconds: int) -> np.ndarray:
    """(detectors, 4): vehicles counted by SUMO and by us, seconds with a vehicle on the loop by SUMO and by us."""
    detectors = find_detectors(network, Coverage(loops=1.0))
    loops = folder / "loops.add.xml"
    write_loops(detectors, network, loops)
    spec = RunSpec(folder / "net.net.xml", (routes,), (additional, loops), seed=3, scratch=folder)
    table = np.zeros((len(detectors), 4))
    with Simulation(spec) as run:
        sumo = run.sumo
        ours = PositionLoops(sumo, network, detectors)
        for _ in range(seconds):
            run.step()
            now_s = float(sumo.simulation.getTime())
            names = sumo.vehicle.getIDList()
            lane = np.array([network.lane_index.get(sumo.vehicle.getLaneID(n), -1) for n in names], np.int32)
            speed = np.array([sumo.vehicle.getSpeed(n) for n in names])
            ours.look(names, lane, speed, np.ones(len(names), np.bool_), now_s)
            for row, d in enumerate(detectors):
                for column, source in enumerate((sumo.inductionloop, ours)):
                    data = source.getVehicleData(d.id)
                    table[row, column] += sum(now_s - 1.0 < x[3] <= now_s for x in data)
                    table[row, 2 + column] += bool(data)
    return table
