"""A demand driven through SUMO: what every edge counted by the hour, and who was left waiting to enter."""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from networks.city import CityFolder
from networks.errors import ProcessError
from networks.graph import Floats, Network
from scenarios.edge_run import MESOSCOPIC_OPTIONS
from scenarios.simulation import RunSpec, Simulation, run_in_process

HOUR_S = 3600.0
# Two things lock up a city of SUMO drivers for good, and no real one: whoever stands inside a junction holds up those
# who cross, and whoever does not get onto the lane of its turn stands at the end of another. Seconds until that ends:
JUNCTION_BLOCKER = ("--ignore-junction-blocker", "15")
WRONG_LANE = ("--time-to-teleport.highways", "120", "--time-to-teleport.highways.min-speed", "0")


@dataclass(frozen=True, slots=True)
class Replayed:
    """Vehicles that entered an edge or began on it, by hour (H, E), and vehicles at the end."""

    count: Floats
    begun: Floats  # of them those that began there
    due: int  # departures scheduled in the run
    pending: int  # of them not yet in the network when it ended
    teleports: int


def replay(
    city: CityFolder,
    network: Network,
    routes: Sequence[Path],
    *,
    begin_s: float,
    end_s: float,
    seed: int,
    mesoscopic: bool,
    rides: Path | None = None,
    plans: Sequence[Path] = (),
) -> Replayed:
    """Drive `routes` from clock second to clock second under the city's programmes, and count by whole hours.

    Hours begin at full clock hours; an earlier `begin_s` warms up. Nobody is taken out of a jam; in
    the microscopic model whoever stands on a wrong lane for two minutes is set ahead, and counted in `teleports`.
    `rides`: SUMO's route output goes there. `plans`: SUMO additional files of programmes in place of the city's.

    Raises CityError, ProcessError.
    """
    with tempfile.TemporaryDirectory(prefix="citytwin_replay_") as folder:
        out = Path(folder) / "edges.xml"
        meter = Path(folder) / "meter.add.xml"
        meter.write_text(
            f'<additional><edgeData id="e" file={quoteattr(str(out))} period="3600" begin="0"/></additional>'
        )
        extra = MESOSCOPIC_OPTIONS if mesoscopic else ("--ignore-route-errors", *JUNCTION_BLOCKER, *WRONG_LANE)
        if rides is not None:
            extra = (*extra, "--vehroute-output", str(rides), "--vehroute-output.exit-times")
        spec = RunSpec(
            network=city.network,
            routes=tuple(routes),
            additional=(*city.additions, *plans, meter),
            begin_s=begin_s,
            seed=seed,
            mesoscopic=mesoscopic,
            extra=extra,
        )
        due, pending, teleports = run_in_process(_drive, spec, end_s)
        count, begun = _read(out, network, begin_s, end_s)
    return Replayed(count, begun, due, pending, teleports)


def _drive(spec: RunSpec, end_s: float) -> tuple[int, int, int]:
    due = teleports = 0
    with Simulation(spec) as simulation:
        sumo = simulation.sumo
        while simulation.now_s < end_s:
            simulation.step()
            due += sumo.simulation.getDepartedNumber()
            teleports += sumo.simulation.getStartingTeleportNumber()
        pending = len(sumo.simulation.getPendingVehicles())
    return due + pending, pending, teleports


def _read(path: Path, network: Network, begin_s: float, end_s: float) -> tuple[Floats, Floats]:
    hours = range(int(np.ceil(begin_s / HOUR_S)), int(end_s // HOUR_S))
    count, begun = (np.zeros((len(hours), len(network.edges.ids))) for _ in range(2))
    if not path.exists():
        raise ProcessError("SUMO wrote no counts of edges")
    for _, interval in ET.iterparse(path):
        if interval.tag != "interval":
            continue
        hour = int(float(interval.attrib["begin"]) // HOUR_S)
        if hour in hours:
            for edge in interval.iter("edge"):
                at = network.edge_index.get(edge.attrib["id"])
                if at is not None:
                    departed = float(edge.get("departed", 0))
                    count[hour - hours.start, at] += float(edge.get("entered", 0)) + departed
                    begun[hour - hours.start, at] += departed
        interval.clear()
    return count, begun
