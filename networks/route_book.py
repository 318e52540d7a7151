"""Which movement a vehicle takes that has told where it goes. See `RouteBook`."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from networks.graph import Ints, Network


class RouteBook:
    """Fastest free-flow continuations to a destination edge, worked out once per destination."""

    def __init__(self, network: Network) -> None:
        movements, lanes = network.movements, network.lanes
        self._movements = network.lane_movements
        self._edge = lanes.edge
        self._to_edge = lanes.edge[movements.to_lane]
        origin = lanes.edge[movements.from_lane]
        count = len(network.edges.ids)
        cost_s = network.edges.length_m / np.maximum(network.edges.speed_limit_mps, 1.0) + 1.0
        pairs, first = np.unique(origin.astype(np.int64) * count + self._to_edge, return_index=True)
        # backwards: from the destination to every edge, the cost of an arc is that of the edge driven
        self._reversed = csr_array((cost_s[origin[first]], (pairs % count, pairs // count)), shape=(count, count))
        self._onward: dict[int, Ints] = {}

    def next_edges(self, destination: int) -> Ints:
        """(E,) the next edge towards the destination, negative where it cannot be reached."""
        if destination not in self._onward:
            _, onward = dijkstra(self._reversed, indices=np.array([destination]), return_predecessors=True)
            self._onward[destination] = onward[0].astype(np.int32)
        return self._onward[destination]

    def movement(self, lane: int, destination: int) -> int:
        """The movement of this lane towards the destination, -1 when the lane does not lead there."""
        onward = self.next_edges(destination)[self._edge[lane]]
        for m in self._movements[lane]:
            if onward >= 0 and self._to_edge[int(m)] == onward:
                return int(m)
        return -1
