"""Builds the city folder of a synthetic zone."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

from networks.readers.sumo import read_sumo
from scenarios.zone.demand import ebike_trips, motor_trips, movement_flows
from scenarios.zone.layout import draw_layout
from scenarios.zone.parameters import ZoneParameters
from scenarios.zone.plain import convert, install_programmes
from scenarios.zone.programmes import time_signals
from scenarios.zone.traffic_files import VEHICLE_TYPES, write_buses, write_trips, write_walkers

CITY_TOML = """[city]
name = "{name}"
network = "net.net.xml.gz"
routes = ["vtypes.rou.xml", "cars.rou.xml.gz", "ebikes.rou.xml.gz", "buses.rou.xml", "walkers.rou.xml"]
additional = ["bus_stops.add.xml"]
programmes = []
begin_s = 0.0
end_s = {duration_s:.1f}
epoch = "2026-03-02T07:30:00+08:00"

[coverage]
loops = 1.0
roadside = 0.3
equipped = 0.2
"""


def build_zone(p: ZoneParameters, folder: Path) -> None:
    """Draw the zone and write its network, demand, programmes and `city.toml` into `folder`, which must exist.

    Raises NetworkError when netconvert refuses the drawing.
    """
    layout = draw_layout(p)
    with tempfile.TemporaryDirectory() as scratch:
        raw = convert(layout, p, Path(scratch))
        network = read_sumo(raw)
        trips = motor_trips(network, layout, p)
        programmes = time_signals(network, layout, movement_flows(network, layout, trips, p), p)
        text = install_programmes(raw, programmes)
    with (folder / "net.net.xml.gz").open("wb") as stream, gzip.GzipFile("", "wb", fileobj=stream, mtime=0) as packed:
        packed.write(text.encode())
    (folder / "vtypes.rou.xml").write_text(VEHICLE_TYPES, encoding="utf-8")
    write_trips(folder / "cars.rou.xml.gz", network, trips, "car")
    write_trips(folder / "ebikes.rou.xml.gz", network, ebike_trips(network, layout, p), "ebike")
    write_buses(folder / "bus_stops.add.xml", folder / "buses.rou.xml", network, layout, p)
    write_walkers(folder / "walkers.rou.xml", network, layout, p)
    (folder / "city.toml").write_text(CITY_TOML.format(name=p.name, duration_s=p.duration_s), encoding="utf-8")
