"""The wire format between street and twin: what devices send and what controllers and vehicles receive.

A `Frame` is one message as it came: feed name, source, the source's own counter, time sent, bytes. The bytes of our
native feeds are JSON documents of the models below (one document a frame). Validation happens in the twin's
adapters; the virtual city writes with the same models, so both ends agree by construction.
"""

from __future__ import annotations

import hmac
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from networks.errors import MessageError

Epoch = Annotated[float, Field(gt=0, lt=1e11, allow_inf_nan=False)]
Metre = Annotated[float, Field(gt=-1e6, lt=1e6, allow_inf_nan=False)]
Speed = Annotated[float, Field(ge=0, le=70, allow_inf_nan=False)]
Heading = Annotated[float, Field(ge=-7, le=7, allow_inf_nan=False)]
Kind = Literal["car", "bus", "truck", "bicycle", "pedestrian", "emergency", "tram"]

FEEDS = ("loops", "roadside", "v2x", "signals", "control", "weather", "receipts")

FORMATS = {
    "rsm": "roadside",
    "v2x_seq": "roadside",
    "bsm": "v2x",
    "gtfs_rt": "v2x",
    "spat": "signals",
    "gat1049": "signals",
    "rsi": "control",
    "wzdx": "control",
    "counts_csv": "loops",
    "counts_json": "loops",
    "metar": "weather",
    "cma": "weather",
    "cap": "warnings",
}
"""Formats of others that we read, each as a feed of that name, and the feed whose rows it delivers.

Weather warnings have no format of our own.
"""


class Frame(NamedTuple):
    """One raw message as received."""

    feed: str  # one of FEEDS or FORMATS
    source: str  # device
    counter: int  # counts up by one per source and feed; duplicates carry the same
    sent_at_s: float
    received_at_s: float
    payload: bytes


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LoopReading(Message):
    detector: str
    count: int = Field(ge=0, le=7200)  # the inbox holds it against the interval
    occupancy: float = Field(ge=0, le=1, allow_inf_nan=False)
    speed_mps: Speed | None


class LoopReport(Message):
    """One roadside cabinet: all its loops for one interval. Feed "loops"."""

    measured_at: Epoch  # end of the interval
    interval_s: float = Field(gt=0, le=3600)
    readings: tuple[LoopReading, ...]


class SeenObject(Message):
    id: int = Field(ge=0, lt=2**62)
    x_m: Metre
    y_m: Metre
    speed_mps: Speed
    heading_rad: Heading
    kind: Kind


class ObjectList(Message):
    """What a roadside unit sees at one moment. Feed "roadside"."""

    measured_at: Epoch
    junction: str  # signal id
    objects: tuple[SeenObject, ...]


class VehicleReport(Message):
    """What an equipped vehicle says of itself. Feed "v2x"."""

    measured_at: Epoch
    vehicle: str  # temporary identity; pseudonymised at the border
    x_m: Metre
    y_m: Metre
    speed_mps: Speed
    heading_rad: Heading
    kind: Kind
    destination: str | None = None  # edge id, when it asks for guidance


class SignalReport(Message):
    """Lamps of one controller. Feed "signals"."""

    measured_at: Epoch
    junction: str
    state: str = Field(pattern=r"^[rRgGyYuosO]+$", max_length=512)
    plan_version: int = Field(ge=-1)


class NoticeReport(Message):
    """A closure or works. Feed "control"."""

    measured_at: Epoch
    id: str
    edge: str
    lanes: tuple[int, ...] = ()  # lane positions, 0 rightmost; empty: the whole edge
    speed_limit_mps: Speed | None = None
    begin: Epoch
    end: Epoch


class WeatherReport(Message):
    """A weather station, or a forecast where it names the hours it is for. Feed "weather"."""

    measured_at: Epoch
    rain_mm_h: float = Field(ge=0, le=500, allow_inf_nan=False)
    visibility_m: float = Field(ge=0, le=1e5, allow_inf_nan=False)
    temperature_c: float = Field(ge=-60, le=60, allow_inf_nan=False)
    wind_mps: float = Field(ge=0, le=100, allow_inf_nan=False)
    forecast_from: Epoch | None = None
    forecast_until: Epoch | None = None


class PlanReceipt(Message):
    """A controller's answer to a plan. Feed "receipts"."""

    measured_at: Epoch
    junction: str
    plan_version: int = Field(ge=0)
    accepted: bool
    reason: str = ""


class LampStepOrder(Message):
    state: str
    duration_s: float = Field(gt=0)


class PlanOrder(Message):
    """An approved plan as it leaves for a controller: the full lamp sequence from `valid_from` on.

    After the last step the last state stands until `valid_until`; then, or when the controller has heard nothing for
    10 s, it goes back to its own fixed plan through a safe transition.
    """

    junction: str
    plan_version: int = Field(ge=0)
    valid_from: Epoch
    valid_until: Epoch
    repeats: bool  # the steps are a cycle
    steps: tuple[LampStepOrder, ...]
    signature: str = ""


class RouteAdvice(Message):
    vehicle: str | None  # one vehicle, or None: everyone on `from_edge` bound for `destination`
    from_edge: str
    destination: str
    route: tuple[str, ...]  # edges, from_edge first
    share: float = Field(ge=0, le=1)


class SpeedAdvice(Message):
    edge: str
    speed_mps: Speed


class GuidanceOrder(Message):
    valid_until: Epoch
    routes: tuple[RouteAdvice, ...]
    speeds: tuple[SpeedAdvice, ...] = ()


def sign_plan(order: PlanOrder, key: bytes) -> PlanOrder:
    """The order with an HMAC-SHA256 (RFC 2104) of everything else in it as its signature."""
    return order.model_copy(update={"signature": _code(order, key)})


def is_signed(order: PlanOrder, key: bytes) -> bool:
    """Whether somebody with the key signed exactly this order."""
    return hmac.compare_digest(order.signature, _code(order, key))


def _code(order: PlanOrder, key: bytes) -> str:
    told = order.model_copy(update={"signature": ""}).model_dump_json().encode()
    return hmac.new(key, told, "sha256").hexdigest()


def pack_order(order: PlanOrder | GuidanceOrder) -> bytes:
    """An order as it travels to the street: `{"kind": "plan" | "guidance", "order": {...}}`."""
    kind = "plan" if isinstance(order, PlanOrder) else "guidance"
    return b'{"kind":"%s","order":%s}' % (kind.encode(), order.model_dump_json().encode())


def unpack_order(payload: bytes) -> PlanOrder | GuidanceOrder:
    """The order in a payload of `pack_order`. Raises MessageError for anything else."""
    try:
        return _ORDERS.validate_json(payload).order
    except ValidationError as defect:
        raise MessageError("malformed order", str(defect)) from None


class _PackedPlan(Message):
    kind: Literal["plan"]
    order: PlanOrder


class _PackedGuidance(Message):
    kind: Literal["guidance"]
    order: GuidanceOrder


_ORDERS: TypeAdapter[_PackedPlan | _PackedGuidance] = TypeAdapter(
    Annotated[_PackedPlan | _PackedGuidance, Field(discriminator="kind")]
)
