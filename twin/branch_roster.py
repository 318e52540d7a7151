"""Everybody on the road at a snapshot as demand that a mesoscopic run can begin with.

SUMO's mesoscopic model cannot load a microscopic state. It can be told who is where: each vehicle departs at that
second on the edge and at the place where it is, with what is left of its way. Speeds and lanes are lost, and who is
inside a junction begins on the edge behind it. Those who were due by then and are not in yet wait at their entrance.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from networks.city import CityFolder
from scenarios.simulation import Simulation
from twin.mirror_process import restored_run
from twin.mirror_words import Snapshot

PREFIX = "now."


def write_roster(city: CityFolder, snapshot: Snapshot, path: Path) -> int:
    """Write the route file and say how many it holds. In a process of its own: it loads the state."""
    with Simulation(restored_run(city, snapshot, snapshot.seed, path.parent)) as simulation:
        rows = list(_rows(simulation.sumo, snapshot.at_s))
    path.write_text(f"<routes>\n{''.join(rows)}</routes>\n", encoding="utf-8")
    return len(rows)


def _rows(sumo: Any, at_s: float) -> Iterator[str]:
    vehicle = sumo.vehicle
    running = vehicle.getIDList()
    for name in running:
        route, place = vehicle.getRoute(name), vehicle.getRouteIndex(name)
        inside = vehicle.getRoadID(name).startswith(":")
        ahead = route[place + inside :] or route[-1:]
        yield _row(name, vehicle.getTypeID(name), at_s, 0.0 if inside else vehicle.getLanePosition(name), ahead)
    for name in sumo.simulation.getPendingVehicles():
        yield _row(name, vehicle.getTypeID(name), at_s, 0.0, vehicle.getRoute(name))


def _row(name: str, kind: str, at_s: float, position_m: float, route: tuple[str, ...]) -> str:
    shared, _, _ = kind.partition("@")  # SUMO's name for a type that one vehicle has for itself
    return (
        f'<vehicle id={quoteattr(PREFIX + name)} type={quoteattr(shared)} depart="{at_s:.2f}" '
        f'departPos="{position_m:.2f}"><route edges={quoteattr(" ".join(route))}/></vehicle>\n'
    )
