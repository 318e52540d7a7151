"""Small streets for tests of the mesoscopic model: edges, lane connections, and one signal over some of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from networks.graph import (
    EdgeTable,
    LaneTable,
    MovementTable,
    Network,
    Programme,
    ProgrammePhase,
    Ragged,
    Signal,
)
from networks.stages import recognise_stages

SPEED_MPS = 13.89


class Edge(NamedTuple):
    id: str
    origin: str
    target: str
    length_m: float
    lanes: int = 1


class Turn(NamedTuple):
    """From a lane to a lane: link of the signal or -1, rows of the turns that go first, way to the stop inside."""

    source: str
    source_lane: int
    target: str
    target_lane: int
    link: int = -1
    gives_way_to: tuple[int, ...] = ()
    length_m: float = 10.0
    inner_m: float = 0.0


def programme(*phases: tuple[str, float], offset_s: float = 0.0) -> Programme:
    return Programme("0", "static", offset_s, tuple(ProgrammePhase(s, d, d, d) for s, d in phases))


def build_street(edges: Sequence[Edge], turns: Sequence[Turn], shipped: Programme | None = None) -> Network:
    """A network of the given edges and turns, with one signal when a programme is given."""
    nodes = tuple(sorted({e.origin for e in edges} | {e.target for e in edges}))
    row = {e.id: i for i, e in enumerate(edges)}
    first = np.cumsum([0, *(e.lanes for e in edges)]).astype(np.int32)
    count, lanes = len(edges), int(first[-1])
    empty = Ragged(np.zeros(count + 1, np.int32), np.zeros(0))
    length_m = np.array([e.length_m for e in edges])
    lane_edge = np.repeat(np.arange(count, dtype=np.int32), [e.lanes for e in edges])
    edge_table = EdgeTable(
        tuple(row), length_m, np.full(count, SPEED_MPS), np.diff(first), first,
        np.array([nodes.index(e.origin) for e in edges], np.int32),
        np.array([nodes.index(e.target) for e in edges], np.int32),
        np.zeros(count, np.int32), ("",) * count, empty,
    )  # fmt: skip
    lane_table = LaneTable(
        tuple(f"{edges[e].id}_{i - first[e]}" for i, e in enumerate(lane_edge)), lane_edge,
        (np.arange(lanes) - first[lane_edge]).astype(np.int32), length_m[lane_edge], np.full(lanes, 3.2),
        np.full(lanes, SPEED_MPS), np.full(lanes, 127, np.int32),
        Ragged(np.zeros(lanes + 1, np.int32), np.zeros(0)),
    )  # fmt: skip
    from_lane = np.array([first[row[t.source]] + t.source_lane for t in turns], np.int32)
    to_lane = np.array([first[row[t.target]] + t.target_lane for t in turns], np.int32)
    link = np.array([t.link for t in turns], np.int32)
    moves = MovementTable(
        from_lane, to_lane, np.zeros(len(turns), np.int32), np.array([t.length_m for t in turns]),
        np.full(len(turns), SPEED_MPS), np.where(link >= 0, 0, -1).astype(np.int32), link,
        edge_table.to_node[lane_edge[from_lane]], np.array([bool(t.gives_way_to) for t in turns]),
        ((),) * len(turns),
        Ragged(
            np.cumsum([0, *(len(t.gives_way_to) for t in turns)]).astype(np.int32),
            np.array([f for t in turns for f in t.gives_way_to], np.int32),
        ),
        np.array([t.inner_m for t in turns]),
    )  # fmt: skip
    signals = (_signal(turns, nodes, edge_table, shipped),) if shipped else ()
    return Network(
        "street", None, (0.0, 0.0), (0.0, 0.0, 1.0, 1.0), nodes, np.zeros((len(nodes), 2)), edge_table, lane_table,
        moves, signals, "",
    )  # fmt: skip


def crossroads(green_s: float = 20.0) -> Network:
    """A street that widens before a signal, where a left turn gives way and waits inside; a side street merges."""
    edges = [
        Edge("in", "a", "b", 120.0), Edge("mid", "b", "c", 35.0, 2), Edge("left", "c", "d", 60.0),
        Edge("right", "c", "e", 60.0), Edge("side", "f", "c", 60.0),
    ]  # fmt: skip
    turns = [
        Turn("in", 0, "mid", 0), Turn("in", 0, "mid", 1), Turn("mid", 0, "right", 0, link=0),
        Turn("mid", 1, "left", 0, link=1, gives_way_to=(4,), inner_m=4.0), Turn("side", 0, "right", 0, link=2),
    ]  # fmt: skip
    return build_street(edges, turns, programme(("Ggr", green_s), ("yyr", 3.0), ("rrG", 20.0), ("rry", 3.0)))


def _signal(turns: Sequence[Turn], nodes: tuple[str, ...], edges: EdgeTable, shipped: Programme) -> Signal:
    count = len(shipped.phases[0].state)
    here = {int(edges.to_node[edges.ids.index(t.source)]) for t in turns if t.link >= 0}
    none = np.zeros((count, count), np.bool_)
    return Signal(
        "s", tuple(sorted(here)), count,
        tuple(tuple(i for i, t in enumerate(turns) if t.link == k) for k in range(count)),
        (), (shipped,), recognise_stages((shipped,)), none, none, np.zeros((count, count)), 3.0, 0.0,
        np.full(count, 5.0), 180.0, np.zeros(count, np.bool_), np.zeros(count),
    )  # fmt: skip
