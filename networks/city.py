"""A city folder: where its network, demand, programmes, sensors and coverage lie. See `CityFolder`.

`city.toml` (all paths relative to it):

    [city]
    name = "zone"
    network = "net.net.xml.gz"
    routes = ["vtypes.rou.xml", "cars.rou.xml.gz"]   # demand, in loading order
    additional = ["bus_stops.add.xml"]               # SUMO additional files without signal programmes
    programmes = ["tls.add.xml"]                     # shipped signal programmes; empty: those in the network
    begin_s = 0.0                                    # demand second at which a run starts
    end_s = 3600.0
    epoch = "2026-03-02T07:00:00+08:00"              # wall time of begin_s

    [coverage]                                       # defaults of a virtual city's sensors
    loops = 1.0                                      # share of signalised approaches with loops
    roadside = 0.3                                   # share of signalised junctions with a roadside unit
    equipped = 0.2                                   # share of vehicles that speak V2X
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Coverage:
    loops: float = 1.0
    roadside: float = 0.3
    equipped: float = 0.2


@dataclass(frozen=True, slots=True)
class Detector:
    """One induction loop of the city: on a lane, or the stop-line/upstream pair made by rule from the coverage."""

    id: str
    lane: int  # dense index
    position_m: float  # from the lane's start
    role: str  # "stop" (within 5 m of the stop line), "upstream" (advance loop), "count" (elsewhere)


@dataclass(frozen=True, slots=True)
class CityFolder:
    """A city described by its `city.toml`; every path is absolute and exists."""

    name: str
    folder: Path
    network: Path
    routes: tuple[Path, ...]
    additional: tuple[Path, ...]
    programmes: tuple[Path, ...]
    begin_s: float
    end_s: float
    epoch_s: float  # UTC epoch of begin_s
    coverage: Coverage
    findings: tuple[str, ...] = ()  # what had to be guessed
