"""Closures, limits and rain that are known in advance, and how they act on a mesoscopic run."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from networks.graph import Network
from scenarios.weather import RainyDriving


class SlowEdge(NamedTuple):
    """An edge closed as a whole (`limit_mps` 0) or with a lower limit, between two epoch seconds."""

    edge: int
    limit_mps: float
    begin_s: float
    end_s: float


class Shower(NamedTuple):
    """Rain over the whole city, between two epoch seconds."""

    rain_mm_h: float
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Announced:
    """What is known in advance."""

    edges: tuple[SlowEdge, ...] = ()
    showers: tuple[Shower, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.edges or self.showers)

    def rain_mm_h(self, at_s: float) -> float:
        return max((s.rain_mm_h for s in self.showers if s.begin_s <= at_s < s.end_s), default=0.0)


class Happenings:
    """Applies limits and rain to a mesoscopic run; closures are in the file of `write_closures`."""

    def __init__(self, sumo: Any, network: Network, announced: Announced) -> None:
        self._edge, self._network, self._announced = sumo.edge, network, announced
        self._rain = RainyDriving(sumo)
        self._slow: set[SlowEdge] = set()

    def apply(self, now_s: float, departed: Sequence[str]) -> None:
        """Call every step with the vehicles that departed in it; `now_s`: epoch seconds."""
        self._rain.apply(self._announced.rain_mm_h(now_s), departed)
        for slow in self._announced.edges:
            due = slow.limit_mps > 0 and slow.begin_s <= now_s < slow.end_s
            if due == (slow in self._slow):
                continue
            limit_mps = float(self._network.edges.speed_limit_mps[slow.edge])
            self._edge.setMaxSpeed(self._network.edges.ids[slow.edge], slow.limit_mps if due else limit_mps)
            self._slow ^= {slow}


def write_closures(announced: Announced, network: Network, path: Path, *, zero_s: float) -> tuple[Path, ...]:
    """A SUMO additional file with a rerouter for each closed edge, or nothing where none is closed.

    Changing routes from outside crashes a mesoscopic run of SUMO 1.28; its own rerouters do not. `zero_s`: epoch of
    the simulation's second 0.
    """
    closed = [slow for slow in announced.edges if slow.limit_mps <= 0]
    if not closed:
        return ()
    root = ET.Element("additional")
    for number, slow in enumerate(closed):
        name = network.edges.ids[slow.edge]
        others = " ".join(edge for edge in network.edges.ids if edge != name)
        rerouter = ET.SubElement(root, "rerouter", id=f"closure{number}", edges=others, probability="1")
        begin_s, end_s = (f"{max(at_s - zero_s, 0.0):.2f}" for at_s in (slow.begin_s, slow.end_s))
        interval = ET.SubElement(rerouter, "interval", begin=begin_s, end=end_s)
        ET.SubElement(interval, "closingReroute", id=name, disallow="passenger truck bus delivery taxi")
    ET.ElementTree(root).write(path, encoding="utf-8")
    return (path,)
