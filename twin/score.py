"""How well the twin knows the city: its state held against the virtual city's truth."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from networks.graph import Bools, Floats, Ints, Network
from networks.state import NetworkState
from scenarios.measures import geh
from scenarios.street_terms import Truth

WINDOW_S = 300.0  # flows and speeds are compared over five minutes
LEAST_SAMPLES = 60  # vehicle-seconds in the window below which an edge has no speed worth the name


@dataclass(frozen=True, slots=True)
class TwinError:
    """flow: share of edges and windows with GEH < 5, hourly flows; speed: RMSE; queue: mean absolute error a lane."""

    flow_geh_lt5_share: float
    speed_rmse_mps: float
    queue_mae_veh: float
    edge_windows: int


class TwinScore:
    """Gathers truth and state cycle by cycle. Queues are compared on the approach lanes of signals."""

    def __init__(self, network: Network) -> None:
        approach = {int(m) for m in network.movements.from_lane[network.movements.signal >= 0]}
        self._lanes = np.array(sorted(approach), np.int64)
        self._driven: Bools = network.edges.lane_count > 0
        self._truths: list[Truth] = []
        self._state: NetworkState | None = None
        self._window_begin_s: float | None = None
        self._speeds: list[tuple[Floats, Bools]] = []
        self._queue_error, self._queue_count = 0.0, 0
        self._good, self._edges = 0, 0
        self._square, self._speed_count = 0.0, 0

    def note(self, truth: Truth | None, state: NetworkState | None) -> None:
        """Compare one cycle; cycles without a state or a truth are left out."""
        if truth is None or state is None:
            return
        queue = state.lane_queue_veh
        use = self._lanes[queue.valid[self._lanes]]
        self._queue_error += float(np.abs(queue.value[use] - truth.lane_queue_veh[use]).sum())
        self._queue_count += len(use)
        if self._window_begin_s is None:
            self._window_begin_s = truth.now_s - truth.window_s
        self._truths.append(truth)
        self._state = state
        self._speeds.append((state.edge_speed_mps.value, state.edge_speed_mps.valid))
        if truth.now_s - self._window_begin_s >= WINDOW_S - 1e-6:
            self._close_window(state)

    def _close_window(self, state: NetworkState) -> None:
        flow, real_mps, samples = over_window(self._truths)
        known = state.edge_flow_vps.valid & self._driven
        model, real = state.edge_flow_vps.value[known] * 3600.0, flow[known] * 3600.0
        self._good += int((geh(model, real) < 5.0).sum())
        self._edges += int(known.sum())
        valid = np.all([v for _, v in self._speeds], axis=0) & (samples >= LEAST_SAMPLES) & self._driven
        believed = np.mean([s for s, _ in self._speeds], axis=0)
        difference = believed[valid] - real_mps[valid]
        self._square += float((difference**2).sum())
        self._speed_count += int(valid.sum())
        self._truths.clear()
        self._speeds.clear()
        self._window_begin_s = None

    def result(self) -> TwinError:
        """The errors so far. A last window cut short counts only where the run was too short for a whole one."""
        if self._truths and self._state is not None and not self._edges:
            self._close_window(self._state)
        return TwinError(
            flow_geh_lt5_share=self._good / max(1, self._edges),
            speed_rmse_mps=float(np.sqrt(self._square / max(1, self._speed_count))),
            queue_mae_veh=self._queue_error / max(1, self._queue_count),
            edge_windows=self._edges,
        )


def over_window(truths: Collection[Truth]) -> tuple[Floats, Floats, Ints]:
    """Of several truths (E,) flow in veh/s, space-mean speed in m/s (0 without samples), vehicle-seconds."""
    seconds = sum(t.window_s for t in truths)
    flow = np.sum([t.edge_flow_vps * t.window_s for t in truths], axis=0) / seconds
    samples = np.sum([t.edge_samples for t in truths], axis=0)
    driven_m = np.sum([np.nan_to_num(t.edge_speed_mps) * t.edge_samples for t in truths], axis=0)
    return flow, driven_m / np.maximum(samples, 1), samples
