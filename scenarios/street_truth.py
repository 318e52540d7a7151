"""The truth beside a virtual city's sensors: flows, speeds, queues and the fate of every vehicle."""

from __future__ import annotations

from typing import Any

import numpy as np

from networks.graph import Network
from scenarios.measures import ARRIVED, Trip
from scenarios.street_sensors import Driver, Scan, Sensors, headings
from scenarios.street_terms import Truth

QUEUED_MPS = 5.0 / 3.6


class Watcher:
    """Follows every vehicle from second to second."""

    def __init__(self, sumo: Any, network: Network, sensors: Sensors, trips: list[Trip]) -> None:
        self.drivers: dict[str, Driver] = {}
        self.trips = trips  # of arrived vehicles; survives a restart with the snapshot
        self._sumo, self._network, self._sensors = sumo, network, sensors
        self._lanes: dict[str, str] = {}
        self._lane_edge = np.append(network.lanes.edge, -1)
        edges = len(network.edges.ids)
        self._left, self._samples, self._speed = np.zeros(edges), np.zeros(edges, np.int64), np.zeros(edges)
        self._since_s = float("-inf")

    def look(self, *, heard: bool) -> tuple[Scan, list[Driver], list[Driver]]:
        """Read all vehicles after a step: the scan, the drivers who entered an edge, those whose trip ended.

        `heard` False: the devices are off, so nobody's place is read. Getters are most of the cost (0.3 µs each on a
        quiet core, three times that beside other work), so each is called for those vehicles alone that need it.
        """
        vehicle, index = self._sumo.vehicle, self._network.lane_index
        names = vehicle.getIDList()
        lanes = list(map(vehicle.getLaneID, names))
        before = self._lanes
        moved = [(n, lane) for n, lane in zip(names, lanes, strict=True) if before.get(n) != lane]
        self._lanes = dict(zip(names, lanes, strict=True))
        entered = [driver for name, lane in moved if (driver := self._move(name, index.get(lane, -1)))]
        gone = self._farewell()
        drivers = list(map(self.drivers.__getitem__, names))
        for driver in drivers:
            if driver.edge == driver.destination:  # about to leave the simulation, and its time loss with it
                driver.time_loss_s = vehicle.getTimeLoss(driver.id)
        xy, heading = np.full((len(names), 2), np.nan), np.full(len(names), np.nan)
        if heard:
            near = self._sensors.near_lanes
            rows = [i for i, d in enumerate(drivers) if d.equipped or lanes[i] in near]
            xy[rows] = np.array([vehicle.getPosition(names[i]) for i in rows]).reshape(-1, 2)
            heading[rows] = headings([vehicle.getAngle(names[i]) for i in rows])
        scan = Scan(
            drivers=drivers,
            motor=np.array([d.motor for d in drivers], np.bool_),
            lane=np.array([index.get(lane, -1) for lane in lanes], np.int32),
            xy=xy,
            speed_mps=np.maximum(np.array(list(map(vehicle.getSpeed, names)), np.float64), 0.0),
            heading_rad=heading,
        )
        edge = self._lane_edge[scan.lane]
        on = (edge >= 0) & scan.motor
        self._samples += np.bincount(edge[on], minlength=len(self._samples))
        self._speed += np.bincount(edge[on], scan.speed_mps[on], minlength=len(self._speed))
        return scan, entered, gone

    def truth(self, now_s: float, scan: Scan) -> Truth:
        """What happened since the last call; the window begins anew."""
        window_s = now_s - self._since_s
        lanes = len(self._network.lanes.ids)
        on = (scan.lane >= 0) & scan.motor
        queued = on & (scan.speed_mps < QUEUED_MPS)
        with np.errstate(invalid="ignore"):
            speed = np.where(self._samples > 0, self._speed / self._samples, np.nan)
        truth = Truth(
            now_s=now_s,
            window_s=window_s,
            edge_flow_vps=self._left / window_s,
            edge_speed_mps=speed,
            edge_samples=self._samples.astype(np.int32),
            lane_queue_veh=np.bincount(scan.lane[queued], minlength=lanes).astype(np.float64),
            lane_vehicles=np.bincount(scan.lane[on], minlength=lanes).astype(np.float64),
        )
        self.open_window(now_s)
        return truth

    def open_window(self, now_s: float) -> None:
        """Counting begins at `now_s`."""
        self._left[:], self._samples[:], self._speed[:], self._since_s = 0.0, 0, 0.0, now_s

    def _move(self, name: str, lane: int) -> Driver | None:
        """A vehicle is on another lane than before; the driver when that is another edge."""
        driver = self.drivers.get(name)
        if driver is None:
            driver = self.drivers[name] = self._sensors.greet(name)
            driver.route_index = max(0, self._sumo.vehicle.getRouteIndex(name))
        edge = int(self._lane_edge[lane])
        if edge == driver.edge:
            return None
        if driver.edge >= 0:
            self._left[driver.edge] += driver.motor
        driver.edge = edge
        if edge < 0:
            return None
        route_index = max(0, self._sumo.vehicle.getRouteIndex(name))
        if route_index > driver.route_index + 1:  # edges shorter than one second's way
            for passed in self._sumo.vehicle.getRoute(name)[driver.route_index + 1 : route_index]:
                self._left[self._network.edge_index[passed]] += driver.motor
        driver.route_index = route_index
        driver.time_loss_s = self._sumo.vehicle.getTimeLoss(name)
        return driver

    def _farewell(self) -> list[Driver]:
        gone = []
        for name in self._sumo.simulation.getArrivedIDList():
            driver = self.drivers.pop(name, None)
            if driver is None:
                continue  # came and went within one second
            if driver.edge >= 0:
                self._left[driver.edge] += driver.motor
            self.trips.append(Trip(name, ARRIVED, driver.time_loss_s, driver.insertion_delay_s))
            gone.append(driver)
        return gone
