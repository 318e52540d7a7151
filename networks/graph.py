"""The array model of a road network: ids to dense indices, one row a thing, immutable.

Edges are the ordinary road edges (no junction-internal ones, no walking areas); lanes belong to edges; a movement is
one lane-to-lane connection across a node; a signal is one traffic-light controller with its links. Ragged values
(shapes, successors) are CSR pairs: `offsets` (N+1) into a flat array.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]

# Bits of LaneTable.allowed: who may drive or walk there.
PASSENGER, BUS, TRUCK, BICYCLE, PEDESTRIAN, EMERGENCY, TRAM = 1, 2, 4, 8, 16, 32, 64
MOTOR = PASSENGER | BUS | TRUCK  # whom signals and loops for vehicles are meant for

# MovementTable.turn codes.
STRAIGHT, LEFT, RIGHT, U_TURN = 0, 1, 2, 3

VEHICLE_SPACE_M = 7.5  # length and gap of a standing car


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of unequal length: row i is `values[offsets[i]:offsets[i + 1]]`."""

    offsets: Ints
    values: NDArray[np.float64] | NDArray[np.int32]

    def __getitem__(self, row: int) -> NDArray[np.float64] | NDArray[np.int32]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True)
class EdgeTable:
    """One row an edge."""

    ids: tuple[str, ...]
    length_m: Floats  # (E,)
    speed_limit_mps: Floats  # (E,) of the fastest lane
    lane_count: Ints  # (E,) lanes that motor vehicles may use
    first_lane: Ints  # (E+1,) lanes of edge e are first_lane[e]..first_lane[e+1], rightmost first
    from_node: Ints  # (E,)
    to_node: Ints  # (E,)
    priority: Ints  # (E,)
    names: tuple[str, ...]  # street names, "" where unknown
    shape_xy: Ragged  # local metres, flat x0 y0 x1 y1 ...


@dataclass(frozen=True, slots=True)
class LaneTable:
    """One row a lane."""

    ids: tuple[str, ...]
    edge: Ints  # (L,)
    index: Ints  # (L,) 0 is the rightmost
    length_m: Floats
    width_m: Floats
    speed_limit_mps: Floats
    allowed: Ints  # bit mask, see PASSENGER ...
    shape_xy: Ragged

    @property
    def motor(self) -> Bools:
        """(L,) lanes that more than walkers and cyclists may use."""
        motor: Bools = (self.allowed & ~(PEDESTRIAN | BICYCLE)) != 0
        return motor


NO_ROWS = Ragged(np.zeros(1, np.int32), np.zeros(0, np.int32))


@dataclass(frozen=True, slots=True)
class MovementTable:
    """One row a lane-to-lane connection for vehicles.

    The last two come from the junction's right of way; a table made without them says nothing of either.
    """

    from_lane: Ints  # (M,)
    to_lane: Ints  # (M,)
    turn: Ints  # (M,) STRAIGHT, LEFT, RIGHT, U_TURN
    length_m: Floats  # (M,) path inside the junction
    speed_mps: Floats  # (M,) speed allowed on that path
    signal: Ints  # (M,) index into Network.signals, -1 unsignalised
    link: Ints  # (M,) signal link index, -1 unsignalised
    node: Ints  # (M,) node crossed
    yields: Bools  # (M,) has to give way to some other movement when both are open
    internal_lanes: tuple[tuple[str, ...], ...]  # SUMO ids of the internal lanes driven
    gives_way_to: Ragged = NO_ROWS  # (M) movements of the node that go first when both are open
    inner_m: Floats = field(default_factory=lambda: np.zeros(0))  # (M,) way to the stop inside the junction, 0: none


@dataclass(frozen=True, slots=True)
class Crossing:
    """A signalised pedestrian crossing: one or two signal links."""

    id: str
    links: tuple[int, ...]
    length_m: float
    width_m: float
    edges: tuple[int, ...]  # edges crossed, dense indices
    shape: tuple[float, ...] = ()  # middle line in local metres, flat x0 y0 x1 y1 ...


@dataclass(frozen=True, slots=True)
class ProgrammePhase:
    """One phase of a shipped programme."""

    state: str
    duration_s: float
    min_s: float
    max_s: float


@dataclass(frozen=True, slots=True)
class Programme:
    """A shipped fixed or actuated programme."""

    id: str
    kind: str  # static, actuated, delay_based ...
    offset_s: float
    phases: tuple[ProgrammePhase, ...]

    @property
    def cycle_s(self) -> float:
        return sum(p.duration_s for p in self.phases)


