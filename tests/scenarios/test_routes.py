"""Route files -> vehicles of the mesoscopic model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from networks.graph import BUS, PASSENGER
from scenarios.routes import read_demand
from scenarios.shortest import Leg, find_ways
from tests.signals.meso_streets import Edge, Turn, build_street

# A square: from "in" to "out" over the short "top" or the longer "low".
EDGES = [
    Edge("in", "a", "b", 100.0),
    Edge("top", "b", "c", 200.0),
    Edge("low1", "b", "d", 150.0),
    Edge("low2", "d", "c", 150.0),
    Edge("out", "c", "e", 100.0),
]
TURNS = [
    Turn("in", 0, "top", 0),
    Turn("in", 0, "low1", 0),
    Turn("low1", 0, "low2", 0),
    Turn("top", 0, "out", 0, gives_way_to=(4,)),
    Turn("low2", 0, "out", 0),
]
ROUTES = """<routes>
<vType id="slow" vClass="passenger" length="4" minGap="1" tau="1.5" maxSpeed="8"
 speedFactor="normc(0.9,0.2,0.5,1.5)"/>
<vType id="bus" vClass="bus"/>
<route id="named" edges="in low1 low2 out"/>
<trip id="t" type="slow" depart="30" from="in" to="out"/>
<vehicle id="v" depart="0:00:10" route="named" departLane="best" departSpeed="max"/>
<vehicle id="b" type="bus" depart="20"><route edges="in top out"/><stop lane="top_0" duration="15"/></vehicle>
<flow id="f" begin="100" end="200" number="5" from="in" to="out"/>
<trip id="lost" depart="5" from="out" to="in"/>
<vehicle id="elsewhere" depart="5"><route edges="in nowhere"/></vehicle>
<person id="p" depart="1"><walk from="in" to="out"/></person>
</routes>"""


def test_vehicles_trips_and_flows_are_read(tmp_path: Path) -> None:
    network = build_street(EDGES, TURNS)
    path = tmp_path / "r.rou.xml"
    path.write_text(ROUTES)
    demand = read_demand(network, [path])
    assert demand.depart_s.tolist() == [10.0, 20.0, 30.0, 100.0, 120.0, 140.0, 160.0, 180.0]
    assert demand.route[0].tolist() == [0, 2, 3, 4]
    assert demand.route[2].tolist() == [0, 1, 4]
    assert demand.allowed.tolist() == [PASSENGER, BUS, *[PASSENGER] * 6]
    assert demand.dwell_s[demand.route.offsets[1] : demand.route.offsets[2]].tolist() == [0.0, 15.0, 0.0]
    slow = [demand.space_m[2], demand.tau_s[2], demand.max_speed_mps[2], demand.speed_factor[2], demand.speed_dev[2]]
    assert slow == [5.0, 1.5, 8.0, 0.9, 0.2]
    assert (demand.rolling_start[0], demand.any_lane[0]) == (True, True)
    assert not demand.rolling_start[1:].any()


def test_trips_may_choose_and_routes_may_not(tmp_path: Path) -> None:
    network = build_street(EDGES, TURNS)
    path = tmp_path / "r.rou.xml"
    path.write_text(ROUTES)
    demand = read_demand(network, [path])
    assert np.unique(demand.other_of).tolist() == [2, 3, 4, 5, 6, 7]
    assert demand.other_route[0].tolist() == [0, 2, 3, 4]
    assert len(read_demand(network, [path], choose=False).other_of) == 0


def test_ways_of_a_leg() -> None:
    network = build_street(EDGES, TURNS)
    found = find_ways(network, [Leg(0, 4, PASSENGER), Leg(4, 0, PASSENGER), Leg(1, 1, PASSENGER)], others=True)
    assert found[Leg(0, 4, PASSENGER)] == ((0, 1, 4), ((0, 2, 3, 4),))
    assert found[Leg(4, 0, PASSENGER)] == ((), ())
    assert found[Leg(1, 1, PASSENGER)] == ((1,), ())
