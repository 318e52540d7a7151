"""From a forecast of edges to arrivals at stop lines: vehicles a second on every movement, at any moment ahead.

What leaves an edge is spread over its movements by their shares, and comes to the next stop line a free drive later;
where nothing leads into an edge, what leaves it has come from outside. Between the five-minute means of the forecast
rates are linear. The pulses that signals make of them within a cycle are the business of who plans the signals.
"""

from __future__ import annotations

import numpy as np

from networks.graph import Floats, Network
from networks.state import Forecast, check_shapes


def edge_shares(network: Network, movement_share: Floats, lane_weight: Floats) -> Floats:
    """Share of an edge's vehicles on each movement (M,); they sum to one over every edge that movements leave.

    movement_share  (M,) share of the from-lane's vehicles, as in `NetworkState`
    lane_weight     (L,) vehicles of each lane; an edge whose lanes hold none is split evenly over them
    """
    moves, lanes = network.movements, network.lanes
    check_shapes("M", movement_share=movement_share, turn=moves.turn)
    check_shapes("L", lane_weight=lane_weight, lanes=lanes.length_m)
    weight = np.maximum(movement_share, 0.0) * np.maximum(lane_weight[moves.from_lane], 1e-3)
    edge = lanes.edge[moves.from_lane]
    total = np.bincount(edge, weight, minlength=len(network.edges.ids))
    ways = np.bincount(edge, minlength=len(network.edges.ids))
    share: Floats = np.where(
        total[edge] > 0, weight / np.maximum(total[edge], 1e-12), 1.0 / np.maximum(ways[edge], 1)
    )
    return share


def arrival_rates(network: Network, forecast: Forecast, share: Floats, at_s: Floats, *, level: float = 0.5) -> Floats:
    """Arrivals (K, M) in veh/s at the stop lines, on each movement, at epoch seconds `at_s` (K,).

    share  (M,) of `edge_shares`
    level  quantile of the forecast flows that is taken

    Edges without a valid forecast send nothing. Over an edge's movements arrivals sum to its inflow a drive earlier.
    """
    moves, lanes, edges = network.movements, network.lanes, network.edges
    check_shapes("M", share=share, turn=moves.turn)
    quantile = int(np.argmin(np.abs(np.array(forecast.quantiles) - level)))
    flow = np.where(forecast.valid, forecast.flow_vps[:, :, quantile], 0.0)  # (H, E)
    middle_s = forecast.made_at_s + forecast.horizon_s - np.diff(forecast.horizon_s, prepend=0.0) / 2
    start, end = lanes.edge[moves.from_lane], lanes.edge[moves.to_lane]
    led_to = np.zeros(len(edges.ids), np.bool_)
    led_to[end] = True
    drive_s = edges.length_m / np.maximum(edges.speed_limit_mps, 1.0)
    left = np.zeros_like(flow)  # (H, E) inflow
    for row, outflow in enumerate(flow):
        left[row] = np.bincount(end, outflow[start] * share, minlength=len(edges.ids))
    entered = np.where(led_to, left, flow)
    reached_s = at_s[:, None] - np.where(led_to, drive_s, 0.0)  # (K, E)
    position = np.interp(reached_s, middle_s, np.arange(len(middle_s), dtype=np.float64))
    low = np.minimum(position.astype(np.int64), max(len(middle_s) - 2, 0))
    high = np.minimum(low + 1, len(middle_s) - 1)
    column = np.arange(len(edges.ids))
    part = position - low
    inflow = entered[low, column] * (1.0 - part) + entered[high, column] * part
    rates: Floats = inflow[:, start] * share
    return rates
