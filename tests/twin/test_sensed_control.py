"""Control behind simulated sensors, from the devices to the lamps."""

from __future__ import annotations

import shutil
from pathlib import Path

from networks.city import Coverage
from networks.readers.sumo import read_sumo
from scenarios.simulation import RunSpec, Simulation, run_in_process
from tests.signals.drawn_junctions import drawn_net
from twin.sensed_control import Sight, control_by_sensors

FIRST_S, LAST_S = 90, 600  # the side street has come to rest by then


def side_greens(net: Path, routes: Path, folder: Path, late_s: int) -> tuple[list[int], int]:
    """Seconds from FIRST_S on at which the north has green, and how long who comes from there at `late_s` needs."""
    network = read_sumo(net)
    greens = []
    with Simulation(RunSpec(net, (routes,), (), seed=1, scratch=folder)) as run:
        control = control_by_sensors(run.sumo, network, Sight(Coverage(1.0, 0.0, 0.0)), None, begin_s=0.0)
        gone_s = 0
        for second in range(LAST_S):
            control(float(second))
            state = run.sumo.trafficlight.getRedYellowGreenState("c")
            if second >= FIRST_S and state[0] in "gG":
                greens.append(second)
            if any(run.sumo.vehicle.getRoadID(v) == "nc" for v in run.sumo.vehicle.getIDList()):
                gone_s = second
            run.step()
        assert control.report()["falls"] == 0
    return greens, gone_s - late_s


def test_a_side_street_that_its_loops_see_empty_is_not_opened_by_the_clock_but_for_whoever_comes(tmp_path: Path):
    net, routes, late_s = tmp_path / "net.net.xml", tmp_path / "cars.rou.xml", 450
    shutil.copy(drawn_net(), net)
    ways = {"we": "wc ce", "ew": "ec cw", "ns": "nc cs", "sn": "sc cn", "nw": "nc cw", "ne": "nc ce"}
    ways |= {"sw": "sc cw", "se": "sc ce", "wn": "wc cn", "en": "ec cn", "ws": "wc cs", "es": "ec cs"}
    lines = [f'<route id="{name}" edges="{edges}"/>' for name, edges in ways.items()]
    trips = [(2 * i, name, lane) for i, name in enumerate(ways) for lane in (0, 1)]  # once over every loop
    trips += [(second, name, 0) for second in range(60, LAST_S, 6) for name in ("we", "ew")]
    trips += [(late_s, "ns", 0)]
    for i, (at_s, name, lane) in enumerate(sorted(trips)):
        begins = lane if name in ("we", "ew", "ns", "sn") else "best"  # straight on: from either lane
        lines.append(f'<vehicle id="{i}" route="{name}" depart="{at_s}" departLane="{begins}"/>')
    routes.write_text("<routes>" + "".join(lines) + "</routes>")
    greens, held_s = run_in_process(side_greens, net, routes, tmp_path, late_s)
    assert [s for s in greens if s < late_s] == []
    assert greens
    (signal,) = read_sumo(net).signals
    assert held_s < signal.max_red_s
