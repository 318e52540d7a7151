"""Who a vehicle is, and how late."""

from __future__ import annotations

import math
from types import SimpleNamespace

from networks.batches import VEHICLE_KINDS
from networks.graph import Network
from scenarios.travellers import Travellers


def test_lateness_is_that_of_the_last_stop_or_of_the_next_one_missed(tiny_network: Network) -> None:
    ahead = [SimpleNamespace(until=until_s) for until_s in (100.0, -1.0, 300.0)]  # the second has no time
    vehicle = SimpleNamespace(
        getVehicleClass=lambda name: "bus" if name == "bus" else "emergency",
        getStops=lambda name, _: tuple(ahead) if name == "bus" else (),
        getRoute=lambda _: ("left0A0", "A0B0"),
    )
    seen = Travellers(SimpleNamespace(vehicle=vehicle), tiny_network)
    assert math.isnan(seen.look("bus", 90.0).late_s)
    assert seen.look("bus", 130.0).late_s == 30.0  # still before a stop that it should have left
    ahead.pop(0)
    assert seen.look("bus", 140.0).late_s == 40.0
    assert seen.look("bus", 200.0).late_s == 40.0
    ahead.pop(0)
    assert math.isnan(seen.look("bus", 210.0).late_s)
    assert seen.look("bus", 310.0).late_s == 10.0
    other = seen.look("other", 310.0)
    assert math.isnan(other.late_s)
    assert VEHICLE_KINDS[other.kind] == "emergency"
    assert other.destination_edge == tiny_network.edge_index["A0B0"]
    assert (seen.look("bus", 310.0).number, other.number) == (1, 2)