OFF = -1  # in a `Schedule`: no programme, the signal is switched off


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which of a signal's programmes is in force at which second of the simulation (SUMO: WAUT).

    Before the first change it is the one that comes first. Where a period is given the changes repeat with it.
    """

    changes: tuple[tuple[float, int], ...]  # second, index of the programme or OFF; ascending
    period_s: float = 0.0  # 0: they happen once

    def programme_at(self, second: float) -> int:
        """Index of the programme in force, or OFF."""
        first_s, last = self.changes[0][0], self.changes[-1][1]
        if second < first_s:
            return 0
        past_s = first_s + (second - first_s) % self.period_s if self.period_s else second
        return next((index for at_s, index in reversed(self.changes) if at_s <= past_s), last)

    def next_change_s(self, second: float) -> float:
        """The first change after this second, inf where there is none."""
        first_s = self.changes[0][0]
        lap_s = 0.0
        if self.period_s and second >= first_s:
            lap_s = (second - first_s) // self.period_s * self.period_s
        laps = (lap_s, lap_s + self.period_s) if self.period_s else (0.0,)
        return next((at_s + lap for lap in laps for at_s, _ in self.changes if at_s + lap > second), math.inf)


@dataclass(frozen=True, slots=True)
class Stage:
    """A set of greens that may stand for as long as one likes: no yellow in it.

    `state` holds G (protected), g (permissive, gives way), r; one character a link.
    """

    state: str
    shipped_green_s: float  # seconds a cycle in the active programme, 0 for a stage built from the conflict matrix


@dataclass(frozen=True)
class Signal:
    """One traffic-light controller.

    `conflicts[i, j]`: links i and j may never be open (green or yellow) together. It is the foe matrix of the net
    less the pairs that the shipped programmes open together (permissive turns that give way).
    `intergreen_s[i, j]`: seconds from the end of green of i to the start of green of j, 0 where they do not conflict.
    """

    id: str
    nodes: tuple[int, ...]
    link_count: int
    link_movements: tuple[tuple[int, ...], ...]  # per link, dense movement indices; empty for a crossing
    crossings: tuple[Crossing, ...]
    programmes: tuple[Programme, ...]  # the active one first
    stages: tuple[Stage, ...]  # recognised from the shipped programmes, in order of the active one
    foes: Bools  # (K, K) paths cross or merge
    conflicts: Bools  # (K, K)
    intergreen_s: Floats  # (K, K)
    yellow_s: float  # yellow of vehicle links
    all_red_s: float  # shipped all-red, 0 where none
    min_green_s: Floats  # (K,) per link
    max_red_s: float
    pedestrian: Bools  # (K,) link is a crossing and no vehicle movement shares its lamp
    pedestrian_clearance_s: Floats  # (K,) length / walking speed, 0 for vehicle links
    schedule: Schedule | None = None  # None: the active programme is always in force

    @property
    def programme(self) -> Programme:
        return self.programmes[0]


@dataclass(frozen=True)
class Network:
    """A whole road network. Everything is immutable; indices are stable for one file."""

    name: str
    projection: str | None  # PROJ string of the local frame before the offset, None: no georeference
    net_offset_m: tuple[float, float]  # added to projected coordinates to get local ones
    bounds_m: tuple[float, float, float, float]
    nodes: tuple[str, ...]
    node_xy: Floats  # (N, 2)
    edges: EdgeTable
    lanes: LaneTable
    movements: MovementTable
    signals: tuple[Signal, ...]
    fingerprint: str  # of the source file and the programmes loaded with it

    def __getstate__(self) -> dict[str, object]:
        """Fields only: what is cached is made again, and may be being made while another thread pickles."""
        own = dict(self.__dict__)
        return {f.name: own[f.name] for f in fields(self)}

    @cached_property
    def edge_index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.edges.ids)}

    @cached_property
    def lane_index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.lanes.ids)}

    @cached_property
    def node_index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.nodes)}

    @cached_property
    def signal_index(self) -> dict[str, int]:
        return {s.id: i for i, s in enumerate(self.signals)}

    @cached_property
    def lane_movements(self) -> Ragged:
        """Movements leaving each lane."""
        return group_rows(self.movements.from_lane, len(self.lanes.ids))

    @cached_property
    def lane_feeders(self) -> Ragged:
        """Movements arriving on each lane."""
        return group_rows(self.movements.to_lane, len(self.lanes.ids))

    @cached_property
    def edge_successors(self) -> Ragged:
        """Edges reachable from each edge by one movement, sorted, each once."""
        pairs, _ = number_pairs(self.lanes.edge[self.movements.from_lane], self.lanes.edge[self.movements.to_lane])
        offsets = np.searchsorted(pairs[:, 0], np.arange(len(self.edges.ids) + 1)).astype(np.int32)
        return Ragged(offsets, pairs[:, 1].astype(np.int32))


def number_pairs(first: Ints, second: Ints) -> tuple[Ints, NDArray[np.intp]]:
    """The pairs that two columns (N,) hold, sorted, each once (P, 2); and which of them each row is (N,)."""
    pairs, number = np.unique(np.stack([first, second], axis=1), axis=0, return_inverse=True)
    return pairs.reshape(-1, 2), number.reshape(-1)


def group_rows(key: Ints, groups: int) -> Ragged:
    """Row numbers grouped by key: entry g of the answer lists the rows i with key[i] == g, ascending."""
    order = np.argsort(key, kind="stable").astype(np.int32)
    offsets = np.searchsorted(key[order], np.arange(groups + 1)).astype(np.int32)
    return Ragged(offsets, order)
