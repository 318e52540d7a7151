"""A tiny city made by SUMO's own generator: six signalised junctions, cars, trucks and a bus line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import sumolib

from networks.city import CityFolder, Coverage
from networks.graph import Network
from networks.readers.sumo import read_sumo

DEMAND = """<routes>
<vType id="car" vClass="passenger" accel="2.6" tau="1.0"/>
<vType id="bus" vClass="bus"/>
<vType id="lorry" vClass="truck" length="9"/>
<vTypeDistribution id="mix" vTypes="car lorry" probabilities="0.9 0.1"/>
<route id="west_east" edges="left0A0 A0B0 B0C0 C0right0"/>
<flow id="through" type="mix" route="west_east" begin="0" end="900" number="120" departLane="best"/>
<flow id="north" type="mix" from="bottom1B0" to="B1top1" begin="0" end="900" vehsPerHour="300" departLane="best"/>
<flow id="turn" type="car" from="left1A1" to="C0right0" begin="0" end="900" vehsPerHour="200" departLane="best"/>
<vehicle id="bus0" type="bus" line="1" depart="30" departLane="best">
    <route edges="top2C1 C1C0 C0bottom2"/><stop busStop="stop0" duration="15"/>
</vehicle>
<vehicle id="single" type="car" depart="100" departLane="best"><route edges="top0A1 A1A0 A0bottom0"/></vehicle>
</routes>
"""
STOPS = '<additional><busStop id="stop0" lane="C1C0_0" startPos="50" endPos="70"/></additional>'


@pytest.fixture(scope="session")
def tiny_city(tmp_path_factory: pytest.TempPathFactory) -> CityFolder:
    folder = tmp_path_factory.mktemp("tiny")
    network = folder / "net.net.xml"
    subprocess.run(
        [
            *(sumolib.checkBinary("netgenerate"), "--grid", "--grid.x-number", "3", "--grid.y-number", "2"),
            *("--grid.length", "220", "--grid.attach-length", "200", "--default.lanenumber", "2"),
            *("-j", "traffic_light", "--default.speed", "13.89", "--no-turnarounds", "--no-warnings"),
            *("-o", str(network)),
        ],
        check=True,
        capture_output=True,
    )
    (folder / "demand.rou.xml").write_text(DEMAND)
    (folder / "stops.add.xml").write_text(STOPS)
    return CityFolder(
        name="tiny",
        folder=folder,
        network=network,
        routes=(folder / "demand.rou.xml",),
        additional=(folder / "stops.add.xml",),
        programmes=(),
        begin_s=0.0,
        end_s=900.0,
        epoch_s=1_772_406_000.0,
        coverage=Coverage(loops=1.0, roadside=0.5, equipped=0.5),
    )


@pytest.fixture(scope="session")
def tiny_network(tiny_city: CityFolder) -> Network:
    return read_sumo(tiny_city.network)


@pytest.fixture(scope="session")
def bologna(shared_data: Path) -> CityFolder:
    folder = shared_data / "networks" / "bologna_joined"
    return CityFolder(
        name="bologna_joined",
        folder=folder,
        network=folder / "net.net.xml.gz",
        routes=(folder / "cars.rou.xml.gz", folder / "buses.rou.xml.gz"),
        additional=(folder / "vtypes.add.xml", folder / "bus_stops.add.xml"),
        programmes=(folder / "tls.add.xml",),
        begin_s=0.0,
        end_s=3600.0,
        epoch_s=1_772_434_800.0,
        coverage=Coverage(),
    )
