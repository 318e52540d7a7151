"""A city of four signals, made by SUMO's own generator, and the model that every run of it shares."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sumolib

from networks.city import CityFolder, Coverage, write_city
from scenarios.virtual_city import StreetOptions
from twin.app import CityModel, build_model
from twin.loop import Pace

DEMAND = """<routes>
<vType id="car" vClass="passenger"/>
<vType id="lorry" vClass="truck" length="9"/>
<vTypeDistribution id="mix" vTypes="car lorry" probabilities="0.9 0.1"/>
<flow id="east" type="mix" from="left0A0" to="B0right0" begin="0" end="600" vehsPerHour="500" departLane="best"/>
<flow id="west" type="mix" from="right1B1" to="A1left1" begin="0" end="600" vehsPerHour="400" departLane="best"/>
<flow id="north" type="car" from="bottom0A0" to="A1top0" begin="0" end="600" vehsPerHour="350" departLane="best"/>
<flow id="turn" type="car" from="bottom1B0" to="A1left1" begin="0" end="600" vehsPerHour="200" departLane="best"/>
</routes>
"""


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Priors are kept in a cache of the tests' own, for this process and for those that it starts."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def square(tmp_path_factory: pytest.TempPathFactory) -> CityFolder:
    """Four signals in a square, ten minutes of demand, described by a `city.toml` as any city."""
    folder = tmp_path_factory.mktemp("square")
    network = folder / "net.net.xml"
    subprocess.run(
        [
            *(sumolib.checkBinary("netgenerate"), "--grid", "--grid.x-number", "2", "--grid.y-number", "2"),
            *("--grid.length", "250", "--grid.attach-length", "200", "--default.lanenumber", "1"),
            *("-j", "traffic_light", "--default.speed", "13.89", "--no-turnarounds", "--no-warnings"),
            *("-o", str(network)),
        ],
        check=True,
        capture_output=True,
    )
    (folder / "demand.rou.xml").write_text(DEMAND)
    described = CityFolder(
        name="square",
        folder=folder,
        network=network,
        routes=(folder / "demand.rou.xml",),
        additional=(),
        programmes=(),
        begin_s=0.0,
        end_s=600.0,
        epoch_s=1_772_406_000.0,
        coverage=Coverage(loops=1.0, roadside=0.5, equipped=0.3),
    )
    write_city(described, folder)
    return described


@pytest.fixture(scope="session")
def model(square: CityFolder, own_cache: Path) -> CityModel:
    return build_model(square)


@pytest.fixture(scope="session")
def patient() -> Pace:
    """Five-second cycles whose deadlines no busy machine misses."""
    return Pace(cycle_s=5.0, deadline_s=60.0)


@pytest.fixture
def day(square: CityFolder) -> StreetOptions:
    """Two minutes of the city, undisturbed."""
    return StreetOptions(seed=3, duration_s=120.0, coverage=square.coverage)
