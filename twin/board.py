"""What the live page shows: the newest cycle, handed from the loop's thread to the web server's."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import TypedDict

import numpy as np

from networks.batches import FeedHealth
from networks.graph import VEHICLE_SPACE_M, Network
from networks.state import NetworkState

_SEEN_WITHIN_S = 120.0  # older evidence is shown as an estimate


class EdgeView(TypedDict):
    """One entry an edge."""

    speed_dmps: list[int]  # tenths of m/s, -1 unknown
    seen: list[int]  # 1: own evidence of the last two minutes
    queue_m: list[int]  # longest lane's queue


class FeedView(TypedDict):
    feed: str
    accepted: int
    quarantined: int
    silent_s: float | None  # None: never heard


class StageView(TypedDict):
    """A stage of the cycle."""

    name: str
    ms: float
    fallback: str  # "" when the stage did its job


class DecisionView(TypedDict):
    at_s: float
    junction: str
    version: int
    source: str  # controller
    reason: str


class Snapshot(TypedDict, total=False):
    """One cycle, small enough to push to every open page. Parts that are missing are shown as unknown."""

    cycle: int
    now_s: float
    cycle_ms: float
    deadline_ms: float
    edges: EdgeView
    lamps: list[str | None]  # per signal, None: never heard
    coverage: float
    unhealthy: list[str]
    feeds: list[FeedView]
    stages: list[StageView]
    decisions: list[DecisionView]  # newest first
    mirror: str  # "alive", "down", "starting", "off"
    street: str  # the virtual city, the same words; "off" with real feeds
    forecast: list[str]  # producers
    advised: int  # routes in the last minute
    vehicles: int
    progress: str  # free text of the run: which seed, which comparison


def view_state(network: Network, state: NetworkState) -> Snapshot:
    """The part of a snapshot that shows a fused state."""
    speed = state.edge_speed_mps
    queue = state.lane_queue_veh
    lane_queue_m = np.where(queue.valid, np.maximum(queue.value, 0.0), 0.0) * VEHICLE_SPACE_M
    edge_queue_m = np.zeros(len(network.edges.ids))
    np.maximum.at(edge_queue_m, network.lanes.edge, np.minimum(lane_queue_m, network.lanes.length_m))
    known_dmps = np.nan_to_num(np.rint(speed.value * 10.0), nan=-1.0)
    return {
        "now_s": state.now_s,
        "edges": {
            "speed_dmps": np.where(speed.valid, known_dmps, -1).astype(int).tolist(),
            "seen": (speed.valid & (speed.age_s <= _SEEN_WITHIN_S)).astype(int).tolist(),
            "queue_m": np.rint(edge_queue_m).astype(int).tolist(),
        },
        "lamps": [view.state if view is not None else None for view in state.lamps],
        "coverage": round(state.coverage, 4),
        "unhealthy": list(state.unhealthy),
        "vehicles": round(float(state.vehicles.certainty.sum())),
    }


def view_feeds(health: tuple[FeedHealth, ...]) -> list[FeedView]:
    return [
        {
            "feed": h.feed,
            "accepted": h.accepted,
            "quarantined": h.quarantined,
            "silent_s": round(h.silent_s, 1) if np.isfinite(h.silent_s) else None,
        }
        for h in health
    ]


class Board:
    """Holds the newest snapshot. `update` is called by the loop, everything else by the web server."""

    def __init__(self, network: Network, *, city: str) -> None:
        self.network = network
        self.city = city
        self._lock = threading.Lock()
        self._document = b"{}"
        self._version = 0
        self._updated_s = float("nan")
        self._listeners: dict[int, Callable[[], None]] = {}
        self._next_listener = 0

    def update(self, snapshot: Snapshot) -> None:
        """Show a new cycle. Raises ValueError for NaN or infinity: a page cannot read them."""
        document = json.dumps(snapshot, separators=(",", ":"), allow_nan=False).encode()
        with self._lock:
            self._document = document
            self._version += 1
            self._updated_s = time.monotonic()
            listeners = list(self._listeners.values())
        for wake in listeners:
            wake()

    def latest(self) -> tuple[int, bytes]:
        """How many snapshots there have been, and the newest as JSON; 0 and "{}" before the first."""
        with self._lock:
            return self._version, self._document

    def age_s(self) -> float:
        """Wall seconds since the newest snapshot, NaN before the first."""
        with self._lock:
            return time.monotonic() - self._updated_s

    def listen(self, wake: Callable[[], None]) -> int:
        """Call `wake` from the loop's thread after each update, until `leave`. It must not block or raise."""
        with self._lock:
            self._next_listener += 1
            self._listeners[self._next_listener] = wake
            return self._next_listener

    def leave(self, listener: int) -> None:
        with self._lock:
            self._listeners.pop(listener, None)
