"""Drivers who listen: equipped vehicles of a virtual city follow route and speed advice, a share of them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

from networks.graph import Network
from networks.messages import GuidanceOrder
from networks.sensors import stable_share
from scenarios.street_sensors import Driver

SLOWEST_ADVICE_MPS = 3.0  # drivers do not go slower than this for a green wave
COMMIT_M = 40.0  # this near to the end of an edge nobody changes the route


class _Offer(NamedTuple):
    share: float
    route: tuple[str, ...]


class Listeners:
    """Applies the newest guidance order to the equipped drivers who comply."""

    def __init__(self, sumo: Any, network: Network, *, compliance: float, seed: int) -> None:
        self._sumo, self._network = sumo, network
        self._compliance, self._seed = compliance, seed
        self._offers: dict[tuple[str, int], list[_Offer]] = {}  # (edge, destination) -> shares
        self._personal: dict[str, _Offer] = {}  # V2X identity -> route
        self._speeds: dict[str, float] = {}  # edge -> advised speed
        self._until_s = float("-inf")
        self._slowed: dict[str, tuple[int, float]] = {}  # vehicle -> (edge advised on, its own maximum)
        self.rerouted = 0

    def receive(self, order: GuidanceOrder, drivers: Iterable[Driver], now_s: float) -> None:
        """The newest order replaces the one before; vehicles already on an advised edge hear it at once."""
        index = self._network.edge_index
        self._until_s = order.valid_until
        self._offers, self._personal = {}, {}
        for advice in order.routes:
            target = index.get(advice.destination, -1)
            if not advice.route or advice.route[0] != advice.from_edge or not self._drivable(advice.route):
                continue
            if advice.route[-1] != advice.destination:
                continue
            offer = _Offer(advice.share, advice.route)
            if advice.vehicle is not None:
                self._personal[advice.vehicle] = offer
            else:
                self._offers.setdefault((advice.from_edge, target), []).append(offer)
        self._speeds = {s.edge: s.speed_mps for s in order.speeds}
        for driver in drivers:
            if driver.edge >= 0 and driver.equipped:
                self.enter(driver, now_s)

    def enter(self, driver: Driver, now_s: float) -> None:
        """An equipped driver is on `driver.edge` and looks at the advice for it."""
        self._release(driver)
        if now_s > self._until_s or driver.edge < 0 or not self._complies(driver):
            return
        edge = self._network.edges.ids[driver.edge]
        offer = self._personal.get(driver.source) or self._choose(driver, edge)
        if offer is not None and offer.route[0] == edge:
            self._reroute(driver, offer.route)
        if edge in self._speeds:
            vehicle = self._sumo.vehicle
            own_mps = vehicle.getMaxSpeed(driver.id)
            self._slowed[driver.id] = (driver.edge, own_mps)
            vehicle.setMaxSpeed(driver.id, min(own_mps, max(SLOWEST_ADVICE_MPS, self._speeds[edge])))

    def leave(self, driver: Driver) -> None:
        """A driver ended the trip: forget it."""
        self._slowed.pop(driver.id, None)

    def expire(self, now_s: float) -> None:
        """Old speed advice ends."""
        if self._slowed and now_s > self._until_s:
            for name, (_, own_mps) in self._slowed.items():
                self._sumo.vehicle.setMaxSpeed(name, own_mps)
            self._slowed.clear()

    def _release(self, driver: Driver) -> None:
        slowed = self._slowed.pop(driver.id, None)
        if slowed is not None:
            self._sumo.vehicle.setMaxSpeed(driver.id, slowed[1])

    def _complies(self, driver: Driver) -> bool:
        return stable_share(f"{self._seed}/complies/{driver.id}") < self._compliance

    def _choose(self, driver: Driver, edge: str) -> _Offer | None:
        """The route that falls to this driver: always the same for the same shares, so advice does not flap."""
        draw = stable_share(f"{driver.id}/{edge}")
        for offer in self._offers.get((edge, driver.destination), ()):
            draw -= offer.share
            if draw < 0:
                return offer
        return None

    def _reroute(self, driver: Driver, route: tuple[str, ...]) -> None:
        vehicle = self._sumo.vehicle
        left = vehicle.getRoute(driver.id)[vehicle.getRouteIndex(driver.id) :]
        to_go_m = self._network.edges.length_m[driver.edge] - vehicle.getLanePosition(driver.id)
        if driver.kind == "bus" or left == route or left[-1] != route[-1] or vehicle.getStops(driver.id, 1):
            return
        if len(route) > 1 and len(left) > 1 and left[1] != route[1] and to_go_m < COMMIT_M:
            return
        try:
            vehicle.setRoute(driver.id, route)
        except self._sumo.TraCIException:
            return  # closed to this class of vehicle: the driver stays on the old route
        driver.route_index = vehicle.getRouteIndex(driver.id)
        self.rerouted += 1

    def _drivable(self, route: tuple[str, ...]) -> bool:
        index, successors = self._network.edge_index, self._network.edge_successors
        dense = [index.get(edge, -1) for edge in route]
        return min(dense) >= 0 and all(b in successors[a] for a, b in pairwise(dense))
