"""A town of four edges and one signal, made by hand, and honest messages from it."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel

from networks.city import Detector
from networks.graph import (
    PASSENGER,
    STRAIGHT,
    EdgeTable,
    LaneTable,
    MovementTable,
    Network,
    Programme,
    ProgrammePhase,
    Ragged,
    Signal,
    Stage,
)
from networks.messages import (
    Frame,
    LoopReading,
    LoopReport,
    NoticeReport,
    ObjectList,
    PlanReceipt,
    SeenObject,
    SignalReport,
    VehicleReport,
    WeatherReport,
)

T0_S = 1_772_406_000.0
DETECTORS = tuple(Detector(f"loop{i}", i, 95.0, "stop") for i in range(4))


def small_network() -> Network:
    """Edges west_in, south_in -> J -> east_out, north_out, one lane each, two conflicting links."""
    ids = ("west_in", "south_in", "east_out", "north_out")
    four = np.arange(4, dtype=np.int32)
    line = Ragged(np.arange(0, 20, 4, dtype=np.int32), np.zeros(16))
    edges = EdgeTable(
        ids=ids,
        length_m=np.full(4, 100.0),
        speed_limit_mps=np.full(4, 14.0),
        lane_count=np.ones(4, np.int32),
        first_lane=np.arange(5, dtype=np.int32),
        from_node=np.array([0, 1, 2, 2], np.int32),
        to_node=np.array([2, 2, 3, 4], np.int32),
        priority=np.ones(4, np.int32),
        names=("",) * 4,
        shape_xy=line,
    )
    lanes = LaneTable(
        ids=tuple(f"{e}_0" for e in ids),
        edge=four,
        index=np.zeros(4, np.int32),
        length_m=np.full(4, 100.0),
        width_m=np.full(4, 3.2),
        speed_limit_mps=np.full(4, 14.0),
        allowed=np.full(4, PASSENGER, np.int32),
        shape_xy=line,
    )
    movements = MovementTable(
        from_lane=np.array([0, 1], np.int32),
        to_lane=np.array([2, 3], np.int32),
        turn=np.array([STRAIGHT, STRAIGHT], np.int32),
        length_m=np.full(2, 20.0),
        speed_mps=np.full(2, 14.0),
        signal=np.zeros(2, np.int32),
        link=np.array([0, 1], np.int32),
        node=np.array([2, 2], np.int32),
        yields=np.zeros(2, np.bool_),
        internal_lanes=((":J_0_0",), (":J_1_0",)),
    )
    crossing = ~np.eye(2, dtype=np.bool_)
    phases = tuple(ProgrammePhase(s, d, d, d) for s, d in (("Gr", 30.0), ("yr", 3.0), ("rG", 30.0), ("ry", 3.0)))
    signal = Signal(
        id="J",
        nodes=(2,),
        link_count=2,
        link_movements=((0,), (1,)),
        crossings=(),
        programmes=(Programme("0", "static", 0.0, phases),),
        stages=(Stage("Gr", 30.0), Stage("rG", 30.0)),
        foes=crossing,
        conflicts=crossing,
        intergreen_s=np.where(crossing, 4.0, 0.0),
        yellow_s=3.0,
        all_red_s=0.0,
        min_green_s=np.full(2, 5.0),
        max_red_s=180.0,
        pedestrian=np.zeros(2, np.bool_),
        pedestrian_clearance_s=np.zeros(2),
    )
    return Network(
        name="small",
        projection=None,
        net_offset_m=(0.0, 0.0),
        bounds_m=(0.0, 0.0, 1000.0, 1000.0),
        nodes=("W", "S", "J", "E", "N"),
        node_xy=np.zeros((5, 2)),
        edges=edges,
        lanes=lanes,
        movements=movements,
        signals=(signal,),
        fingerprint="small",
    )


def frame(
    feed: str,
    message: BaseModel | bytes,
    *,
    source: str = "device",
    counter: int = 0,
    received_at_s: float = T0_S + 0.5,
) -> Frame:
    payload = message if isinstance(message, bytes) else message.model_dump_json().encode()
    return Frame(feed, source, counter, received_at_s - 0.1, received_at_s, payload)


def loops(at_s: float = T0_S, *readings: LoopReading) -> LoopReport:
    return LoopReport(measured_at=at_s, interval_s=5.0, readings=readings or (reading(),))


def reading(detector: str = "loop0", count: int = 1, occupancy: float = 0.2) -> LoopReading:
    return LoopReading(detector=detector, count=count, occupancy=occupancy, speed_mps=9.0 if count else None)


def seen(number: int = 1, x_m: float = 500.0, y_m: float = 500.0) -> SeenObject:
    return SeenObject(id=number, x_m=x_m, y_m=y_m, speed_mps=8.0, heading_rad=0.0, kind="car")


def objects(at_s: float = T0_S, *rows: SeenObject) -> ObjectList:
    return ObjectList(measured_at=at_s, junction="J", objects=rows)


def vehicle(
    at_s: float = T0_S, name: str = "BJ-A12345", x_m: float = 400.0, destination: str | None = "east_out"
) -> VehicleReport:
    return VehicleReport(
        measured_at=at_s,
        vehicle=name,
        x_m=x_m,
        y_m=500.0,
        speed_mps=10.0,
        heading_rad=0.0,
        kind="car",
        destination=destination,
    )


def lamps(at_s: float = T0_S, state: str = "Gr", version: int = 7) -> SignalReport:
    return SignalReport(measured_at=at_s, junction="J", state=state, plan_version=version)


def notice(at_s: float = T0_S) -> NoticeReport:
    return NoticeReport(measured_at=at_s, id="works", edge="east_out", lanes=(0,), begin=at_s, end=at_s + 600)


def weather(at_s: float = T0_S) -> WeatherReport:
    return WeatherReport(measured_at=at_s, rain_mm_h=2.0, visibility_m=4000.0, temperature_c=12.0, wind_mps=3.0)


def receipt(at_s: float = T0_S, version: int = 7) -> PlanReceipt:
    return PlanReceipt(measured_at=at_s, junction="J", plan_version=version, accepted=True)
